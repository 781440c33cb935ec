//! Which connections give way when a worker has as many as it may have: those that have been idle
//! longest.
//!
//! Idle is a connection between two requests, or before its first. Bytes do not count, so that who
//! sends a head byte by byte is as idle as one that sends nothing.
//!
//! Invariant: a connection with a request, a tunnel or an unread response never gives way.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::task::AbortHandle;

use crate::proxy::downstream::context::AcceptContext;
use crate::proxy::request::connection::Connection;

/// The connections of one worker that may have to give way.
#[derive(Default)]
pub(crate) struct Evictions {
    slots: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
}

struct Entry {
    connection: Rc<Connection>,
    /// `None` before its task has begun and after it was told to end.
    task: Option<AbortHandle>,
}

impl Evictions {
    /// Ends connections that have been idle longest: one, and more where there are many, so that the
    /// search for them costs little for each. Returns how many.
    pub(crate) fn evict(&self) -> usize {
        let mut slots = self.slots.borrow_mut();
        let mut idle: Vec<_> = (slots.iter().enumerate())
            .filter_map(|(index, slot)| {
                let entry = slot.as_ref().filter(|entry| entry.task.is_some())?;
                Some((entry.connection.evictable_since()?, index))
            })
            .collect();
        let count = (1 + slots.len() / SEARCHED_PER_EVICTION).min(idle.len());
        if count == 0 {
            return 0;
        }
        idle.select_nth_unstable(count - 1);
        for (_, index) in &idle[..count] {
            if let Some(entry) = &mut slots[*index]
                && let Some(task) = entry.task.take()
            {
                entry.connection.counters().connections_evicted.increment();
                // It is dropped when the runtime gets to it, and not in here.
                task.abort();
            }
        }
        count
    }

    fn add(&self, connection: &Rc<Connection>) -> usize {
        let entry = Some(Entry {
            connection: Rc::clone(connection),
            task: None,
        });
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(slots.len());
        match slots.get_mut(index) {
            Some(slot) => *slot = entry,
            None => slots.push(entry),
        }
        index
    }
}

/// A connection that may have to give way, until this is dropped.
pub(crate) struct Enlisted {
    context: Rc<AcceptContext>,
    index: usize,
}

impl Enlisted {
    pub(crate) fn new(context: &Rc<AcceptContext>, connection: &Rc<Connection>) -> Self {
        Self {
            index: context.evictions.add(connection),
            context: Rc::clone(context),
        }
    }

    /// Its place, for [`begin`].
    pub(crate) fn index(&self) -> usize {
        self.index
    }
}

/// Tells which task serves a connection. The task must not have been polled yet.
pub(crate) fn begin(context: &AcceptContext, index: usize, task: AbortHandle) {
    if let Some(Some(entry)) = context.evictions.slots.borrow_mut().get_mut(index) {
        entry.task = Some(task);
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let evictions = &self.context.evictions;
        let entry = evictions.slots.borrow_mut()[self.index].take();
        evictions.free.borrow_mut().push(self.index);
        drop(entry);
    }
}

/// Connections that are looked at for each that ends.
const SEARCHED_PER_EVICTION: usize = 64;
