//! Bytes both ways between two connections that have left HTTP behind.
//!
//! A quiet tunnel holds no buffer: what is read into the worker's scratch is written at once, and
//! only what the other side does not take is kept, at most one read for each direction. While
//! there is some, nothing more is read. Where much comes at once and neither side has TLS, it goes
//! through a pipe of the kernel and not through memory of ours. The end of one direction is passed on as such; the tunnel
//! ends with the second, or when nothing has moved for too long.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::proxy::observe::metrics::record::Tunnelled;
use crate::proxy::runtime::context::{Runtime, Scratch};
use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::fairness::FairnessBudget;
use crate::proxy::runtime::limits::{BULK_BYTES_MIN, TUNNEL_READ_BYTES_MAX};
use crate::proxy::runtime::pipe::{Pipe, Pipes};
use crate::proxy::runtime::stream::{Joined, Side};
use crate::proxy::runtime::timer::Alarm;

/// Carries bytes until both directions have ended, one has failed or neither has moved for `limit`;
/// returns how many.
pub(crate) async fn run<D, U>(
    downstream: Side<D>,
    upstream: Side<U>,
    limit: Duration,
    runtime: &Runtime,
) -> Tunnelled
where
    D: Joined,
    U: Joined,
{
    let _open = OpenTunnel::new(&runtime.counters);
    let mut client = downstream.stream;
    let mut endpoint = upstream.stream;
    let (scratch, pipes) = (&runtime.scratch, &runtime.pipes);
    let mut up = Direction::new(downstream.early, scratch, pipes);
    let mut down = Direction::new(upstream.early, scratch, pipes);
    let timers = &runtime.timers;
    let mut last = timers.now();
    let mut alarm: Option<Alarm> = None;
    let ended: io::Result<()> = std::future::poll_fn(|cx| {
        let up_poll = up.poll(cx, &mut client, &mut endpoint)?;
        let down_poll = down.poll(cx, &mut endpoint, &mut client)?;
        if up_poll.is_ready() && down_poll.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut up.moved) | std::mem::take(&mut down.moved) {
            last = timers.now();
        }
        let alarm = alarm.get_or_insert_with(|| timers.alarm(limit, cx.waker()));
        if alarm.fired() {
            let left = limit.saturating_sub(timers.now().saturating_duration_since(last));
            if left.is_zero() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            alarm.set(left);
        }
        Poll::Pending
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "tunnel broke off");
    }
    Tunnelled {
        up: up.bytes,
        down: down.bytes,
    }
}

/// One direction of a tunnel.
struct Direction<'a> {
    scratch: &'a Scratch,
    pipes: &'a Rc<Pipes>,
    /// Read and not yet written.
    kept: Bytes,
    /// The same, and after that.
    pipe: Option<Pipe>,
    /// Whether so much comes at once that it is worth a pipe.
    is_bulk: bool,
    stage: Stage,
    /// Whether bytes have moved since this was last reset.
    moved: bool,
    /// How many the sink has taken.
    bytes: u64,
    /// Whether the sink may hold bytes back, as TLS does.
    unflushed: bool,
    turn: FairnessBudget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// The source has ended, the sink is to be told.
    Ending,
    Ended,
}

impl<'a> Direction<'a> {
    fn new(early: Bytes, scratch: &'a Scratch, pipes: &'a Rc<Pipes>) -> Self {
        Self {
            scratch,
            pipes,
            kept: early,
            pipe: None,
            is_bulk: false,
            stage: Stage::Open,
            moved: false,
            bytes: 0,
            unflushed: false,
            turn: FairnessBudget::default(),
        }
    }

    /// Ready when the source has ended and the sink knows.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: Joined,
        W: Joined,
    {
        loop {
            while !self.kept.is_empty() {
                let written = ready!(Pin::new(&mut *sink).poll_write(cx, &self.kept))?;
                self.copied(written)?;
                self.kept.advance(written);
            }
            if let Some(sink) = sink.plain() {
                ready!(self.poll_drain(cx, sink))?;
            }
            match self.stage {
                Stage::Open => {}
                Stage::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                    self.stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
                Stage::Ended => return Poll::Ready(Ok(())),
            }
            ready!(self.turn.poll(cx));
            if self.poll_pass_on(cx, source, sink)?.is_pending() {
                if self.unflushed {
                    ready!(Pin::new(&mut *sink).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
    }

    /// Moves what has come into a pipe or reads it, and writes what the sink takes; the rest is
    /// kept.
    fn poll_pass_on<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: Joined,
        W: Joined,
    {
        if self.is_bulk
            && let (Some(source), Some(sink)) = (source.plain(), sink.plain())
            && let Some(pipe) = self.pipes.take()
        {
            return self.poll_splice(cx, source, sink, pipe);
        }
        let mut scratch = self.scratch.borrow_mut();
        scratch.resize(TUNNEL_READ_BYTES_MAX, 0);
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(source).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.moved = true;
        self.is_bulk = read.len() >= BULK_BYTES_MIN;
        let written = match Pin::new(sink).poll_write(cx, read)? {
            Poll::Ready(written) => {
                self.copied(written)?;
                written
            }
            Poll::Pending => 0,
        };
        if written < read.len() {
            self.kept = Bytes::copy_from_slice(&read[written..]);
        }
        Poll::Ready(Ok(()))
    }

    /// Fills a pipe, and drains it as far as the sink takes it.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        sink: &TcpStream,
        mut pipe: Pipe,
    ) -> Poll<io::Result<()>> {
        let filled = ready!(pipe.poll_fill(source, usize::MAX, cx))?;
        if filled == 0 {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.moved = true;
        self.is_bulk = filled >= BULK_BYTES_MIN;
        self.pipe = Some(pipe);
        self.poll_drain(cx, sink)
    }

    /// Writes what is in the pipe, if there is one.
    fn poll_drain(&mut self, cx: &mut Context<'_>, sink: &TcpStream) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe {
            let drained = ready!(pipe.poll_drain(sink, usize::MAX, cx))?;
            if pipe.length() == 0 {
                self.pipe = None;
            }
            self.turn.note(drained);
            self.wrote(drained)?;
        }
        Poll::Ready(Ok(()))
    }

    fn copied(&mut self, count: usize) -> io::Result<()> {
        self.turn.note_copied(count);
        self.wrote(count)
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.moved = true;
        self.bytes += count as u64;
        self.unflushed = true;
        Ok(())
    }
}

/// Counts a tunnel for as long as it is open.
struct OpenTunnel(Arc<Counters>);

impl OpenTunnel {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.tunnels.increment();
        counters.tunnels_open.increment();
        Self(Arc::clone(counters))
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.tunnels_open.decrement();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, Join, Repeat, Sink, Take, join, repeat, sink};

    use super::*;
    use crate::proxy::runtime::counters::Counters;
    use crate::proxy::runtime::limits::COPIED_TURN_BYTES_MAX;

    /// Always has something to read for a long time, and takes all that is written.
    type Spring = Join<Take<Repeat>, Sink>;

    impl Joined for Spring {
        fn plain(&self) -> Option<&TcpStream> {
            None
        }
    }

    #[test]
    fn a_tunnel_without_end_takes_turns_with_others() {
        let turn = COPIED_TURN_BYTES_MAX as u64;
        let spring = || join(repeat(7).take(5 * turn), sink());
        let (scratch, pipes) = (Scratch::default(), Pipes::new(&Arc::<Counters>::default()));
        let mut direction = Direction::new(Bytes::new(), &scratch, &pipes);
        let (mut source, mut sink) = (spring(), spring());
        let mut cx = Context::from_waker(Waker::noop());
        for turns in 1..4 {
            let poll = direction.poll(&mut cx, &mut source, &mut sink);
            assert!(poll.is_pending());
            assert_eq!(direction.bytes, turns * turn);
        }
    }
}
