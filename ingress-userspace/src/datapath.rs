//! The eBPF datapath, seen from user space.
pub mod object;
