//! The socket of a UDP service: tells where a datagram was sent to, and answers from there.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket that is bound to a port at every address.
pub(crate) struct Bound {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams of one client: several, where the kernel has put them together.
pub(crate) struct Received {
    pub(crate) from: SocketAddr,
    /// The address that they were sent to.
    pub(crate) to: Option<IpAddr>,
    length: usize,
    stride: usize,
}

impl Bound {
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            state,
        })
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut meta = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            let mut buffers = [IoSliceMut::new(buffer)];
            self.state
                .recv((&self.socket).into(), &mut buffers, &mut meta)
        })?;
        let [meta] = meta;
        Ok(Received {
            from: meta.addr,
            to: meta.dst_ip,
            length: meta.len,
            stride: meta.stride,
        })
    }

    pub(crate) fn try_send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        datagram: &[u8],
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: from,
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

impl Received {
    /// The datagrams, which lie in the buffer one after the other.
    pub(crate) fn datagrams<'a>(
        &self,
        buffer: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = buffer.get(..self.length).unwrap_or_default();
        // An empty datagram is one too.
        let empty = bytes.is_empty().then_some(bytes);
        bytes.chunks(self.stride.max(1)).chain(empty)
    }
}

/// Has the kernel cut large answers into fragments, as it does for any server: the library that
/// tells addresses is made for QUIC, which wants none (ip(7), `IP_MTU_DISCOVER`; `ipv6(7)`).
fn allow_fragments(socket: &impl AsFd) -> io::Result<()> {
    let value: libc::c_int = libc::IP_PMTUDISC_WANT;
    let set = |level, option| {
        // SAFETY: the descriptor is open, and the option's value is an int of the size that is
        // told.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                INT_BYTES,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)?;
    match set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) {
        // The socket is one of IPv4 alone.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        outcome => outcome,
    }
}

/// Size of a C `int`.
const INT_BYTES: libc::socklen_t = 4;
