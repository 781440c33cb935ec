//! What one worker knows about backends and their endpoints, and the picks between them.
//!
//! A backend is known from its first request on and follows its slot: each pick and each new table
//! looks whether the slot's endpoints are still the same. Endpoints that leave close what is idle;
//! what is in use ends with its request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use ingress_core::balance::{self, Candidate, PickSeed, Policy, RetryBudget, Ring};
use ingress_core::ir::{Affinity, AffinityMode, Balance, UpstreamProtocol, UpstreamTls};
use tokio::sync::Notify;

use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::limits::{IDLE_MAX, Timeouts};
use crate::proxy::table::slot::{BackendHandle, Endpoints};
use crate::proxy::upstream::endpoint::{Endpoint, IdleCount, InFlightGuard, WARM};
use crate::proxy::upstream::hash_key::Balancing;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::queue::{Queue, Queues};

/// The backends and endpoints that one worker has to do with.
pub(crate) struct Pool {
    backends: RefCell<HashMap<u64, Rc<Backend>, RandomState>>,
    endpoints: RefCell<HashMap<EndpointKey, Rc<Endpoint>, RandomState>>,
    idle: IdleCount,
    balancing: Balancing,
    timeouts: Timeouts,
    queues: Queues,
}

type EndpointKey = (SocketAddr, UpstreamProtocol);

/// One backend.
pub(crate) struct Backend {
    slot: Arc<BackendHandle>,
    members: RefCell<Members>,
    balance: Balance,
    affinity: Option<Arc<Affinity>>,
    tls: Option<Arc<UpstreamTls>>,
    turn: Cell<u64>,
    budget: Cell<RetryBudget>,
    /// Told when its endpoints are others, or drain.
    changed: Notify,
    pub(crate) queue: Queue,
}

/// The endpoints of a backend as they were when it was last looked at.
#[derive(Default)]
struct Members {
    published: Arc<Endpoints>,
    /// Those that are ready, then those where sessions may stay.
    endpoints: Vec<Rc<Endpoint>>,
    /// How many are ready.
    ready: usize,
    /// Where something is hashed.
    ring: Option<Ring>,
}

/// What comes of a pick.
pub(crate) enum Pick {
    /// An endpoint, on which the request counts from now on.
    Endpoint(InFlightGuard),
    /// Every endpoint has as many requests as it may have.
    Full,
    /// There is none.
    Nobody,
}

/// What a request wants of a pick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PickHint {
    /// What it is hashed by.
    pub(crate) key: Option<u64>,
    /// Where its session is.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl Pool {
    pub(crate) fn new(balancing: Balancing, timeouts: Timeouts, counters: &Arc<Counters>) -> Self {
        Self {
            backends: RefCell::default(),
            endpoints: RefCell::default(),
            idle: IdleCount::new(counters),
            balancing,
            timeouts,
            queues: Queues::default(),
        }
    }

    /// A backend that was found a while ago, with the endpoints that it has now.
    pub(crate) fn again(&self, backend: &Rc<Backend>, now: Instant) -> Rc<Backend> {
        if backend.slot.is_retired() {
            return Rc::clone(backend);
        }
        self.backend(&backend.slot, now)
    }

    /// The backend of a slot, with the endpoints that it has now.
    ///
    /// The slot is shared by all workers: its reference count stays untouched in the usual case.
    pub(crate) fn backend(&self, slot: &Arc<BackendHandle>, now: Instant) -> Rc<Backend> {
        let mut backends = self.backends.borrow_mut();
        let usual = || self.balancing.balance.clone();
        let backend = backends.entry(slot.id).or_insert_with(|| {
            Rc::new(Backend {
                slot: Arc::clone(slot),
                members: RefCell::default(),
                balance: slot.key.policy.balance.clone().unwrap_or_else(usual),
                affinity: slot.key.policy.affinity.clone(),
                tls: slot.key.policy.tls.clone(),
                turn: Cell::new(slot.id),
                budget: Cell::new(RetryBudget::new(now)),
                changed: Notify::new(),
                queue: Queue::default(),
            })
        });
        if backend.affinity.is_some() {
            // Where sessions are is asked before the pick, which follows for all others.
            self.follow(backend);
        }
        Rc::clone(backend)
    }

    /// The endpoint that a request to this backend goes to, but rather none of `tried`.
    pub(crate) fn pick(
        &self,
        backend: &Backend,
        hint: PickHint,
        tried: &[SocketAddr],
        random: u64,
        now: Instant,
    ) -> Pick {
        match self.choose(backend, hint, tried, random, now) {
            Some(endpoint) if self.is_full(&endpoint) => Pick::Full,
            Some(endpoint) => Pick::Endpoint(InFlightGuard::new(&endpoint)),
            None => Pick::Nobody,
        }
    }

    fn choose(
        &self,
        backend: &Backend,
        hint: PickHint,
        tried: &[SocketAddr],
        random: u64,
        now: Instant,
    ) -> Option<Rc<Endpoint>> {
        self.follow(backend);
        let members = backend.members.borrow();
        if let Some(endpoint) = members.wished(hint, tried, now) {
            return Some(Rc::clone(endpoint));
        }
        let turn = backend.turn.get();
        backend.turn.set(turn.wrapping_add(1));
        let standing = |index: usize| self.standing(backend, &members, index, tried, random, now);
        let draw = PickSeed { turn, random };
        let is_good = |index: usize| {
            let standing = standing(index);
            index < members.ready
                && !(standing.was_tried || standing.is_ejected || standing.is_full)
        };
        let hashed = hint.key.zip(members.ring.as_ref());
        let found = match (&backend.balance, hashed) {
            (Balance::Hash(_), Some((key, ring))) => {
                let in_flight = |index: usize| members.endpoints[index].in_flight();
                ring.find_bounded(key, in_flight, is_good)
            }
            (Balance::HashSubset(_, size), Some((key, ring))) => {
                let subset = ring.subset(key, size.get() as usize, is_good);
                let of_subset = |index: usize| standing(subset[index]);
                let found = balance::pick(Policy::LeastLoad, subset.len(), draw, of_subset);
                found.map(|index| subset[index])
            }
            (_, _) => None,
        };
        if let Some(index) = found {
            return Some(Rc::clone(&members.endpoints[index]));
        }
        let policy = if backend.balance == Balance::RoundRobin {
            Policy::RoundRobin
        } else {
            Policy::LeastLoad
        };
        let index = balance::pick(policy, members.ready, draw, standing)?;
        Some(Rc::clone(&members.endpoints[index]))
    }

    fn standing(
        &self,
        backend: &Backend,
        members: &Members,
        index: usize,
        tried: &[SocketAddr],
        random: u64,
        now: Instant,
    ) -> Candidate {
        let endpoint = &members.endpoints[index];
        let load = match backend.balance {
            Balance::PeakEwma => endpoint.cost(now),
            Balance::LeastRequest
            | Balance::RoundRobin
            | Balance::Hash(_)
            | Balance::HashSubset(..) => endpoint.in_flight().into(),
        };
        // What is cold lets some of its turns pass.
        let slow_start_weight = endpoint.slow_start_weight(self.balancing.slow_start, now);
        let passes = slow_start_weight < WARM && lot(random, index) >= slow_start_weight;
        Candidate {
            was_tried: tried.contains(&endpoint.address),
            is_ejected: endpoint.is_ejected(now),
            is_full: passes || self.is_full(endpoint),
            load,
        }
    }

    /// Whether the backend has another endpoint than this one that was not tried and that nothing
    /// is held against.
    pub(crate) fn has_other(
        &self,
        backend: &Backend,
        endpoint: &Endpoint,
        tried: &[SocketAddr],
    ) -> bool {
        self.follow(backend);
        let members = backend.members.borrow();
        let now = Instant::now();
        let is_good = |other: &Rc<Endpoint>| {
            let is_other = other.address != endpoint.address && !tried.contains(&other.address);
            is_other
                && other.protocol == endpoint.protocol
                && !other.is_ejected(now)
                && !self.is_full(other)
        };
        members.endpoints[..members.ready].iter().any(is_good)
    }

    fn is_full(&self, endpoint: &Endpoint) -> bool {
        let max = self.balancing.requests_max;
        max.is_some_and(|max| endpoint.in_flight() >= max)
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(crate) fn balancing(&self) -> &Balancing {
        &self.balancing
    }

    pub(crate) fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Takes out an idle connection to an endpoint.
    pub(crate) fn take(&self, endpoint: &Endpoint) -> Option<Box<Upstream>> {
        endpoint.take(&self.idle)
    }

    /// Takes out a connection to lend to another worker.
    pub(crate) fn lend(
        &self,
        address: SocketAddr,
        now: Instant,
        idle_min: Duration,
    ) -> Option<Box<Upstream>> {
        let endpoints = self.endpoints.borrow();
        let endpoint = endpoints.get(&(address, UpstreamProtocol::Http1))?;
        endpoint.lend(now, idle_min, &self.idle)
    }

    /// Takes back a connection whose exchange is over.
    pub(crate) fn put(&self, endpoint: &Endpoint, upstream: Box<Upstream>, now: Instant) {
        endpoint.put(upstream, now, &self.idle, IDLE_MAX);
    }

    /// Closes idle connections to an endpoint, none of which leads anywhere.
    pub(crate) fn close_idle(&self, endpoint: &Endpoint) {
        endpoint.close_idle(&self.idle);
    }

    /// Follows what was published: connections to endpoints that left are closed.
    pub(crate) fn adopt(&self) {
        self.backends.borrow_mut().retain(|_, backend| {
            if backend.slot.is_retired() {
                self.leave(&backend.members.borrow().endpoints);
                return false;
            }
            self.follow(backend);
            true
        });
    }

    /// Closes what is closed by the peer or was idle for longer than `idle_max`.
    pub(crate) fn sweep(&self, now: Instant, idle_max: Duration) {
        for endpoint in self.endpoints.borrow().values() {
            endpoint.sweep(now, idle_max, &self.idle);
        }
    }

    fn follow(&self, backend: &Backend) {
        let published = backend.slot.endpoints();
        if !Arc::ptr_eq(&published, &backend.members.borrow().published) {
            self.exchange(backend, &published);
        }
    }

    fn exchange(&self, backend: &Backend, published: &Arc<Endpoints>) {
        let members = &mut *backend.members.borrow_mut();
        let mut known = self.endpoints.borrow_mut();
        let protocol = published.protocol;
        // Those that were there first have their share at once.
        let is_growth = !members.endpoints.is_empty() && !self.balancing.slow_start.is_zero();
        let warming_since = is_growth.then(Instant::now);
        let join = |address: &SocketAddr| {
            let endpoint = known.entry((*address, protocol)).or_insert_with(|| {
                Endpoint::new(*address, protocol, warming_since, self.queues.room())
            });
            endpoint.join();
            Rc::clone(endpoint)
        };
        // Nobody but a session goes to those that drain.
        let draining = published
            .draining
            .iter()
            .filter(|_| backend.affinity.is_some());
        let addresses: Vec<_> = published
            .addresses
            .iter()
            .chain(draining)
            .copied()
            .collect();
        let joined = addresses.iter().map(join).collect();
        drop(known);
        // They leave after the others have joined: who stays keeps its connections.
        let before = std::mem::replace(&mut members.endpoints, joined);
        members.ready = published.addresses.len();
        members.ring = backend.is_hashed().then(|| Ring::new(&addresses));
        members.published = Arc::clone(published);
        self.leave(&before);
        backend.changed.notify_waiters();
        self.queues.room().tell();
    }

    /// Endpoints leave a backend, which may still be at work on requests that found it before.
    fn leave(&self, endpoints: &[Rc<Endpoint>]) {
        let mut known = self.endpoints.borrow_mut();
        for endpoint in endpoints {
            if endpoint.leave(&self.idle)
                && let Entry::Occupied(entry) = known.entry((endpoint.address, endpoint.protocol))
            {
                entry.remove();
            }
        }
    }
}

impl Members {
    /// The endpoint of a session, if it is there and there is nothing against it.
    fn wished(&self, hint: PickHint, tried: &[SocketAddr], now: Instant) -> Option<&Rc<Endpoint>> {
        let address = hint.endpoint?;
        let mut endpoints = self.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.address == address)?;
        let is_good = !tried.contains(&address) && !endpoint.is_ejected(now);
        is_good.then_some(endpoint)
    }
}

impl Backend {
    /// Whether its endpoints take several requests on one connection.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.slot.endpoints().protocol.is_multiplexed()
    }

    /// A hash of its Service and port.
    pub(crate) fn tag(&self) -> u64 {
        self.slot.tag
    }

    pub(crate) fn balance(&self) -> &Balance {
        &self.balance
    }

    /// TLS to its endpoints, where that is more than usual.
    pub(crate) fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref()
    }

    pub(crate) fn affinity(&self) -> Option<&Arc<Affinity>> {
        self.affinity.as_ref()
    }

    /// Whether an endpoint was taken out of it. A backend that has left as a whole keeps what it
    /// had, for requests that found it before.
    pub(crate) fn has_lost(&self, address: SocketAddr) -> bool {
        let now = self.slot.endpoints();
        let has = now.addresses.contains(&address) || now.draining.contains(&address);
        !has && !self.slot.is_retired()
    }

    /// Whether nothing new goes to an endpoint: it was taken out, or it drains and no session can be
    /// there.
    pub(crate) fn avoids(&self, address: SocketAddr) -> bool {
        let now = self.slot.endpoints();
        let may_stay = self.affinity.is_some() && now.draining.contains(&address);
        let has = now.addresses.contains(&address) || may_stay;
        !has && !self.slot.is_retired()
    }

    /// Waits until `is_over` says so; asks it whenever the endpoints have changed.
    pub(crate) async fn wait_until(&self, is_over: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_over() {
                return;
            }
            changed.await;
        }
    }

    fn is_hashed(&self) -> bool {
        let affinity = self.affinity.as_ref();
        matches!(self.balance, Balance::Hash(_) | Balance::HashSubset(..))
            || affinity.is_some_and(|affinity| affinity.mode == AffinityMode::Balanced)
    }

    /// Where a session is that a cookie names.
    pub(crate) fn session_endpoint(&self, mode: AffinityMode, value: u64) -> Option<SocketAddr> {
        let members = self.members.borrow();
        let found = match mode {
            AffinityMode::Balanced => {
                let index = members.ring.as_ref()?.find(value)?;
                members.endpoints.get(index)
            }
            AffinityMode::Persistent => {
                let is_named = |one: &&Rc<Endpoint>| balance::hash_of_address(one.address) == value;
                members.endpoints.iter().find(is_named)
            }
        };
        found.map(|endpoint| endpoint.address)
    }

    /// A point of the ring for a new session, and its endpoint: one that is ready and healthy, if
    /// a few draws find one.
    pub(crate) fn new_session(
        &self,
        mut random: impl FnMut() -> u64,
        now: Instant,
    ) -> Option<(u64, SocketAddr)> {
        let members = self.members.borrow();
        let ring = members.ring.as_ref()?;
        let mut draws = (0..SESSION_DRAWS).map(|_| random());
        draws.find_map(|value| {
            let index = ring.find(value).filter(|index| *index < members.ready)?;
            let endpoint = &members.endpoints[index];
            (!endpoint.is_ejected(now)).then_some((value, endpoint.address))
        })
    }

    /// A point of the ring that leads to an endpoint.
    pub(crate) fn session_of(&self, address: SocketAddr) -> Option<u64> {
        let members = self.members.borrow();
        members.ring.as_ref()?.point_of(|index| {
            let endpoint = members.endpoints.get(index);
            endpoint.is_some_and(|endpoint| endpoint.address == address)
        })
    }

    /// Counts a request towards the retries that others may have.
    pub(crate) fn deposit(&self) {
        let mut budget = self.budget.get();
        budget.deposit();
        self.budget.set(budget);
    }

    /// Whether one more retry is within bounds.
    pub(crate) fn may_retry(&self, now: Instant) -> bool {
        let mut budget = self.budget.get();
        let may = budget.withdraw(now);
        self.budget.set(budget);
        may
    }
}

/// A number below `WARM` for each endpoint that is looked at for one random number.
fn lot(random: u64, index: usize) -> u64 {
    (random ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        >> 56
}

/// Draws for the point of a new session.
const SESSION_DRAWS: usize = 16;
