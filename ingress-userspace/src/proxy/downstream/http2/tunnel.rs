//! A stream that has left HTTP (RFC 8441 §4): bytes in DATA frames, both ways.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use ingress_wire::http2::frame::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::session::SharedState;
use super::stream::{Part, Stream};
use crate::proxy::runtime::stream::{ClientTunnel, Joined};

/// A stream as a connection. Dropping it ends what of it has not ended.
pub(crate) struct Tunnel {
    stream: Rc<Stream>,
    session: Rc<SharedState>,
    /// Of what the client has sent, what has not been read.
    unread: Bytes,
}

impl Tunnel {
    pub(crate) fn new(stream: &Rc<Stream>, session: &Rc<SharedState>) -> Self {
        Self {
            stream: Rc::clone(stream),
            session: Rc::clone(session),
            unread: Bytes::new(),
        }
    }
}

impl ClientTunnel for Tunnel {
    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_tunnel(cx).map_err(broken)
    }
}

impl Joined for Tunnel {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unread.is_empty() {
            match ready!(this.stream.poll_part(cx)) {
                Ok(Part::Data(bytes)) => this.unread = bytes,
                Ok(Part::Trailers(_)) => {}
                Ok(Part::End) => return Poll::Ready(Ok(())),
                Err(reason) => return Poll::Ready(Err(broken(reason))),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        this.session.release(Some(&this.stream), count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.stream.is_answered() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = ready!(self.session.poll_window(&self.stream, cx)).map_err(broken)?;
        let some = &bytes[..bytes.len().min(room)];
        let copy = Bytes::copy_from_slice(some);
        self.session.send(&self.stream, copy, false);
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.stream.is_answered() && self.stream.is_reset().is_none() {
            self.session.send(&self.stream, Bytes::new(), true);
            self.session.ended(&self.stream);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let unread = self.unread.len() + self.stream.abandon();
        if unread > 0 {
            self.session.release(None, unread);
        }
        let is_over = self.stream.is_answered() && self.stream.is_complete();
        if self.stream.is_tunnel() && !is_over && self.stream.is_reset().is_none() {
            self.session.reset(self.stream.id, Reason::CANCEL);
        }
    }
}

fn broken(reason: Reason) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, reason)
}
