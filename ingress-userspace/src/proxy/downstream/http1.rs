//! An HTTP/1 connection from a client, which costs little while nothing comes.
//!
//! hyper keeps two buffers of 8 KiB for a connection. It is given one when the first bytes of a
//! request are there, and has to give it back when none have come for a while, between two
//! requests. Waiting for bytes is free: it is what a read would begin with.
//!
//! Invariant: a connection changes hands where a request would begin and nowhere else.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::rt::Write as _;
use hyper::server::conn::http1;
use hyper::service::HttpService;

use crate::proxy::downstream::accept::serve_http2;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::driver::{ConnectionDriver, Next};
use crate::proxy::downstream::inbound::{Inbound, Replayed};
use crate::proxy::downstream::lingering_close::{self, OverTcp as _};
use crate::proxy::downstream::listen::Scheme;
use crate::proxy::l4::tunnel::Side;
use crate::proxy::request::body::ResponseBody;
use crate::proxy::runtime::fairness::Turn;
use crate::proxy::runtime::limits::CONNECTION_BUFFER_BYTES_MAX;
use crate::proxy::runtime::monitored::{Activity, Monitored};
use crate::proxy::runtime::stream::Stream;

/// A connection, served by what `M` makes.
pub(crate) struct Http1<S, H, M>
where
    H: HttpService<Incoming>,
{
    state: State<S, H>,
    activity: Rc<Activity>,
    head_bytes_max: usize,
    turn: Turn,
    make: M,
}

enum State<S, H>
where
    H: HttpService<Incoming>,
{
    /// hyper has it.
    Awake(Box<http1::Connection<Inbound<Monitored<S>>, H>>),
    /// Nothing has come, or not for a while.
    Asleep(Inbound<Monitored<S>>),
    Over,
}

impl<S, H, M> Http1<S, H, M>
where
    S: Stream,
    H: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
    M: Fn() -> H,
{
    pub(crate) fn new(stream: S, connection: &Connection, make: M) -> Self {
        let holds_bytes = stream.may_hold_bytes();
        let activity = Rc::clone(&connection.activity);
        let io = Monitored::new(stream, Rc::clone(&activity));
        let io = Inbound::new(io, Rc::clone(&activity));
        let mut this = Self {
            state: State::Asleep(io),
            activity,
            head_bytes_max: connection.worker.client_limit.head_bytes_max() as usize,
            turn: Turn::default(),
            make,
        };
        if holds_bytes {
            this.wake();
        }
        this
    }

    fn wake(&mut self) {
        if let State::Asleep(io) = mem::replace(&mut self.state, State::Over) {
            let served = http1::Builder::new()
                .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
                .max_header_size(self.head_bytes_max)
                // `watch` does this without a timer of its own for every request.
                .header_read_timeout(None)
                .serve_connection(io, (self.make)());
            self.state = State::Awake(Box::new(served));
        }
    }
}

impl<S: Stream> Inbound<Monitored<S>> {
    /// Lets go what TLS holds back, and waits for bytes.
    fn poll_woken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Whoever reads next learns of errors.
        let _ = ready!(Pin::new(&mut *self).poll_flush(cx));
        self.tcp().poll_read_ready(cx).map(drop)
    }
}

impl<S, H, M> Future for Http1<S, H, M>
where
    S: Stream,
    H: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
    M: Fn() -> H + Unpin,
{
    type Output = hyper::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Awake(served) => {
                    return poll_turn(served, &mut this.turn, &this.activity, cx);
                }
                State::Asleep(io) => ready!(io.poll_woken(cx)),
                State::Over => return Poll::Ready(Ok(())),
            }
            this.wake();
        }
    }
}

/// Polls a connection until nothing large was read, or enough of it; then not before others have
/// had their turn.
///
/// hyper hands over one read of a body, and wakes itself for the next: it would be polled after all
/// other connections that are to run, each of which puts its own read into the caches of this one's,
/// and many times before the kernel is asked what has arrived for others.
fn poll_turn<F: Future + Unpin>(
    mut served: F,
    turn: &mut Turn,
    activity: &Activity,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    ready!(turn.poll(cx));
    loop {
        let poll = Pin::new(&mut served).poll(cx);
        let read = activity.take_bulk();
        turn.note(read);
        if poll.is_ready() || read == 0 || turn.is_over() {
            return poll;
        }
    }
}

impl<S, H, M> ConnectionDriver for Http1<S, H, M>
where
    S: Stream,
    H: HttpService<Incoming, ResBody = ResponseBody, Error = Infallible>,
    M: Fn() -> H + Unpin,
{
    type Error = hyper::Error;

    const SAYS_GOODBYE: bool = false;

    const REQUESTS_MAX: u64 = u64::MAX;

    fn graceful_shutdown(&mut self) {
        match &mut self.state {
            State::Awake(served) => Pin::new(&mut **served).graceful_shutdown(),
            State::Asleep(_) => self.state = State::Over,
            State::Over => {}
        }
    }

    fn is_active(&self) -> bool {
        matches!(self.state, State::Awake(_))
    }

    fn release_buffers(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Awake(served) => {
                let mut parts = served.into_parts();
                // All that may stand before a request line (RFC 9112 §2.2).
                let are_empty_lines = parts.read_buf.iter().all(|byte| b"\r\n".contains(byte));
                debug_assert!(are_empty_lines, "it was not between two requests");
                if are_empty_lines {
                    parts.io.settle();
                    State::Asleep(parts.io)
                } else {
                    State::Over
                }
            }
            state @ (State::Asleep(_) | State::Over) => state,
        }
    }

    fn into_next<'a>(
        self,
        outcome: &hyper::Result<()>,
        connection: &'a Rc<Connection>,
    ) -> Option<Next<'a>> {
        let State::Awake(served) = self.state else {
            return None;
        };
        let is_http2 = outcome
            .as_ref()
            .is_err_and(hyper::Error::is_parse_version_h2);
        if is_http2 && connection.scheme == Scheme::Http {
            let parts = served.into_parts();
            let io = Replayed::new(parts.io.into_inner(), parts.read_buf);
            return Some(Box::pin(serve_http2(io, connection)));
        }
        if outcome.as_ref().is_err_and(hyper::Error::is_parse) {
            // hyper has answered it, and nobody else has seen it.
            let counters = connection.worker.counters.datapath(connection.datapath);
            counters.malformed.increment();
        }
        if outcome.is_err() {
            let io = served.into_parts().io.into_inner();
            return Some(Box::pin(lingering_close::close(io, &connection.worker)));
        }
        let switched = connection.take_switched()?;
        let parts = served.into_parts();
        let client = Side {
            stream: parts.io.into_inner().into_stream(),
            early: parts.read_buf,
        };
        Some(Box::pin(async move {
            switched.carry(client, connection).await;
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;
    use crate::proxy::runtime::limits::{BULK_BYTES_MIN, BULK_TURN_BYTES_MAX};
    use crate::proxy::runtime::timer::Timers;

    /// How often a connection is polled in each of two turns that reads so much each time, and ends
    /// with the last.
    fn polls(reads: &[usize]) -> [usize; 2] {
        let activity = Activity::new(Timers::new());
        let polled = Cell::new(0);
        let mut served = poll_fn(|_| {
            activity.note_read(reads[polled.get()]);
            polled.set(polled.get() + 1);
            if polled.get() == reads.len() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let mut turn = Turn::default();
        let mut cx = Context::from_waker(Waker::noop());
        [(); 2].map(|()| {
            let _ = poll_turn(&mut served, &mut turn, &activity, &mut cx);
            polled.take()
        })
    }

    #[test]
    fn bulk_goes_on_for_a_bounded_turn() {
        let large = BULK_TURN_BYTES_MAX / 4;
        assert_eq!(polls(&[large, large, 0, 0]), [3, 2]);
        assert_eq!(polls(&[large; 9]), [4, 0], "others have their turn");
        assert_eq!(polls(&[large; 2]), [2, 2]);
        assert_eq!(polls(&[BULK_BYTES_MIN - 1; 9]), [1, 1]);
    }
}
