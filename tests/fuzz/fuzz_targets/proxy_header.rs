//! The reader of PROXY protocol headers on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz proxy_header`.
//!
//! The property is that of the tests beside it; what is found here becomes a test there.
#![no_main]

#[path = "../../../ingress-userspace/src/proxy/downstream/proxy_protocol/check.rs"]
mod check;
#[path = "../../../ingress-userspace/src/proxy/downstream/proxy_protocol/header.rs"]
mod header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
