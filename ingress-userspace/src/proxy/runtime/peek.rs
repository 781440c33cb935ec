//! Looks at the first bytes of a connection where they lie in the socket, until they tell what was
//! asked.

use std::io;
use std::os::fd::AsFd as _;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What the bytes so far tell.
pub(crate) enum Peeked<T> {
    /// All that was asked.
    Complete(T),
    /// Too little.
    Incomplete,
}

/// Looks at up to N bytes until `look` has seen enough.
///
/// No byte is taken. Each look begins at the first byte again, so a peer that sends them one by one
/// causes work that grows with the square of their number, up to a bound.
///
/// # Errors
///
/// An I/O error if the peer ends before that, or has caused more work than [`LOOKED_BYTES_MAX`].
pub(crate) async fn peek<const N: usize, T>(
    stream: &TcpStream,
    mut look: impl FnMut(&[u8]) -> io::Result<Peeked<T>>,
) -> io::Result<T> {
    let mut looked = 0;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let mut buffer = [0; N];
        // Saying that it would block has tokio wait for the next bytes.
        let outcome = stream.try_io(Interest::READABLE, || {
            let (_, count) = recv(stream.as_fd(), &mut buffer, RecvFlags::PEEK)?;
            looked += count;
            if looked > LOOKED_BYTES_MAX {
                return Err(io::Error::other("the first bytes come in too many pieces"));
            }
            match look(&buffer[..count])? {
                Peeked::Complete(seen) => Ok(seen),
                // Nothing can follow: waiting for it would be a loop that never waits.
                Peeked::Incomplete if ready.is_read_closed() || count == N => {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
                Peeked::Incomplete => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

/// Bytes that are looked at for one connection: a `ClientHello` of 2 KiB that comes byte by byte takes half
/// of them.
const LOOKED_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_sends_a_little_at_a_time_causes_bounded_work() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // More follows when the last bytes were looked at, however busy the machine is.
        let look = Rc::new(Notify::new());
        let looked_at = Rc::clone(&look);
        let send = async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            loop {
                stream.write_all(&[b'x'; 64]).await.unwrap();
                looked_at.notified().await;
            }
        };
        let mut looked = 0;
        let receive = async {
            let (stream, _) = listener.accept().await.unwrap();
            let outcome = peek::<{ 1 << 16 }, ()>(&stream, |bytes| {
                looked += bytes.len();
                look.notify_one();
                Ok(Peeked::Incomplete)
            });
            outcome.await.unwrap_err()
        };
        let error = tokio::select! {
            error = receive => error,
            never = send => never,
        };
        assert_eq!(error.kind(), io::ErrorKind::Other, "{error}");
        assert!(looked <= LOOKED_BYTES_MAX);
    }
}
