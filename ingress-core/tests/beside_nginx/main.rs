//! The same rules and requests in `ingress-core` and in a real nginx, with the configuration that
//! ingress-nginx would write for them: quirks come from nginx itself.
//!
//! Needs `nginx` on the path (`cargo xtask setup` installs Debian's).

mod cors;
mod nginx;
mod paths;
mod rewrite;
