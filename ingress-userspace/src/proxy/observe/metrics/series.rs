//! The numbers of each route on one worker, by what came of its requests.
//!
//! The worker finds a series by route, status and method without a lock and is its only writer. A
//! lock is taken when a series is made or dropped, and by whoever reads them all.
//!
//! Among many routes a request costs what it misses in the cache, and misses in how addresses are
//! translated cost more. A node serves few of its routes at a time: what these have is close
//! together, however many routes there are, and what an outcome changes is asked for before the
//! request ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use http::Method;

use super::RequestMetrics;
use super::exemplars::Exemplars;
use super::labels::{Labels, SlotKey};
use super::tally::{Ended, SeriesStats};
use crate::proxy::runtime::counters::Counter;

/// What the requests of one route with one method that ended with one status come to.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) tally: SeriesStats,
    pub(crate) exemplars: Exemplars,
    pub(crate) labels: Arc<Labels>,
    pub(crate) status: u16,
    pub(crate) method: MethodLabel,
}

/// One route on one worker.
pub(crate) struct RouteSeries {
    pub(crate) labels: Arc<Labels>,
    /// Other outcomes than that of the slot. Few: tried one by one.
    others: RefCell<Vec<Arc<Series>>>,
}

/// All series of one worker, as the worker finds them.
pub(crate) struct SeriesMap {
    /// By the indices of keys, those that were asked for.
    slots: RefCell<Slots>,
    count: Cell<usize>,
    /// How many labels had left when it was looked for series of such.
    left: Cell<u64>,
    shared: Arc<SharedSeries>,
    metrics: RequestMetrics,
}

type Slots = HashMap<u32, Slot>;

/// What belongs to one key.
struct Slot {
    /// Of the key.
    generation: u32,
    /// The outcome that came first, which is nearly always the usual one.
    first: Option<Arc<Series>>,
    status: u16,
    method: MethodLabel,
    route: Rc<RouteSeries>,
}

// Two on a line of the cache.
const _: () = assert!(size_of::<(u32, Slot)>() == 32);

/// All series of one worker, as everybody else finds them.
#[derive(Debug, Default)]
pub(crate) struct SharedSeries {
    series: Mutex<Vec<Arc<Series>>>,
    /// Requests that were counted nowhere, because there were as many series as there may be.
    pub(crate) overflow: Counter,
}

impl Series {
    fn new(labels: Arc<Labels>, status: u16, method: MethodLabel) -> Self {
        Self {
            tally: SeriesStats::default(),
            exemplars: Exemplars::default(),
            labels,
            status,
            method,
        }
    }

    fn count(&self, ended: &Ended) {
        self.tally.count(ended);
        if let Some(trace) = ended.trace {
            self.exemplars.note(trace, ended.took);
        }
    }
}

impl SeriesMap {
    pub(crate) fn new(shared: Arc<SharedSeries>, metrics: RequestMetrics) -> Self {
        let shelf = Self {
            slots: RefCell::default(),
            count: Cell::new(0),
            left: Cell::new(0),
            shared,
            metrics,
        };
        shelf.open(&Labels::of_no_route(), SlotKey::NO_ROUTE);
        shelf
    }

    /// Whether anything is counted here.
    pub(crate) fn is_counting(&self) -> bool {
        self.metrics == RequestMetrics::On
    }

    /// Asks for what counting a request will change.
    pub(crate) fn prefetch(&self, key: SlotKey) {
        if let Some(slot) = find(&self.slots.borrow(), key)
            && let Some(series) = &slot.first
        {
            series.tally.prefetch();
        }
    }

    /// The route of a key, which is made if it is not there.
    pub(crate) fn open(&self, labels: &Arc<Labels>, key: SlotKey) -> Rc<RouteSeries> {
        if let Some(route) = self.route(key) {
            return route;
        }
        let route = Rc::new(RouteSeries {
            labels: Arc::clone(labels),
            others: RefCell::default(),
        });
        let slot = Slot {
            generation: key.generation,
            first: None,
            status: 0,
            method: MethodLabel::default(),
            route: Rc::clone(&route),
        };
        self.slots.borrow_mut().insert(key.index, slot);
        route
    }

    fn has(&self, key: SlotKey) -> bool {
        find(&self.slots.borrow(), key).is_some()
    }

    /// The route of a key, while it is there.
    pub(crate) fn route(&self, key: SlotKey) -> Option<Rc<RouteSeries>> {
        let slots = self.slots.borrow();
        find(&slots, key).map(|slot| Rc::clone(&slot.route))
    }

    /// Counts a request with this outcome, unless there are too many series or the route has left.
    /// Labels are asked for with the first request of a route.
    pub(crate) fn count(
        &self,
        key: SlotKey,
        status: u16,
        method: &Method,
        ended: &Ended,
        labels: impl FnOnce() -> Option<Arc<Labels>>,
    ) {
        if !self.is_counting() {
            return;
        }
        let method = MethodLabel::of(method);
        if let Some(slot) = find(&self.slots.borrow(), key)
            && (slot.status, slot.method) == (status, method)
            && let Some(series) = &slot.first
        {
            return series.count(ended);
        }
        if !self.has(key)
            && let Some(labels) = labels()
        {
            self.open(&labels, key);
        }
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(&key.index);
        let Some(slot) = slot.filter(|slot| slot.generation == key.generation) else {
            return;
        };
        let mut others = slot.route.others.borrow_mut();
        let is_it = |series: &&Arc<Series>| series.status == status && series.method == method;
        if let Some(series) = others.iter().find(is_it) {
            return series.count(ended);
        }
        if self.count.get() >= SERIES_MAX || others.len() + 1 >= OUTCOMES_MAX {
            return self.shared.overflow.increment();
        }
        let series = Arc::new(Series::new(Arc::clone(&slot.route.labels), status, method));
        series.count(ended);
        self.count.set(self.count.get() + 1);
        self.shared.lock().push(Arc::clone(&series));
        if slot.first.is_some() {
            others.push(series);
        } else {
            drop(others);
            (slot.status, slot.method, slot.first) = (status, method, Some(series));
        }
    }

    /// Drops the series of routes that have left, which are `left` in all until now.
    pub(crate) fn adopt(&self, left: u64) {
        if self.left.replace(left) == left {
            return;
        }
        let mut slots = self.slots.borrow_mut();
        slots.retain(|_, slot| !slot.route.labels.is_retired());
        let mut shared = self.shared.lock();
        shared.retain(|series| !series.labels.is_retired());
        self.count.set(shared.len());
    }
}

impl SharedSeries {
    /// Those of routes that are there.
    pub(crate) fn all(&self) -> Vec<Arc<Series>> {
        let series = self.lock();
        let present = series.iter().filter(|series| !series.labels.is_retired());
        present.cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What belongs to a key, while it is there. Not inlined: a request looks several times, and what it
/// runs through once costs as much as it is long.
#[inline(never)]
fn find(slots: &Slots, key: SlotKey) -> Option<&Slot> {
    let slot = slots.get(&key.index);
    slot.filter(|slot| slot.generation == key.generation)
}

/// A method as a label: what clients make up is one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct MethodLabel(u8);

impl MethodLabel {
    fn of(method: &Method) -> Self {
        Self(match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::POST => 2,
            Method::PUT => 3,
            Method::DELETE => 4,
            Method::PATCH => 5,
            Method::OPTIONS => 6,
            Method::CONNECT => 7,
            Method::TRACE => 8,
            _ => u8::MAX,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        METHODS.get(usize::from(self.0)).unwrap_or(&"OTHER")
    }
}

const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
];

/// Series that one worker keeps: 48 MB of them.
const SERIES_MAX: usize = 50_000;

/// Series that one route has on one worker; endpoints choose the status.
const OUTCOMES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use ingress_core::ir::ServicePort;

    use super::super::labels::{LabelKey, LabelSet};
    use super::*;

    fn key(path: &str) -> LabelKey {
        LabelKey {
            path: path.into(),
            port: Some(ServicePort::Number(80)),
            ..LabelKey::default()
        }
    }

    #[test]
    fn series_of_a_route_that_left_are_gone_and_begin_anew_when_it_comes_back() {
        let set = LabelSet::default();
        let shared = Arc::new(SharedSeries::default());
        let shelf = SeriesMap::new(Arc::clone(&shared), RequestMetrics::On);
        let count = |path| {
            let labels = set.intern(key(path));
            let slot = labels.slot;
            shelf.count(slot, 200, &Method::GET, &Ended::default(), || {
                set.of_slot(slot)
            });
            labels.slot
        };
        let counted = || {
            let all = shared.all();
            let mut all: Vec<_> = all
                .iter()
                .map(|series| {
                    (
                        series.labels.key.path.to_string(),
                        series.tally.read().requests,
                    )
                })
                .collect();
            all.sort_unstable();
            all
        };
        for path in ["/a", "/b", "/a"] {
            count(path);
        }
        assert_eq!(counted(), [("/a".to_owned(), 2), ("/b".to_owned(), 1)]);
        let before = set.intern(key("/a")).slot;
        set.retire(&[key("/a")].into());
        assert_eq!(counted(), [("/b".to_owned(), 1)], "at once, for readers");
        shelf.adopt(1);
        assert_eq!(shelf.count.get(), 1);
        let after = count("/a");
        assert_eq!(counted(), [("/a".to_owned(), 1), ("/b".to_owned(), 1)]);

        assert_eq!(before.index, after.index, "slots are used again");
        assert!(shelf.route(before).is_none());
        shelf.count(before, 200, &Method::GET, &Ended::default(), || {
            set.of_slot(before)
        });
        assert_eq!(counted(), [("/a".to_owned(), 1), ("/b".to_owned(), 1)]);
        let route = shelf.route(after).unwrap();
        assert_eq!(*route.labels.key.path, *"/a");
    }

    #[test]
    fn a_slot_that_changes_hands_before_its_worker_looks_is_the_new_ones() {
        let set = LabelSet::default();
        let shared = Arc::new(SharedSeries::default());
        let shelf = SeriesMap::new(Arc::clone(&shared), RequestMetrics::On);
        for path in ["/a", "/b"] {
            let labels = set.intern(key(path));
            let slot = labels.slot;
            for _ in 0..2 {
                shelf.count(slot, 200, &Method::GET, &Ended::default(), || {
                    set.of_slot(slot)
                });
            }
            set.retire(&[key("/a")].into());
        }
        shelf.adopt(1);
        let all = shared.all();
        let [series] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(*series.labels.key.path, *"/b");
        assert_eq!(series.tally.read().requests, 2);
        assert_eq!(shelf.count.get(), 1);
    }

    #[test]
    fn endpoints_and_clients_cannot_make_series_without_end() {
        let shared = Arc::new(SharedSeries::default());
        let shelf = SeriesMap::new(Arc::clone(&shared), RequestMetrics::On);
        for status in 100..600 {
            for method in ["GET", "MADE", "UP"] {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                shelf.count(
                    SlotKey::NO_ROUTE,
                    status,
                    &method,
                    &Ended::default(),
                    || None,
                );
            }
        }
        assert_eq!(shared.all().len(), OUTCOMES_MAX);
        let counted: u64 = shared.all().iter().map(|s| s.tally.read().requests).sum();
        assert_eq!(counted + shared.overflow.value(), 1500);
        assert!(
            shared
                .all()
                .iter()
                .all(|series| series.method.as_str() != "MADE")
        );
    }
}
