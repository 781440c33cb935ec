//! The ABI between the eBPF programs and user space: map keys, map values and verdicts.
//!
//! Both sides compile this crate, so a layout can't differ between them. It depends on nothing;
//! feature `user` implements aya's `Pod` for the same types.
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the kernel verifies whole programs, and a call costs it what it knew of the arguments"
)]

#[cfg(test)]
extern crate std;

mod abi;
pub mod cache;
pub mod guard;
pub mod shortcut;
pub mod socket;
pub mod steering;
pub mod verdict;
