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
/// No byte is taken. An error if the peer ends before that.
pub(crate) async fn peek<const N: usize, T>(
    stream: &TcpStream,
    mut look: impl FnMut(&[u8]) -> io::Result<Peeked<T>>,
) -> io::Result<T> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let mut buffer = [0; N];
        // Saying that it would block has tokio wait for the next bytes.
        let outcome = stream.try_io(Interest::READABLE, || {
            let (_, count) = recv(stream.as_fd(), &mut buffer, RecvFlags::PEEK)?;
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
