//! The same rules and requests in `ingress-core` and in a real nginx, with the configuration that
//! ingress-nginx would write for them: quirks come from nginx itself.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod compression;
mod cors;
mod paths;
mod rate_limit;
mod rewrite;
mod snippet;
mod substitution;
