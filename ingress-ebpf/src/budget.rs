//! The budget of new connections of a source: so many at once, and then one for each interval.
//!
//! A token bucket in one word, the generic cell rate algorithm (ITU-T I.371): the time at which the
//! bucket would be full again. Two CPUs that write it at once lose a connection's worth, never more.

use ingress_common::steering::Address;

/// Takes one connection out of a bucket that is full at `full_at`. The new time at which it is full;
/// `None` if there is none in it.
#[inline(always)]
#[must_use]
pub const fn take(full_at: u64, now: u64, interval: u64, burst: u64) -> Option<u64> {
    let at = if full_at > now { full_at } else { now };
    let next = at.saturating_add(interval);
    if next - now > burst { None } else { Some(next) }
}

/// The source that an address belongs to.
#[inline(always)]
#[must_use]
pub const fn source(address: &Address, v4_mask: &Address, v6_mask: &Address) -> Address {
    let is_v4 = is_mapped(address);
    let mut masked = *address;
    let mut index = 0;
    while index < masked.len() {
        masked[index] &= if is_v4 {
            v4_mask[index]
        } else {
            v6_mask[index]
        };
        index += 1;
    }
    masked
}

/// Whether an address is one of IPv4 (RFC 4291 §2.5.5.2).
#[inline(always)]
const fn is_mapped(address: &Address) -> bool {
    let mut index = 0;
    while index < 10 {
        if address[index] != 0 {
            return false;
        }
        index += 1;
    }
    address[10] == 0xff && address[11] == 0xff
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::vec::Vec;

    use super::*;

    const INTERVAL: u64 = 100;

    /// Connections that a source gets through at these times, with a burst of three.
    fn admitted(times: &[u64]) -> usize {
        let mut full_at = 0;
        let mut admitted = 0;
        for now in times {
            if let Some(next) = take(full_at, *now, INTERVAL, 3 * INTERVAL) {
                (full_at, admitted) = (next, admitted + 1);
            }
        }
        admitted
    }

    #[test]
    fn source_may_open_its_burst_at_once_and_then_one_for_each_interval() {
        assert_eq!(admitted(&[1000; 9]), 3);
        assert_eq!(admitted(&[1000, 1000, 1000, 1099, 1100, 1100]), 4);
        assert_eq!(admitted(&[1000, 1000, 1000, 5000, 5000, 5000, 5000]), 6);
    }

    #[test]
    fn source_that_keeps_to_its_rate_is_never_refused() {
        let times: Vec<u64> = (0..1000).map(|turn| 7 + turn * INTERVAL).collect();
        assert_eq!(admitted(&times), 1000);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let (all, half) = ([0xff; 16], {
            let mut mask = [0; 16];
            mask[..8].fill(0xff);
            mask
        });
        let source = |address| source(&address, &all, &half);
        assert_eq!(source(v6("2001:db8::1")), source(v6("2001:db8::2:1")));
        assert_ne!(source(v6("2001:db8::1")), source(v6("2001:db8:0:1::1")));
        assert_ne!(source(v4("192.0.2.1")), source(v4("192.0.2.2")));
    }
}
