//! Listening sockets, and the loop that takes connections from them.
//!
//! First stop of a request in user space. Options that accepted connections inherit are set once,
//! on the listening socket, so that a new connection costs one `accept4` and one `epoll_ctl`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use thiserror::Error;
use tokio::net::TcpStream;

use crate::proxy::downstream::accept::{self, Place};
use crate::proxy::downstream::admission::reset;
use crate::proxy::downstream::context::AcceptContext;
use crate::proxy::request::connection::Dialled;
use crate::proxy::runtime::limits::{ACCEPT_BATCH_MAX, LISTEN_BACKLOG};
use crate::proxy::runtime::transport::Datapath;
use crate::proxy::runtime::transport::Scheme;

/// A listening socket of one worker.
#[derive(Debug)]
pub struct Listener {
    /// From [`listen`], or made elsewhere with the same options.
    pub socket: TcpListener,
    /// What clients speak on it; `None`: whatever a TCP service speaks.
    pub scheme: Option<Scheme>,
    /// How connections come to it.
    pub datapath: Datapath,
}

/// Why a port cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "cannot listen on port {0}: it is taken; usually by another ingress controller or web \
         server on this node (`ss -ltnp sport = :{0}` shows it)"
    )]
    Taken(u16),
    /// Ports below 1024 want a capability.
    #[error("cannot listen on port {0}: ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    Denied(u16),
    /// Anything else.
    #[error("cannot listen on `{address}`")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A listening socket as workers want it: shared with the other workers (`SO_REUSEPORT`),
/// non-blocking, and for `[::]` with IPv4 too. On a node without IPv6, `[::]` means `0.0.0.0`.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    with_fallback(address, bind)
}

fn with_fallback<T>(
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, ListenError> {
    let outcome = match bind(address) {
        Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        outcome => outcome,
    };
    outcome.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            ListenError::Taken(address.port())
        } else if source.kind() == io::ErrorKind::PermissionDenied {
            ListenError::Denied(address.port())
        } else {
            ListenError::Socket { address, source }
        }
    })
}

/// A socket for datagrams as workers want it, like those of [`listen`]. Datagrams of one client go
/// to one worker for as long as there are the same workers.
pub fn listen_datagrams(address: SocketAddr) -> Result<UdpSocket, ListenError> {
    with_fallback(address, |address| Ok(bound(address, Type::DGRAM)?.into()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, Type::STREAM)?;
    // Inherited by every accepted connection (Linux `tcp_create_openreq_child`).
    socket.set_tcp_nodelay(true)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let kind = kind.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errnos = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}

/// A listener on its worker.
pub(crate) struct Acceptor {
    socket: tokio::net::TcpListener,
    scheme: Option<Scheme>,
    datapath: Datapath,
    port: u16,
    context: Rc<AcceptContext>,
}

impl Acceptor {
    /// Those of a worker.
    pub(crate) fn all(
        listeners: Vec<Listener>,
        context: &Rc<AcceptContext>,
    ) -> io::Result<Vec<Self>> {
        let listeners = listeners.into_iter();
        listeners.map(|one| Self::new(one, context)).collect()
    }

    fn new(listener: Listener, context: &Rc<AcceptContext>) -> io::Result<Self> {
        let Listener {
            socket,
            scheme,
            datapath,
        } = listener;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let socket = tokio::net::TcpListener::from_std(socket)?;
        Ok(Self {
            socket,
            scheme,
            datapath,
            port,
            context: Rc::clone(context),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes connections until the worker is told to stop, and then those that the kernel has
    /// accepted already: closing the socket would reset them.
    pub(crate) async fn run(self) {
        let mut taken = 0;
        let mut stopping = std::pin::pin!(self.context.worker.runtime.drain.begun());
        loop {
            tokio::select! {
                biased;
                () = &mut stopping => break,
                accepted = self.socket.accept() => self.take(accepted).await,
            }
            taken += 1;
            if taken % ACCEPT_BATCH_MAX == 0 {
                tokio::task::yield_now().await;
            }
            self.context.wait_for_room().await;
        }
        self.take_queued();
    }

    /// Asks the kernel and not the runtime, which may not have been told of the last ones yet.
    fn take_queued(&self) {
        let socket = SockRef::from(&self.socket);
        while let Ok((stream, peer)) = socket.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream.into()));
            if let (Ok(stream), Some(peer)) = (stream, peer.as_socket()) {
                self.spawn(stream, peer);
            }
        }
    }

    async fn take(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => self.spawn(stream, peer),
            Err(error) => {
                self.context
                    .worker
                    .runtime
                    .counters
                    .datapath(self.datapath)
                    .accept_errors
                    .increment();
                // The connection's own fault: the next one may be fine.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::debug!(error = &error as &dyn std::error::Error, "accept failed");
                    // Of descriptors there may be one more then.
                    self.context.evictions.evict();
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr) {
        if !self.context.worker.clients().may_connect(peer.ip()) {
            let counters = self.context.worker.runtime.counters.datapath(self.datapath);
            counters.source_refusals.increment();
            return reset(&stream);
        }
        let port = match self.datapath {
            Datapath::Host => self.port,
            // The socket lookup program hands connections to several ports to one socket.
            Datapath::Netns => stream.local_addr().map_or(self.port, |local| local.port()),
        };
        let place = Place {
            context: Rc::clone(&self.context),
            scheme: self.scheme.unwrap_or(Scheme::Http),
            datapath: self.datapath,
            peer,
            port,
        };
        if self.scheme.is_none() {
            accept::spawn_relay(stream, place);
        } else if self.context.worker.clients().expects_header(peer) {
            accept::spawn_proxied(stream, place);
        } else {
            let connection = place.connection(peer, Dialled::Own(port));
            accept::spawn(stream, place.context, connection);
        }
    }
}

/// How long no connection is taken after a failure that the next call would meet again, such as
/// having no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
