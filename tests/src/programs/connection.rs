//! TCP connections that one of the stacks has, and packets of them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::host::Host;
use crate::packet::{Packet, Tcp};

/// A connection. Both ends are on the same host, which makes no difference to the lookup.
#[derive(Debug)]
pub struct Connection {
    /// Whose socket a packet to it is for.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    near: TcpStream,
    far: TcpStream,
}

impl Connection {
    /// One that a listener at `local` has accepted and closed behind.
    pub fn accepted(host: &Host, local: SocketAddr) -> Result<Self> {
        Self::accepted_from(host, local, SocketAddr::new(local.ip(), 0))
    }

    /// The same, from this address and port.
    pub fn accepted_from(host: &Host, local: SocketAddr, remote: SocketAddr) -> Result<Self> {
        host.run(|| {
            let (far, near) = connect(remote, local)?;
            Ok(Self {
                local,
                remote: far.local_addr()?,
                near,
                far,
            })
        })?
    }

    /// One that was made from `local`.
    pub fn dialled(host: &Host, local: SocketAddr) -> Result<Self> {
        host.run(|| {
            let (near, far) = connect(local, SocketAddr::new(local.ip(), 0))?;
            Ok(Self {
                local,
                remote: near.peer_addr()?,
                near,
                far,
            })
        })?
    }

    /// A packet to it.
    pub fn packet(&self, flags: u8) -> Packet {
        packet(self.remote, self.local, flags)
    }

    /// A packet that it has sent.
    pub fn sent(&self, flags: u8) -> Packet {
        packet(self.local, self.remote, flags)
    }

    /// Resets it: nothing of it stays, not even a socket that waits.
    pub fn reset(self) -> Result<()> {
        for end in [self.near, self.far] {
            Socket::from(end).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Ends it, its own side first, which then waits.
    pub fn end(self) {
        drop(self.near);
        drop(self.far);
    }
}

/// A segment from one address and port to another.
pub fn packet(from: SocketAddr, to: SocketAddr, flags: u8) -> Packet {
    let tcp = Tcp::with_flags(from.port(), to.port(), flags);
    Packet::new(from.ip(), to.ip(), tcp)
}

/// Both ends of a new connection, the one that asks first.
fn connect(from: SocketAddr, to: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let domain = Domain::for_address(to);
    let listener = Socket::new(domain, Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    listener.bind(&to.into())?;
    listener.listen(1)?;
    let listener = TcpListener::from(listener);
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&from.into())?;
    socket.connect(&listener.local_addr()?.into())?;
    let (accepted, _) = listener.accept()?;
    Ok((socket.into(), accepted))
}

/// An address and port of the node.
pub fn at(node: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(node.into(), port)
}
