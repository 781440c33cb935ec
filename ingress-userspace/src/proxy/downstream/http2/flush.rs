//! Writes the frames that a connection has queued.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::Write;
use ingress_wire::http2::SendQueue;

/// Writes all of `queue`.
pub(crate) fn poll_flush<W: Write + Unpin>(
    queue: &mut SendQueue,
    io: &mut W,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while queue.length() > 0 {
        let written = ready!(poll_write(queue, io, cx))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        queue.advance(written);
    }
    if queue.needs_flush() {
        ready!(Pin::new(io).poll_flush(cx))?;
        queue.flushed();
    }
    Poll::Ready(Ok(()))
}

fn poll_write<W: Write + Unpin>(
    queue: &SendQueue,
    io: &mut W,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    match queue.slices(&mut slices) {
        1 => Pin::new(io).poll_write(cx, &slices[0]),
        count => Pin::new(io).poll_write_vectored(cx, &slices[..count]),
    }
}

/// Pieces that are written at once.
const SLICES_MAX: usize = 32;
