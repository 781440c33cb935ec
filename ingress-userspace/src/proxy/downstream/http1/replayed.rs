//! A connection of which some bytes were read before it turned out to speak HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor};
use tokio::net::TcpStream;

use crate::proxy::runtime::monitored::write_through;
use crate::proxy::runtime::stream::OverTcp;

/// A stream that gives some bytes before its own.
pub(super) struct Replayed<T> {
    io: T,
    before: Bytes,
}

impl<T> Replayed<T> {
    pub(super) fn new(io: T, before: Bytes) -> Self {
        Self { io, before }
    }
}

impl<T: Read + Unpin> Read for Replayed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let count = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before[..count]);
        self.before.advance(count);
        if self.before.is_empty() {
            // Releases the memory that they were read into.
            self.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: OverTcp> OverTcp for Replayed<T> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

write_through!(Replayed);
