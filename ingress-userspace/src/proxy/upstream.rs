//! A connection to an endpoint, driven by whoever waits for it.
//!
//! No task of its own moves an upstream connection: the task of the downstream request polls it,
//! first while it waits for the response head, then while it streams the body. So a request costs
//! no switch between tasks, dropping the request closes the connection, and an idle connection is
//! plain data in the pool.
//!
//! Because hyper's connection hands everything to its two channels (response head, body) while
//! it is polled, and nobody else polls it, the channels are read with a waker that does nothing:
//! waking the task that is running would only poll it twice.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::coop;

use super::body::RequestBody;
use super::io::{Activity, Monitored};
use super::limits::{CONNECTION_BUFFER_BYTES_MAX, HEAD_BYTES_MAX};
use super::stream::UpstreamStream;
use super::timer::{Alarm, Timers};
use super::tunnel::Side;

/// An open HTTP/1.1 connection to an endpoint.
pub(super) struct Upstream {
    sender: http1::SendRequest<RequestBody>,
    connection: Driven,
    activity: Rc<Activity>,
    /// When it was last put into the pool.
    pub(super) idle_since: Instant,
}

type Connection = http1::Connection<Monitored<UpstreamStream>, RequestBody>;

/// A connection and how far it has come.
struct Driven {
    /// `None` once it has ended, except by a switch of protocols.
    running: Option<Connection>,
    /// Whether it has nothing more to do.
    is_over: bool,
    /// Whether its end may be a switch of protocols.
    may_switch: bool,
}

/// Why a request got no response head.
pub(super) enum SendError {
    /// Nothing of it was sent: it may go to another connection.
    Unsent(Box<Request<RequestBody>>),
    /// The endpoint says that it has done nothing about it.
    Refused(hyper::Error),
    /// The connection broke when some of it may have been sent.
    Broken(hyper::Error),
    /// Nothing moved on the connection for too long.
    TimedOut,
}

impl Upstream {
    /// Speaks HTTP/1.1 on a stream.
    pub(super) async fn new(stream: UpstreamStream, timers: &Rc<Timers>) -> io::Result<Box<Self>> {
        let activity = Activity::new(Rc::clone(timers));
        let io = Monitored::new(stream, Rc::clone(&activity));
        let handshake = http1::Builder::new()
            .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(io);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        Ok(Box::new(Self {
            sender,
            connection: Driven {
                running: Some(connection),
                is_over: false,
                may_switch: false,
            },
            activity,
            idle_since: timers.now(),
        }))
    }

    /// Whether a request may be sent, as far as is known without a system call.
    ///
    /// Also takes the last user's waker off the connection, so that neither the next request nor
    /// the peer's close wakes a task that has nothing to do with it any more.
    pub(super) fn is_ready(&mut self) -> bool {
        self.connection.drive(&mut quiet());
        !self.connection.is_over && self.sender.is_ready()
    }

    /// Whether the exchange is over and left the connection fit for another, as far as is known.
    pub(super) fn is_free(&mut self) -> bool {
        self.sender.is_ready() || self.is_ready()
    }

    /// Remembers the next request, so that it can be sent again. It must have no body.
    pub(super) fn record(&self) {
        self.activity.record();
    }

    /// The request sent since `record`.
    pub(super) fn recorded(&self) -> Option<Request<RequestBody>> {
        parse_request(&self.activity.recorded()?)
    }

    /// Says that the next request asks for another protocol.
    pub(super) fn expect_switch(&mut self) {
        self.connection.may_switch = true;
    }

    /// The bytes below HTTP, after a response that switches protocols.
    pub(super) fn into_side(self) -> Option<Side<UpstreamStream>> {
        let parts = self.connection.running?.into_parts();
        Some(Side {
            stream: parts.io.into_stream(),
            early: parts.read_buf,
        })
    }

    /// The socket of an idle connection, off this runtime. `None` if it has TLS, or something to
    /// read.
    pub(super) fn into_idle_stream(self) -> Option<std::net::TcpStream> {
        let side = self.into_side()?;
        let UpstreamStream::Tcp(stream) = side.stream else {
            return None;
        };
        side.early.is_empty().then_some(stream)?.into_std().ok()
    }

    /// Has the next read ask the kernel whether the peer has closed, even if no event said so.
    pub(super) fn probe(&self) {
        self.activity.probe();
    }

    /// Sends a request and waits for the response head.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
        patience: &mut Patience,
    ) -> Result<Response<Incoming>, SendError> {
        let mut response = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        let activity = &self.activity;
        let mut poll_response = || response.as_mut().poll(&mut quiet());
        let mut is_sent = false;
        std::future::poll_fn(|cx| {
            let poll = if is_sent {
                connection.poll_driven(cx, &mut poll_response)
            } else {
                is_sent = true;
                connection.drive(cx);
                poll_response()
            };
            match poll {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(mut error)) => Poll::Ready(Err(match error.take_message() {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None => SendError::Broken(error.into_error()),
                })),
                Poll::Pending if patience.is_over(activity, cx) => {
                    Poll::Ready(Err(SendError::TimedOut))
                }
                Poll::Pending => pending(cx),
            }
        })
        .await
    }

    /// Moves what can be moved on the connection until `poll` has something.
    pub(super) fn poll_driven<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnMut() -> Poll<T>,
    ) -> Poll<T> {
        self.connection.poll_driven(cx, poll)
    }

    /// Whether nothing has moved on the connection for too long.
    pub(super) fn is_stuck(&self, patience: &mut Patience, cx: &mut Context<'_>) -> bool {
        patience.is_over(&self.activity, cx)
    }
}

impl Driven {
    /// Drives the connection until `poll` finds something in its channels.
    ///
    /// The task's own waker is left behind only if there is nothing: what is found is found by
    /// this very task, and taking it would wake whoever drove the connection.
    fn poll_driven<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut() -> Poll<T>,
    ) -> Poll<T> {
        self.drive(&mut quiet());
        if let Poll::Ready(found) = poll() {
            return Poll::Ready(found);
        }
        self.drive(cx);
        let found = poll();
        if found.is_pending() && self.is_over && self.running.take().is_some() {
            // It has ended without a switch of protocols.
            return poll();
        }
        found
    }

    /// A finished connection is dropped at once, which hands back a request that it never took.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.is_over
            && let Some(running) = &mut self.running
            && Pin::new(running).poll(cx).is_ready()
        {
            self.is_over = true;
            if !self.may_switch {
                self.running = None;
            }
        }
    }
}

/// Wakes nobody.
pub(super) fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Reads a request back that hyper has written. It has no body.
fn parse_request(bytes: &[u8]) -> Option<Request<RequestBody>> {
    let text = bytes.strip_suffix(b"\r\n\r\n")?;
    // hyper writes no CR or LF but at the end of a line.
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::from_bytes(words.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(words.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// Pending on a channel that was read without a waker: tokio's channels also say so when the
/// task's budget is spent, and then they expect to wake the task.
pub(super) fn pending<T>(cx: &Context<'_>) -> Poll<T> {
    if !coop::has_budget_remaining() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

/// How long a request waits for a connection on which nothing moves.
pub(super) struct Patience {
    timers: Rc<Timers>,
    limit: Duration,
    /// When it is over whatever moves.
    deadline: Option<Instant>,
    /// Set when there is something to wait for.
    alarm: Option<Alarm>,
}

impl Patience {
    pub(super) fn new(timers: &Rc<Timers>, limit: Duration, deadline: Option<Instant>) -> Self {
        Self {
            timers: Rc::clone(timers),
            limit,
            deadline,
            alarm: None,
        }
    }

    /// Changes how long; takes effect with the next look.
    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Whether it is over because of the deadline, and nobody's fault.
    pub(super) fn is_past_deadline(&self) -> bool {
        self.until_deadline().is_zero()
    }

    fn until_deadline(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(self.timers.now());
        self.deadline.map_or(Duration::MAX, left)
    }

    pub(super) fn is_over(&mut self, activity: &Activity, cx: &Context<'_>) -> bool {
        let Some(alarm) = &self.alarm else {
            // The wait begins now, however long the connection was idle before.
            activity.touch();
            let limit = self.limit.min(self.until_deadline());
            self.alarm = Some(self.timers.alarm(limit, cx.waker()));
            return false;
        };
        if !alarm.fired() {
            return false;
        }
        let quiet = self.timers.now().saturating_duration_since(activity.last());
        let left = self.limit.saturating_sub(quiet);
        let left = left.min(self.until_deadline());
        if !left.is_zero() {
            alarm.set(left);
        }
        left.is_zero()
    }
}
