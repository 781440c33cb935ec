//! Coarse timers of one worker: an alarm costs a few nanoseconds and fires up to a tick late.
//!
//! Timeouts of a proxy are long and almost never fire, but every request sets some. So time is
//! read once a tick instead of once a request, and an alarm is a slot in a slab that the tick
//! looks through, instead of an entry in an ordered structure. While no alarm is set nothing ticks.
//!
//! Invariant: an alarm wakes its task at most once for each time it is set, and never early by
//! more than the worker itself was late for its last tick.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How late an alarm may be.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// The alarms of one worker and its clock.
pub(crate) struct Timers {
    now: Cell<Instant>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    set_count: Cell<usize>,
    first_set: Notify,
}

struct Slot {
    due: Option<Instant>,
    waker: Option<Waker>,
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(Instant::now()),
            slots: RefCell::default(),
            free: RefCell::default(),
            set_count: Cell::new(0),
            first_set: Notify::new(),
        })
    }

    /// The time of the last tick.
    pub(crate) fn now(&self) -> Instant {
        if self.set_count.get() == 0 {
            self.now.set(Instant::now());
        }
        self.now.get()
    }

    /// A new alarm, due after `delay`, that wakes `waker`.
    pub(crate) fn alarm(self: &Rc<Self>, delay: Duration, waker: &Waker) -> Alarm {
        // Read before the count changes: a clock that stands still is brought up to date first.
        let due = self.now() + delay + TICK;
        if self.set_count.get() == 0 {
            self.first_set.notify_one();
        }
        self.set_count.set(self.set_count.get() + 1);
        let slot = Slot {
            due: Some(due),
            waker: Some(waker.clone()),
        };
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(slots.len());
        match slots.get_mut(index) {
            Some(free) => *free = slot,
            None => slots.push(slot),
        }
        drop(slots);
        Alarm {
            timers: Rc::clone(self),
            index,
        }
    }

    /// What `future` gives, or `None` if it takes longer than `limit`.
    pub(crate) async fn timeout<F: Future>(
        self: &Rc<Self>,
        limit: Duration,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut alarm: Option<Alarm> = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            let alarm = alarm.get_or_insert_with(|| self.alarm(limit, cx.waker()));
            if alarm.fired() {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Wakes every task that has an alarm, without a change to any alarm.
    pub(crate) fn wake_all(&self) {
        self.slots
            .borrow()
            .iter()
            .filter_map(|slot| slot.waker.as_ref())
            .for_each(Waker::wake_by_ref);
    }

    /// Ticks for as long as the worker lives; idle while no alarm is set.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            if self.set_count.get() == 0 {
                self.first_set.notified().await;
            } else {
                tokio::time::sleep(TICK).await;
                self.fire(Instant::now());
            }
        }
    }

    fn fire(&self, now: Instant) {
        self.now.set(now);
        let mut slots = self.slots.borrow_mut();
        for slot in slots
            .iter_mut()
            .filter(|slot| slot.due.is_some_and(|due| due <= now))
        {
            slot.due = None;
            // Waking only queues the task: nothing of it runs inside this loop.
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }
}

/// One timeout of one task; unset when dropped.
pub(crate) struct Alarm {
    timers: Rc<Timers>,
    index: usize,
}

impl Alarm {
    /// Whether it has fired and was not set again since.
    pub(crate) fn fired(&self) -> bool {
        self.timers.slots.borrow()[self.index].due.is_none()
    }

    /// Sets it again, to be due after `delay`.
    pub(crate) fn set(&self, delay: Duration) {
        let due = self.timers.now() + delay + TICK;
        self.timers.slots.borrow_mut()[self.index].due = Some(due);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut()[self.index] = Slot {
            due: None,
            waker: None,
        };
        self.timers.free.borrow_mut().push(self.index);
        self.timers.set_count.set(self.timers.set_count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_fires_once_and_not_early() {
        let timers = Timers::new();
        let start = timers.now();
        let alarm = timers.alarm(Duration::from_secs(1), Waker::noop());
        timers.fire(start + Duration::from_millis(999));
        assert!(!alarm.fired());
        timers.fire(start + Duration::from_secs(2));
        assert!(alarm.fired());
        alarm.set(Duration::from_secs(1));
        assert!(!alarm.fired());
        timers.fire(start + Duration::from_secs(4));
        assert!(alarm.fired());
    }

    #[test]
    fn slots_are_used_again() {
        let timers = Timers::new();
        for _ in 0..100 {
            let kept = timers.alarm(TICK, Waker::noop());
            drop(timers.alarm(TICK, Waker::noop()));
            drop(kept);
        }
        assert_eq!(timers.slots.borrow().len(), 2);
        assert_eq!(timers.set_count.get(), 0);
    }
}
