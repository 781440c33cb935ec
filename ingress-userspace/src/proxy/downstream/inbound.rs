//! What comes in on a connection that may speak HTTP/1, before hyper sees it.
//!
//! HTTP/2 by prior knowledge costs HTTP/1.1 nothing: hyper's HTTP/1 connection says so when what it
//! has read is the connection preface of HTTP/2 (RFC 9113 §3.4), and hands back what it has read.
//! Only a preface that comes in parts is held back until it is one.
//!
//! A line that [`Framing`] objects to loses its end, which hyper answers with 400 and the end of
//! the connection, as it does for all that is no HTTP.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, ReadBufCursor};
use tokio::net::TcpStream;

use crate::proxy::downstream::framing::{Framing, Offence};
use crate::proxy::downstream::lingering_close::OverTcp;
use crate::proxy::runtime::monitored::{Activity, write_through};

/// A connection from a client.
pub(crate) struct Inbound<T> {
    io: T,
    framing: Framing,
    /// A preface as far as it has come; `None` when the first bytes have been passed on.
    begun: Option<Vec<u8>>,
    activity: Rc<Activity>,
}

impl<T> Inbound<T> {
    pub(crate) fn new(io: T, activity: Rc<Activity>) -> Self {
        Self {
            io,
            framing: Framing::default(),
            begun: Some(Vec::new()),
            activity,
        }
    }

    /// Gives back what it has room for, between two requests.
    pub(crate) fn settle(&mut self) {
        self.framing.settle();
    }

    pub(crate) fn into_inner(self) -> T {
        self.io
    }
}

impl<T: Read + Unpin> Inbound<T> {
    /// Whether nothing but the beginning of a preface has come yet. Then it is kept.
    fn is_preface_begun(&mut self, filled: &[u8]) -> bool {
        let Some(begun) = &mut self.begun else {
            return false;
        };
        let has_grown = filled.len() > begun.len();
        let is_part = filled.len() < PREFACE.len() && PREFACE.starts_with(filled);
        if has_grown && is_part {
            *begun = filled.to_vec();
            return true;
        }
        self.begun = None;
        false
    }
}

impl<T: Read + Unpin> Read for Inbound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let this = &mut *self;
            // SAFETY: `ReadBuf` never makes a byte uninitialized that was initialized.
            let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
            if let Some(begun) = &this.begun {
                buffer.unfilled().put_slice(begun);
            }
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer.unfilled()))?;
            let filled = buffer.filled();
            if this.is_preface_begun(filled) {
                continue;
            }
            let count = filled.len();
            let offence = this.framing.offence(filled);
            this.activity.note_read(count);
            this.activity.begin_request(!this.framing.is_between());
            if offence == Some(Offence::Everything) {
                // Nothing put into the buffer is the end of the stream.
                return Poll::Ready(Ok(()));
            }
            // SAFETY: `buffer` is the same memory, of which so much was filled, and a byte is
            // written over with another.
            unsafe {
                if let Some(Offence::Line(end)) = offence {
                    cursor.as_mut()[end].write(0);
                }
                cursor.advance(count);
            }
            return Poll::Ready(Ok(()));
        }
    }
}

/// A connection of which some bytes were read before.
pub(crate) struct Replayed<T> {
    io: T,
    before: Bytes,
}

impl<T> Replayed<T> {
    pub(crate) fn new(io: T, before: Bytes) -> Self {
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

impl<T: OverTcp> OverTcp for Inbound<T> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

impl<T: OverTcp> OverTcp for Replayed<T> {
    fn tcp(&self) -> &TcpStream {
        self.io.tcp()
    }
}

write_through!(Inbound);
write_through!(Replayed);

/// RFC 9113 §3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;
    use crate::proxy::runtime::timer::Timers;

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
        let mut whole = Inbound::new(
            Parts(parts.iter().copied().collect()),
            Activity::new(Timers::new()),
        );
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
    fn a_line_that_offends_loses_its_end() {
        assert_eq!(
            reads(&[b"GET / HTTP/1.1\r\nA: b\n\r\n"]),
            [b"GET / HTTP/1.1\r\nA: b\0\r\n"]
        );
        let parts: [&[u8]; 2] = [b"GET / HTTP/1.1\r\nA: b", b"\nC: d\r\n\r\n"];
        assert_eq!(
            reads(&parts),
            [&b"GET / HTTP/1.1\r\nA: b"[..], b"\0C: d\r\n\r\n"]
        );
    }

    #[test]
    fn anything_else_is_passed_on_as_it_comes() {
        assert_eq!(reads(&[b"GET ", b"", b"/"]), [&b"GET "[..], b"/"]);
        assert_eq!(reads(&[b"P", b"OST", b" /"]), [&b"POST"[..], b" /"]);
        assert_eq!(reads(&[b"PRI", b""]), [b"PRI"]);
        assert_eq!(reads(&[]), [b""; 0]);
    }
}
