//! The numbers of each route on one worker, by what came of its requests.
//!
//! The worker finds a series by route, status and method without a lock and is its only writer. A
//! lock is taken when a series is made or dropped, and by whoever reads them all.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;
use http::Method;

use super::histogram::{Bounds, Histogram, Lengths, Near, Seconds, Sizes};
use super::labels::Labels;
use crate::proxy::counters::Counter;

/// What the requests of one route with one method that ended with one status come to.
#[derive(Debug)]
#[repr(C, align(64))]
pub(in super::super) struct Series {
    near: NearOfAll,
    far: FarOfAll,
    pub(in super::super) labels: Arc<Labels>,
    pub(in super::super) status: u16,
    pub(in super::super) method: &'static str,
}

/// What nearly every request changes, on two lines of the cache.
#[derive(Debug, Default)]
struct NearOfAll {
    requests: Counter,
    request_duration: Near,
    response_duration: Near,
    header_duration: Near,
    connect_duration: Near,
    request_size: Near,
    response_size: Near,
    bytes_sent: Near,
}

const _: () = assert!(size_of::<NearOfAll>() <= 128);

#[derive(Debug, Default)]
struct FarOfAll {
    request_duration: <Seconds as Bounds>::Buckets,
    response_duration: <Seconds as Bounds>::Buckets,
    header_duration: <Seconds as Bounds>::Buckets,
    connect_duration: <Seconds as Bounds>::Buckets,
    request_size: <Lengths as Bounds>::Buckets,
    response_size: <Lengths as Bounds>::Buckets,
    bytes_sent: <Sizes as Bounds>::Buckets,
}

/// A histogram of a series, by the name that it has in both places.
macro_rules! histograms {
    ($($name:ident: $bounds:ty,)*) => {
        $(pub(in super::super) fn $name(&self) -> Histogram<'_, $bounds> {
            Histogram {
                near: &self.near.$name,
                buckets: &self.far.$name,
            }
        })*
    };
}

impl Series {
    histograms! {
        request_duration: Seconds,
        response_duration: Seconds,
        header_duration: Seconds,
        connect_duration: Seconds,
        request_size: Lengths,
        response_size: Lengths,
        bytes_sent: Sizes,
    }

    pub(in super::super) fn requests(&self) -> &Counter {
        &self.near.requests
    }
}

/// One route on one worker.
pub(in super::super) struct RouteSeries {
    pub(in super::super) labels: Arc<Labels>,
    /// Of the outcome that came first, which is nearly always the usual one.
    first: OnceCell<Outcome>,
    /// Few: tried one by one.
    others: RefCell<Vec<Outcome>>,
}

/// What requests came to, and the series of those.
struct Outcome {
    status: u16,
    method: &'static str,
    series: Arc<Series>,
}

impl Outcome {
    fn is(&self, status: u16, method: &str) -> bool {
        self.status == status && self.method == method
    }
}

/// All series of one worker, as the worker finds them.
pub(in super::super) struct Shelf {
    /// By the address of their labels, which they keep from being anybody else's.
    routes: RefCell<HashMap<*const Labels, Rc<RouteSeries>, RandomState>>,
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
            near: NearOfAll::default(),
            far: FarOfAll::default(),
            labels,
            status,
            method,
        }
    }
}

impl RouteSeries {
    fn new(labels: Arc<Labels>) -> Rc<Self> {
        Rc::new(Self {
            labels,
            first: OnceCell::new(),
            others: RefCell::default(),
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

    /// The series of a route. In the usual case labels are not looked at, nor the count of
    /// references to them, which workers share.
    pub(in super::super) fn route(&self, labels: &Arc<Labels>) -> Rc<RouteSeries> {
        let mut routes = self.routes.borrow_mut();
        let route = routes
            .entry(Arc::as_ptr(labels))
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
        let first = route.first.get();
        if let Some(outcome) = first
            && outcome.is(status, method)
        {
            return count(&outcome.series);
        }
        let mut others = route.others.borrow_mut();
        if let Some(outcome) = others.iter().find(|outcome| outcome.is(status, method)) {
            return count(&outcome.series);
        }
        if self.count.get() >= SERIES_MAX || others.len() + 1 >= OUTCOMES_MAX {
            return self.shared.overflow.increment();
        }
        let series = Arc::new(Series::new(Arc::clone(&route.labels), status, method));
        count(&series);
        self.count.set(self.count.get() + 1);
        self.shared.lock().push(Arc::clone(&series));
        let outcome = Outcome {
            status,
            method,
            series,
        };
        if let Err(outcome) = route.first.set(outcome) {
            others.push(outcome);
        }
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

/// Series that one worker keeps: 45 MB of them.
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
                series.requests().increment();
            });
        };
        let counted = || {
            let all = shared.all();
            let mut all: Vec<_> = all
                .iter()
                .map(|series| {
                    (
                        series.labels.key.path.to_string(),
                        series.requests().value(),
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
                    series.requests().increment();
                });
            }
        }
        assert_eq!(shared.all().len(), OUTCOMES_MAX);
        let counted: u64 = shared.all().iter().map(|s| s.requests().value()).sum();
        assert_eq!(counted + shared.overflow.value(), 1500);
        assert!(shared.all().iter().all(|series| series.method != "MADE"));
    }
}
