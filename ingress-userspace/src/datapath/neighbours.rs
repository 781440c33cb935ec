//! Neighbours of the host: tells which of the kernel's many messages about them changes where packets go.
//!
//! A neighbour in use goes through its states all the time, and the kernel reports most of that. Only
//! another link-layer address, or none, is a change.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink messages are of dozens of kinds, and kernels add more"
)]

use std::collections::HashMap;
use std::net::IpAddr;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

/// Link-layer addresses that are known, by device and address.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    known: HashMap<(u32, IpAddr), Vec<u8>>,
}

impl Neighbours {
    /// Notes the state of a neighbour. Returns true if packets to it may go elsewhere than before.
    pub(super) fn note(&mut self, message: NeighbourMessage) -> bool {
        let is_valid = matches!(
            message.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        let Some((key, mac)) = read(message) else {
            return false;
        };
        if !is_valid {
            return self.known.remove(&key).is_some();
        }
        if self.known.get(&key) == Some(&mac) {
            return false;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, mac);
        true
    }

    /// Notes that a neighbour is gone. Returns true if there may be packets that went to it.
    pub(super) fn forget(&mut self, message: NeighbourMessage) -> bool {
        read(message).is_some_and(|(key, _)| self.known.remove(&key).is_some())
    }
}

/// Device, address and link-layer address; forwarding entries of bridges have no IP address.
fn read(message: NeighbourMessage) -> Option<((u32, IpAddr), Vec<u8>)> {
    let device = message.header.ifindex;
    let (mut ip, mut mac) = (None, Vec::new());
    for attribute in message.attributes {
        if let NeighbourAttribute::Destination(address) = attribute {
            ip = match address {
                NeighbourAddress::Inet(address) => Some(IpAddr::V4(address)),
                NeighbourAddress::Inet6(address) => Some(IpAddr::V6(address)),
                _ => None,
            };
        } else if let NeighbourAttribute::LinkLayerAddress(address) = attribute {
            mac = address;
        }
    }
    Some(((device, ip?), mac))
}

/// More than a kernel has by default (`gc_thresh3`, 1024 of each version). Beyond, each message counts as
/// a change once more.
const KNOWN_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8, state: NeighbourState, mac: [u8; 6]) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 2;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, number].into())),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        message
    }

    #[test]
    fn states_of_a_neighbour_in_use_change_nothing() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.note(message(1, NeighbourState::Reachable, [1; 6])));
        for state in [
            NeighbourState::Stale,
            NeighbourState::Delay,
            NeighbourState::Probe,
            NeighbourState::Reachable,
        ] {
            assert!(!neighbours.note(message(1, state, [1; 6])), "{state:?}");
        }
    }

    #[test]
    fn another_link_layer_address_is_a_change_and_so_is_none() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.note(message(1, NeighbourState::Reachable, [1; 6])));
        assert!(neighbours.note(message(1, NeighbourState::Stale, [2; 6])));
        assert!(neighbours.note(message(1, NeighbourState::Failed, [2; 6])));
        assert!(!neighbours.note(message(1, NeighbourState::Failed, [2; 6])));
        assert!(neighbours.note(message(1, NeighbourState::Reachable, [2; 6])));
        assert!(neighbours.forget(message(1, NeighbourState::Stale, [2; 6])));
        assert!(!neighbours.forget(message(1, NeighbourState::Stale, [2; 6])));
    }

    #[test]
    fn address_that_nobody_answers_for_is_no_change() {
        let mut neighbours = Neighbours::default();
        for number in 0..=255 {
            assert!(!neighbours.note(message(number, NeighbourState::Incomplete, [0; 6])));
            assert!(!neighbours.note(message(number, NeighbourState::Failed, [0; 6])));
        }
        assert!(neighbours.known.is_empty());
    }
}
