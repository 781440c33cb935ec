//! HTTP/1 with clients (RFC 9112): the server's side of a connection.
//!
//! One task reads a request, has it answered and writes the response, then the next: `client_io.rs`
//! is the socket, `request_stream.rs` the body of the request that is answered, `response_writer.rs`
//! what is written. Between two requests a connection that has been idle for a while keeps nothing
//! but its socket.
//!
//! Invariant: after a request that is refused, or whose body was not read to its end, nothing more
//! is read as a request.

mod client_io;
mod replayed;
mod request_stream;
mod response_writer;

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Method, Response, StatusCode, Version, response};
use ingress_wire::http1::{
    Framing, Persistence, RequestError, RequestHead, ResponseBodySize, ResponseContext, Spelling,
    write_response,
};

pub(crate) use request_stream::Http1Stream;

use self::client_io::{Arrival, ClientIo, HeadScratch};
use self::replayed::Replayed;
use self::response_writer::{ResponseWriter, Sending, WriteError};
use crate::proxy::downstream::accept::serve_http2;
use crate::proxy::downstream::driver::{ConnectionDriver, Next};
use crate::proxy::downstream::lingering_close;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::phases;
use crate::proxy::request::response::refusal;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::monitored::Monitored;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::stream::{ClientStream, Side};
use crate::proxy::runtime::transport::{Downstream, Scheme};

/// A connection to a client.
pub(crate) struct Http1 {
    io: Rc<ClientIo>,
    connection: Rc<Connection>,
    /// `None` while nothing has come, or not for a while.
    active: Option<Box<Active>>,
    end: End,
    /// Whether no request has come yet.
    is_first: bool,
    /// Whether the request at hand is the last.
    is_closing: bool,
}

/// What a connection keeps while it is in use.
#[derive(Default)]
struct Active {
    scratch: HeadScratch,
    writer: ResponseWriter,
    stage: Stage,
}

/// What a connection is doing.
#[expect(
    clippy::large_enum_variant,
    reason = "a box for each response would cost each an allocation"
)]
#[derive(Default)]
enum Stage {
    /// It waits for the head of a request.
    #[default]
    Head,
    /// It waits for the head of a response.
    Answering(Facts, Answer),
    /// It writes a response.
    Writing(Option<Sending>, After),
    /// It says that nothing more is written, and ends like this.
    Closing(End),
}

type Answer = Pin<Box<dyn Future<Output = Response<ResponseBody>>>>;

/// What of a request decides about its response.
#[derive(Clone, Copy)]
struct Facts {
    version: Version,
    is_head: bool,
    persistence: Persistence,
    accepts_trailers: bool,
}

/// What a connection becomes after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    KeepAlive,
    Close,
    /// It ends so that a client that is still sending can read the response.
    LingeringClose,
    /// The same, as there is more to come of the request's body.
    CloseAmidBody,
    /// It is a tunnel.
    Switched,
}

/// How a connection has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
    Lingering,
    AmidBody,
    Switched,
    /// The client speaks HTTP/2, with prior knowledge.
    Http2,
}

impl Http1 {
    pub(crate) fn new(stream: ClientStream, connection: &Rc<Connection>) -> Self {
        let io = ClientIo::new(stream, connection);
        let active = io.may_hold_bytes().then(Box::default);
        Self {
            io,
            connection: Rc::clone(connection),
            active,
            end: End::Open,
            is_first: true,
            is_closing: false,
        }
    }

    /// Goes on as far as it can; returns how the connection has ended.
    fn poll_active(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self {
            io,
            connection,
            active,
            is_first,
            is_closing,
            ..
        } = self;
        let Some(active) = active else {
            return Poll::Ready(End::Closed);
        };
        let Active {
            scratch,
            writer,
            stage,
        } = &mut **active;
        loop {
            match stage {
                Stage::Head => match ready!(io.poll_head(*is_first, scratch, cx)) {
                    Arrival::Request(head) => {
                        *is_first = false;
                        *stage = begin(head, io, connection);
                    }
                    Arrival::Preface => return Poll::Ready(End::Http2),
                    Arrival::Closed => return Poll::Ready(End::Closed),
                    Arrival::Refused(error) => *stage = refuse(error, writer, connection),
                },
                Stage::Answering(facts, answer) => {
                    let Poll::Ready(response) = answer.as_mut().poll(cx) else {
                        ready!(io.poll_closed(cx));
                        return Poll::Ready(End::Closed);
                    };
                    if response.body().is_withheld() {
                        *stage = Stage::Closing(End::Closed);
                        continue;
                    }
                    let mut facts = *facts;
                    if *is_closing {
                        facts.persistence = Persistence::Close;
                    }
                    let (next, mut headers) = respond(response, facts, writer, connection);
                    headers.clear();
                    scratch.headers = headers;
                    *stage = next;
                }
                Stage::Writing(sending, after) => {
                    let written = writer.poll(sending, io, cx);
                    if written.is_pending() {
                        ready!(io.poll_closed(cx));
                        return Poll::Ready(End::Closed);
                    }
                    if let Err(error) = ready!(written) {
                        return Poll::Ready(broken(&error));
                    }
                    match finish(*after, io) {
                        After::KeepAlive => *stage = Stage::Head,
                        After::Close => *stage = Stage::Closing(End::Closed),
                        After::LingeringClose => *stage = Stage::Closing(End::Lingering),
                        After::CloseAmidBody => *stage = Stage::Closing(End::AmidBody),
                        After::Switched => return Poll::Ready(End::Switched),
                    }
                    writer.settle(io);
                }
                Stage::Closing(end) => {
                    ready!(io.poll_shutdown(cx));
                    return Poll::Ready(*end);
                }
            }
        }
    }
}

/// Has a request answered.
fn begin(head: RequestHead, io: &Rc<ClientIo>, connection: &Rc<Connection>) -> Stage {
    let RequestHead {
        request,
        raw_target,
        spelling,
        body,
        persistence,
        asks,
        length: _,
    } = head;
    let facts = Facts {
        version: request.version(),
        is_head: request.method() == Method::HEAD,
        persistence,
        accepts_trailers: asks.trailers,
    };
    let downstream = Downstream::from_http1(request.version());
    let has_body = !body.is_over();
    io.begin_body(body, asks.interim);
    let incoming = if has_body {
        Incoming::from_stream(downstream, Http1Stream::new(io))
    } else {
        Incoming::empty(downstream)
    };
    let incoming = incoming
        .with_original(OriginalHead::of(raw_target, spelling))
        .with_upgrade(asks.upgrade);
    let answer = phases::respond(Rc::clone(connection), request.map(|()| incoming));
    Stage::Answering(facts, Box::pin(answer))
}

/// Begins to write a response. Returns the map of its fields as well, for its room.
fn respond(
    response: Response<ResponseBody>,
    facts: Facts,
    writer: &mut ResponseWriter,
    connection: &Connection,
) -> (Stage, HeaderMap) {
    let (head, mut body) = response.into_parts();
    let spelling = body.take_spelling();
    let size = match body.exact_length() {
        _ if body.is_end_stream() => ResponseBodySize::Empty,
        Some(length) => ResponseBodySize::Exactly(length),
        None => ResponseBodySize::Unknown,
    };
    let (framing, persistence) =
        write_head(&head, facts, size, spelling.as_ref(), writer, connection);
    let after = match persistence {
        _ if head.status == StatusCode::SWITCHING_PROTOCOLS => After::Switched,
        Persistence::KeepAlive => After::KeepAlive,
        Persistence::Close => After::Close,
    };
    let sending = (framing != Framing::None).then_some(Sending { body, framing });
    (Stage::Writing(sending, after), head.headers)
}

fn write_head(
    head: &response::Parts,
    facts: Facts,
    body: ResponseBodySize,
    spelling: Option<&Spelling>,
    writer: &mut ResponseWriter,
    connection: &Connection,
) -> (Framing, Persistence) {
    let context = ResponseContext {
        version: facts.version,
        is_head: facts.is_head,
        persistence: facts.persistence,
        accepts_trailers: facts.accepts_trailers,
        body,
        spelling,
    };
    write_response(
        head,
        &context,
        || connection.worker.runtime.date(),
        writer.text(),
    )
}

/// Answers what is no request, with which the connection ends.
fn refuse(error: RequestError, writer: &mut ResponseWriter, connection: &Connection) -> Stage {
    connection.counters().malformed.increment();
    if let Some(status) = error.status() {
        let facts = Facts {
            version: Version::HTTP_11,
            is_head: false,
            persistence: Persistence::Close,
            accepts_trailers: false,
        };
        let (head, text) = refusal(status);
        let size = ResponseBodySize::Exactly(text.len() as u64);
        write_head(&head, facts, size, None, writer, connection);
        writer.text().extend_from_slice(text.as_bytes());
    }
    Stage::Writing(None, After::LingeringClose)
}

/// What a connection becomes after a response that has been written.
fn finish(after: After, io: &ClientIo) -> After {
    let is_read = io.end_request();
    match after {
        After::KeepAlive | After::Close if !is_read => After::CloseAmidBody,
        // A socket that is closed with bytes in it is reset.
        After::Close if io.has_unread() => After::LingeringClose,
        After::KeepAlive
        | After::Close
        | After::LingeringClose
        | After::CloseAmidBody
        | After::Switched => after,
    }
}

/// What a connection becomes after a response that was not written to its end.
fn broken(error: &WriteError) -> End {
    match error {
        WriteError::Io(_) => End::Closed,
        WriteError::Body(_) | WriteError::OtherLength => End::Lingering,
    }
}

impl Future for Http1 {
    type Output = Result<(), Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.end == End::Open {
            if this.active.is_none() {
                ready!(this.io.poll_readable(cx));
                this.active = Some(Box::default());
            }
            this.end = ready!(this.poll_active(cx));
            // The body of a response ends with its connection.
            this.active = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl ConnectionDriver for Http1 {
    type Error = Infallible;

    const SAYS_GOODBYE: bool = false;

    const REQUESTS_MAX: u64 = u64::MAX;

    fn graceful_shutdown(&mut self) {
        let is_idle = self
            .active
            .as_ref()
            .is_none_or(|active| matches!(active.stage, Stage::Head) && !self.io.has_unread());
        if is_idle {
            self.end = End::Closed;
        }
        self.is_closing = true;
    }

    fn is_active(&self) -> bool {
        self.active.is_some()
    }

    fn release_buffers(&mut self) {
        let is_between = self
            .active
            .as_ref()
            .is_none_or(|active| matches!(active.stage, Stage::Head));
        if is_between && self.io.release_buffers() {
            self.active = None;
        }
    }

    fn into_next<'a>(
        self,
        _: &Result<(), Infallible>,
        connection: &'a Rc<Connection>,
    ) -> Option<Next<'a>> {
        let Self { io, end, .. } = self;
        match end {
            End::Open | End::Closed => None,
            End::Lingering => {
                let (stream, _) = io.into_parts()?;
                Some(Box::pin(lingering_close::close(
                    stream,
                    &connection.worker.runtime,
                )))
            }
            End::AmidBody => {
                let (stream, _) = io.into_parts()?;
                let closing = lingering_close::close_amid_body(stream, &connection.worker.runtime);
                Some(Box::pin(closing))
            }
            End::Switched => {
                let switched = connection.take_switched()?;
                let (stream, early) = io.into_parts()?;
                Some(Box::pin(async move {
                    switched.carry(Side { stream, early }, connection).await;
                }))
            }
            End::Http2 => {
                let (stream, before) = io.into_parts()?;
                let ClientStream::Tcp(stream) = stream else {
                    // Over TLS, ALPN would have said so.
                    connection.counters().malformed.increment();
                    return None;
                };
                debug_assert_eq!(connection.scheme, Scheme::Http);
                let io = Monitored::new(stream, Rc::clone(&connection.activity));
                let io = Replayed::new(io, before);
                Some(Box::pin(serve_http2(io, connection)))
            }
        }
    }
}
