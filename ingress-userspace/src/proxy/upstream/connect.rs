//! Where sockets towards endpoints come from.
//!
//! The proxy decides when to connect and to whom; the socket may be made elsewhere (in another
//! network namespace, bound to the client's address), which is what [`Dial`] leaves open.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::proxy::runtime::limits::{PROBE_INTERVAL, PROBED_AFTER, PROBES, SLOW_CONNECT};
use crate::proxy::runtime::stream::UpstreamStream;
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::pool::Backend;

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

/// One connection that is wanted.
pub(crate) struct ConnectTarget<'a> {
    pub(crate) upstreams: &'a Rc<Upstreams>,
    pub(crate) backend: &'a Backend,
    /// How long the connection may take.
    pub(crate) timeout: Duration,
    pub(crate) endpoint: &'a Endpoint,
    /// Where it was tried before, if it may be tried elsewhere.
    pub(crate) tried: Option<&'a [SocketAddr]>,
}

/// Opens a connection to an endpoint for one request at a time.
pub(crate) async fn http1(target: &ConnectTarget<'_>) -> Result<Box<Upstream>, UpstreamError> {
    let opening = async {
        let stream = target.open().await?;
        Ok(Upstream::new(stream, &target.upstreams.runtime.timers))
    };
    target.judge(opening).await
}

/// Opens a connection to an endpoint for several requests at a time, which is kept there.
pub(crate) async fn http2(target: &ConnectTarget<'_>) -> Result<(), UpstreamError> {
    let opening = async {
        let stream = target.open().await?;
        let adopting = target
            .endpoint
            .multiplexed
            .adopt(stream, &target.upstreams.runtime);
        adopting.await.map_err(UpstreamError::Connect)
    };
    target.judge(opening).await
}

/// Opens a connection to an endpoint that is carried as it is.
pub(crate) async fn tcp(target: &ConnectTarget<'_>) -> Result<TcpStream, UpstreamError> {
    target.judge(target.connect()).await
}

impl ConnectTarget<'_> {
    /// TCP, and TLS if the protocol asks for it.
    async fn open(&self) -> Result<UpstreamStream, UpstreamError> {
        let stream = self.connect().await?;
        let Endpoint {
            address, protocol, ..
        } = *self.endpoint;
        let tls = &self.upstreams.tls;
        let wanted = self.backend.tls();
        let opening = tls.connect(stream, protocol, address, wanted);
        opening.await.map_err(UpstreamError::Connect)
    }

    async fn connect(&self) -> Result<TcpStream, UpstreamError> {
        let (upstreams, address) = (self.upstreams, self.endpoint.address);
        let socket = upstreams
            .dial
            .socket(address)
            .map_err(UpstreamError::Connect)?;
        // Without it nobody learns of an endpoint that has gone while its answer was awaited.
        let probing = TcpKeepalive::new()
            .with_time(PROBED_AFTER)
            .with_interval(PROBE_INTERVAL)
            .with_retries(PROBES);
        let probed = socket.set_tcp_keepalive(&probing);
        probed.map_err(UpstreamError::Connect)?;
        let mut connecting = pin!(TcpSocket::from_std_stream(socket.into()).connect(address));
        loop {
            let connected = upstreams
                .runtime
                .timers
                .timeout(SLOW_CONNECT, connecting.as_mut());
            match connected.await {
                Some(connected) => return connected.map_err(UpstreamError::Connect),
                None if self.has_other() => return Err(UpstreamError::Overtaken),
                None => {}
            }
        }
    }

    /// Whether another endpoint may do what this one has not done yet.
    fn has_other(&self) -> bool {
        let Self {
            upstreams,
            backend,
            endpoint,
            ..
        } = self;
        self.tried
            .is_some_and(|tried| upstreams.pool.has_other(backend, endpoint, tried))
    }

    /// Counts what comes of a connection, and holds it against the endpoint. Gives up when the
    /// endpoint is none that the backend would choose any more.
    async fn judge<T>(
        &self,
        opening: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        let Self {
            upstreams,
            backend,
            endpoint,
            ..
        } = self;
        // A pod that has gone answers nothing, and who removes it knows before the timeout does.
        let opening = async {
            tokio::select! {
                biased;
                opened = opening => opened,
                () = backend.wait_until(|| backend.avoids(endpoint.address)) => Err(UpstreamError::Left),
            }
        };
        let outcome = upstreams
            .runtime
            .timers
            .timeout(self.timeout, opening)
            .await;
        let counters = &upstreams.runtime.counters;
        let failure = match outcome {
            Some(Ok(opened)) => {
                counters.upstream_connects.increment();
                endpoint.succeed();
                return Ok(opened);
            }
            Some(Err(UpstreamError::Left)) => {
                counters.upstream_connects_abandoned.increment();
                return Err(UpstreamError::Left);
            }
            Some(Err(failure)) => failure,
            None => UpstreamError::ConnectTimedOut,
        };
        counters.upstream_connect_failures.increment();
        if endpoint.fail(upstreams.runtime.timers.now()) {
            counters.upstream_ejections.increment();
        }
        Err(failure)
    }
}
