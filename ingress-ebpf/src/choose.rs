//! Which two workers a new connection may go to.
//!
//! A function of the client's address and port, so that the last ACK of a handshake with a SYN
//! cookie meets the same candidates as its SYN, and of a key that no client knows: who knew the
//! function could choose source ports by which all connections meet the same two workers.

/// Two workers below `workers`, different where there are two.
#[inline(always)]
#[must_use]
pub fn candidates(address: [u32; 4], ports: u32, key: [u32; 2], workers: u32) -> (u32, u32) {
    let mut hash = key[0];
    // One word after the other: words that are combined before the key is could be chosen to
    // cancel each other out.
    for word in address {
        hash = mix(hash ^ word);
    }
    hash = mix(hash ^ ports ^ key[1]);
    let first = scale(hash, workers);
    let second = first + 1 + scale(mix(hash ^ key[0]), workers - 1);
    (
        first,
        if second < workers {
            second
        } else {
            second - workers
        },
    )
}

/// Maps a hash to `0..n` without a division.
#[inline(always)]
fn scale(hash: u32, n: u32) -> u32 {
    ((u64::from(hash) * u64::from(n)) >> 32) as u32
}

/// The finaliser of `MurmurHash3`: every bit of the input moves every bit of the output.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::candidates;

    proptest! {
        #[test]
        fn two_workers_are_candidates_where_there_are_two(
            address: [u32; 4],
            ports: u32,
            key: [u32; 2],
            workers in 1..=64_u32,
        ) {
            let (first, second) = candidates(address, ports, key, workers);
            prop_assert!(first < workers && second < workers);
            prop_assert_eq!(first == second, workers == 1);
        }

        #[test]
        fn who_does_not_know_the_key_cannot_choose_the_workers(key: [u32; 2]) {
            // Ports by which every connection meets worker 0 first, under another key.
            let chosen = |port: &u32| candidates(ADDRESS, *port, [0, 0], 16).0 == 0;
            let ports: Vec<u32> = (0..20_000).filter(chosen).collect();
            prop_assume!(key != [0, 0]);
            let met: HashSet<u32> = ports
                .iter()
                .map(|port| candidates(ADDRESS, *port, key, 16).0)
                .collect();
            prop_assert_eq!(met.len(), 16);
        }

        #[test]
        fn words_of_an_address_do_not_cancel_each_other_out(key: [u32; 2], word: u32) {
            let met: HashSet<(u32, u32)> = (0..2_000)
                .map(|n| candidates([1, 2, word ^ n, word ^ n], 443, key, 16))
                .collect();
            prop_assert!(met.len() > 100, "{} pairs", met.len());
        }
    }

    const ADDRESS: [u32; 4] = [0, 0, 0xffff, 0xc633_6407];
}
