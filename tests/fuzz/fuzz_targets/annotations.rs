//! Annotations and requests that a fuzzer thinks of: `cargo xtask fuzz annotations`.
//!
//! Nothing panics, no restriction is ever left out, and nothing reaches a field that a field may not
//! have. The property is that of `ingress-core/tests/semantics`; what is found here becomes a test there.
#![no_main]

#[path = "../../../ingress-core/tests/semantics/any_annotations.rs"]
mod any_annotations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        any_annotations::check(&any_annotations::read(text));
    }
});
