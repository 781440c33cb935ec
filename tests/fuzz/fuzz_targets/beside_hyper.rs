//! The reader of a client's requests beside hyper's server, on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz beside_hyper`.
//!
//! The property is that of the test of the same name; what is found here becomes a test there.
#![no_main]

#[path = "../../../ingress-wire/tests/beside_hyper/compare.rs"]
mod compare;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| compare::compare(bytes));
