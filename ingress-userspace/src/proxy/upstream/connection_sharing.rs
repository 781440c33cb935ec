//! Sharing of idle connections between workers: a worker that would dial takes over a connection that
//! another worker does not use.
//!
//! Only a request that finds no idle connection asks, by a message to the worker with the most idle
//! connections; every other request pays nothing. The socket below HTTP moves, because a connection
//! belongs to the runtime that drives it. A worker gives away only connections that have been idle for a
//! while, so that workers do not take from each other what they need a moment later.

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ingress_core::ir::UpstreamProtocol;
use tokio::sync::{mpsc, oneshot};

use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::limits::ASKS_MAX;
use crate::proxy::runtime::stream::UpstreamStream;
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::http1::Upstream;

/// Workers that lend connections to each other: all of a daemon.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<ArcSwap<Vec<Peer>>>);

/// One of them.
#[derive(Clone, Debug)]
struct Peer {
    index: usize,
    counters: Arc<Counters>,
    asks: mpsc::Sender<Ask>,
}

/// What a worker wants of another.
#[derive(Debug)]
struct Ask {
    endpoint: SocketAddr,
    answer: oneshot::Sender<TcpStream>,
}

impl Peers {
    /// Has a worker take part until its lender is dropped.
    pub(crate) fn join(&self, index: usize, counters: &Arc<Counters>) -> Lender {
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let peer = Peer {
            index,
            counters: Arc::clone(counters),
            asks: sender,
        };
        self.0.rcu(|peers| {
            let mut peers = Vec::clone(peers);
            peers.push(peer.clone());
            peers
        });
        Lender {
            peers: self.clone(),
            asks,
            counters: Arc::clone(counters),
        }
    }

    /// The worker that has most to lend, if any has something.
    fn richest(&self, but: usize) -> Option<Peer> {
        let peers = self.0.load();
        let others = peers.iter().filter(|peer| peer.index != but);
        let idle = |peer: &&Peer| peer.counters.upstream_idle.value();
        let richest = others.max_by_key(idle)?;
        (idle(&richest) > 0).then(|| richest.clone())
    }
}

/// A worker that takes part.
pub(crate) struct Lender {
    peers: Peers,
    asks: mpsc::Receiver<Ask>,
    counters: Arc<Counters>,
}

impl Lender {
    /// Answers others for as long as the worker lives. Who asks takes silence for a no.
    pub(crate) async fn run(mut self, upstreams: Rc<Upstreams>) {
        while let Some(Ask { endpoint, answer }) = self.asks.recv().await {
            let now = upstreams.runtime.timers.now();
            let lent = upstreams.pool.lend(endpoint, now, LENT_IDLE_MIN);
            if let Some(stream) = lent.and_then(|upstream| upstream.into_idle_stream()) {
                upstreams.runtime.counters.upstream_given.increment();
                // Who has asked may be gone: then the connection is closed.
                let _ = answer.send(stream);
            }
        }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        self.peers.0.rcu(|peers| {
            let is_other = |peer: &&Peer| !Arc::ptr_eq(&peer.counters, &self.counters);
            peers.iter().filter(is_other).cloned().collect::<Vec<_>>()
        });
    }
}

/// An idle connection to an endpoint from another worker, if one has it to spare.
pub(crate) async fn borrow(upstreams: &Upstreams, endpoint: &Endpoint) -> Option<Box<Upstream>> {
    let runtime = &upstreams.runtime;
    let now = runtime.timers.now();
    if endpoint.protocol != UpstreamProtocol::Http1 || !endpoint.may_ask(now) {
        return None;
    }
    let peer = upstreams.peers.richest(runtime.index)?;
    let (answer, lent) = oneshot::channel();
    let ask = Ask {
        endpoint: endpoint.address,
        answer,
    };
    // A worker with a full mailbox is too busy to answer.
    peer.asks.try_send(ask).ok()?;
    let lent = runtime.timers.timeout(ANSWER_MAX, lent).await;
    let Some(Ok(stream)) = lent else {
        endpoint.asked_in_vain(now);
        return None;
    };
    let stream = tokio::net::TcpStream::from_std(stream).ok()?;
    let stream = UpstreamStream::unencrypted(stream);
    runtime.counters.upstream_shared.increment();
    Some(Upstream::new(stream, &runtime.timers))
}

/// For how long a connection has to be idle before another worker may have it.
const LENT_IDLE_MIN: Duration = Duration::from_secs(1);

/// How long to wait for an answer, which comes when the other worker has its next turn; the
/// worker's clock adds up to two ticks.
const ANSWER_MAX: Duration = Duration::from_millis(1);

/// For how long nobody is asked again after a no.
pub(crate) const ASK_PAUSE: Duration = Duration::from_millis(100);
