//! The ABI between the eBPF programs and user space: map keys, map values and verdicts.
//!
//! Both sides compile this crate, so a layout can't differ between them. It depends on nothing;
//! feature `user` implements aya's `Pod` for the same types.
#![no_std]

mod abi;
pub mod socket;
pub mod steering;
pub mod verdict;
