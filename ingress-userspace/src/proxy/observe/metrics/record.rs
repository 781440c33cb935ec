//! The record of one request: kept from its head to its end, counted when it is dropped.
//!
//! However a request ends (answered, cancelled by the client, as a tunnel), its record is dropped by
//! the last task that holds it, so that every request is counted exactly once. The record is handed to
//! the access log by pointer, because copying it would cost every request. With a log, metrics are
//! updated in the same batch as log lines, so that the code stays in the instruction cache.

use std::any::Any;
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::error::Error;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::head_bytes::{Fields, request_line_bytes};
use super::labels::{Labels, SlotKey};
use super::series::RouteSeries;
use super::tally::Ended;
use crate::proxy::observe::access_log::entry::Entry;
use crate::proxy::observe::context::Observers;
use crate::proxy::observe::tail::TailedHead;
use crate::proxy::observe::trace::{Ending, Span};
use crate::proxy::observe::upstream_errors::FailedRequest;
use crate::proxy::runtime::random::RequestId;
use crate::proxy::runtime::transport::{Downstream, Scheme};
use crate::proxy::runtime::upload::Upload;

/// A part in one request, which has ended when nobody has one any more.
#[derive(Clone)]
pub(crate) struct RequestRecord(Rc<RecordFields>);

/// What is noted of one request.
pub(crate) struct RecordFields {
    observers: Rc<Observers>,
    begun: Instant,
    /// When it began, until it has.
    ended: Cell<Instant>,
    method: Method,
    request_head_bytes: u64,
    /// What the client has sent of a body.
    upload: OnceCell<Rc<Upload>>,
    /// What that was when the request ended: a client may still be sending then.
    uploaded: Cell<u64>,
    slot: Cell<SlotKey>,
    /// For those who tell of it; a route may leave before its requests end.
    route: OnceCell<Rc<RouteSeries>>,
    status: Cell<Option<StatusCode>>,
    response_head_bytes: Cell<u64>,
    response_body_bytes: Cell<u64>,
    tunnelled: Cell<Tunnelled>,
    attempt: Cell<Option<Attempt>>,
    /// Those before, which have failed.
    failed: RefCell<Vec<AttemptOutcome>>,
    /// What the access log wants to know.
    entry: Option<Box<Entry>>,
    span: Option<Box<Span>>,
    /// The part of its head for watchers, if there are any.
    tailed: Option<Box<TailedHead>>,
    /// Whether its route is left out of the access log.
    is_unlogged: Cell<bool>,
    /// A guard that is dropped when the request ends.
    held: Cell<Option<Box<dyn Any>>>,
}

/// The recorded facts about a request's client.
pub(crate) struct ClientInfo<'a> {
    /// The version of HTTP that it speaks.
    pub(crate) downstream: Downstream,
    /// The protocol between client and proxy.
    pub(crate) scheme: Scheme,
    /// Its address, as a header has it.
    pub(crate) address: &'a HeaderValue,
    /// The port that it dialled.
    pub(crate) port: &'a HeaderValue,
}

/// What was sent to an endpoint, and when it answered.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    endpoint: SocketAddr,
    begun: Instant,
    /// Zero on a connection that was open.
    connected: Duration,
    answered: Option<(Duration, StatusCode)>,
}

/// What went through a tunnel in each direction, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tunnelled {
    pub(crate) up: u64,
    pub(crate) down: u64,
}

impl RequestRecord {
    pub(crate) fn open<B>(
        observers: &Rc<Observers>,
        client: &ClientInfo<'_>,
        request: &Request<B>,
    ) -> Self {
        let (entry, fields_bytes) = match &observers.log {
            Some(log) => {
                let (entry, fields) = Entry::new(log, &observers.runtime, client, request);
                (Some(entry), fields.bytes)
            }
            None if observers.shelf.is_counting() => {
                (None, Fields::of(request.headers(), None).bytes)
            }
            None => (None, 0),
        };
        let begun = Instant::now();
        Self(Rc::new(RecordFields {
            observers: Rc::clone(observers),
            begun,
            ended: Cell::new(begun),
            method: request.method().clone(),
            request_head_bytes: request_line_bytes(request) + fields_bytes,
            upload: OnceCell::new(),
            uploaded: Cell::new(0),
            slot: Cell::new(SlotKey::NO_ROUTE),
            route: OnceCell::new(),
            status: Cell::new(None),
            response_head_bytes: Cell::new(0),
            response_body_bytes: Cell::new(0),
            tunnelled: Cell::default(),
            attempt: Cell::new(None),
            failed: RefCell::default(),
            entry,
            span: observers.tracer.as_ref().map(|tracer| {
                let random = || observers.runtime.random();
                Span::begin(tracer, request, client, random)
            }),
            tailed: TailedHead::of(&observers.tail, client, request),
            is_unlogged: Cell::new(false),
            held: Cell::new(None),
        }))
    }
}

impl Deref for RequestRecord {
    type Target = RecordFields;

    fn deref(&self) -> &RecordFields {
        &self.0
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            self.0.end();
        }
    }
}

impl RecordFields {
    /// The id that it goes by where the client has given none.
    pub(crate) fn request_id(&self) -> RequestId {
        let noted = self
            .entry
            .as_deref()
            .and_then(|entry| entry.own_request_id());
        noted
            .copied()
            .unwrap_or_else(|| self.observers.runtime.request_id())
    }

    /// Logs that an endpoint has failed it, with what is known of both.
    pub(crate) fn log_upstream_error(&self, error: &(dyn Error + 'static)) {
        let observers = &self.observers;
        let labels = observers.labels.of_slot(self.slot.get());
        let noted = self.entry.as_deref().map(Entry::request_id);
        let request = FailedRequest {
            request_id: noted
                .and_then(|id| str::from_utf8(id).ok())
                .unwrap_or_default(),
            host: labels.as_ref().map_or("", |labels| &labels.key.host),
            backend: labels.as_ref().map_or("", |labels| &labels.upstream),
            endpoint: self.attempt.get().map(|attempt| attempt.endpoint),
        };
        let now = observers.runtime.timers.now();
        observers.upstream_errors.log(now, error, &request);
    }

    /// How long ago it came.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Its place in a trace, if there are traces.
    pub(crate) fn span(&self) -> Option<&Span> {
        self.span.as_deref()
    }

    /// Notes which route it is counted for.
    pub(crate) fn routed(&self, labels: &Arc<Labels>, slot: SlotKey) {
        self.slot.set(slot);
        if self.entry.is_none() && self.span.is_none() && self.tailed.is_none() {
            return;
        }
        // A request is routed once.
        let _ = self.route.set(self.observers.shelf.open(labels, slot));
    }

    /// Leaves it out of the access log.
    pub(crate) fn leave_out_of_log(&self) {
        self.is_unlogged.set(true);
    }

    /// Keeps something until it ends.
    pub(crate) fn hold(&self, held: Box<dyn Any>) {
        self.held.set(Some(held));
    }

    /// Counts a body that the client sends, if it does.
    pub(crate) fn uploads(&self, upload: Option<&Rc<Upload>>) {
        if let Some(upload) = upload {
            let _ = self.upload.set(Rc::clone(upload));
        }
    }

    /// An endpoint was picked; the first of them, right after the request has come.
    pub(crate) fn try_first(&self, endpoint: SocketAddr) {
        self.attempt.set(Some(Attempt::new(endpoint, self.begun)));
    }

    /// Another endpoint was picked.
    pub(crate) fn try_next(&self, endpoint: SocketAddr) {
        let now = Instant::now();
        let next = Attempt::new(endpoint, now);
        if let Some(failed) = self.attempt.replace(Some(next)) {
            let outcome = failed.outcome(StatusCode::BAD_GATEWAY.as_u16(), now, 0);
            self.failed.borrow_mut().push(outcome);
        }
    }

    /// A connection to the endpoint was made for this request.
    pub(crate) fn connected(&self) {
        if let Some(mut attempt) = self.attempt.get() {
            attempt.connected = attempt.begun.elapsed();
            self.attempt.set(Some(attempt));
        }
    }

    /// The endpoint's response head is there. Returns what it took.
    pub(crate) fn answered(&self, status: StatusCode) -> Duration {
        if self.entry.is_none() {
            self.prefetch();
        }
        let Some(mut attempt) = self.attempt.get() else {
            return Duration::ZERO;
        };
        let took = attempt.begun.elapsed();
        attempt.answered = Some((took, status));
        self.attempt.set(Some(attempt));
        took
    }

    /// This is what the client is told.
    pub(crate) fn respond<B>(&self, response: &Response<B>) {
        self.status.set(Some(response.status()));
        if self.entry.is_none() && !self.observers.shelf.is_counting() {
            return;
        }
        let reason = response.status().canonical_reason().map_or(0, str::len);
        let fields = Fields::of(response.headers(), None);
        let mut bytes = (STATUS_LINE_BYTES + reason) as u64 + fields.bytes;
        if !fields.have_date {
            // hyper adds it.
            bytes += DATE_BYTES;
        }
        self.response_head_bytes.set(bytes);
    }

    /// So much of the response body was handed over.
    pub(crate) fn add_response_body(&self, bytes: usize) {
        let body = &self.response_body_bytes;
        body.set(body.get() + bytes as u64);
    }

    /// So much went through the tunnel that the request has become.
    pub(crate) fn add_tunnelled(&self, tunnelled: Tunnelled) {
        self.tunnelled.set(tunnelled);
    }

    /// Has it counted, and tells those who tell of it.
    fn end(self: &Rc<Self>) {
        self.ended.set(Instant::now());
        drop(self.held.take());
        let uploaded = self.upload.get().map_or(0, |upload| upload.bytes());
        self.uploaded.set(uploaded);
        if self.span.is_some() {
            self.tell();
        }
        if let Some(tailed) = &self.tailed
            && let Some(outcome) = self.outcome(self.totals())
        {
            let observers = &self.observers;
            tailed.push(&observers.tail, observers.runtime.index, &outcome);
        }
        match &self.observers.log {
            Some(log) if self.entry.is_some() && !self.is_unlogged.get() => {
                log.push(Rc::clone(self));
            }
            _ => self.count(self.totals()),
        }
    }

    /// Asks for what counting it will change.
    pub(crate) fn prefetch(&self) {
        self.observers.shelf.prefetch(self.slot.get());
    }

    /// Its route, or that of requests without one.
    fn route(&self) -> Option<&RouteSeries> {
        if self.route.get().is_none()
            && let Some(none) = self.observers.shelf.route(SlotKey::NO_ROUTE)
        {
            let _ = self.route.set(none);
        }
        self.route.get().map(|route| &**route)
    }

    /// What it has come to, once it has ended.
    fn totals(&self) -> Totals {
        let tunnelled = self.tunnelled.get();
        let body_sent = self.response_body_bytes.get() + tunnelled.down;
        Totals {
            status: self.status.get().map_or(CLIENT_CLOSED, |s| s.as_u16()),
            took: self.ended.get().saturating_duration_since(self.begun),
            received: self.request_head_bytes + self.uploaded.get() + tunnelled.up,
            sent: self.response_head_bytes.get() + body_sent,
            body_sent,
        }
    }

    fn count(&self, totals: Totals) {
        let (all, slot) = (&self.observers.shelf, self.slot.get());
        let attempt = self.attempt.get();
        let answered = attempt.and_then(|attempt| {
            let (head, _) = attempt.answered?;
            let whole = self.ended.get().saturating_duration_since(attempt.begun);
            Some((head, whole))
        });
        let ended = Ended {
            took: totals.took,
            received: totals.received,
            sent: totals.sent,
            connected: attempt.map(|attempt| attempt.connected),
            answered,
            trace: self.span().and_then(Span::sampled_trace),
        };
        all.count(slot, totals.status, &self.method, &ended, || {
            self.observers.labels.of_slot(slot)
        });
    }

    /// Ends its span, if there are traces.
    fn tell(&self) {
        if let (Some(tracer), Some(span)) = (&self.observers.tracer, &self.span)
            && let Some(route) = self.route()
        {
            let totals = self.totals();
            let ending = Ending {
                method: &self.method,
                labels: &route.labels,
                status: totals.status,
                took: totals.took,
                endpoint: self.attempt.get().map(|attempt| attempt.endpoint),
            };
            span.end(tracer, &ending);
        }
    }

    /// What of its head the access log has kept.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.entry.as_deref()
    }

    /// Gives the log back what it has kept, if nobody else has a part in the request.
    pub(crate) fn into_entry(mut record: Rc<Self>) -> Option<Box<Entry>> {
        Rc::get_mut(&mut record)?.entry.take()
    }

    /// Counts it, once it has ended. Returns what came of it.
    pub(crate) fn settle(&self) -> Option<Outcome<'_>> {
        let totals = self.totals();
        self.count(totals);
        self.outcome(totals)
    }

    fn outcome(&self, totals: Totals) -> Option<Outcome<'_>> {
        let status = totals.status;
        // If the endpoint gave no answer, the try has what the client was told, and nothing if the
        // client has gone.
        let of_try = if status == CLIENT_CLOSED {
            NO_STATUS
        } else {
            status
        };
        let ended = self.ended.get();
        let last = self.attempt.get();
        Some(Outcome {
            method: &self.method,
            labels: &self.route()?.labels,
            ended,
            took: totals.took,
            status,
            received: totals.received,
            sent: totals.sent,
            body_sent: totals.body_sent,
            failed: self.failed.borrow(),
            last: last.map(|last| last.outcome(of_try, ended, totals.body_sent)),
        })
    }
}

/// What a request has come to.
#[derive(Clone, Copy, Debug)]
struct Totals {
    status: u16,
    took: Duration,
    received: u64,
    sent: u64,
    body_sent: u64,
}

/// What came of a request, for its line in the access log.
pub(crate) struct Outcome<'a> {
    pub(crate) method: &'a Method,
    pub(crate) labels: &'a Labels,
    pub(crate) ended: Instant,
    /// From its head to its end.
    pub(crate) took: Duration,
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) body_sent: u64,
    /// Tries that have failed, in the order in which they were made.
    pub(crate) failed: Ref<'a, Vec<AttemptOutcome>>,
    pub(crate) last: Option<AttemptOutcome>,
}

/// What came of one try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptOutcome {
    pub(crate) endpoint: SocketAddr,
    /// [`NO_STATUS`] of a try that was given up.
    pub(crate) status: u16,
    pub(crate) connected: Duration,
    pub(crate) answered: Option<Duration>,
    pub(crate) took: Duration,
    pub(crate) length: u64,
}

impl Attempt {
    fn new(endpoint: SocketAddr, begun: Instant) -> Self {
        Self {
            endpoint,
            begun,
            connected: Duration::ZERO,
            answered: None,
        }
    }

    /// What came of it; `status` is for an endpoint that gave no answer.
    fn outcome(&self, status: u16, now: Instant, length: u64) -> AttemptOutcome {
        let answered = self.answered;
        AttemptOutcome {
            endpoint: self.endpoint,
            status: answered.map_or(status, |(_, status)| status.as_u16()),
            connected: self.connected,
            answered: answered.map(|(answered, _)| answered),
            took: now.saturating_duration_since(self.begun),
            length: if answered.is_some() { length } else { 0 },
        }
    }
}

/// What nginx logs for a client that has gone before it was answered.
const CLIENT_CLOSED: u16 = 499;

/// Of a try that was given up.
pub(crate) const NO_STATUS: u16 = 0;

/// A status line without its reason.
const STATUS_LINE_BYTES: usize = "HTTP/1.1 200 \r\n".len();

const DATE_BYTES: u64 = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n".len() as u64;
