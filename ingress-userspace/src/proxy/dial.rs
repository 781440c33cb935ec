//! Where sockets towards endpoints come from.
//!
//! The proxy decides when to connect and to whom; the socket may be made elsewhere (in another
//! network namespace, bound to the client's address), which is what [`Dial`] leaves open.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::endpoint::Endpoint;
use super::error::Failure;
use super::pool::Backend;
use super::stream::UpstreamStream;
use super::upstream::Upstream;
use super::worker::WorkerState;

/// Makes sockets for connections to endpoints.
pub trait Dial: Send + Sync + 'static {
    /// An unconnected, non-blocking TCP socket of the endpoint's address family.
    fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket>;

    /// An unconnected, non-blocking UDP socket of the endpoint's address family.
    fn datagram_socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        Socket::new(Domain::for_address(endpoint), kind, Some(Protocol::UDP))
    }
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

/// Opens a connection to an endpoint for one request at a time.
pub(super) async fn http1(
    worker: &Rc<WorkerState>,
    backend: &Backend,
    endpoint: &Endpoint,
) -> Result<Box<Upstream>, Failure> {
    let opening = async {
        let stream = open(worker, endpoint).await?;
        Ok(Upstream::new(stream, &worker.timers))
    };
    judge(worker, backend, endpoint, opening).await
}

/// Opens a connection to an endpoint for several requests at a time, which is kept there.
pub(super) async fn http2(
    worker: &Rc<WorkerState>,
    backend: &Backend,
    endpoint: &Endpoint,
) -> Result<(), Failure> {
    let opening = async {
        let stream = open(worker, endpoint).await?;
        endpoint.multiplexed.adopt(stream, worker).await
    };
    judge(worker, backend, endpoint, opening).await
}

/// TCP, and TLS if the protocol asks for it.
async fn open(worker: &WorkerState, endpoint: &Endpoint) -> io::Result<UpstreamStream> {
    let address = endpoint.address;
    let stream = connect(worker, address).await?;
    let tls = &worker.upstream_tls;
    tls.connect(stream, endpoint.protocol, address).await
}

async fn connect(worker: &WorkerState, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(worker.dial.socket(address)?.into());
    socket.connect(address).await
}

/// Opens a connection to an endpoint that is carried as it is.
pub(super) async fn tcp(
    worker: &WorkerState,
    backend: &Backend,
    endpoint: &Endpoint,
) -> Result<TcpStream, Failure> {
    let opening = connect(worker, endpoint.address);
    judge(worker, backend, endpoint, opening).await
}

/// Counts what comes of a connection, and holds it against the endpoint. Gives up when the endpoint
/// is none that the backend would choose any more.
async fn judge<T>(
    worker: &WorkerState,
    backend: &Backend,
    endpoint: &Endpoint,
    opening: impl Future<Output = io::Result<T>>,
) -> Result<T, Failure> {
    let limit = backend.waits.connect;
    // A pod that has gone answers nothing, and who removes it knows before the timeout does.
    let opening = async {
        tokio::select! {
            biased;
            opened = opening => Some(opened),
            () = backend.wait_until(|| backend.avoids(endpoint.address)) => None,
        }
    };
    let outcome = worker.timers.timeout(limit, opening).await;
    let counters = &worker.counters;
    let failure = match outcome {
        Some(Some(Ok(opened))) => {
            counters.upstream_connects.increment();
            endpoint.succeed();
            return Ok(opened);
        }
        Some(Some(Err(error))) => Failure::Connect(error),
        Some(None) => {
            counters.upstream_connects_abandoned.increment();
            return Err(Failure::Left);
        }
        None => Failure::ConnectTimedOut,
    };
    counters.upstream_connect_failures.increment();
    if endpoint.fail(worker.timers.now()) {
        counters.upstream_ejections.increment();
    }
    Err(failure)
}
