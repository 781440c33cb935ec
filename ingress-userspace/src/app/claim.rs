//! Who has the eBPF datapath of this node: one daemon at a time.
//!
//! Two would attach to the same devices and use the same names. Daemons in pods on the host network
//! share no files, but the host's network namespace, so the claim is an abstract Unix socket
//! there. It ends with its process, however that ends.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The datapath is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    _socket: UnixListener,
}

impl Claim {
    /// Takes the datapath whose network namespace has this name; `None` while another daemon has
    /// it.
    pub(super) fn take(netns: &str) -> io::Result<Option<Self>> {
        let name = SocketAddr::from_abstract_name(format!("sluice-datapath/{netns}"))?;
        match UnixListener::bind_addr(&name) {
            Ok(socket) => Ok(Some(Self { _socket: socket })),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let name = format!("test-{}", std::process::id());
        let first = Claim::take(&name).unwrap();
        assert!(first.is_some());
        assert!(Claim::take(&name).unwrap().is_none());
        drop(first);
        assert!(Claim::take(&name).unwrap().is_some());
    }
}
