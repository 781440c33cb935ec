//! The readers of a client's requests and their bodies on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz request`.
//!
//! The property is that of the tests beside them; what is found here becomes a test there.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let cuts = bytes.first().copied().unwrap_or(1);
    let requests = bytes.get(1..).unwrap_or_default();
    ingress_wire::http1::check::check_requests(requests, cuts.into());
});
