//! The half of the kernel side that does not know it is in a kernel.
//!
//! `packet` reads bytes, `parse` makes headers of them, `decide` makes a reason of those, `choose`
//! knows the workers that a connection may go to, `redirect` what may take the shortcut, `syn_ack` how
//! a SYN is answered by a cookie. All of it is tested on the host; `main.rs` and the program files beside it are the only code that
//! touches helpers and maps.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    clippy::inline_always,
    reason = "the kernel verifies whole programs, and a call costs it what it knew of the arguments"
)]

#[cfg(test)]
extern crate std;

pub mod budget;
pub mod choose;
pub mod decide;
pub mod head;
pub mod packet;
pub mod parse;
pub mod plain;
pub mod redirect;
pub mod syn_ack;
