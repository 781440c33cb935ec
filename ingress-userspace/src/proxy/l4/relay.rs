//! Connections that are carried as they are: TLS that is not ended here, and TCP services.
//!
//! Whether TLS is passed through is decided by the server name in the client's first message, which
//! is looked at where it lies in the socket. That costs a system call, and only where a table
//! passes anything through.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ingress_core::ir::ProxyVersion;
use ingress_wire::proxy_protocol::{self, Version};
use rustls::server::Acceptor;
use tokio::net::TcpStream;

use crate::proxy::l4::tunnel;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::limits::{CLIENT_HELLO_BYTES_MAX, TRIES_MAX};
use crate::proxy::runtime::peek::{Peeked, peek};
use crate::proxy::runtime::stream::{Side, UpstreamStream};
use crate::proxy::table::Tables;
use crate::proxy::table::slot::BackendHandle;
use crate::proxy::upstream::connect::{self, ConnectTarget};
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::pool::{Pick, PickHint};

/// The backend that a TLS connection is passed through to, if it is.
pub(crate) async fn passthrough(
    stream: &TcpStream,
    runtime: &Runtime,
    tables: &Tables,
) -> Option<Arc<BackendHandle>> {
    if !tables.current.borrow_mut().load().passes_through() {
        return None;
    }
    let looking = peek::<CLIENT_HELLO_BYTES_MAX, _>(stream, server_name);
    let limit = runtime.timeouts.tls_handshake;
    // What is no TLS is for the handshake to refuse.
    let name = runtime.timers.timeout(limit, looking).await?.ok()??;
    let mut table = tables.current.borrow_mut();
    table.load().passthrough(&name).map(Arc::clone)
}

/// The server name of a `ClientHello`, when all of it is there.
fn server_name(bytes: &[u8]) -> io::Result<Peeked<Option<String>>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Peeked::Complete(name));
            }
            Ok(None) => {}
            Err(_) => return Ok(Peeked::Complete(None)),
        }
    }
    Ok(Peeked::Incomplete)
}

/// One connection of a client that is to be carried.
pub(crate) struct Relay {
    pub(crate) stream: TcpStream,
    /// From where the client has come, and what it dialled.
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// Whether the endpoint is told.
    pub(crate) sends_proxy_header: Option<ProxyVersion>,
}

impl Relay {
    /// Carries bytes between the client and an endpoint until both have ended.
    pub(crate) async fn run(self, upstreams: &Rc<Upstreams>, slot: &Arc<BackendHandle>) {
        let runtime = &upstreams.runtime;
        let Some((endpoint, _load)) = open(upstreams, slot).await else {
            // The client sees its connection end.
            return runtime.counters.relay_failures.increment();
        };
        let header = self.sends_proxy_header.map(|version| {
            proxy_protocol::header(wire_version(version), self.source, self.destination)
        });
        let client = Side {
            stream: self.stream,
            early: header.map(Bytes::from).unwrap_or_default(),
        };
        let endpoint = Side::new(UpstreamStream::unencrypted(endpoint));
        let limit = runtime.timeouts.relay_idle;
        let carried = tunnel::run(client, endpoint, limit, runtime).await;
        runtime
            .counters
            .relayed_bytes
            .add(carried.up + carried.down);
    }
}

fn wire_version(version: ProxyVersion) -> Version {
    match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    }
}

/// A connection to an endpoint: to another one, where the first can't be reached.
async fn open(
    upstreams: &Rc<Upstreams>,
    slot: &Arc<BackendHandle>,
) -> Option<(TcpStream, crate::proxy::upstream::endpoint::InFlightGuard)> {
    let runtime = &upstreams.runtime;
    let backend = upstreams.pool.backend(slot, runtime.timers.now());
    let mut tried = Vec::new();
    while tried.len() < TRIES_MAX {
        let (random, now) = (runtime.random(), runtime.timers.now());
        let (pool, hint) = (&upstreams.pool, PickHint::default());
        let pick = if tried.is_empty() {
            pool.admit(&backend, hint, random, now)
        } else {
            pool.pick(&backend, hint, &tried, random, now)
        };
        let load = match pick {
            Pick::Endpoint(load) => load,
            Pick::Full => pool.wait(&backend, hint, runtime).await.ok()?,
            Pick::Nobody => return None,
        };
        if tried.contains(&load.address) {
            return None;
        }
        let target = ConnectTarget {
            upstreams,
            backend: &backend,
            timeout: pool.timeouts().upstream_connect,
            endpoint: &load,
            tried: (tried.len() + 1 < TRIES_MAX).then_some(&tried),
        };
        match connect::tcp(&target).await {
            Ok(stream) => return Some((stream, load)),
            Err(_) => tried.push(load.address),
        }
    }
    None
}
