//! Idle connections of one worker, by endpoint.
//!
//! The one used last is used next (LIFO), so that a quiet endpoint keeps few. Bounded by endpoint
//! and in total; connections that the peer has closed, that were idle for too long or whose
//! endpoint has left go with the next sweep at the latest.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::limits::{IDLE_MAX, IDLE_PER_ENDPOINT_MAX};
use super::upstream::Upstream;

/// The idle connections of one worker.
#[derive(Default)]
pub(super) struct Pool {
    endpoints: RefCell<HashMap<SocketAddr, Idle, RandomState>>,
    idle: Cell<usize>,
}

/// Boxed, because a connection moves between pool and requests: by its pointer.
type Idle = Vec<Box<Upstream>>;

impl Pool {
    /// Takes out a connection that is ready for a request.
    pub(super) fn take(&self, address: SocketAddr) -> Option<Box<Upstream>> {
        let mut endpoints = self.endpoints.borrow_mut();
        let connections = endpoints.get_mut(&address)?;
        while let Some(mut upstream) = connections.pop() {
            self.idle.set(self.idle.get() - 1);
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request, or closes it if it is not fit for one or there
    /// is no room.
    pub(super) fn put(&self, mut upstream: Box<Upstream>, now: Instant) {
        if self.idle.get() >= IDLE_MAX || !upstream.is_free() {
            return;
        }
        let mut endpoints = self.endpoints.borrow_mut();
        let connections = endpoints.entry(upstream.address).or_default();
        if connections.len() < IDLE_PER_ENDPOINT_MAX {
            upstream.idle_since = now;
            upstream.reused.set(true);
            connections.push(upstream);
            self.idle.set(self.idle.get() + 1);
        }
    }

    /// Closes what is closed by the peer, idle for longer than `idle_max`, or not to an endpoint
    /// any more.
    pub(super) fn sweep(&self, now: Instant, idle_max: Duration) {
        let mut endpoints = self.endpoints.borrow_mut();
        let mut idle = 0;
        endpoints.retain(|address, connections| {
            connections.retain_mut(|upstream| {
                now.saturating_duration_since(upstream.idle_since) < idle_max
                    && upstream.backend.keeps(*address)
                    && upstream.is_ready()
            });
            idle += connections.len();
            !connections.is_empty()
        });
        self.idle.set(idle);
    }
}
