//! The ABI between the eBPF programs and user space.
#![no_std]
