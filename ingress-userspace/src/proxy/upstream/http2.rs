//! HTTP/2 connections to an endpoint, each for many requests at a time.
//!
//! Such a connection has a task of its own, because no request owns it. Streams are bounded by us
//! and by the peer's settings; one more request than fits dials one more connection, and requests
//! that come meanwhile wait for that one. A connection on which a stream has waited in vain gets
//! no more of them, so that a peer that went away without a word costs one timeout at most. Nor does
//! one on which clients have broken off many: peers end connections for that, with the streams of
//! all other clients.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::Executor as _;
use tokio::sync::{Notify, oneshot};

use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::executor::LocalExecutor;
use crate::proxy::runtime::limits::{
    HTTP2_CONNECTION_BYTES_MAX, HTTP2_STREAM_BYTES_MAX, MULTIPLEXED_PER_ENDPOINT_MAX,
    UPSTREAM_RESETS_MAX, UPSTREAM_STREAMS_MAX,
};
use crate::proxy::runtime::monitored::{Activity, Monitored};
use crate::proxy::runtime::stream::{Stream as _, UpstreamStream};
use crate::proxy::runtime::timer::Timers;
use crate::proxy::upstream::http1::{Fault, SendError};
use crate::proxy::upstream::liveness::{self, Threshold};
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_timeout::{ResponseTimeout, Wait};
use crate::proxy::upstream::settings_wait::{ReadNotify, SettingsNotify};

/// The open connections to one endpoint.
#[derive(Default)]
pub(crate) struct Multiplexed {
    open: RefCell<Vec<Rc<Shared>>>,
    is_dialling: Cell<bool>,
    /// How often dialling has failed.
    failures: Cell<u64>,
    dialled: Notify,
}

/// One connection.
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    /// Its socket, until it has ended.
    socket: RefCell<Option<OwnedFd>>,
    streams: Cell<usize>,
    /// As many as the peer takes.
    streams_max: Cell<usize>,
    /// Whether the peer takes extended CONNECT (RFC 8441 §3).
    takes_tunnels: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Whether it has carried a request to its answer.
    is_reused: Cell<bool>,
    is_given_up: Cell<bool>,
    /// Streams that we have broken off, mostly for clients.
    resets: Cell<usize>,
}

/// What a request finds that needs a connection.
pub(crate) enum Room<'a> {
    /// A place on one.
    StreamPermit(StreamPermit),
    /// The right to dial, while others wait.
    Dial(ConnectPermit<'a>),
    /// Somebody else has dialled in vain meanwhile.
    Failed,
    /// There are as many connections as there may be.
    Full,
}

/// The right to dial, given back when dropped.
pub(crate) struct ConnectPermit<'a>(&'a Multiplexed);

/// A stream of a connection, from before its request to the end of its response.
pub(crate) struct StreamPermit {
    shared: Rc<Shared>,
    timers: Rc<Timers>,
    /// Whether its stream has come to its end, or was never begun.
    is_over: Cell<bool>,
}

impl Multiplexed {
    /// Waits for a place on a connection, or for the right to dial one.
    pub(crate) async fn room(&self, timers: &Rc<Timers>) -> Room<'_> {
        let failures = self.failures.get();
        loop {
            if let Some(place) = self.place(timers) {
                return Room::StreamPermit(place);
            }
            if self.failures.get() != failures {
                return Room::Failed;
            }
            if self.open.borrow().len() >= MULTIPLEXED_PER_ENDPOINT_MAX {
                return Room::Full;
            }
            if !self.is_dialling.replace(true) {
                return Room::Dial(ConnectPermit(self));
            }
            self.dialled.notified().await;
        }
    }

    /// Speaks HTTP/2 on a stream.
    pub(crate) async fn adopt(
        &self,
        stream: UpstreamStream,
        runtime: &Rc<Runtime>,
    ) -> io::Result<()> {
        let activity = Activity::new(Rc::clone(&runtime.timers));
        let socket = stream.tcp().as_fd().try_clone_to_owned()?;
        let announcement = SettingsNotify::default();
        let io = ReadNotify::new(Monitored::new(stream, activity), announcement.clone());
        let executor = LocalExecutor::new(&runtime.counters);
        let handshake = http2::Builder::new(executor.clone())
            .initial_stream_window_size(HTTP2_STREAM_BYTES_MAX)
            .initial_connection_window_size(HTTP2_CONNECTION_BYTES_MAX)
            .max_send_buf_size(HTTP2_STREAM_BYTES_MAX as usize)
            // Until the peer has said how many it takes: one stream too many is refused, and a
            // request with a body could not be sent again.
            .initial_max_send_streams(0)
            .max_header_list_size(
                u32::try_from(ingress_wire::limits::HEAD_BYTES_MAX).unwrap_or(u32::MAX),
            )
            .handshake(io);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        let shared = Rc::new(Shared {
            sender,
            socket: RefCell::new(Some(socket)),
            streams: Cell::new(0),
            streams_max: Cell::new(0),
            takes_tunnels: Cell::new(false),
            idle_since: Cell::new(runtime.timers.now()),
            is_reused: Cell::new(false),
            is_given_up: Cell::new(false),
            resets: Cell::new(0),
        });
        let watched = Rc::downgrade(&shared);
        let (settled, is_settled) = oneshot::channel();
        let mut settled = Some(settled);
        executor.execute(async move {
            let mut connection = pin!(connection);
            let outcome = std::future::poll_fn(|cx| {
                let poll = connection.as_mut().poll(cx);
                if let Some(shared) = watched.upgrade() {
                    let taken = connection.current_max_send_streams();
                    shared.streams_max.set(taken.min(UPSTREAM_STREAMS_MAX));
                    let takes_tunnels = connection.is_extended_connect_protocol_enabled();
                    shared.takes_tunnels.set(takes_tunnels);
                    if settled.is_some() {
                        announcement.wake(cx.waker());
                    }
                    if let Some(settled) = settled.take_if(|_| taken > 0) {
                        // Nobody waits any more if the request has gone.
                        let _ = settled.send(());
                    }
                }
                poll
            });
            if let Err(error) = outcome.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "HTTP/2 upstream ended"
                );
            }
            if let Some(shared) = watched.upgrade() {
                // It is closed when nobody has it any more.
                shared.socket.take();
            }
        });
        is_settled.await.map_err(io::Error::other)?;
        self.open.borrow_mut().push(shared);
        Ok(())
    }

    /// Closes what the peer has closed and what was idle for longer than `idle_max`.
    pub(crate) fn sweep(&self, now: Instant, idle_max: Duration) {
        self.open.borrow_mut().retain(|shared| {
            let idle = now.saturating_duration_since(shared.idle_since.get());
            shared.is_usable() && (shared.streams.get() > 0 || idle < idle_max)
        });
    }

    /// Takes no more requests: connections end with their last stream.
    pub(crate) fn close(&self) {
        self.open.take();
    }

    /// A place on the connection that has most of them left.
    fn place(&self, timers: &Rc<Timers>) -> Option<StreamPermit> {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| shared.is_usable());
        let roomy = open
            .iter()
            .filter(|shared| shared.streams.get() < shared.streams_max.get());
        let shared = roomy.min_by_key(|shared| shared.streams.get())?;
        shared.streams.set(shared.streams.get() + 1);
        Some(StreamPermit {
            shared: Rc::clone(shared),
            timers: Rc::clone(timers),
            is_over: Cell::new(true),
        })
    }
}

impl ConnectPermit<'_> {
    /// Has those who wait fail too, rather than have each of them wait for a failure of its own.
    pub(crate) fn fail(self) {
        self.0.failures.set(self.0.failures.get().wrapping_add(1));
    }
}

impl Drop for ConnectPermit<'_> {
    fn drop(&mut self) {
        self.0.is_dialling.set(false);
        self.0.dialled.notify_waiters();
    }
}

impl Shared {
    fn is_usable(&self) -> bool {
        let is_worn = self.resets.get() >= UPSTREAM_RESETS_MAX;
        !is_worn && !self.is_given_up.get() && !self.sender.is_closed()
    }
}

impl StreamPermit {
    /// Whether its connection has carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.shared.is_reused.get()
    }

    /// Whether its connection's peer takes extended CONNECT.
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.shared.takes_tunnels.get()
    }

    /// The stream has come to its end by the endpoint.
    pub(crate) fn finish(&self) {
        self.is_over.set(true);
    }

    /// Sends a request and waits for the response head.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        activity: &Activity,
        timeout: &mut ResponseTimeout,
    ) -> Result<Response<Incoming>, SendError> {
        let shared = &self.shared;
        let threshold = Threshold::with(request.method(), timeout.has_body());
        let mut sender = shared.sender.clone();
        let mut response = pin!(sender.try_send_request(request));
        self.is_over.set(false);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = response.as_mut().poll(cx) {
                self.is_over.set(ended.is_err());
                return Poll::Ready(ended.map_err(|mut error| match error.take_message() {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None => refused_or_broken(error.into_error()),
                }));
            }
            let is_gone = || {
                let socket = shared.socket.borrow();
                let socket = socket.as_ref().map(AsFd::as_fd);
                socket.is_some_and(|socket| liveness::is_gone(socket, threshold))
            };
            let error = match timeout.wait(activity, is_gone, cx) {
                Wait::On => return Poll::Pending,
                Wait::Over => SendError::TimedOut,
                Wait::Gone => SendError::Broken(Fault::Gone),
            };
            // A deadline says nothing about the connection.
            if !timeout.is_past_deadline() {
                shared.is_given_up.set(true);
            }
            Poll::Ready(Err(error))
        })
        .await
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let shared = &self.shared;
        if !self.is_over.get() {
            shared.resets.set(shared.resets.get() + 1);
        }
        shared.is_reused.set(true);
        shared.streams.set(shared.streams.get() - 1);
        shared.idle_since.set(self.timers.now());
    }
}

/// Tells what may be sent again from what may not.
fn refused_or_broken(error: hyper::Error) -> SendError {
    if http2_cause(&error).is_some_and(says_nothing_was_done) {
        SendError::Refused(Fault::Http2(error))
    } else {
        SendError::Broken(Fault::Http2(error))
    }
}

/// By `REFUSED_STREAM`, or by a GOAWAY that does not cover the stream (RFC 9113 §8.7).
fn says_nothing_was_done(error: &h2::Error) -> bool {
    error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away() && error.is_remote()
}

/// Whether only the stream has failed, so that the endpoint was at work on it.
pub(crate) fn is_reset(fault: &Fault) -> bool {
    let Fault::Http2(error) = fault else {
        return false;
    };
    http2_cause(error).is_some_and(h2::Error::is_reset)
}

fn http2_cause(error: &hyper::Error) -> Option<&h2::Error> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).find_map(|cause| cause.downcast_ref())
}
