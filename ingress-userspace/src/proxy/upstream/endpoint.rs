//! An endpoint as one worker knows it: its connections, its load and its health.
//!
//! Shared by all backends of the worker that have the same address and protocol: it is the same
//! pod. Connections in use hold their endpoint through a [`InFlightGuard`] beside them and not within, so
//! that what is idle in here never keeps itself alive.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use ingress_core::balance::{Ejection, PeakEwma};
use ingress_core::ir::UpstreamProtocol;

use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::limits::IDLE_PER_ENDPOINT_MAX;
use crate::proxy::upstream::connection_sharing::ASK_PAUSE;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::http2::Multiplexed;
use crate::proxy::upstream::queue::Room;

/// One endpoint.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: UpstreamProtocol,
    /// Connections for several requests at a time.
    pub(crate) multiplexed: Multiplexed,
    /// Idle connections for one request at a time. The one used last is used next, so that a quiet
    /// endpoint keeps few.
    idle: RefCell<Idle>,
    in_flight: Cell<u32>,
    ejection: Cell<Ejection>,
    ewma: Cell<PeakEwma>,
    /// Since when it gets more and more of its share, if it has not all of it.
    warming_since: Cell<Option<Instant>>,
    room: Rc<Room>,
    /// When no other worker had a connection to spare.
    asked_at: Cell<Option<Instant>>,
    /// How many backends it is an endpoint of.
    backends: Cell<usize>,
}

/// Boxed, because a connection moves in and out: by its pointer.
type Idle = Vec<Box<Upstream>>;

/// How many connections are idle, over all endpoints of a worker: where others can read it, who
/// look for one to borrow.
pub(crate) struct IdleCount(Arc<Counters>);

impl IdleCount {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        Self(Arc::clone(counters))
    }

    fn get(&self) -> usize {
        usize::try_from(self.0.upstream_idle.value()).unwrap_or(usize::MAX)
    }

    fn set(&self, count: usize) {
        self.0.upstream_idle.set(count as u64);
    }
}

impl Endpoint {
    pub(crate) fn new(
        address: SocketAddr,
        protocol: UpstreamProtocol,
        warming_since: Option<Instant>,
        room: &Rc<Room>,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            protocol,
            multiplexed: Multiplexed::default(),
            idle: RefCell::default(),
            in_flight: Cell::new(0),
            ejection: Cell::default(),
            ewma: Cell::default(),
            warming_since: Cell::new(warming_since),
            room: Rc::clone(room),
            asked_at: Cell::new(None),
            backends: Cell::new(0),
        })
    }

    /// Takes out a connection that is ready for a request.
    pub(crate) fn take(&self, count: &IdleCount) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut upstream) = idle.pop() {
            count.set(count.get() - 1);
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
        None
    }

    /// Takes out the connection that has been idle for longest, if that is at least `idle_min`.
    pub(crate) fn lend(
        &self,
        now: Instant,
        idle_min: Duration,
        count: &IdleCount,
    ) -> Option<Box<Upstream>> {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle.first_mut()?;
        if now.saturating_duration_since(oldest.idle_since) < idle_min {
            return None;
        }
        let mut oldest = idle.remove(0);
        count.set(count.get() - 1);
        oldest.is_ready().then_some(oldest)
    }

    /// Whether other workers may be asked for a connection.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        let pause = |at: Instant| now.saturating_duration_since(at) >= ASK_PAUSE;
        self.asked_at.get().is_none_or(pause)
    }

    /// They had none to spare.
    pub(crate) fn asked_in_vain(&self, now: Instant) {
        self.asked_at.set(Some(now));
    }

    /// Keeps a connection for the next request, or closes it if it is not fit for one, there is no
    /// room, or nobody needs the endpoint any more.
    pub(crate) fn put(
        &self,
        mut upstream: Box<Upstream>,
        now: Instant,
        count: &IdleCount,
        idle_max: usize,
    ) {
        if self.backends.get() == 0 || count.get() >= idle_max || !upstream.is_free() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_PER_ENDPOINT_MAX {
            upstream.idle_since = now;
            idle.push(upstream);
            count.set(count.get() + 1);
        }
    }

    /// Closes what the peer has closed and what was idle for longer than `idle_max`.
    pub(crate) fn sweep(&self, now: Instant, idle_max: Duration, count: &IdleCount) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain_mut(|upstream| {
            upstream.settle();
            now.saturating_duration_since(upstream.idle_since) < idle_max && upstream.is_ready()
        });
        count.set(count.get() + idle.len() - before);
        self.multiplexed.sweep(now, idle_max);
    }

    pub(crate) fn join(&self) {
        self.backends.set(self.backends.get() + 1);
    }

    /// Closes what is idle if no backend is left that it belongs to; returns whether so.
    pub(crate) fn leave(&self, count: &IdleCount) -> bool {
        self.backends.set(self.backends.get() - 1);
        let is_unused = self.backends.get() == 0;
        if is_unused {
            self.close_idle(count);
            self.multiplexed.close();
        }
        is_unused
    }

    /// Closes idle connections for one request at a time.
    pub(crate) fn close_idle(&self, count: &IdleCount) {
        let idle = self.idle.take();
        count.set(count.get() - idle.len());
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    pub(crate) fn is_ejected(&self, now: Instant) -> bool {
        self.ejection.get().is_ejected(now)
    }

    /// What one more request is expected to wait.
    pub(crate) fn cost(&self, now: Instant) -> u64 {
        self.ewma.get().cost(self.in_flight.get(), now)
    }

    /// An answer took so long.
    pub(crate) fn observe(&self, took: Duration, now: Instant) {
        let mut ewma = self.ewma.get();
        ewma.observe(took, now);
        self.ewma.set(ewma);
    }

    /// How much of its share it may have, in 256ths: all of it when it has been there for
    /// `slow_start`.
    pub(crate) fn slow_start_weight(&self, slow_start: Duration, now: Instant) -> u64 {
        let Some(since) = self.warming_since.get() else {
            return WARM;
        };
        let there = now.saturating_duration_since(since);
        if there >= slow_start {
            self.warming_since.set(None);
            return WARM;
        }
        let slow_start_weight = there.as_nanos() * u128::from(WARM) / slow_start.as_nanos();
        u64::try_from(slow_start_weight)
            .unwrap_or(WARM)
            .max(WARM / 10)
    }

    /// It has answered. Returns whether it is left alone for a while now.
    pub(crate) fn answer(&self, status: StatusCode, now: Instant) -> bool {
        let mut ejection = self.ejection.get();
        let is_ejected = if status.is_server_error() {
            ejection.answer_error(now)
        } else {
            ejection.answer_well();
            false
        };
        self.ejection.set(ejection);
        is_ejected
    }

    /// A connection was made.
    pub(crate) fn succeed(&self) {
        let mut ejection = self.ejection.get();
        ejection.succeed();
        self.ejection.set(ejection);
    }

    /// No connection could be made. Returns whether the endpoint is left alone for a while now.
    pub(crate) fn fail(&self, now: Instant) -> bool {
        let mut ejection = self.ejection.get();
        let is_ejected = ejection.fail(now);
        self.ejection.set(ejection);
        is_ejected
    }
}

/// A request on its way to an endpoint, from the pick to the end of the response.
pub(crate) struct InFlightGuard(Rc<Endpoint>);

impl InFlightGuard {
    pub(crate) fn new(endpoint: &Rc<Endpoint>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self(Rc::clone(endpoint))
    }
}

impl Deref for InFlightGuard {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.room.tell();
    }
}

/// All of a share, as `Endpoint::slow_start_weight` has it.
pub(crate) const WARM: u64 = 256;
