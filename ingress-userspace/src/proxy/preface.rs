//! HTTP/2 by prior knowledge on a cleartext port, without a tax on HTTP/1.1.
//!
//! hyper's HTTP/1 connection says so when what it has read is the connection preface of HTTP/2
//! (RFC 9113 §3.4), and hands back what it has read. So nothing is peeked and nothing is copied,
//! but for a preface that comes in parts: those are held back until they are one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor};

use super::io::write_through;

/// A connection that may begin with a preface, which is then read as a whole.
pub(super) struct Whole<T> {
    io: T,
    /// A preface as far as it has come; `None` when the first bytes have been passed on.
    begun: Option<Vec<u8>>,
}

impl<T> Whole<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            begun: Some(Vec::new()),
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.io
    }
}

impl<T: Read + Unpin> Whole<T> {
    fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let begun = self.begun.get_or_insert_default();
            // SAFETY: `ReadBuf` never makes a byte uninitialized that was initialized.
            let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
            buffer.unfilled().put_slice(begun);
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer.unfilled()))?;
            let filled = buffer.filled();
            let has_grown = filled.len() > begun.len();
            if has_grown && filled.len() < PREFACE.len() && PREFACE.starts_with(filled) {
                *begun = filled.to_vec();
                continue;
            }
            let count = filled.len();
            // SAFETY: `buffer` is the same memory, and says that so much of it is filled.
            unsafe { cursor.advance(count) };
            self.begun = None;
            return Poll::Ready(Ok(()));
        }
    }
}

impl<T: Read + Unpin> Read for Whole<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_some() {
            return self.poll_begin(cx, buffer);
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// A connection of which some bytes were read before.
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
            // Lets go of what hyper has read it into.
            self.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

write_through!(Whole);
write_through!(Replayed);

/// RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Gives its parts one by one; a wait is where one is empty.
    struct Parts(VecDeque<&'static [u8]>);

    impl Read for Parts {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some([]) => Poll::Pending,
                Some(part) => {
                    buffer.put_slice(part);
                    Poll::Ready(Ok(()))
                }
                None => Poll::Ready(Ok(())),
            }
        }
    }

    /// What each read gives, up to the end.
    fn reads(parts: &[&'static [u8]]) -> Vec<Vec<u8>> {
        let mut whole = Whole::new(Parts(parts.iter().copied().collect()));
        let mut reads = Vec::new();
        loop {
            let mut room = [0; 64];
            let mut buffer = ReadBuf::new(&mut room);
            let mut cx = Context::from_waker(Waker::noop());
            match Pin::new(&mut whole).poll_read(&mut cx, buffer.unfilled()) {
                Poll::Pending => {}
                Poll::Ready(outcome) => {
                    outcome.unwrap();
                    if buffer.filled().is_empty() {
                        return reads;
                    }
                    reads.push(buffer.filled().to_vec());
                }
            }
        }
    }

    #[test]
    fn a_preface_in_parts_is_read_as_a_whole() {
        let parts: [&[u8]; 5] = [b"PRI * ", b"", b"HTTP/2.0\r\n\r\nSM", b"", b"\r\n\r\nmore"];
        assert_eq!(reads(&parts), [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"]);
    }

    #[test]
    fn anything_else_is_passed_on_as_it_comes() {
        assert_eq!(reads(&[b"GET ", b"", b"/"]), [&b"GET "[..], b"/"]);
        assert_eq!(reads(&[b"P", b"OST", b" /"]), [&b"POST"[..], b" /"]);
        assert_eq!(reads(&[b"PRI", b""]), [b"PRI"]);
        assert_eq!(reads(&[]), [b""; 0]);
    }
}
