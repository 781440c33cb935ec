//! Reading bytes of a packet, wherever they lie.

/// A packet whose bytes may be copied out.
pub trait Packet {
    /// The `N` bytes from `offset` (bytes from the Ethernet header), or `None` when the packet
    /// ends before.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

/// A packet in ordinary memory.
impl Packet for [u8] {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        self.get(offset..end)?.try_into().ok()
    }
}
