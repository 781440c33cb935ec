//! UDP services: datagrams of one client to one endpoint, and its answers back.
//!
//! A session is a client's address, the address that it sent to, and a socket of its own to an
//! endpoint, so that the endpoint's answers find their client. It ends when nothing has come for a
//! while, when the endpoint leaves or refuses, when another session evicts it (`shares.rs`), and with
//! its worker: then the client's next datagram begins another one.
//!
//! Invariant: datagrams that can't be carried at once are dropped and counted, never kept.

mod shares;
mod socket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Instant;

use foldhash::fast::RandomState;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::proxy::runtime::client_group::ClientGroup;
use crate::proxy::runtime::client_policy::ClientPolicy;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::executor::PanicCount;
use crate::proxy::runtime::limits::DatagramLimits;
use crate::proxy::runtime::limits::{DATAGRAM_BATCH_MAX, DATAGRAM_BYTES_MAX};
use crate::proxy::table::Tables;
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::endpoint::InFlightGuard;
use crate::proxy::upstream::pool::{Backend, Pick, PickHint};
use shares::{Shares, Ticket};
use socket::Bound;

/// The context of a worker's UDP services.
pub(crate) struct DatagramContext {
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) tables: Rc<Tables>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) clients: Rc<ClientPolicy>,
    pub(crate) limits: DatagramLimits,
    pub(crate) shares: RefCell<UdpShares>,
}

/// The port of a UDP service on one worker.
pub(crate) struct DatagramListener {
    socket: Bound,
    port: u16,
    sessions: RefCell<HashMap<Key, (Ticket, Rc<Session>), RandomState>>,
    /// What answers are read into, one at a time.
    answers: RefCell<Box<[u8]>>,
    context: Rc<DatagramContext>,
}

/// Whose session it is: the client, and the address that it has sent to.
type Key = (SocketAddr, Option<IpAddr>);

/// One client and its endpoint.
struct Session {
    /// Connected, so that it hears of nobody else, and of refusals.
    socket: UdpSocket,
    backend: Rc<Backend>,
    endpoint: InFlightGuard,
    last: Cell<Instant>,
    has_answer: Cell<bool>,
    over: Notify,
}

/// The sessions of all UDP services of one worker, as clients share them.
pub(crate) type UdpShares = Shares<Place>;

/// Where a session is, to be ended from there.
pub(crate) struct Place {
    listener: Weak<DatagramListener>,
    key: Key,
    session: Weak<Session>,
}

impl Place {
    fn end(&self) {
        if let (Some(listener), Some(session)) = (self.listener.upgrade(), self.session.upgrade()) {
            session.over.notify_one();
            listener.forget(self.key, &session);
        }
    }
}

impl DatagramListener {
    /// Those of a worker.
    pub(crate) fn all(
        sockets: Vec<std::net::UdpSocket>,
        context: &Rc<DatagramContext>,
    ) -> io::Result<Vec<Rc<Self>>> {
        let sockets = sockets.into_iter();
        sockets.map(|socket| Self::new(socket, context)).collect()
    }

    fn new(socket: std::net::UdpSocket, context: &Rc<DatagramContext>) -> io::Result<Rc<Self>> {
        let port = socket.local_addr()?.port();
        Ok(Rc::new(Self {
            socket: Bound::new(socket)?,
            port,
            sessions: RefCell::default(),
            answers: RefCell::new(vec![0; DATAGRAM_BYTES_MAX].into()),
            context: Rc::clone(context),
        }))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends all sessions, after [`run`](Self::run) has ended.
    pub(crate) fn end_all(&self) {
        for (_, session) in self.sessions.borrow().values() {
            session.over.notify_one();
        }
    }

    /// Carries what comes until the worker is told to end.
    pub(crate) async fn run(self: Rc<Self>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice();
        let mut ending = std::pin::pin!(self.context.runtime.drain.begun());
        loop {
            tokio::select! {
                biased;
                () = &mut ending => return,
                ready = self.socket.readable() => if ready.is_err() {
                    return;
                },
            }
            for _ in 0..DATAGRAM_BATCH_MAX {
                let Ok(received) = self.socket.try_recv(&mut buffer) else {
                    break;
                };
                let key = (received.from, received.to);
                for datagram in received.datagrams(&buffer) {
                    self.carry(key, datagram);
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes one datagram to the client's endpoint.
    fn carry(self: &Rc<Self>, key: Key, datagram: &[u8]) {
        let counters = &self.context.runtime.counters;
        for _ in 0..SENDS_MAX {
            let Some((ticket, session)) = self.session(key) else {
                break;
            };
            // Not by the runtime, which has not been told yet that a new socket can be written.
            match SockRef::from(&session.socket).send(datagram) {
                Ok(_) => {
                    session.last.set(self.context.runtime.timers.now());
                    if !session.has_answer.get() {
                        self.context.shares.borrow_mut().used(ticket);
                    }
                    return counters.udp_datagrams.increment();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Nobody is there who would take datagrams: this one goes to another endpoint.
                Err(_) => self.end(key, &session),
            }
        }
        counters.udp_datagrams_dropped.increment();
    }

    /// The client's session, which may begin now.
    fn session(self: &Rc<Self>, key: Key) -> Option<(Ticket, Rc<Session>)> {
        if let Some((ticket, session)) = self.sessions.borrow().get(&key) {
            return Some((*ticket, Rc::clone(session)));
        }
        let context = &self.context;
        if !context.clients.may_connect(key.0.ip()) {
            return None;
        }
        let client = ClientGroup::of(key.0.ip());
        if !context.shares.borrow().admits(client) {
            return None;
        }
        let session = Rc::new(self.open()?);
        let place = Place {
            listener: Rc::downgrade(self),
            key,
            session: Rc::downgrade(&session),
        };
        let (ticket, evicted) = context.shares.borrow_mut().add(client, place);
        if let Some(evicted) = evicted {
            evicted.end();
        }
        let entry = (ticket, Rc::clone(&session));
        self.sessions.borrow_mut().insert(key, entry);
        let open = Open::of(self, key, ticket, &session);
        tokio::task::spawn_local(open.run());
        Some((ticket, session))
    }

    fn open(&self) -> Option<Session> {
        let context = &self.context;
        let now = context.runtime.timers.now();
        let backend = {
            let mut table = context.tables.current.borrow_mut();
            context
                .upstreams
                .pool
                .backend(table.load().udp_service(self.port)?, now)
        };
        let random = context.runtime.random();
        let pool = &context.upstreams.pool;
        let pick = pool.pick(&backend, PickHint::default(), &[], random, now);
        let Pick::Endpoint(endpoint) = pick else {
            return None;
        };
        let connect = || -> io::Result<UdpSocket> {
            let socket = context.upstreams.dial.datagram_socket(endpoint.address)?;
            socket.connect(&endpoint.address.into())?;
            UdpSocket::from_std(socket.into())
        };
        let Ok(socket) = connect() else {
            endpoint.fail(now);
            return None;
        };
        Some(Session {
            socket,
            backend,
            endpoint,
            last: Cell::new(now),
            has_answer: Cell::new(false),
            over: Notify::new(),
        })
    }

    /// Ends a session whose endpoint has refused.
    fn end(&self, key: Key, session: &Rc<Session>) {
        if session.endpoint.fail(self.context.runtime.timers.now()) {
            self.context.runtime.counters.upstream_ejections.increment();
        }
        session.over.notify_one();
        self.forget(key, session);
    }

    fn forget(&self, key: Key, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        let is_current = |known: &(Ticket, Rc<Session>)| Rc::ptr_eq(&known.1, session);
        if sessions.get(&key).is_some_and(is_current) {
            sessions.remove(&key);
        }
    }
}

/// A session for as long as it is open.
struct Open {
    listener: Rc<DatagramListener>,
    key: Key,
    ticket: Ticket,
    session: Rc<Session>,
    _panics: PanicCount,
}

impl Open {
    fn of(
        listener: &Rc<DatagramListener>,
        key: Key,
        ticket: Ticket,
        session: &Rc<Session>,
    ) -> Self {
        let counters = &listener.context.runtime.counters;
        counters.udp_sessions.increment();
        counters.udp_sessions_open.increment();
        Self {
            listener: Rc::clone(listener),
            key,
            ticket,
            session: Rc::clone(session),
            _panics: PanicCount::new(counters),
        }
    }

    async fn run(self) {
        let session = &self.session;
        let context = &self.listener.context;
        let address = session.endpoint.address;
        let is_lost = || session.backend.has_lost(address);
        tokio::select! {
            () = self.answers() => {}
            () = session.over.notified() => {}
            () = session.backend.wait_until(is_lost) => {}
            () = session.idle(context) => {}
        }
    }

    /// Takes answers back until the endpoint refuses.
    async fn answers(&self) {
        let Self {
            listener,
            key,
            session,
            ..
        } = self;
        let counters = &listener.context.runtime.counters;
        loop {
            if session.socket.readable().await.is_err() {
                return;
            }
            for _ in 0..DATAGRAM_BATCH_MAX {
                let mut buffer = listener.answers.borrow_mut();
                match session.socket.try_recv(&mut buffer) {
                    Ok(count) => {
                        session.last.set(listener.context.runtime.timers.now());
                        if !session.has_answer.replace(true) {
                            let shares = &listener.context.shares;
                            shares.borrow_mut().answered(self.ticket);
                        }
                        let sent = listener.socket.try_send(key.0, key.1, &buffer[..count]);
                        match sent {
                            Ok(()) => counters.udp_datagrams.increment(),
                            Err(_) => counters.udp_datagrams_dropped.increment(),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return listener.end(*key, session),
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listener.forget(self.key, &self.session);
        let context = &self.listener.context;
        context.shares.borrow_mut().remove(self.ticket);
        context.runtime.counters.udp_sessions_open.decrement();
    }
}

impl Session {
    /// Waits until nothing has come for too long.
    async fn idle(&self, context: &DatagramContext) {
        let limits = context.limits;
        loop {
            let limit = if self.has_answer.get() {
                limits.session_idle
            } else {
                limits.session_idle.min(limits.unanswered_idle)
            };
            let quiet = context
                .runtime
                .timers
                .now()
                .saturating_duration_since(self.last.get());
            let left = limit.saturating_sub(quiet);
            if left.is_zero() {
                return;
            }
            let never = std::future::pending::<()>();
            context.runtime.timers.timeout(left, never).await;
        }
    }
}

/// Endpoints that one datagram is sent to while they refuse.
const SENDS_MAX: usize = 3;
