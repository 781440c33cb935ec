//! A cache of formatted endpoint addresses: formatting one costs a third of a log line.

use std::net::SocketAddrV4;

use super::block::Cursor;

/// Texts by a few bits of their addresses: of two that have the same, the one asked for last.
#[derive(Debug)]
pub(crate) struct Addresses([Slot; SLOTS]);

#[derive(Clone, Copy, Debug)]
struct Slot {
    address: SocketAddrV4,
    /// Zero where there is none yet.
    length: u8,
    text: [u8; TEXT_BYTES],
}

impl Default for Addresses {
    fn default() -> Self {
        let empty = Slot {
            address: SocketAddrV4::new([0; 4].into(), 0),
            length: 0,
            text: [0; TEXT_BYTES],
        };
        Self([empty; SLOTS])
    }
}

impl Addresses {
    /// Writes an address and its port.
    #[inline]
    pub(crate) fn write(&mut self, address: SocketAddrV4, line: &mut Cursor<'_>) {
        let [.., third, last] = address.ip().octets();
        let [_, port] = address.port().to_be_bytes();
        let slot = &mut self.0[usize::from(third ^ last ^ port) % SLOTS];
        if slot.address != address || slot.length == 0 {
            *slot = Slot::new(address);
        }
        line.copy_piece(slot.text, slot.length);
    }
}

impl Slot {
    #[cold]
    fn new(address: SocketAddrV4) -> Self {
        let mut text = [0; TEXT_BYTES];
        let spelled = address.to_string();
        for (place, byte) in text.iter_mut().zip(spelled.bytes()) {
            *place = byte;
        }
        Self {
            address,
            length: u8::try_from(spelled.len()).unwrap_or(0),
            text,
        }
    }
}

/// As many as there can be of a text: `255.255.255.255:65535` has 21.
const TEXT_BYTES: usize = 24;

/// A kilobyte of them.
const SLOTS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::written;
    use super::*;

    proptest! {
        #[test]
        fn addresses_are_spelled_as_usual(
            addresses in prop::collection::vec((any::<[u8; 4]>(), any::<u16>()), 1..100),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..100),
        ) {
            let all: Vec<_> = addresses
                .into_iter()
                .map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
                .collect();
            let mut spelled = Addresses::default();
            for address in all.iter().chain(again.iter().map(|index| index.get(&all))) {
                let text = written(|line| spelled.write(*address, line));
                prop_assert_eq!(text, address.to_string().into_bytes());
            }
        }
    }
}
