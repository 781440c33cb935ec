//! Keys and values of what the guard drops at frontends (denied networks, and connections beyond the
//! budget of their source) and of when it answers SYNs itself.

use crate::abi::abi;
use crate::steering::Address;

/// Networks that each table of denied ones has room for.
pub const DENIED_MAX: u32 = 100_000;

/// Sources whose budget is kept; the one that was asked for longest ago makes room.
pub const BUDGETS_MAX: u32 = 65_536;

/// Devices that SYNs may be answered on.
pub const ANSWERING_MAX: u32 = 64;

/// A link-layer address: value of the `ANSWERING_DEVICES` map.
pub type Mac = [u8; 6];

/// Value of `denied_table`: no network is denied.
pub const NO_TABLE: u32 = 0;

abi! {
    /// The settings of the guard: the only value of the `GUARD_SETTINGS` map.
    pub struct GuardSettings {
        /// The table of denied networks that is in force: 1, 2, or [`NO_TABLE`].
        pub denied_table: u32,
        /// Whether the guard answers SYNs by cookies: 1 or 0.
        pub answers_syns: u16,
        /// The shift of the windows that listeners of the ingress netns offer (RFC 7323 §2).
        pub window_scale: u16,
        /// Nanoseconds in which a source earns one connection; 0 where connections are not limited.
        pub interval_ns: u64,
        /// The interval times the connections that a source may open at once.
        pub burst_ns: u64,
        /// The bits of an IPv4 address (mapped) that make a source.
        pub v4_mask: Address,
        /// The bits of an IPv6 address that make a source.
        pub v6_mask: Address,
    }
}
