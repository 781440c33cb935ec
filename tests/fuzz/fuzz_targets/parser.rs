//! The packet parser on frames that a fuzzer thinks of:
//! `cargo xtask fuzz parser`.
//!
//! The property is that of the tests in `tests/tests/parser`; what is found here becomes a test
//! there.
#![no_main]

#[path = "../../tests/parser/agreement.rs"]
mod agreement;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| agreement::check(frame));
