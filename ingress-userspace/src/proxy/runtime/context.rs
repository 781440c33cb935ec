//! What every task of a worker needs: its clock, its counters, its bounds and its end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderValue;

use crate::proxy::runtime::client_memory::ClientMemory;
use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::date::Date;
use crate::proxy::runtime::drain::Drain;
use crate::proxy::runtime::limits::{IdleTimeouts, MemoryLimits, Timeouts};
use crate::proxy::runtime::pipe::Pipes;
use crate::proxy::runtime::random::{Random, RequestId};
use crate::proxy::runtime::timer::Timers;

/// The lowest context of a worker. Contexts of higher floors hold it.
pub(crate) struct Runtime {
    /// The number of the worker, from 0.
    pub(crate) index: usize,
    pub(crate) timeouts: Timeouts,
    /// Those that may change.
    pub(crate) idle_timeouts: Cell<IdleTimeouts>,
    pub(crate) timers: Rc<Timers>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) drain: Drain,
    pub(crate) pipes: Rc<Pipes>,
    pub(crate) memory: ClientMemory,
    pub(crate) scratch: Scratch,
    random: Random,
    date: Date,
}

/// A buffer that all connections of a worker read into; empty until the first one does.
pub(crate) type Scratch = RefCell<Vec<u8>>;

impl Runtime {
    /// The context of worker `index`.
    ///
    /// # Errors
    ///
    /// An I/O error if the kernel gives no random seed.
    pub(crate) fn new(
        index: usize,
        timeouts: Timeouts,
        memory: MemoryLimits,
        counters: &Arc<Counters>,
    ) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            index,
            timeouts,
            idle_timeouts: Cell::new(IdleTimeouts::of(timeouts)),
            timers: Timers::new(),
            counters: Arc::clone(counters),
            drain: Drain::default(),
            pipes: Pipes::new(counters),
            memory: ClientMemory::new(memory, counters),
            scratch: Scratch::default(),
            random: Random::new()?,
            date: Date::default(),
        }))
    }

    pub(crate) fn request_id(&self) -> RequestId {
        self.random.request_id()
    }

    /// Bytes that differ from each other's.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.random.bytes()
    }

    /// A number for a choice, not for a secret.
    pub(crate) fn random(&self) -> u64 {
        self.random.number()
    }

    /// Now, as a response says when it was made.
    pub(crate) fn date(&self) -> HeaderValue {
        self.date.now()
    }
}
