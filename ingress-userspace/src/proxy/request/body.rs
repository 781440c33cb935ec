//! Bodies in both directions, without a box and without a task.
//!
//! Bytes pass from one connection to the other as they were read. Nothing is buffered here:
//! a body reads from its source only when its sink asks.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

use crate::proxy::downstream::client_body::{Incoming, IncomingError};
use crate::proxy::downstream::connection::{Connection, InFlight};
use crate::proxy::request::forwarded::Lines;
use crate::proxy::request::replay::{Copied, Kept};
use crate::proxy::runtime::fairness::Turn;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::splice::{Chunk, Conduit};
use crate::proxy::upstream::http1::Fault;
use crate::proxy::upstream::response_source::Carrier;
use crate::proxy::upstream::response_timeout::Patience;

/// The body of a request on its way to an endpoint, and what is written beside its head.
#[derive(Default)]
pub(crate) struct RequestBody {
    source: RequestSource,
    lines: Option<Lines>,
}

#[derive(Default)]
enum RequestSource {
    #[default]
    Nothing,
    /// The client.
    Uploading(Uploading),
    /// A copy of what the client has sent.
    Again(Box<Copied>),
}

struct Uploading {
    incoming: Incoming,
    upload: Rc<Upload>,
    /// Notes down what moves, where no socket can tell.
    activity: Option<Rc<Activity>>,
    /// Where it is copied to, if it may have to be sent again.
    kept: Option<Rc<Kept>>,
}

/// What has come of a request body.
pub(crate) struct Upload {
    progress: Cell<Progress>,
    bytes: Cell<u64>,
    bytes_max: u64,
}

/// Why a request body ends before its end.
#[derive(Debug, Error)]
pub(crate) enum UploadError {
    /// The client broke off, or sent what is no body.
    #[error(transparent)]
    Client(IncomingError),
    /// It has more bytes than it may have.
    #[error("request body is too large")]
    TooLarge,
}

impl Upload {
    pub(crate) fn progress(&self) -> Progress {
        self.progress.get()
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.progress() == Progress::Done
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn note(&self, poll: &Poll<Option<Result<Frame<Bytes>, IncomingError>>>, is_end: bool) {
        match poll {
            Poll::Ready(Some(Err(_))) => self.progress.set(Progress::Failed),
            Poll::Ready(None) => self.progress.set(Progress::Done),
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.bytes.set(self.bytes.get() + length as u64);
                if self.bytes.get() > self.bytes_max {
                    self.progress.set(Progress::TooLarge);
                } else if is_end {
                    self.progress.set(Progress::Done);
                }
            }
            Poll::Pending => {}
        }
    }
}

/// How far a request body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The client still has something to send.
    Streaming,
    /// All of it was read.
    Done,
    /// The client broke off, or sent what is no body.
    Failed,
    /// It has more bytes than it may have.
    TooLarge,
}

impl RequestBody {
    /// No body, and nothing beside the head.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Has lines written after the fields of the head.
    pub(crate) fn introduce(&mut self, lines: Option<Lines>) {
        self.lines = lines;
    }

    /// Keeps a copy of what is sent, unless it is known to be too large for that.
    pub(crate) fn keep(&mut self) -> Option<Rc<Kept>> {
        let kept = Kept::new(&self.size_hint())?;
        if let RequestSource::Uploading(uploading) = &mut self.source {
            uploading.kept = Some(Rc::clone(&kept));
        }
        Some(kept)
    }

    /// What was sent before, once more.
    pub(crate) fn again(copied: Copied) -> Self {
        Self {
            source: RequestSource::Again(Box::new(copied)),
            lines: None,
        }
    }

    /// What is written after the fields of the head.
    pub(crate) fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    /// The body of a downstream request, and where to look what has come of it (`None`: there is
    /// none). Nothing of it goes beyond so many bytes.
    pub(crate) fn new(
        incoming: Incoming,
        activity: Option<&Rc<Activity>>,
        bytes_max: u64,
    ) -> (Self, Option<Rc<Upload>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let upload = Rc::new(Upload {
            progress: Cell::new(Progress::Streaming),
            bytes: Cell::new(0),
            bytes_max,
        });
        let uploading = Uploading {
            incoming,
            upload: Rc::clone(&upload),
            activity: activity.map(Rc::clone),
            kept: None,
        };
        let body = Self {
            source: RequestSource::Uploading(uploading),
            lines: None,
        };
        (body, Some(upload))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let uploading = match &mut self.source {
            RequestSource::Nothing => return Poll::Ready(None),
            RequestSource::Uploading(uploading) => uploading,
            RequestSource::Again(copied) => return Poll::Ready(copied.next().map(Ok)),
        };
        let poll = Pin::new(&mut uploading.incoming).poll_frame(cx);
        if let Some(activity) = &uploading.activity
            && poll.is_ready()
        {
            activity.touch();
        }
        let is_end = uploading.incoming.is_end_stream();
        uploading.upload.note(&poll, is_end);
        if uploading.upload.progress() == Progress::TooLarge {
            return Poll::Ready(Some(Err(UploadError::TooLarge)));
        }
        if let (Some(kept), Poll::Ready(Some(Ok(frame)))) = (&uploading.kept, &poll) {
            kept.add(frame);
        }
        poll.map_err(UploadError::Client)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            RequestSource::Nothing => true,
            RequestSource::Uploading(uploading) => uploading.incoming.is_end_stream(),
            RequestSource::Again(copied) => copied.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            RequestSource::Nothing => SizeHint::with_exact(0),
            RequestSource::Uploading(uploading) => uploading.incoming.size_hint(),
            RequestSource::Again(copied) => copied.size_hint(),
        }
    }
}

/// The body of a response on its way to a client.
pub(crate) struct ResponseBody {
    source: Source,
    /// The request ends when its response body does.
    in_flight: InFlight,
}

enum Source {
    /// An answer of our own, or nothing more.
    Text(&'static str),
    /// From an endpoint.
    Upstream(UpstreamBody),
}

/// Why a response ends before its end.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The endpoint broke off.
    #[error("upstream response body broke off")]
    Upstream(#[source] Fault),
    /// The endpoint sent nothing for too long.
    #[error("upstream sent no body for too long")]
    TimedOut,
}

impl ResponseBody {
    /// A text of our own.
    pub(crate) fn text(text: &'static str, in_flight: InFlight) -> Self {
        Self::new(Source::Text(text), in_flight)
    }

    /// What an endpoint sends; its connection goes back to the pool at the end. `is_http1` is how
    /// the client is answered.
    pub(crate) fn upstream(
        mut carrier: Carrier,
        patience: Patience,
        in_flight: InFlight,
        is_http1: bool,
    ) -> Self {
        if carrier.is_body_over() {
            carrier.release(&in_flight.connection().worker);
            return Self::text("", in_flight);
        }
        let body = UpstreamBody {
            error: None,
            carrier,
            patience,
            may_be_piped: is_http1,
            turn: Turn::default(),
        };
        Self::new(Source::Upstream(body), in_flight)
    }

    fn new(source: Source, in_flight: InFlight) -> Self {
        // From here on it is the client's turn, until its asking for more finds nothing: over
        // HTTP/2, who opens no window never asks.
        in_flight.wait(false);
        Self { source, in_flight }
    }
}

impl Body for ResponseBody {
    type Data = Chunk;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            Source::Text(text) => {
                let text = std::mem::take(text);
                this.in_flight.account().add_response_body(text.len());
                let text = Chunk::Bytes(Bytes::from_static(text.as_bytes()));
                let frame = text.has_remaining().then(|| Ok(Frame::data(text)));
                return Poll::Ready(frame);
            }
            Source::Upstream(body) => body,
        };
        ready!(body.turn.poll(cx));
        let conduit = body.conduit(this.in_flight.connection());
        let poll = body.poll(conduit, cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            let chunk = frame.data_ref();
            let length = chunk.map_or(0, Chunk::remaining);
            this.in_flight.account().add_response_body(length);
            match chunk {
                Some(Chunk::Piped(length)) => body.turn.note(*length),
                Some(Chunk::Bytes(bytes)) => body.turn.note_copied(bytes.len()),
                None => {}
            }
        }
        let is_clients_turn = conduit.is_some_and(Conduit::is_full);
        this.in_flight.wait(poll.is_pending() && !is_clients_turn);
        if body.is_over(&poll) {
            body.carrier.release(&this.in_flight.connection().worker);
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Upstream(body) => body.carrier.is_body_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Upstream(body) => body.carrier.body_size(),
        }
    }
}

struct UpstreamBody {
    /// Waits for the sink to flush what came before it.
    error: Option<BodyError>,
    carrier: Carrier,
    patience: Patience,
    /// Whether its client takes what is no memory of ours.
    may_be_piped: bool,
    turn: Turn,
}

impl UpstreamBody {
    /// What it may go through to the client.
    fn conduit<'a>(&self, connection: &'a Connection) -> Option<&'a Conduit> {
        let is_worth_it = self.may_be_piped && self.carrier.may_be_piped();
        is_worth_it.then(|| connection.conduit()).flatten()
    }

    fn poll(
        &mut self,
        conduit: Option<&Conduit>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Self {
            carrier, patience, ..
        } = self;
        let poll = carrier.poll_body(conduit, patience, cx);
        if let Poll::Ready(Some(Err(error))) = poll {
            // hyper drops what it has buffered when a body fails, even the head. Pending lets it
            // flush first: the client gets all that the endpoint sent.
            self.error = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        poll
    }

    /// Whether this was the last frame, so that the connection is free.
    fn is_over(&self, poll: &Poll<Option<Result<Frame<Chunk>, BodyError>>>) -> bool {
        match poll {
            Poll::Ready(Some(Ok(_))) => self.carrier.is_body_over(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        }
    }
}
