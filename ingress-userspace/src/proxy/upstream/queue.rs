//! Requests that wait because every endpoint of their backend is at its limit.
//!
//! First come, first served: the worker hands a free endpoint to the request at the head of the queue,
//! and a request that arrives meanwhile cannot take it. Each backend has a queue and a bound of its
//! own. The end of a request wakes only as many queued requests as can go on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use crate::proxy::runtime::context::Runtime;
use crate::proxy::upstream::endpoint::InFlightGuard;
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::pool::{Backend, Pick, PickHint, Pool};

/// Who waits for one backend, in the order in which they came.
#[derive(Default)]
pub(crate) struct Queue(RefCell<VecDeque<Waiting>>);

struct Waiting {
    hint: PickHint,
    /// Taken when it is served; closed when it has gone.
    turn: Option<oneshot::Sender<InFlightGuard>>,
}

/// The backends of a worker that somebody waits for.
#[derive(Default)]
pub(crate) struct Queues {
    backends: RefCell<Vec<Rc<Backend>>>,
    /// Shared with the endpoints.
    room: Rc<Room>,
}

/// Tells a worker that there may be room for those who wait.
#[derive(Default)]
pub(crate) struct Room {
    is_awaited: Cell<bool>,
    made: Notify,
}

impl Room {
    /// A request has ended, or endpoints have come or gone.
    pub(crate) fn tell(&self) {
        if self.is_awaited.get() {
            self.made.notify_one();
        }
    }
}

impl Queue {
    fn has_gone(waiting: &Waiting) -> bool {
        waiting.turn.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Returns true if a queued request competes for the same endpoint as this new one: a session
    /// waits for its own endpoint only, any other request for every endpoint.
    fn is_before(&self, hint: PickHint) -> bool {
        let queue = self.0.borrow();
        queue.iter().any(|waiting| {
            let session = waiting.hint.endpoint;
            session.is_none() || session == hint.endpoint
        })
    }

    /// Adds one, unless `max` wait already.
    fn join(&self, hint: PickHint, max: usize) -> Option<oneshot::Receiver<InFlightGuard>> {
        let mut queue = self.0.borrow_mut();
        if queue.len() >= max {
            return None;
        }
        let (turn, mine) = oneshot::channel();
        let turn = Some(turn);
        queue.push_back(Waiting { hint, turn });
        Some(mine)
    }

    /// Gives each what `pick` has for it, and lets those go for whom there is nobody.
    fn serve(&self, pick: impl Fn(PickHint) -> Pick) {
        // Whoever may go anywhere finds as little as the one before. A session may find room.
        let mut are_full = false;
        self.0.borrow_mut().retain_mut(|waiting| {
            let is_session = waiting.hint.endpoint.is_some();
            if Self::has_gone(waiting) {
                return false;
            }
            if are_full && !is_session {
                return true;
            }
            match pick(waiting.hint) {
                Pick::Endpoint(load) => {
                    if let Some(turn) = waiting.turn.take() {
                        // One that has gone this moment leaves its room to the next.
                        drop(turn.send(load));
                    }
                    false
                }
                Pick::Full => {
                    are_full |= !is_session;
                    true
                }
                Pick::Nobody => false,
            }
        });
    }
}

impl Queues {
    /// What endpoints tell of.
    pub(crate) fn room(&self) -> &Rc<Room> {
        &self.room
    }

    fn join(&self, backend: &Rc<Backend>) {
        let mut backends = self.backends.borrow_mut();
        if !backends.iter().any(|other| Rc::ptr_eq(other, backend)) {
            backends.push(Rc::clone(backend));
        }
        self.room.is_awaited.set(true);
    }

    fn tidy(&self) {
        let mut backends = self.backends.borrow_mut();
        backends.retain(|backend| !backend.queue.is_empty());
        self.room.is_awaited.set(!backends.is_empty());
    }
}

impl Pool {
    /// The endpoint that a request goes to which has just come: after those who wait for the same.
    pub(crate) fn admit(
        &self,
        backend: &Backend,
        hint: PickHint,
        random: u64,
        now: Instant,
    ) -> Pick {
        if self.queues().room.is_awaited.get() && backend.queue.is_before(hint) {
            return Pick::Full;
        }
        self.pick(backend, hint, &[], random, now)
    }

    /// Waits for an endpoint that may have one more request.
    ///
    /// Fails if there are too many who wait for this backend, if it takes too long, or if no
    /// endpoint is left.
    pub(crate) async fn wait(
        &self,
        backend: &Rc<Backend>,
        hint: PickHint,
        runtime: &Runtime,
    ) -> Result<InFlightGuard, UpstreamError> {
        let mine = backend.queue.join(hint, self.balancing().pending_max);
        let mine = mine.ok_or(UpstreamError::Full)?;
        let queues = self.queues();
        queues.join(backend);
        let _leave = Leave { queues, backend };
        // There may be room for a session behind others who wait for any endpoint.
        queues.room.tell();
        let limit = self.balancing().pending_time;
        let served = runtime.timers.timeout(limit, mine).await;
        served
            .ok_or(UpstreamError::Full)?
            .or(Err(UpstreamError::NoEndpoint))
    }

    /// Serves those who wait, for as long as the worker lives.
    pub(crate) async fn serve_queues(&self, runtime: &Runtime) {
        let queues = self.queues();
        loop {
            queues.room.made.notified().await;
            let backends = queues.backends.borrow().clone();
            for backend in backends {
                let now = runtime.timers.now();
                let pick = |hint| self.pick(&backend, hint, &[], runtime.random(), now);
                backend.queue.serve(pick);
            }
        }
    }
}

/// Somebody who waits, and may be dropped while doing so.
struct Leave<'a> {
    queues: &'a Queues,
    backend: &'a Backend,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut queue = self.backend.queue.0.borrow_mut();
        queue.retain(|waiting| !Queue::has_gone(waiting));
        drop(queue);
        self.queues.tidy();
    }
}
