//! The numbers of each route on one worker, by what came of its requests.
//!
//! The worker finds a series by route, status and method without a lock and is its only writer. A
//! lock is taken when a series is made or dropped, and by whoever reads them all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use http::Method;

use super::histogram::{Histogram, Lengths, Seconds, Sizes};
use super::labels::Labels;
use crate::proxy::counters::Counter;

/// What the requests of one route with one method that ended with one status come to.
#[derive(Debug)]
pub(in super::super) struct Series {
    pub(in super::super) labels: Arc<Labels>,
    pub(in super::super) status: u16,
    pub(in super::super) method: &'static str,
    pub(in super::super) requests: Counter,
    pub(in super::super) request_duration: Histogram<Seconds>,
    pub(in super::super) response_duration: Histogram<Seconds>,
    pub(in super::super) header_duration: Histogram<Seconds>,
    pub(in super::super) connect_duration: Histogram<Seconds>,
    pub(in super::super) request_size: Histogram<Lengths>,
    pub(in super::super) response_size: Histogram<Lengths>,
    pub(in super::super) bytes_sent: Histogram<Sizes>,
}

/// One route on one worker.
pub(in super::super) struct RouteSeries {
    pub(in super::super) labels: Arc<Labels>,
    /// Few: tried one by one.
    by_outcome: RefCell<Vec<Arc<Series>>>,
}

/// All series of one worker, as the worker finds them.
pub(in super::super) struct Shelf {
    routes: RefCell<HashMap<u64, Rc<RouteSeries>, RandomState>>,
    no_route: Rc<RouteSeries>,
    count: Cell<usize>,
    shared: Arc<SharedSeries>,
}

/// All series of one worker, as everybody else finds them.
#[derive(Debug, Default)]
pub(in super::super) struct SharedSeries {
    series: Mutex<Vec<Arc<Series>>>,
    /// Requests that were counted nowhere, because there were as many series as there may be.
    pub(in super::super) overflow: Counter,
}

impl Series {
    fn new(labels: Arc<Labels>, status: u16, method: &'static str) -> Self {
        Self {
            labels,
            status,
            method,
            requests: Counter::default(),
            request_duration: Histogram::default(),
            response_duration: Histogram::default(),
            header_duration: Histogram::default(),
            connect_duration: Histogram::default(),
            request_size: Histogram::default(),
            response_size: Histogram::default(),
            bytes_sent: Histogram::default(),
        }
    }
}

impl RouteSeries {
    fn new(labels: Arc<Labels>) -> Rc<Self> {
        Rc::new(Self {
            labels,
            by_outcome: RefCell::default(),
        })
    }
}

impl Shelf {
    pub(in super::super) fn new(shared: Arc<SharedSeries>) -> Self {
        Self {
            routes: RefCell::default(),
            no_route: RouteSeries::new(Labels::of_no_route()),
            count: Cell::new(0),
            shared,
        }
    }

    /// The series of a route. The count of references to labels, which workers share, stays
    /// untouched in the usual case.
    pub(in super::super) fn route(&self, labels: &Arc<Labels>) -> Rc<RouteSeries> {
        let mut routes = self.routes.borrow_mut();
        let route = routes
            .entry(labels.id)
            .or_insert_with(|| RouteSeries::new(Arc::clone(labels)));
        Rc::clone(route)
    }

    /// The series of requests that match no route.
    pub(in super::super) fn no_route(&self) -> &Rc<RouteSeries> {
        &self.no_route
    }

    /// Hands the series of an outcome to `count`, unless there are too many.
    pub(in super::super) fn count(
        &self,
        route: &RouteSeries,
        status: u16,
        method: &Method,
        count: impl FnOnce(&Series),
    ) {
        let method = method_label(method);
        let mut series = route.by_outcome.borrow_mut();
        let known = |series: &&Arc<Series>| series.status == status && series.method == method;
        if let Some(series) = series.iter().find(known) {
            return count(series);
        }
        if self.count.get() >= SERIES_MAX || series.len() >= OUTCOMES_MAX {
            return self.shared.overflow.increment();
        }
        let made = Arc::new(Series::new(Arc::clone(&route.labels), status, method));
        count(&made);
        self.count.set(self.count.get() + 1);
        self.shared.lock().push(Arc::clone(&made));
        series.push(made);
    }

    /// Drops the series of routes that have left.
    pub(in super::super) fn adopt(&self) {
        let mut routes = self.routes.borrow_mut();
        let before = routes.len();
        routes.retain(|_, route| !route.labels.is_retired());
        if routes.len() < before {
            let mut shared = self.shared.lock();
            shared.retain(|series| !series.labels.is_retired());
            self.count.set(shared.len());
        }
    }
}

impl SharedSeries {
    /// Those of routes that are there.
    pub(in super::super) fn all(&self) -> Vec<Arc<Series>> {
        let series = self.lock();
        let present = series.iter().filter(|series| !series.labels.is_retired());
        present.cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Series>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A method as a label: what clients make up is one label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}

/// Series that one worker keeps: 40 MB of them.
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
        let shelf = Shelf::new(Arc::clone(&shared));
        let count = |path| {
            let route = shelf.route(&set.intern(key(path)));
            shelf.count(&route, 200, &Method::GET, |series| {
                series.requests.increment();
            });
        };
        let counted = || {
            let all = shared.all();
            let mut all: Vec<_> = all
                .iter()
                .map(|series| (series.labels.key.path.to_string(), series.requests.value()))
                .collect();
            all.sort_unstable();
            all
        };
        for path in ["/a", "/b", "/a"] {
            count(path);
        }
        assert_eq!(counted(), [("/a".to_owned(), 2), ("/b".to_owned(), 1)]);
        set.retire(&[key("/a")].into());
        assert_eq!(counted(), [("/b".to_owned(), 1)], "at once, for readers");
        shelf.adopt();
        assert_eq!(shelf.count.get(), 1);
        count("/a");
        assert_eq!(counted(), [("/a".to_owned(), 1), ("/b".to_owned(), 1)]);
    }

    #[test]
    fn endpoints_and_clients_cannot_make_series_without_end() {
        let shared = Arc::new(SharedSeries::default());
        let shelf = Shelf::new(Arc::clone(&shared));
        let route = Rc::clone(shelf.no_route());
        for status in 100..600 {
            for method in ["GET", "MADE", "UP"] {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                shelf.count(&route, status, &method, |series| {
                    series.requests.increment();
                });
            }
        }
        assert_eq!(shared.all().len(), OUTCOMES_MAX);
        let counted: u64 = shared.all().iter().map(|s| s.requests.value()).sum();
        assert_eq!(counted + shared.overflow.value(), 1500);
        assert!(shared.all().iter().all(|series| series.method != "MADE"));
    }
}
