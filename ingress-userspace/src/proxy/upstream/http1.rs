//! A connection to an endpoint, driven by whoever waits for it.
//!
//! No task of its own moves an upstream connection: the task of the downstream request polls it,
//! first while it waits for the response head, then while it streams the body. So a request costs
//! no switch between tasks, dropping the request closes the connection, and an idle connection is
//! plain data in the pool.
//!
//! HTTP/1.1 is read and written here and not by hyper, whose client keeps a channel for each request
//! and one for each body between a connection and its user: here both are the same task, and nothing
//! has to pass from one to the other.

mod send;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use ingress_wire::http1::{
    BodyDecoder, BodyError, Decoded, FieldRanges, HeadBounds, HeadReader, RequestBodySize,
    RequestContext, RequestReader, ResponseError, Spelling, write_request,
};
use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use crate::proxy::runtime::limits::BULK_BYTES_MIN;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::pipe::{Pipe, Pipes};
use crate::proxy::runtime::read_buffer::ReadBuffer;
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::stream::{Side, Stream as _, UpstreamStream};
use crate::proxy::runtime::timer::Timers;
use crate::proxy::upstream::liveness::{self, Threshold};
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_timeout::{ResponseTimeout, Wait};
use send::{SendFault, Sender};

/// An open HTTP/1.1 connection to an endpoint.
pub(crate) struct Upstream {
    stream: UpstreamStream,
    activity: Rc<Activity>,
    sender: Sender,
    /// Why the request at hand is not sent to its end.
    send_fault: Option<Fault>,
    received: Received,
    /// When it was last put into the pool.
    pub(crate) idle_since: Instant,
}

/// The response's half.
struct Received {
    buffer: ReadBuffer,
    reader: HeadReader,
    /// Where fields go; with the room of a map that was used before.
    headers: HeaderMap,
    body: BodyDecoder,
    /// Whether another request may follow.
    keeps_alive: bool,
    /// Whether the response is a success.
    is_success: bool,
    /// The names of a response's fields as they came.
    spelling: Option<Spelling>,
}

/// Why a request got no response head.
pub(crate) enum SendError {
    /// Nothing of it was sent: it may go to another connection.
    Unsent(Box<Request<RequestBody>>),
    /// The endpoint says that it has done nothing about it.
    Refused(Fault),
    /// The connection broke when some of it may have been sent.
    Broken(Fault),
    /// Nothing moved on the connection for too long.
    TimedOut,
}

/// What breaks an exchange with an endpoint.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The connection.
    #[error("connection broke")]
    Broken(#[source] io::Error),
    /// The endpoint, by closing it.
    #[error("connection was closed before a response")]
    Closed,
    /// The endpoint, or its node or the way to it, which has gone.
    #[error("endpoint stopped acknowledging data")]
    Gone,
    /// What the client sent, or did not send.
    #[error("request body has another length than its head says, or broke off")]
    RequestBody,
    /// The head of its answer.
    #[error("invalid response head")]
    Head(#[from] ResponseError),
    /// The body of its answer.
    #[error("invalid response body")]
    Body(#[from] BodyError),
    /// Anything over HTTP/2.
    #[error("HTTP/2 stream or connection broke")]
    Http2(#[source] hyper::Error),
}

impl Fault {
    /// Of a connection. By these errors the kernel says that nobody answers (see `reach`).
    fn of(error: io::Error) -> Self {
        use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
        if matches!(
            error.kind(),
            TimedOut | HostUnreachable | NetworkUnreachable
        ) {
            Self::Gone
        } else {
            Self::Broken(error)
        }
    }
}

impl Upstream {
    /// Speaks HTTP/1.1 on a stream.
    pub(crate) fn new(stream: UpstreamStream, timers: &Rc<Timers>) -> Box<Self> {
        Box::new(Self {
            stream,
            activity: Activity::new(Rc::clone(timers)),
            sender: Sender::default(),
            send_fault: None,
            received: Received {
                buffer: ReadBuffer::default(),
                reader: HeadReader::default(),
                headers: HeaderMap::new(),
                body: BodyDecoder::length(0),
                keeps_alive: true,
                is_success: true,
                spelling: None,
            },
            idle_since: timers.now(),
        })
    }

    /// Whether a request may be sent, as far as is known without a system call.
    ///
    /// Also takes the last user's waker off the connection, so that neither the next request nor
    /// the peer's close wakes a task that has nothing to do with it any more.
    pub(crate) fn is_ready(&mut self) -> bool {
        if !self.is_free() {
            return false;
        }
        // Whatever an endpoint says between two requests, it is not an answer.
        let mut byte = [MaybeUninit::uninit()];
        let mut byte = ReadBuf::uninit(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        self.stream.tcp().poll_read_ready(&mut cx).is_pending()
            || Pin::new(&mut self.stream)
                .poll_read(&mut cx, &mut byte)
                .is_pending()
    }

    /// Whether the exchange is over and left the connection fit for another, as far as is known.
    pub(crate) fn is_free(&self) -> bool {
        let Received {
            buffer,
            body,
            keeps_alive,
            is_success,
            ..
        } = &self.received;
        // An endpoint that refuses an upload may not have read it: then it closes the connection,
        // and the kernel resets what is sent over it next.
        let may_be_unread = !is_success && self.sender.body_bytes() > READ_AT_ONCE_BYTES;
        *keeps_alive
            && !may_be_unread
            && body.is_over()
            && buffer.bytes.is_empty()
            && self.sender.is_done()
    }

    /// Lets go of what an idle connection can do without.
    pub(crate) fn settle(&mut self) {
        self.sender.settle();
        self.received.buffer.shrink();
    }

    /// The request sent last, so that it can be sent again. It must have had no body.
    pub(crate) fn sent(&self) -> Option<Request<RequestBody>> {
        parse_request(self.sender.head())
    }

    /// The bytes below HTTP, after a response that switches protocols.
    pub(crate) fn into_side(mut self) -> Side<UpstreamStream> {
        self.stream.allow_shortcut(false);
        Side {
            stream: self.stream,
            early: self.received.buffer.bytes.freeze(),
        }
    }

    /// The socket of an idle connection, off this runtime. `None` if it has TLS, or something to
    /// read.
    pub(crate) fn into_idle_stream(self) -> Option<std::net::TcpStream> {
        let stream = match self.stream {
            UpstreamStream::Tcp(stream) => stream,
            UpstreamStream::Shortcut(stream) => stream.into_tcp(),
            UpstreamStream::Tls(_) => return None,
        };
        let is_idle = self.received.buffer.bytes.is_empty();
        is_idle.then_some(stream)?.into_std().ok()
    }

    /// Whether the endpoint has closed, even if no event has said so: asks the kernel.
    pub(crate) fn is_closed(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(&self.stream.tcp().as_fd()).peek(&mut byte);
        matches!(peeked, Ok(0))
    }

    /// Sends a request and waits for the response head.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        timeout: &mut ResponseTimeout,
    ) -> Result<Response<()>, SendError> {
        let method = self.begin(request);
        std::future::poll_fn(|cx| match self.poll_head(&method, cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(fault)) => Poll::Ready(Err(self.failed(fault))),
            Poll::Pending => match self.wait(&method, timeout, cx) {
                Wait::On => Poll::Pending,
                Wait::Over => Poll::Ready(Err(SendError::TimedOut)),
                Wait::Gone => Poll::Ready(Err(SendError::Broken(Fault::Gone))),
            },
        })
        .await
    }

    fn wait(&self, method: &Method, timeout: &mut ResponseTimeout, cx: &Context<'_>) -> Wait {
        let has_body = timeout.has_body();
        let is_gone = || {
            let threshold = Threshold::with(method, has_body);
            liveness::is_gone(self.stream.tcp().as_fd(), threshold)
        };
        timeout.wait(&self.activity, is_gone, cx)
    }

    fn begin(&mut self, request: Request<RequestBody>) -> Method {
        let hint = request.body().size_hint();
        let size = match hint.exact() {
            _ if request.body().is_end_stream() => RequestBodySize::Empty,
            Some(length) => RequestBodySize::Exactly(length),
            None => RequestBodySize::Unknown,
        };
        let (mut head, body) = request.into_parts();
        // An endpoint has read all of a request without a body when it answers, so that the bytes of a
        // body, which go by TCP, never come to a socket with others from the shortcut.
        self.stream
            .allow_shortcut(matches!(size, RequestBodySize::Empty));
        self.send_fault = None;
        self.sender.begin(body, |body, text| {
            let context = RequestContext {
                lines: body.lines(),
                raw_target: body.original().raw_target.as_deref(),
                spelling: body.original().spelling.as_ref(),
                body: size,
            };
            write_request(&head, &context, text)
        });
        head.headers.clear();
        self.received.headers = head.headers;
        self.received.reader.begin();
        head.method
    }

    fn failed(&self, fault: Fault) -> SendError {
        let is_connection = matches!(fault, Fault::Broken(_) | Fault::Closed | Fault::Gone);
        match self.sent() {
            Some(request) if is_connection && self.sender.is_unsent() => {
                SendError::Unsent(Box::new(request))
            }
            Some(_) | None => SendError::Broken(fault),
        }
    }

    fn poll_head(
        &mut self,
        method: &Method,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Fault>> {
        if let Err(fault) = self.poll_send(cx) {
            self.send_fault = Some(fault);
        }
        loop {
            let Received {
                buffer,
                headers,
                reader,
                ..
            } = &mut self.received;
            if let Some(head) = reader.read(&mut buffer.bytes, method, headers)? {
                self.received.body = head.body;
                self.received.spelling = head.spelling;
                self.received.is_success = head.response.status().is_success();
                self.received.keeps_alive = head.keeps_alive && self.send_fault.is_none();
                return Poll::Ready(Ok(head.response));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => {
                    let fault = self.send_fault.take();
                    return Poll::Ready(Err(fault.unwrap_or(Fault::Closed)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    let fault = self.send_fault.take();
                    return Poll::Ready(Err(fault.unwrap_or(Fault::of(error))));
                }
                // An endpoint that takes no more of a request may have answered it before. The
                // kernel has told the writer at once, and tells the reader by an event: it is waited
                // for, and there is one, as the connection has ended.
                Poll::Pending => match &self.send_fault {
                    Some(Fault::RequestBody) => return Poll::Ready(Err(Fault::RequestBody)),
                    Some(_) | None => return Poll::Pending,
                },
            }
        }
    }

    /// Sends what can be sent; there need not be anything.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.sender.is_done() {
            return Ok(());
        }
        let poll = self.sender.poll(&mut self.stream, &self.activity, cx);
        let Poll::Ready(Err(fault)) = poll else {
            return Ok(());
        };
        self.sender.give_up();
        self.received.keeps_alive = false;
        Err(match fault {
            SendFault::Body => Fault::RequestBody,
            SendFault::Write(error) => Fault::of(error),
        })
    }

    /// The next piece of the response body, or its trailer fields; `None` is its end. What is left of
    /// the request goes on meanwhile. Where there are pipes, most of a large body goes through them;
    /// what is read comes by at most `bytes_max` at once.
    pub(crate) fn poll_body(
        &mut self,
        pipes: Option<&Rc<Pipes>>,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Fault>>> {
        // Who takes no more of a request may go on with its answer.
        let _ = self.poll_send(cx);
        loop {
            let Received { buffer, body, .. } = &mut self.received;
            match body.decode(&mut buffer.bytes)? {
                Decoded::Data(data) => {
                    return Poll::Ready(Some(Ok(Frame::data(Chunk::Bytes(data)))));
                }
                Decoded::Trailers(trailers) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Decoded::End => return Poll::Ready(None),
                Decoded::Nothing => {}
            }
            if let Some(pipes) = pipes
                && let Some(pipe) = ready!(self.poll_splice(pipes, cx)?)
            {
                return Poll::Ready(Some(Ok(Frame::data(Chunk::Spliced(pipe)))));
            }
            match ready!(self.poll_read_some(bytes_max, cx)) {
                Ok(0) => match self.received.body.close()? {
                    Decoded::End => return Poll::Ready(None),
                    Decoded::Data(_) | Decoded::Trailers(_) | Decoded::Nothing => {}
                },
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Fault::Broken(error)))),
            }
        }
    }

    /// Moves what has come of the body into a pipe; `None` where it has to be read.
    fn poll_splice(
        &mut self,
        pipes: &Rc<Pipes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Pipe>, Fault>> {
        let Some((stream, bytes_max)) = self.worth_a_pipe() else {
            return Poll::Ready(Ok(None));
        };
        let Some(mut pipe) = pipes.take() else {
            return Poll::Ready(Ok(None));
        };
        let count = ready!(pipe.poll_fill(stream, bytes_max, cx)).map_err(Fault::Broken)?;
        self.activity.touch();
        self.received.body.skip(count)?;
        // Reads are for what comes before.
        self.received.buffer.shrink();
        Poll::Ready(Ok(Some(pipe)))
    }

    /// Whether there is so much of the response body to come that it is worth a pipe, and nothing
    /// keeps it from being moved into one.
    pub(crate) fn may_be_piped(&self) -> bool {
        self.worth_a_pipe().is_some()
    }

    /// What is moved into a pipe, and how many bytes of it.
    fn worth_a_pipe(&self) -> Option<(&TcpStream, usize)> {
        let UpstreamStream::Tcp(stream) = &self.stream else {
            return None;
        };
        let left = self.received.body.left()?;
        let bytes_max = usize::try_from(left).unwrap_or(usize::MAX);
        (bytes_max >= BULK_BYTES_MIN).then_some((stream, bytes_max))
    }

    /// Whether there is something of the request that the endpoint does not take.
    pub(crate) fn is_clogged(&self) -> bool {
        !self.sender.is_written()
    }

    /// Keeps no memory of the response that can be done without while its client does not read;
    /// returns how many bytes are left.
    pub(crate) fn let_go(&mut self) -> usize {
        self.received.buffer.let_go()
    }

    /// The names of the response's fields as the endpoint has written them, once.
    pub(crate) fn take_spelling(&mut self) -> Option<Spelling> {
        self.received.spelling.take()
    }

    /// Whether all of the response body was read.
    pub(crate) fn is_body_over(&self) -> bool {
        self.received.body.is_over()
    }

    /// How long the rest of the response body is.
    pub(crate) fn body_size(&self) -> SizeHint {
        let left = self.received.body.left();
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Whether nothing has moved on the connection for too long.
    pub(crate) fn is_stuck(&self, timeout: &mut ResponseTimeout, cx: &mut Context<'_>) -> bool {
        timeout.is_over(&self.activity, cx)
    }

    /// Reads once; zero is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read_some(usize::MAX, cx)
    }

    fn poll_read_some(
        &mut self,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let buffer = &mut self.received.buffer;
        let count = ready!(buffer.poll_read_some(&mut self.stream, bytes_max, cx))?;
        self.activity.touch();
        Poll::Ready(Ok(count))
    }
}

/// Bytes of a request body that endpoints read with its head.
const READ_AT_ONCE_BYTES: u64 = 16 * 1024;

/// Reads a request back that [`write_request`] has written. It has no body.
fn parse_request(bytes: &[u8]) -> Option<Request<RequestBody>> {
    // What has been sent was within bounds.
    let bounds = HeadBounds {
        bytes_max: usize::MAX,
        fields_max: usize::MAX,
    };
    let (mut ranges, mut headers) = (FieldRanges::default(), HeaderMap::new());
    let read = RequestReader::default().read(bytes, bounds, &mut ranges, &mut headers);
    let head = read.ok()??;
    let original = OriginalHead::of(head.raw_target, head.spelling);
    Some(head.request.map(|()| RequestBody::empty(original)))
}
