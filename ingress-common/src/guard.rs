//! Keys and values of what the guard drops at frontends: denied networks, and connections beyond the
//! budget of their source.

use crate::abi::abi;
use crate::steering::Address;

/// Networks that each table of denied ones has room for.
pub const DENIED_MAX: u32 = 100_000;

/// Sources whose budget is kept; the one that was asked for longest ago makes room.
pub const BUDGETS_MAX: u32 = 65_536;

/// Value of `denied_table`: no network is denied.
pub const NO_TABLE: u32 = 0;

abi! {
    /// The settings of the guard: the only value of the `GUARD_SETTINGS` map.
    pub struct GuardSettings {
        /// The table of denied networks that is in force: 1, 2, or [`NO_TABLE`].
        pub denied_table: u32,
        /// Always 0.
        pub reserved: u32,
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
