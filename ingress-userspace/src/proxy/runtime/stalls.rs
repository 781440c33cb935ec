//! The tasks that wait for their clients, since when, and with how many bytes: the worker's share of
//! the memory that may be held for clients that neither read nor send.
//!
//! A task that cannot send its bytes, or that gathers a body, begins a [`Stall`]. While all of
//! a worker together hold more than their share, those that have waited longest are ended.
//!
//! Invariant: what stalls hold is at most the share, but for stalls younger than [`STALL_MIN`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::proxy::runtime::counters::Counters;

/// The stalls of one worker.
pub(crate) struct Stalls {
    bytes_max: usize,
    bytes: Cell<usize>,
    next: Cell<u64>,
    /// By their beginnings.
    waiting: RefCell<BTreeMap<u64, Entry>>,
    counters: Arc<Counters>,
}

struct Entry {
    bytes: usize,
    since: Instant,
    waker: Waker,
}

impl Stalls {
    pub(crate) fn new(bytes_max: usize, counters: &Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            bytes_max,
            bytes: Cell::new(0),
            next: Cell::new(0),
            waiting: RefCell::default(),
            counters: Arc::clone(counters),
        })
    }

    /// Notes that a task waits for its client and holds so many bytes; ends the stalls for which
    /// there is no room any more.
    pub(crate) fn begin(self: &Rc<Self>, bytes: usize, now: Instant, waker: &Waker) -> Stall {
        let number = self.next.get();
        self.next.set(number + 1);
        let entry = Entry {
            bytes,
            since: now,
            waker: waker.clone(),
        };
        self.waiting.borrow_mut().insert(number, entry);
        self.bytes.set(self.bytes.get() + bytes);
        self.counters.stalled.increment();
        self.make_room(now);
        Stall {
            stalls: Rc::clone(self),
            number,
        }
    }

    /// Ends those that have waited longest, as far as there is no room for them.
    pub(crate) fn make_room(&self, now: Instant) {
        while self.bytes.get() > self.bytes_max {
            let mut waiting = self.waiting.borrow_mut();
            let Some(longest) = waiting.first_entry() else {
                return;
            };
            if now.saturating_duration_since(longest.get().since) < STALL_MIN {
                return;
            }
            let entry = longest.remove();
            self.left(&entry);
            self.counters.stalled_closed.increment();
            entry.waker.wake();
        }
    }

    fn left(&self, entry: &Entry) {
        self.bytes.set(self.bytes.get() - entry.bytes);
        self.counters.stalled.decrement();
    }
}

/// A task that waits for its client, until this is dropped.
pub(crate) struct Stall {
    stalls: Rc<Stalls>,
    number: u64,
}

impl Stall {
    /// Whether the task has to end. It is woken when that becomes true.
    pub(crate) fn is_ended(&self) -> bool {
        !self.stalls.waiting.borrow().contains_key(&self.number)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        let entry = self.stalls.waiting.borrow_mut().remove(&self.number);
        if let Some(entry) = entry {
            self.stalls.left(&entry);
        }
    }
}

/// Clients that read stall too, for as long as their network takes: no task is ended for less.
const STALL_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_stalls_end_when_there_is_no_room() {
        let counters = Arc::default();
        let stalls = Stalls::new(100, &counters);
        let start = Instant::now();
        let begin = |bytes, seconds| {
            let now = start + Duration::from_secs(seconds);
            stalls.begin(bytes, now, Waker::noop())
        };
        let [first, second] = [begin(40, 0), begin(40, 1)];
        drop(begin(20, 2));
        assert!(!first.is_ended() && !second.is_ended());
        let third = begin(40, 3);
        assert!(first.is_ended() && !second.is_ended() && !third.is_ended());
        drop(first);
        assert_eq!(stalls.bytes.get(), 80);
        assert_eq!(
            (counters.stalled.value(), counters.stalled_closed.value()),
            (2, 1)
        );
    }

    #[test]
    fn new_stalls_are_not_ended_first() {
        let stalls = Stalls::new(100, &Arc::default());
        let now = Instant::now();
        let all: Vec<_> = (0..10)
            .map(|_| stalls.begin(40, now, Waker::noop()))
            .collect();
        assert!(all.iter().all(|stall| !stall.is_ended()));
    }

    proptest! {
        #[test]
        fn stalls_hold_no_more_than_their_share(steps in vec((1..50_usize, 0..4_usize), 1..100)) {
            let stalls = Stalls::new(100, &Arc::default());
            let mut now = Instant::now();
            let mut held: Vec<(usize, Stall)> = Vec::new();
            for (bytes, dropped) in steps {
                now += STALL_MIN;
                held.push((bytes, stalls.begin(bytes, now, Waker::noop())));
                if dropped < held.len() {
                    drop(held.remove(dropped));
                }
                let alive = held.iter().filter(|(_, stall)| !stall.is_ended());
                prop_assert_eq!(alive.map(|(bytes, _)| bytes).sum::<usize>(), stalls.bytes.get());
                prop_assert!(stalls.bytes.get() <= 100);
            }
        }
    }
}
