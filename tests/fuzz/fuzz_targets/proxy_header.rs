//! The reader of PROXY protocol headers on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz proxy_header`.
//!
//! The property is that of the tests beside it; what is found here becomes a test there.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ingress_wire::proxy_protocol::check::check(bytes));
