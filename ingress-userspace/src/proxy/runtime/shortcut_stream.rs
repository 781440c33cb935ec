//! A connection to a pod of this node that the kernel carries from socket to socket, past TCP (see
//! `datapath/shortcut`).
//!
//! The kernel keeps two queues for such a socket: bytes of the shortcut, and bytes of TCP after them.
//! A read gives those of one, so a read that is not full does not say that nothing is left, and
//! `splice(2)` sees the second alone. So this stream asks the kernel until it has nothing, and never
//! takes part in a pipe.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ingress_common::shortcut::{ENROLLED_SYN_RETRIES, SHORTCUT_PRIORITY};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection that takes the shortcut.
pub(crate) struct ShortcutStream {
    stream: TcpStream,
    /// Whether what is sent may take it too: as the socket's priority says.
    is_allowed: bool,
}

impl ShortcutStream {
    /// Takes a connection if the kernel has enrolled it, else gives it back.
    pub(crate) fn of(stream: TcpStream) -> Result<Self, TcpStream> {
        if is_enrolled(&stream) {
            Ok(Self {
                stream,
                is_allowed: false,
            })
        } else {
            Err(stream)
        }
    }

    /// The connection.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    /// Gives the connection to another owner, who asks anew what it is.
    pub(crate) fn into_tcp(mut self) -> TcpStream {
        self.allow(false);
        self.stream
    }

    /// Has what is sent from now on take the shortcut, or not.
    pub(crate) fn allow(&mut self, is_allowed: bool) {
        if self.is_allowed == is_allowed {
            return;
        }
        let priority = if is_allowed { SHORTCUT_PRIORITY } else { 0 };
        let set = set_option(&self.stream, libc::SOL_SOCKET, libc::SO_PRIORITY, priority);
        // Without the priority bytes go by TCP, which is always right; it is never refused when it is
        // taken back.
        debug_assert!(set || is_allowed, "a priority of 0 is never refused");
        self.is_allowed = is_allowed && set;
    }
}

impl AsyncRead for ShortcutStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.get_mut().stream;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            // Unlike `poll_read`, it goes on after a read that was not full.
            match stream.try_read_buf(buffer) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for ShortcutStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Whether the kernel has enrolled a socket, which it does before the connection is established.
fn is_enrolled(stream: &TcpStream) -> bool {
    let mut retries: libc::c_int = 0;
    let mut length = INT_BYTES;
    // SAFETY: the descriptor is open, and the kernel writes an int of the size that is told.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            (&raw mut retries).cast(),
            &raw mut length,
        )
    };
    result == 0 && retries == ENROLLED_SYN_RETRIES
}

fn set_option(stream: &TcpStream, level: libc::c_int, name: libc::c_int, value: u32) -> bool {
    // SAFETY: the descriptor is open, and the value is an int of the size that is told.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            INT_BYTES,
        )
    };
    result == 0
}

/// Size of a C `int`.
const INT_BYTES: libc::socklen_t = 4;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A connection, of which the first end is marked as the kernel does.
    async fn marked_pair() -> (ShortcutStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (here, (there, _)) = (stream.unwrap(), listener.accept().await.unwrap());
        let Err(here) = ShortcutStream::of(here) else {
            panic!("nobody has enrolled it");
        };
        let retries = u32::try_from(ENROLLED_SYN_RETRIES).unwrap();
        assert!(set_option(
            &here,
            libc::IPPROTO_TCP,
            libc::TCP_SYNCNT,
            retries
        ));
        let Ok(here) = ShortcutStream::of(here) else {
            panic!("it is marked");
        };
        (here, there)
    }

    #[tokio::test]
    async fn read_that_is_not_full_is_followed_by_another() {
        let (mut here, mut there) = marked_pair().await;
        there.write_all(b"one").await.unwrap();
        here.stream.readable().await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = [0; 64];
        let mut buffer = ReadBuf::new(&mut room);
        assert!(
            Pin::new(&mut here)
                .poll_read(&mut cx, &mut buffer)
                .is_ready()
        );
        assert_eq!(buffer.filled(), b"one");
        // A second queue of the kernel would have its bytes without another event.
        assert!(here.stream.poll_read_ready(&mut cx).is_ready());
        assert!(
            Pin::new(&mut here)
                .poll_read(&mut cx, &mut buffer)
                .is_pending()
        );
    }

    #[tokio::test]
    async fn priority_follows_what_may_take_the_shortcut() {
        let (mut here, _there) = marked_pair().await;
        let priority = |stream: &ShortcutStream| {
            let (mut value, mut length) = (0_u32, INT_BYTES);
            // SAFETY: the descriptor is open, and the kernel writes an int of the size that is told.
            let result = unsafe {
                libc::getsockopt(
                    stream.stream.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_PRIORITY,
                    (&raw mut value).cast(),
                    &raw mut length,
                )
            };
            assert_eq!(result, 0);
            value
        };
        assert_eq!(priority(&here), 0);
        here.allow(true);
        assert_eq!(priority(&here), SHORTCUT_PRIORITY);
        here.allow(false);
        assert_eq!(priority(&here), 0);
    }
}
