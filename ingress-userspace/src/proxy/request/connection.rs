//! What is known about one downstream connection, for all its requests.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::proxy::observe::metrics::record::{ClientInfo, RequestRecord};
use crate::proxy::request::client::Client;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::upgrade::Switched;
use crate::proxy::runtime::counters::DatapathCounters;
use crate::proxy::runtime::field::address_value;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::pipe::Pipes;
use crate::proxy::runtime::transport::{Datapath, Downstream, Scheme};
use crate::proxy::tls::client_auth::PeerCertificate;
use crate::proxy::upstream::forwarded::ForwardedHeaders;

/// A connection from a client.
pub(crate) struct Connection {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) scheme: Scheme,
    /// The scheme that endpoints are told: HTTPS too where a proxy before us has ended TLS.
    pub(crate) forwarded_scheme: Scheme,
    pub(crate) datapath: Datapath,
    pub(crate) peer: SocketAddr,
    /// The client's address as a header has it; an IPv4 client is never shown as IPv6.
    pub(crate) client: HeaderValue,
    /// Whether what its requests say about the client is believed.
    pub(crate) is_trusted: bool,
    /// The port that the client dialled.
    pub(crate) port: HeaderValue,
    pub(crate) activity: Rc<Activity>,
    in_flight: Cell<usize>,
    /// All that there were.
    requests: Cell<u64>,
    /// Requests that wait for an endpoint, and not for the client.
    waiting: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Whether it is a tunnel, or is to become one.
    has_switched: Cell<bool>,
    /// What endpoints are told about it.
    lines: OnceCell<Rc<[u8]>>,
    /// What the client has shown, if it was asked.
    presented: OnceCell<Box<PeerCertificate>>,
    /// A tunnel that begins when the response in flight is written.
    switched: RefCell<Option<Box<Switched>>>,
}

impl Connection {
    pub(crate) fn new(
        worker: &Rc<WorkerContext>,
        scheme: Scheme,
        datapath: Datapath,
        peer: SocketAddr,
        dialled: Dialled,
    ) -> Rc<Self> {
        let (forwarded_scheme, port) = dialled.forwarded(scheme);
        let activity = Activity::new(Rc::clone(&worker.runtime.timers));
        Rc::new(Self {
            worker: Rc::clone(worker),
            scheme,
            forwarded_scheme,
            datapath,
            peer,
            client: address_value(peer.ip().to_canonical()),
            is_trusted: worker.clients().trusts_headers_of(peer),
            port: HeaderValue::from(port),
            activity,
            in_flight: Cell::new(0),
            requests: Cell::new(0),
            waiting: Cell::new(0),
            idle_since: Cell::new(worker.runtime.timers.now()),
            lines: OnceCell::new(),
            presented: OnceCell::new(),
            has_switched: Cell::new(false),
            switched: RefCell::default(),
        })
    }

    /// The recorded facts about the client of one of its requests.
    pub(crate) fn info<'a>(&'a self, client: &'a Client, downstream: Downstream) -> ClientInfo<'a> {
        ClientInfo {
            downstream,
            scheme: self.scheme,
            address: &client.address,
            port: &self.port,
        }
    }

    /// What is counted of connections that come in the same way.
    pub(crate) fn counters(&self) -> &DatapathCounters {
        self.worker.runtime.counters.datapath(self.datapath)
    }

    /// What endpoints are told about it, as it is written.
    pub(crate) fn lines(&self) -> Rc<[u8]> {
        let make =
            || ForwardedHeaders::of_connection(&self.client, &self.port, self.forwarded_scheme);
        Rc::clone(self.lines.get_or_init(make))
    }

    /// The pipes that large bodies go through to the client of an HTTP/1 connection; `None` over TLS.
    pub(crate) fn pipes(&self) -> Option<&Rc<Pipes>> {
        let is_plain = self.scheme == Scheme::Http;
        is_plain.then_some(&self.worker.runtime.pipes)
    }

    /// Begins a request; it ends when the guard is dropped.
    pub(crate) fn begin(self: &Rc<Self>, record: RequestRecord) -> InFlight {
        self.worker.runtime.counters.requests_open.increment();
        self.in_flight.set(self.in_flight.get() + 1);
        self.requests.set(self.requests.get() + 1);
        self.waiting.set(self.waiting.get() + 1);
        InFlight {
            connection: Rc::clone(self),
            record,
            is_waiting: Cell::new(true),
        }
    }

    /// Keeps what the client has shown in its handshake, which happens once.
    pub(crate) fn present(&self, presented: PeerCertificate) {
        let _ = self.presented.set(Box::new(presented));
    }

    /// What the client has shown; `None` if it was not asked.
    pub(crate) fn presented(&self) -> Option<&PeerCertificate> {
        self.presented.get().map(|presented| &**presented)
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Whether a request is being answered.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.get() > 0
    }

    /// Since when the connection has had nothing to do, if it may be ended for that.
    pub(crate) fn evictable_since(&self) -> Option<Instant> {
        let is_idle = !self.is_in_flight() && !self.is_blocked() && !self.has_switched.get();
        is_idle.then(|| self.idle_since.get())
    }

    /// Has the connection turn into a tunnel when the response in flight is written.
    pub(crate) fn switch(&self, switched: Switched) {
        self.has_switched.set(true);
        self.switched.replace(Some(Box::new(switched)));
    }

    pub(crate) fn take_switched(&self) -> Option<Box<Switched>> {
        self.switched.take()
    }

    /// Whether the client does not take what there is for it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.activity.write_blocked_since().is_some()
    }

    /// How much longer it needs its buffers; zero when it is idle for long enough, between two
    /// requests.
    pub(crate) fn buffers_left(&self) -> Duration {
        let limit = self.worker.runtime.timeouts.buffers_idle;
        if self.is_in_flight() || self.is_blocked() || self.activity.is_amid_request() {
            return limit;
        }
        let since = self.idle_since.get().max(self.activity.last());
        self.left_of(limit, since)
    }

    /// How much longer the client may do as it does: zero when it has to go.
    pub(crate) fn time_left(&self) -> Duration {
        let timeouts = &self.worker.runtime.timeouts;
        let (since, limit) = if let Some(since) = self.activity.write_blocked_since() {
            (since, timeouts.downstream_write)
        } else if !self.is_in_flight() {
            // The end of a response may be written long after its body was handed over.
            (
                self.idle_since.get().max(self.activity.last_write()),
                self.worker.runtime.idle_timeouts.get().request_head,
            )
        } else if self.waiting.get() == 0 {
            // Over HTTP/2, a client that opens no window blocks no socket.
            (self.activity.last_write(), timeouts.downstream_write)
        } else {
            return timeouts.downstream_write;
        };
        self.left_of(limit, since)
    }

    fn left_of(&self, limit: Duration, since: Instant) -> Duration {
        let now = self.worker.runtime.timers.now();
        limit.saturating_sub(now.saturating_duration_since(since))
    }
}

/// The port that a client dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// One of ours.
    Own(u16),
    /// One of a proxy before us, as the header of the PROXY protocol says.
    Proxy(u16),
}

impl Dialled {
    /// The scheme and port that endpoints are told.
    ///
    /// Source: ingress-nginx tells its HTTPS port as 443, whatever it is, and takes a proxy's port
    /// 443 for HTTPS.
    fn forwarded(self, scheme: Scheme) -> (Scheme, u16) {
        match (self, scheme) {
            (Self::Own(_), Scheme::Https) | (Self::Proxy(HTTPS_PORT), _) => {
                (Scheme::Https, HTTPS_PORT)
            }
            (Self::Own(port), Scheme::Http) => (Scheme::Http, port),
            (Self::Proxy(port), scheme) => (scheme, port),
        }
    }
}

const HTTPS_PORT: u16 = 443;

/// A request that has not been answered to its end.
pub(crate) struct InFlight {
    connection: Rc<Connection>,
    record: RequestRecord,
    /// Whether it is the endpoint's turn.
    is_waiting: Cell<bool>,
}

impl InFlight {
    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn record(&self) -> &RequestRecord {
        &self.record
    }

    /// Notes whose turn it is.
    pub(crate) fn wait(&self, is_waiting: bool) {
        let waiting = &self.connection.waiting;
        match (self.is_waiting.replace(is_waiting), is_waiting) {
            (false, true) => waiting.set(waiting.get() + 1),
            (true, false) => waiting.set(waiting.get() - 1),
            (false, false) | (true, true) => {}
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.wait(false);
        let connection = &self.connection;
        connection.worker.runtime.counters.requests_open.decrement();
        let left = connection.in_flight.get() - 1;
        connection.in_flight.set(left);
        if left == 0 {
            connection
                .idle_since
                .set(connection.worker.runtime.timers.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_told_443_for_https() {
        for (dialled, scheme, told) in [
            (Dialled::Own(8443), Scheme::Https, (Scheme::Https, 443)),
            (Dialled::Own(8080), Scheme::Http, (Scheme::Http, 8080)),
            (Dialled::Proxy(443), Scheme::Http, (Scheme::Https, 443)),
            (Dialled::Proxy(80), Scheme::Http, (Scheme::Http, 80)),
            (Dialled::Proxy(8443), Scheme::Https, (Scheme::Https, 8443)),
        ] {
            assert_eq!(dialled.forwarded(scheme), told, "{dialled:?}");
        }
    }
}
