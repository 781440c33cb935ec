//! Connections that the kernel has half accepted for us when we stop listening.
//!
//! Where another listener shares our port, the kernel can hand them over instead of resetting them
//! (`net.ipv4.tcp_migrate_req`, Linux 5.14). Off by default, so it is switched on for as long as we
//! close our sockets, where that is allowed.

use std::fs;

use tracing::debug;

/// Hands over connections until it is dropped.
pub(super) struct Migration {
    before: Option<String>,
}

impl Migration {
    pub(super) fn begin() -> Self {
        let before = fs::read_to_string(SYSCTL).ok();
        let is_off = |value: &String| value.trim() == "0";
        let before = before.filter(is_off).filter(|_| write("1"));
        Self { before }
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            write(before);
        }
    }
}

fn write(value: &str) -> bool {
    let outcome = fs::write(SYSCTL, value);
    if let Err(error) = &outcome {
        debug!(%error, "connections can't be handed over by the kernel");
    }
    outcome.is_ok()
}

const SYSCTL: &str = "/proc/sys/net/ipv4/tcp_migrate_req";
