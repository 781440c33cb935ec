//! The reader of HTTP/2 frames on sequences that a fuzzer thinks of: `cargo xtask fuzz frames`.
//!
//! The property is that of the tests beside it; what is found here becomes a test there.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let cuts = bytes.first().copied().unwrap_or(1);
    let frames = bytes.get(1..).unwrap_or_default();
    ingress_wire::http2::check::check(frames, cuts.into());
});
