//! The byte streams that a worker serves: TCP or TLS over it, from clients and to endpoints.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::proxy::runtime::shortcut_stream::ShortcutStream;

/// The streams that a worker serves.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Whether its bytes are those of the TCP connection: without TLS.
    fn is_plain(&self) -> bool;

    /// Whether the kernel says all that there is to say when the socket is closed: hyper closes
    /// right after it shuts down, so that `shutdown(2)` would be one system call for nothing.
    /// Over TLS, `close_notify` (RFC 8446 §6.1) tells an end from a truncation.
    fn closes_silently(&self) -> bool {
        self.is_plain()
    }

    /// Whether there may be bytes in it that have left the socket.
    fn may_hold_bytes(&self) -> bool {
        !self.is_plain()
    }

    /// The TCP connection underneath.
    fn tcp(&self) -> &TcpStream;
}

/// Streams that a tunnel joins.
pub(crate) trait Joined: AsyncRead + AsyncWrite + Unpin {
    /// The TCP connection, where its bytes are the stream's.
    fn plain(&self) -> Option<&TcpStream>;
}

/// One side of a tunnel, with what was read from it while it still spoke HTTP.
pub(crate) struct Side<S> {
    pub(crate) stream: S,
    pub(crate) early: Bytes,
}

impl<S> Side<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            early: Bytes::new(),
        }
    }
}

impl<S: Stream> Joined for S {
    fn plain(&self) -> Option<&TcpStream> {
        self.is_plain().then(|| self.tcp())
    }
}

/// A stream of a client that is to leave HTTP.
pub(crate) trait ClientTunnel: Joined {
    /// Whether the client knows that the stream has left HTTP; an error if it ended before.
    fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Joined for Box<dyn ClientTunnel> {
    fn plain(&self) -> Option<&TcpStream> {
        (**self).plain()
    }
}

/// A stream among others of HTTP/2.
impl Joined for TokioIo<Upgraded> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

/// A stream over a TCP connection.
pub(crate) trait OverTcp {
    /// The connection.
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for ClientStream {
    fn tcp(&self) -> &TcpStream {
        Stream::tcp(self)
    }
}

impl Stream for TcpStream {
    fn is_plain(&self) -> bool {
        true
    }

    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for server::TlsStream<TcpStream> {
    fn is_plain(&self) -> bool {
        false
    }

    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A stream from a client that may speak HTTP/1.
pub(crate) enum ClientStream {
    Tcp(TcpStream),
    /// Boxed, so that an idle connection has little in its task.
    Tls(Box<server::TlsStream<TcpStream>>),
}

impl ClientStream {
    /// Has TLS hold back no more than so many bytes that the client does not take.
    pub(crate) fn set_held(&mut self, bytes_max: usize) {
        if let Self::Tls(stream) = self {
            stream.get_mut().1.set_buffer_limit(Some(bytes_max));
        }
    }
}

/// A stream to an endpoint.
pub(crate) enum UpstreamStream {
    Tcp(TcpStream),
    /// Boxed: it is fifty times as large.
    Tls(Box<client::TlsStream<TcpStream>>),
    /// To a pod of this node, with bytes that come and go past TCP.
    Shortcut(ShortcutStream),
}

impl UpstreamStream {
    /// A connection without TLS.
    pub(crate) fn unencrypted(stream: TcpStream) -> Self {
        match ShortcutStream::of(stream) {
            Ok(stream) => Self::Shortcut(stream),
            Err(stream) => Self::Tcp(stream),
        }
    }

    /// Has what is sent from now on take the shortcut, if there is one, or not.
    pub(crate) fn allow_shortcut(&mut self, is_allowed: bool) {
        if let Self::Shortcut(stream) = self {
            stream.allow(is_allowed);
        }
    }
}

/// Passes calls on to the stream of either kind.
macro_rules! either {
    ($name:ident $(, $more:ident)?) => {
        impl Stream for $name {
            fn is_plain(&self) -> bool {
                matches!(self, Self::Tcp(_))
            }

            fn tcp(&self) -> &TcpStream {
                match self {
                    Self::Tcp(stream) => stream,
                    Self::Tls(stream) => stream.get_ref().0,
                    $(Self::$more(stream) => stream.tcp(),)?
                }
            }
        }

        impl AsyncRead for $name {
            #[inline]
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
                    Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
                    $(Self::$more(stream) => Pin::new(stream).poll_read(cx, buffer),)?
                }
            }
        }

        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
                    Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
                    $(Self::$more(stream) => Pin::new(stream).poll_write(cx, bytes),)?
                }
            }

            #[inline]
            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
                    Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
                    $(Self::$more(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),)?
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Tcp(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                    $(Self::$more(stream) => stream.is_write_vectored(),)?
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
                    $(Self::$more(stream) => Pin::new(stream).poll_flush(cx),)?
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
                    $(Self::$more(stream) => Pin::new(stream).poll_shutdown(cx),)?
                }
            }
        }
    };
}

either!(ClientStream);
either!(UpstreamStream, Shortcut);
