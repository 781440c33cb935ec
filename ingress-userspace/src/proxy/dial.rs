//! Where sockets towards endpoints come from.
//!
//! The proxy decides when to connect and to whom; the socket may be made elsewhere (in another
//! network namespace, bound to the client's address), which is what [`Dial`] leaves open.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Makes sockets for connections to endpoints.
pub trait Dial: Send + Sync + 'static {
    /// An unconnected, non-blocking TCP socket of the endpoint's address family.
    fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket>;
}

/// Makes sockets in the network namespace of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDial;

impl Dial for HostDial {
    fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(endpoint), kind, Some(Protocol::TCP))?;
        // A request head must not wait for the acknowledgement of the last body.
        socket.set_tcp_nodelay(true)?;
        Ok(socket)
    }
}
