//! The same rules and requests in `ingress-core` and in a real nginx, with the configuration that
//! ingress-nginx would write for them: quirks come from nginx itself.
//!
//! Needs `nginx` on the path (`cargo xtask setup` installs Debian's).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cors;
mod nginx;
mod paths;
mod rewrite;
mod snippet;
mod substitution;
