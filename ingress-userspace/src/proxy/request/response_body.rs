//! The body of a response on its way to a client, without a box and without a task.
//!
//! Bytes pass from one connection to the other as they were read. Nothing is buffered here: the
//! body reads from its endpoint only when its client asks.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use ingress_wire::http1::Spelling;

use crate::proxy::request::connection::{Connection, InFlight};
use crate::proxy::request::transform::{Piece, Transform};
use crate::proxy::runtime::fairness::FairnessBudget;
use crate::proxy::runtime::pipe::Pipes;
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::transport::Downstream;
use crate::proxy::upstream::error::BodyError;
use crate::proxy::upstream::response_source::ResponseSource;
use crate::proxy::upstream::response_timeout::ResponseTimeout;

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
    Text(Bytes),
    /// The client gets no answer, not even a head.
    Withheld,
    /// From an endpoint.
    Upstream(UpstreamBody),
}

impl ResponseBody {
    /// A text of our own.
    pub(crate) fn text(text: impl Into<Bytes>, in_flight: InFlight) -> Self {
        Self::new(Source::Text(text.into()), None, in_flight)
    }

    /// Stands for no answer at all: the connection is closed, or the stream is reset.
    pub(crate) fn withheld(in_flight: InFlight) -> Self {
        Self::new(Source::Withheld, None, in_flight)
    }

    /// Whether the client gets no answer.
    pub(crate) fn is_withheld(&self) -> bool {
        matches!(self.source, Source::Withheld)
    }

    /// The body that an endpoint sends; its connection goes back to the pool at the end. `downstream` is how
    /// the client is answered.
    pub(crate) fn upstream(
        mut source: ResponseSource,
        timeout: ResponseTimeout,
        transform: Option<Box<Transform>>,
        in_flight: InFlight,
        downstream: Downstream,
    ) -> Self {
        // It keeps all of the head, and HTTP/2 has no use for it.
        let spelling = source
            .take_spelling()
            .filter(|_| downstream.keeps_field_case());
        if source.is_body_over() {
            source.release(&in_flight.connection().worker.upstreams);
            return Self::new(Source::Text(Bytes::new()), spelling, in_flight);
        }
        let body = UpstreamBody {
            source,
            timeout,
            may_be_piped: downstream.takes_spliced_bodies() && transform.is_none(),
            transform,
            turn: FairnessBudget::default(),
        };
        Self::new(Source::Upstream(body), spelling, in_flight)
    }

    fn new(source: Source, spelling: Option<Spelling>, in_flight: InFlight) -> Self {
        // From here on it is the client's turn, until its asking for more finds nothing: over
        // HTTP/2, a client that opens no window never polls.
        in_flight.wait(false);
        Self {
            source,
            spelling,
            in_flight,
        }
    }

    /// The names of the head's fields as an endpoint has written them, if it has capital letters;
    /// once, as it keeps all of the head.
    pub(crate) fn take_spelling(&mut self) -> Option<Spelling> {
        self.spelling.take()
    }
}

impl ResponseBody {
    /// The next piece of it, or the fields after it; `None` is its end. What has to be read of it
    /// is at most so many bytes.
    pub(crate) fn poll_frame(
        &mut self,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let poll = self.poll_next(bytes_max, cx);
        if let Poll::Ready(Some(Err(error))) = &poll {
            self.in_flight.record().log_upstream_error(error);
        }
        poll
    }

    fn poll_next(
        &mut self,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let body = match &mut self.source {
            Source::Text(text) => {
                let text = std::mem::take(text);
                self.in_flight.record().add_response_body(text.len());
                let is_empty = text.is_empty();
                let frame = (!is_empty).then(|| Ok(Frame::data(Chunk::Bytes(text))));
                return Poll::Ready(frame);
            }
            Source::Withheld => return Poll::Ready(None),
            Source::Upstream(body) => body,
        };
        ready!(body.turn.poll(cx));
        if let Some(transform) = &mut body.transform {
            ready!(transform.poll_pace(cx));
            if transform.encoder.is_some() {
                return self.poll_compressed(bytes_max, cx);
            }
        }
        let pipes = body.pipes(self.in_flight.connection());
        let poll = (body.source).poll_body(pipes, bytes_max, &mut body.timeout, cx);
        if let Poll::Ready(Some(Ok(frame))) = &poll {
            let chunk = frame.data_ref();
            let length = chunk.map_or(0, Chunk::length);
            self.in_flight.record().add_response_body(length);
            if let Some(transform) = &mut body.transform {
                transform.note(length);
            }
            match chunk {
                Some(Chunk::Spliced(_)) => body.turn.note(length),
                Some(Chunk::Bytes(_)) => body.turn.note_copied(length),
                None => {}
            }
        }
        self.in_flight.wait(poll.is_pending());
        if body.is_over(&poll) {
            body.source
                .release(&self.in_flight.connection().worker.upstreams);
        }
        poll
    }

    /// The next piece of a body that is compressed.
    fn poll_compressed(
        &mut self,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, BodyError>>> {
        let Source::Upstream(body) = &mut self.source else {
            return Poll::Ready(None);
        };
        let Some(transform) = &mut body.transform else {
            return Poll::Ready(None);
        };
        loop {
            if let Some(frame) = transform.take(bytes_max) {
                let length = frame.data_ref().map_or(0, Chunk::length);
                self.in_flight.record().add_response_body(length);
                transform.note(length);
                body.turn.note_copied(length);
                self.in_flight.wait(false);
                return Poll::Ready(Some(Ok(frame)));
            }
            if transform.is_read() {
                return Poll::Ready(None);
            }
            let poll = (body.source).poll_body(None, PIECE_BYTES_MAX, &mut body.timeout, cx);
            let is_last = match &poll {
                Poll::Ready(Some(Ok(_))) => body.source.is_body_over(),
                Poll::Ready(None) => true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => false,
            };
            let is_pending = poll.is_pending();
            let added = match poll {
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(Chunk::Bytes(bytes)) => transform.add(Piece::Data(bytes)),
                    Ok(Chunk::Spliced(_)) => Ok(()),
                    Err(trailers) => transform.add(Piece::Trailers(trailers)),
                },
                Poll::Ready(None) => transform.add(Piece::End),
                Poll::Pending => transform.add(Piece::Pause),
            };
            let ended = match (is_last, transform.is_read()) {
                (true, false) => transform.add(Piece::End),
                (true, true) | (false, _) => Ok(()),
            };
            if added.and(ended).is_err() {
                return Poll::Ready(Some(Err(BodyError::Compression)));
            }
            if is_last {
                body.source
                    .release(&self.in_flight.connection().worker.upstreams);
            }
            if is_pending {
                self.in_flight.wait(true);
                let flushed = transform.take(bytes_max);
                return flushed.map_or(Poll::Pending, |frame| {
                    let length = frame.data_ref().map_or(0, Chunk::length);
                    self.in_flight.record().add_response_body(length);
                    transform.note(length);
                    Poll::Ready(Some(Ok(frame)))
                });
            }
        }
    }

    /// Keeps no memory that can be done without while the client does not read; returns how many
    /// bytes are left.
    pub(crate) fn let_go(&mut self) -> usize {
        match &mut self.source {
            Source::Text(_) | Source::Withheld => 0,
            Source::Upstream(body) => {
                let transform = body.transform.as_ref();
                let ready = transform.map_or(0, |transform| transform.ready_bytes());
                body.source.let_go() + ready
            }
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Text(text) => text.is_empty(),
            Source::Withheld => true,
            Source::Upstream(body) => {
                let transform = body.transform.as_ref();
                let compressed = transform.and_then(|transform| transform.is_over());
                compressed.unwrap_or_else(|| body.source.is_body_over())
            }
        }
    }

    /// How long the rest of it is, if that is known.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match &self.source {
            Source::Text(text) => Some(text.len() as u64),
            Source::Withheld => None,
            Source::Upstream(body) => {
                let transform = body.transform.as_ref();
                let is_compressed = transform.is_some_and(|one| one.encoder.is_some());
                let exact = body.source.body_size().exact();
                exact.filter(|_| !is_compressed)
            }
        }
    }
}

/// Bytes of a body that are compressed before others have their turn.
const PIECE_BYTES_MAX: usize = 32 << 10;

struct UpstreamBody {
    source: ResponseSource,
    timeout: ResponseTimeout,
    /// Whether the client's connection takes spliced bytes.
    may_be_piped: bool,
    /// Compression and a bandwidth bound; `None` for most responses.
    transform: Option<Box<Transform>>,
    turn: FairnessBudget,
}

impl UpstreamBody {
    /// The pipes that it may go through to the client.
    fn pipes<'a>(&self, connection: &'a Connection) -> Option<&'a Rc<Pipes>> {
        let is_worth_it = self.may_be_piped && self.source.may_be_piped();
        is_worth_it.then(|| connection.pipes()).flatten()
    }

    /// Whether this was the last frame, so that the connection is free.
    fn is_over(&self, poll: &Poll<Option<Result<Frame<Chunk>, BodyError>>>) -> bool {
        match poll {
            Poll::Ready(Some(Ok(_))) => self.source.is_body_over(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        }
    }
}
