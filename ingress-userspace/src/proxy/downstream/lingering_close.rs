//! The end of a connection that the client may not have noticed yet.
//!
//! A socket that is closed while bytes of the client are unread, or on their way, is reset by the
//! kernel, and the client may lose what was written to it before (RFC 9112 §9.6). So our side is
//! closed first, and what still comes is read and forgotten until the client has closed its own.

use std::io;
use std::net::Shutdown;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::proxy::runtime::limits::{CLOSING_AT_END_MAX, CLOSING_BYTES_MAX, CLOSING_MAX};
use crate::proxy::worker::WorkerState;

/// What is carried by a TCP connection.
pub(crate) trait OverTcp {
    /// The connection.
    fn tcp(&self) -> &TcpStream;
}

/// Closes our side, and waits a bounded time for the client to close its own.
pub(crate) async fn close(stream: impl OverTcp, worker: &WorkerState) {
    let tcp = stream.tcp();
    if SockRef::from(tcp).shutdown(Shutdown::Write).is_err() {
        // There is no connection any more.
        return;
    }
    let limit = if worker.drain.has_begun() {
        CLOSING_AT_END_MAX
    } else {
        CLOSING_MAX
    };
    worker.timers.timeout(limit, discard(tcp)).await;
}

/// Reads until the client has closed, or has sent too much.
async fn discard(tcp: &TcpStream) {
    let mut left = CLOSING_BYTES_MAX;
    while left > 0 && tcp.readable().await.is_ok() {
        match read_some(tcp) {
            Ok(0) => return,
            Ok(count) => {
                left = left.saturating_sub(count);
                // Nobody waits for this but the client.
                tokio::task::yield_now().await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Not `async`, so that the room is on the stack.
fn read_some(tcp: &TcpStream) -> io::Result<usize> {
    tcp.try_read(&mut [0; 16 * 1024])
}
