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
use ingress_core::balance::{self, Draw, Policy, RetryBudget, Standing};
use ingress_core::ir::UpstreamProtocol;

use super::backend::{BackendSlot, Endpoints};
use super::endpoint::{Endpoint, IdleCount, Load};
use super::limits::IDLE_MAX;
use super::upstream::Upstream;

/// The backends and endpoints that one worker has to do with.
#[derive(Default)]
pub(super) struct Pool {
    backends: RefCell<HashMap<u64, Rc<Backend>, RandomState>>,
    endpoints: RefCell<HashMap<EndpointKey, Rc<Endpoint>, RandomState>>,
    idle: IdleCount,
}

type EndpointKey = (SocketAddr, UpstreamProtocol);

/// One backend.
pub(super) struct Backend {
    slot: Arc<BackendSlot>,
    members: RefCell<Members>,
    policy: Policy,
    turn: Cell<u64>,
    budget: Cell<RetryBudget>,
}

/// The endpoints of a backend as they were when it was last looked at.
#[derive(Default)]
struct Members {
    published: Arc<Endpoints>,
    endpoints: Vec<Rc<Endpoint>>,
}

impl Pool {
    /// The backend of a slot, with the endpoints that it has now.
    ///
    /// The slot is shared by all workers: its reference count stays untouched in the usual case.
    pub(super) fn backend(&self, slot: &Arc<BackendSlot>, now: Instant) -> Rc<Backend> {
        let mut backends = self.backends.borrow_mut();
        let backend = backends.entry(slot.id).or_insert_with(|| {
            Rc::new(Backend {
                slot: Arc::clone(slot),
                members: RefCell::default(),
                policy: Policy::default(),
                turn: Cell::new(0),
                budget: Cell::new(RetryBudget::new(now)),
            })
        });
        Rc::clone(backend)
    }

    /// The endpoint that a request to this backend goes to, but rather none of `tried`.
    pub(super) fn pick(
        &self,
        backend: &Backend,
        tried: &[SocketAddr],
        random: u64,
        now: Instant,
    ) -> Option<Load> {
        self.follow(backend);
        let members = backend.members.borrow();
        let turn = backend.turn.get();
        backend.turn.set(turn.wrapping_add(1));
        let standing = |index: usize| {
            let endpoint = &members.endpoints[index];
            Standing {
                was_tried: tried.contains(&endpoint.address),
                is_ejected: endpoint.is_ejected(now),
                in_flight: endpoint.in_flight(),
            }
        };
        let draw = Draw { turn, random };
        let count = members.endpoints.len();
        let index = balance::pick(backend.policy, count, draw, standing)?;
        Some(Load::new(&members.endpoints[index]))
    }

    /// Takes out an idle connection to an endpoint.
    pub(super) fn take(&self, endpoint: &Endpoint) -> Option<Box<Upstream>> {
        endpoint.take(&self.idle)
    }

    /// Takes back a connection whose exchange is over.
    pub(super) fn put(&self, endpoint: &Endpoint, upstream: Box<Upstream>, now: Instant) {
        endpoint.put(upstream, now, &self.idle, IDLE_MAX);
    }

    /// Follows what was published: connections to endpoints that left are closed.
    pub(super) fn adopt(&self) {
        self.backends.borrow_mut().retain(|_, backend| {
            if backend.slot.is_retired() {
                self.exchange(&mut backend.members.borrow_mut(), &Arc::default());
                return false;
            }
            self.follow(backend);
            true
        });
    }

    /// Closes what is closed by the peer or was idle for longer than `idle_max`.
    pub(super) fn sweep(&self, now: Instant, idle_max: Duration) {
        for endpoint in self.endpoints.borrow().values() {
            endpoint.sweep(now, idle_max, &self.idle);
        }
    }

    fn follow(&self, backend: &Backend) {
        let published = backend.slot.endpoints();
        if !Arc::ptr_eq(&published, &backend.members.borrow().published) {
            self.exchange(&mut backend.members.borrow_mut(), &published);
        }
    }

    fn exchange(&self, members: &mut Members, published: &Arc<Endpoints>) {
        let mut known = self.endpoints.borrow_mut();
        let protocol = published.protocol;
        let join = |address: &SocketAddr| {
            let endpoint = known
                .entry((*address, protocol))
                .or_insert_with(|| Endpoint::new(*address, protocol));
            endpoint.join();
            Rc::clone(endpoint)
        };
        let joined = published.addresses.iter().map(join).collect();
        // They leave after the others have joined: who stays keeps its connections.
        for left in std::mem::replace(&mut members.endpoints, joined) {
            if left.leave(&self.idle)
                && let Entry::Occupied(entry) = known.entry((left.address, left.protocol))
            {
                entry.remove();
            }
        }
        members.published = Arc::clone(published);
    }
}

impl Backend {
    /// Counts a request towards the retries that others may have.
    pub(super) fn deposit(&self) {
        let mut budget = self.budget.get();
        budget.deposit();
        self.budget.set(budget);
    }

    /// Whether one more retry is within bounds.
    pub(super) fn may_retry(&self, now: Instant) -> bool {
        let mut budget = self.budget.get();
        let may = budget.withdraw(now);
        self.budget.set(budget);
        may
    }
}
