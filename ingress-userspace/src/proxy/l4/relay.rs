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

use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::peek::{Seen, peek};
use crate::proxy::l4::tunnel::{self, Side};
use crate::proxy::runtime::limits::{CLIENT_HELLO_BYTES_MAX, TRIES_MAX};
use crate::proxy::runtime::stream::UpstreamStream;
use crate::proxy::table::slot::BackendSlot;
use crate::proxy::upstream::connect::{self, Aim};
use crate::proxy::upstream::pool::{Pick, Wish};
use crate::proxy::worker::WorkerState;

/// The backend that a TLS connection is passed through to, if it is.
pub(crate) async fn passthrough(
    stream: &TcpStream,
    connection: &Connection,
) -> Option<Arc<BackendSlot>> {
    let worker = &connection.worker;
    if !worker.table.borrow_mut().load().passes_through() {
        return None;
    }
    let looking = peek::<CLIENT_HELLO_BYTES_MAX, _>(stream, server_name);
    let limit = worker.timeouts.tls_handshake;
    // What is no TLS is for the handshake to refuse.
    let name = worker.timers.timeout(limit, looking).await?.ok()??;
    let mut table = worker.table.borrow_mut();
    table.load().passthrough(&name).map(Arc::clone)
}

/// The server name of a `ClientHello`, when all of it is there.
fn server_name(bytes: &[u8]) -> io::Result<Seen<Option<String>>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Seen::Enough(name));
            }
            Ok(None) => {}
            Err(_) => return Ok(Seen::Enough(None)),
        }
    }
    Ok(Seen::TooLittle)
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
    pub(crate) async fn run(self, worker: &Rc<WorkerState>, slot: &Arc<BackendSlot>) {
        let Some((endpoint, _load)) = open(worker, slot).await else {
            // The client sees its connection end.
            return worker.counters.relay_failures.increment();
        };
        let header = self.sends_proxy_header.map(|version| {
            proxy_protocol::header(wire_version(version), self.source, self.destination)
        });
        let client = Side {
            stream: self.stream,
            early: header.map(Bytes::from).unwrap_or_default(),
        };
        let endpoint = Side::new(UpstreamStream::Tcp(endpoint));
        let limit = worker.timeouts.relay_idle;
        let carried = tunnel::run(client, endpoint, limit, worker).await;
        worker.counters.relayed_bytes.add(carried.up + carried.down);
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
    worker: &Rc<WorkerState>,
    slot: &Arc<BackendSlot>,
) -> Option<(TcpStream, crate::proxy::upstream::endpoint::Load)> {
    let backend = worker.pool.backend(slot, worker.timers.now());
    let mut tried = Vec::new();
    while tried.len() < TRIES_MAX {
        let (random, now) = (worker.random(), worker.timers.now());
        let (pool, wish) = (&worker.pool, Wish::default());
        let pick = if tried.is_empty() {
            pool.admit(&backend, wish, random, now)
        } else {
            pool.pick(&backend, wish, &tried, random, now)
        };
        let load = match pick {
            Pick::Endpoint(load) => load,
            Pick::Full => pool.wait(&backend, wish, worker).await.ok()?,
            Pick::Nobody => return None,
        };
        if tried.contains(&load.address) {
            return None;
        }
        let aim = Aim {
            worker,
            backend: &backend,
            timeout: pool.timeouts().upstream_connect,
            endpoint: &load,
            tried: (tried.len() + 1 < TRIES_MAX).then_some(&tried),
        };
        match connect::tcp(&aim).await {
            Ok(stream) => return Some((stream, load)),
            Err(_) => tried.push(load.address),
        }
    }
    None
}
