//! What clients and providers send for logins, as a fuzzer thinks of it: `cargo xtask fuzz oidc`.
//!
//! Nothing panics, sessions and logins have one writing, and no session reaches an endpoint. The property is that
//! of `ingress-core/tests/semantics`; what is found here becomes a test there.
#![no_main]

#[path = "../../../ingress-core/tests/semantics/any_login.rs"]
mod any_login;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| any_login::check(bytes));
