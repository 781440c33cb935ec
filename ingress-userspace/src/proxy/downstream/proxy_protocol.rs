//! The PROXY protocol: who a connection is from, said by the load balancer before it.
//!
//! A header is looked at where it lies in the socket and taken out when it is complete, so that no
//! byte of what follows is touched.

use std::io;
use std::os::fd::AsFd as _;

use ingress_wire::proxy_protocol::{HEADER_BYTES_MAX, Origin, Parsed, parse};
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;

use crate::proxy::runtime::peek::{Peeked, peek};

/// Waits for a header and takes it out of the socket.
pub(crate) async fn read(stream: &TcpStream) -> io::Result<Origin> {
    let looking = peek::<HEADER_BYTES_MAX, _>(stream, |bytes| match parse(bytes) {
        Parsed::Complete { length, origin } => Ok(Peeked::Complete((length, origin))),
        Parsed::Incomplete => Ok(Peeked::Incomplete),
        Parsed::Malformed => Err(io::ErrorKind::InvalidData.into()),
    });
    let (length, origin) = looking.await?;
    take(stream, length)?;
    Ok(origin)
}

/// Takes out what is known to be there.
fn take(stream: &TcpStream, length: usize) -> io::Result<()> {
    let mut buffer = [0; HEADER_BYTES_MAX];
    let (_, count) = recv(stream.as_fd(), &mut buffer[..length], RecvFlags::empty())?;
    if count == length {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}
