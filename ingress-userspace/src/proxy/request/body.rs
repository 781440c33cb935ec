//! Bodies in both directions, without a box and without a task.
//!
//! Bytes pass from one connection to the other as they were read. Nothing is buffered here:
//! a body reads from its source only when its sink asks.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use ingress_wire::http1::Spelling;
use thiserror::Error;

use crate::proxy::downstream::client_body::{Incoming, IncomingError};
use crate::proxy::request::connection::{Connection, InFlight};
use crate::proxy::request::forwarded::Lines;
use crate::proxy::request::replay::{Copied, Kept};
use crate::proxy::runtime::fairness::Turn;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::pipe::{Pipe, Pipes};
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::upload::Progress;
use crate::proxy::runtime::upload::Upload;
use crate::proxy::upstream::http1::Fault;
use crate::proxy::upstream::response_source::Carrier;
use crate::proxy::upstream::response_timeout::Patience;

/// The body of a request on its way to an endpoint, and what is written beside its head.
#[derive(Default)]
pub(crate) struct RequestBody {
    source: RequestSource,
    lines: Option<Lines>,
    original: OriginalHead,
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

impl RequestBody {
    /// No body.
    pub(crate) fn empty(original: OriginalHead) -> Self {
        Self {
            original,
            ..Self::default()
        }
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
    pub(crate) fn again(copied: Copied, original: OriginalHead) -> Self {
        Self {
            source: RequestSource::Again(Box::new(copied)),
            lines: None,
            original,
        }
    }

    /// What is written after the fields of the head.
    pub(crate) fn lines(&self) -> Option<&Lines> {
        self.lines.as_ref()
    }

    /// What of the client's head the request does not hold.
    pub(crate) fn original(&self) -> &OriginalHead {
        &self.original
    }

    /// The body of a downstream request, and where to look what has come of it (`None`: there is
    /// none). Nothing of it goes beyond so many bytes.
    pub(crate) fn new(
        mut incoming: Incoming,
        activity: Option<&Rc<Activity>>,
        bytes_max: u64,
    ) -> (Self, Option<Rc<Upload>>) {
        let original = std::mem::take(incoming.original_mut());
        if incoming.is_end_stream() {
            return (Self::empty(original), None);
        }
        let upload = Upload::new(bytes_max);
        let uploading = Uploading {
            incoming,
            upload: Rc::clone(&upload),
            activity: activity.map(Rc::clone),
            kept: None,
        };
        let body = Self {
            source: RequestSource::Uploading(uploading),
            lines: None,
            original,
        };
        (body, Some(upload))
    }
}

impl RequestBody {
    /// Moves what has come of a large body into a pipe; `None` where it has to be read.
    pub(crate) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, UploadError>>> {
        let RequestSource::Uploading(uploading) = &mut self.source else {
            return Poll::Ready(None);
        };
        if uploading.kept.is_some() {
            return Poll::Ready(None);
        }
        let poll = uploading.incoming.poll_splice(cx);
        match ready!(poll) {
            Some(Ok(pipe)) => {
                let is_end = uploading.incoming.is_end_stream();
                uploading.upload.note_bytes(pipe.length(), is_end);
                if uploading.upload.progress() == Progress::TooLarge {
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                }
                Poll::Ready(Some(Ok(pipe)))
            }
            Some(Err(error)) => {
                uploading.upload.fail();
                Poll::Ready(Some(Err(UploadError::Client(error))))
            }
            None => Poll::Ready(None),
        }
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
    /// The names of the head's fields as an endpoint has written them.
    spelling: Option<Spelling>,
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
        Self::new(Source::Text(text), None, in_flight)
    }

    /// What an endpoint sends; its connection goes back to the pool at the end. `is_http1` is how
    /// the client is answered.
    pub(crate) fn upstream(
        mut carrier: Carrier,
        patience: Patience,
        in_flight: InFlight,
        is_http1: bool,
    ) -> Self {
        let spelling = carrier.take_spelling();
        if carrier.is_body_over() {
            carrier.release(&in_flight.connection().worker.upstreams);
            return Self::new(Source::Text(""), spelling, in_flight);
        }
        let body = UpstreamBody {
            carrier,
            patience,
            may_be_piped: is_http1,
            turn: Turn::default(),
        };
        Self::new(Source::Upstream(body), spelling, in_flight)
    }

    fn new(source: Source, spelling: Option<Spelling>, in_flight: InFlight) -> Self {
        // From here on it is the client's turn, until its asking for more finds nothing: over
        // HTTP/2, who opens no window never asks.
        in_flight.wait(false);
        Self {
            source,
            spelling,
            in_flight,
        }
    }

    /// The names of the head's fields as an endpoint has written them, if it has capital letters.
    pub(crate) fn spelling(&self) -> Option<&Spelling> {
        self.spelling.as_ref()
    }
}

impl ResponseBody {
    /// The next piece of it, or the fields after it; `None` is its end.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let body = match &mut self.source {
            Source::Text(text) => {
                let text = std::mem::take(text);
                self.in_flight.account().add_response_body(text.len());
                let chunk = Chunk::Bytes(Bytes::from_static(text.as_bytes()));
                let frame = (!text.is_empty()).then(|| Ok(Frame::data(chunk)));
                return Poll::Ready(frame);
            }
            Source::Upstream(body) => body,
        };
        ready!(body.turn.poll(cx));
        let pipes = body.pipes(self.in_flight.connection());
        let poll = body.carrier.poll_body(pipes, &mut body.patience, cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            let chunk = frame.data_ref();
            let length = chunk.map_or(0, Chunk::length);
            self.in_flight.account().add_response_body(length);
            match chunk {
                Some(Chunk::Spliced(_)) => body.turn.note(length),
                Some(Chunk::Bytes(_)) => body.turn.note_copied(length),
                None => {}
            }
        }
        self.in_flight.wait(poll.is_pending());
        if body.is_over(&poll) {
            body.carrier
                .release(&self.in_flight.connection().worker.upstreams);
        }
        poll
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Upstream(body) => body.carrier.is_body_over(),
        }
    }

    /// How long the rest of it is, if that is known.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Upstream(body) => body.carrier.body_size().exact(),
        }
    }
}

struct UpstreamBody {
    carrier: Carrier,
    patience: Patience,
    /// Whether its client takes what is no memory of ours.
    may_be_piped: bool,
    turn: Turn,
}

impl UpstreamBody {
    /// The pipes that it may go through to the client.
    fn pipes<'a>(&self, connection: &'a Connection) -> Option<&'a Rc<Pipes>> {
        let is_worth_it = self.may_be_piped && self.carrier.may_be_piped();
        is_worth_it.then(|| connection.pipes()).flatten()
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
