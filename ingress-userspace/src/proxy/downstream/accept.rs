//! One downstream connection from handshake to close.
//!
//! TLS and protocol are settled here; after that the `driver` has the connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hyper::rt::{Read, Write};
use ingress_wire::proxy_protocol::Origin;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::downstream::admission::Admitted;
use crate::proxy::downstream::context::AcceptContext;
use crate::proxy::downstream::driver::drive;
use crate::proxy::downstream::evictions::{self, Enlisted};
use crate::proxy::downstream::http1::Http1;
use crate::proxy::downstream::http2::Http2;
use crate::proxy::downstream::proxy_protocol;
use crate::proxy::l4::relay::{self, Relay};
use crate::proxy::request::connection::{Connection, Dialled};
use crate::proxy::runtime::executor::PanicCount;
use crate::proxy::runtime::monitored::Monitored;
use crate::proxy::runtime::stream::{ClientStream, OverTcp};
use crate::proxy::runtime::transport::{Datapath, Scheme};
use crate::proxy::tls::client_auth;
use crate::proxy::tls::{self, ServerTls};

/// Begins to serve a connection, in a task of its own.
pub(crate) fn spawn(stream: TcpStream, context: Rc<AcceptContext>, connection: Rc<Connection>) {
    let open = Open::of(&context, connection.datapath);
    let client = connection.peer.ip();
    let admitted = Admitted::admit(&context, &stream, connection.datapath, client);
    let Some(admitted) = admitted else {
        return;
    };
    serve(stream, context, connection, (open, admitted));
}

/// Serves a connection that is counted by `counted`.
fn serve(
    stream: TcpStream,
    context: Rc<AcceptContext>,
    connection: Rc<Connection>,
    counted: (Open, Admitted),
) {
    let enlisted = Enlisted::new(&context, &connection);
    let index = enlisted.index();
    let accepting = Rc::clone(&context);
    let open = (counted, enlisted);
    // Two tasks and not one that can do both: a task is copied when it is spawned, and what TLS
    // needs is several kilobytes.
    let task = match connection.scheme {
        Scheme::Http => tokio::task::spawn_local(async move {
            let _open = open;
            serve_http1(ClientStream::Tcp(stream), &connection).await;
        }),
        Scheme::Https => tokio::task::spawn_local(async move {
            let _open = open;
            serve_tls(stream, &context, &connection).await;
        }),
    };
    evictions::begin(&accepting, index, task.abort_handle());
}

/// Begins to serve a connection whose first bytes say who it is from.
pub(crate) fn spawn_proxied(stream: TcpStream, place: Place) {
    let open = Open::of(&place.context, place.datapath);
    tokio::task::spawn_local(async move {
        let worker = &place.context.worker;
        let header = proxy_protocol::read(&stream);
        let limit = worker.runtime.idle_timeouts.get().proxy_header;
        let Some(Ok(origin)) = worker.runtime.timers.timeout(limit, header).await else {
            let counters = worker.runtime.counters.datapath(place.datapath);
            return counters.proxy_header_failures.increment();
        };
        let connection = match origin {
            Origin::Proxied {
                source,
                destination,
            } => place.connection(source, Dialled::Proxy(destination.port())),
            Origin::Own => place.connection(place.peer, Dialled::Own(place.port)),
        };
        let client = connection.peer.ip();
        let admitted = Admitted::admit(&place.context, &stream, place.datapath, client);
        if let Some(admitted) = admitted {
            serve(
                stream,
                Rc::clone(&place.context),
                connection,
                (open, admitted),
            );
        }
    });
}

/// Begins to carry a connection to a TCP service.
pub(crate) fn spawn_relay(stream: TcpStream, place: Place) {
    let open = Open::of(&place.context, place.datapath);
    tokio::task::spawn_local(async move {
        let _open = open;
        let worker = &place.context.worker;
        let service = worker
            .tables
            .current
            .borrow_mut()
            .load()
            .tcp_service(place.port);
        let Some((slot, service)) = service else {
            return worker.runtime.counters.relay_failures.increment();
        };
        let mut source = place.peer;
        let local = stream.local_addr().unwrap_or(place.peer);
        let mut destination = SocketAddr::new(local.ip().to_canonical(), local.port());
        if service.takes_proxy_header && worker.clients().trusts(place.peer.ip()) {
            let header = proxy_protocol::read(&stream);
            let limit = worker.runtime.idle_timeouts.get().proxy_header;
            match worker.runtime.timers.timeout(limit, header).await {
                Some(Ok(Origin::Own)) => {}
                Some(Ok(Origin::Proxied {
                    source: client,
                    destination: dialled,
                })) => (source, destination) = (client, dialled),
                Some(Err(_)) | None => {
                    let counters = worker.runtime.counters.datapath(place.datapath);
                    return counters.proxy_header_failures.increment();
                }
            }
        }
        let client = source.ip();
        let Some(_admitted) = Admitted::admit(&place.context, &stream, place.datapath, client)
        else {
            return;
        };
        let relay = Relay {
            stream,
            source: SocketAddr::new(source.ip().to_canonical(), source.port()),
            destination,
            sends_proxy_header: service.sends_proxy_header,
        };
        relay.run(&worker.upstreams, &slot).await;
    });
}

/// Where a connection came in.
pub(crate) struct Place {
    pub(crate) context: Rc<AcceptContext>,
    pub(crate) scheme: Scheme,
    pub(crate) datapath: Datapath,
    pub(crate) peer: SocketAddr,
    pub(crate) port: u16,
}

impl Place {
    /// The connection of a client at this address, which dialled this port.
    pub(crate) fn connection(&self, client: SocketAddr, dialled: Dialled) -> Rc<Connection> {
        let worker = &self.context.worker;
        Connection::new(worker, self.scheme, self.datapath, client, dialled)
    }
}

async fn serve_tls(stream: TcpStream, context: &AcceptContext, connection: &Rc<Connection>) {
    let worker = &connection.worker;
    if let Some(slot) = relay::passthrough(&stream, &worker.runtime, &worker.tables).await {
        let relay = Relay {
            source: connection.peer,
            destination: stream.local_addr().unwrap_or(connection.peer),
            stream,
            sends_proxy_header: None,
        };
        return Box::pin(relay.run(&worker.upstreams, &slot)).await;
    }
    let asks = worker.tables.current.borrow_mut().load().asks_clients();
    // In the heap until it is over: the task has no room for it then.
    let handshake = Box::pin(async {
        if asks {
            accept_asking(stream, &context.tls, connection).await
        } else {
            let acceptor = TlsAcceptor::from(context.tls.config());
            acceptor.accept(stream).await
        }
    });
    let limit = worker.runtime.timeouts.tls_handshake;
    let Some(Ok(stream)) = worker.runtime.timers.timeout(limit, handshake).await else {
        let counters = worker.runtime.counters.datapath(connection.datapath);
        counters.tls_handshake_failures.increment();
        return;
    };
    let protocol = stream.get_ref().1.alpn_protocol();
    if protocol == Some(tls::ACME_TLS) {
        // The handshake was all (RFC 8737 §3).
        return;
    }
    if protocol == Some(tls::HTTP_2) {
        let io = Monitored::new(stream, Rc::clone(&connection.activity));
        serve_http2(io, connection).await;
    } else {
        // In the heap, so that a connection that sleeps has little in its task.
        serve_http1(ClientStream::Tls(Box::new(stream)), connection).await;
    }
}

/// Ends TLS, and asks for a certificate if the server name's host wants one.
async fn accept_asking(
    stream: TcpStream,
    tls: &ServerTls,
    connection: &Connection,
) -> io::Result<TlsStream<TcpStream>> {
    let tables = &connection.worker.tables;
    let policy_of = |name: Option<&str>| {
        let mut table = tables.current.borrow_mut();
        table.load().client_auth(name).map(Arc::clone)
    };
    let (stream, presented) = client_auth::accept(stream, tls, policy_of).await?;
    if let Some(presented) = presented {
        connection.present(presented);
    }
    Ok(stream)
}

/// Not `async` itself: what it makes moves through no states of a future.
fn serve_http1(stream: ClientStream, connection: &Rc<Connection>) -> impl Future<Output = ()> {
    drive(Http1::new(stream, connection), connection)
}

pub(crate) fn serve_http2<I>(io: I, connection: &Rc<Connection>) -> impl Future<Output = ()>
where
    I: Read + Write + OverTcp + Unpin + 'static,
{
    drive(Http2::new(io, connection), connection)
}

/// Counts a connection for as long as it is open.
struct Open {
    context: Rc<AcceptContext>,
    datapath: Datapath,
    _panics: PanicCount,
}

impl Open {
    fn of(context: &Rc<AcceptContext>, datapath: Datapath) -> Self {
        let context = Rc::clone(context);
        context.open(datapath);
        Self {
            _panics: PanicCount::new(&context.worker.runtime.counters),
            context,
            datapath,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.context.close(self.datapath);
    }
}
