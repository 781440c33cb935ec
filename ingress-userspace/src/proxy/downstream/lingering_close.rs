//! The end of a connection that the client may not have noticed yet.
//!
//! A socket that is closed while bytes of the client are unread, or on their way, is reset by the
//! kernel, and the client may lose what was written to it before (RFC 9112 §9.6). So our side is
//! closed first, and what still comes is read and forgotten until the client has closed its own.

use std::io;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::limits::{
    CLOSING_AT_END_MAX, CLOSING_BYTES_MAX, CLOSING_MAX, UNREAD_BODY_BYTES_MAX, UNREAD_BODY_MAX,
};
use crate::proxy::runtime::stream::OverTcp;

/// Closes our side, and waits a bounded time for the client to close its own.
pub(crate) async fn close(stream: impl OverTcp, runtime: &Runtime) {
    discard_at_most(stream, CLOSING_BYTES_MAX, CLOSING_MAX, runtime).await;
}

/// The same after a response to a request of whose body there is more to come: some clients read the
/// response only when they have sent all of it.
pub(crate) async fn close_amid_body(stream: impl OverTcp, runtime: &Runtime) {
    discard_at_most(stream, UNREAD_BODY_BYTES_MAX, UNREAD_BODY_MAX, runtime).await;
}

async fn discard_at_most(
    stream: impl OverTcp,
    bytes_max: usize,
    limit: Duration,
    runtime: &Runtime,
) {
    let tcp = stream.tcp();
    if SockRef::from(tcp).shutdown(Shutdown::Write).is_err() {
        // There is no connection any more.
        return;
    }
    let limit = if runtime.drain.has_begun() {
        CLOSING_AT_END_MAX
    } else {
        limit
    };
    runtime.timers.timeout(limit, discard(tcp, bytes_max)).await;
}

/// Reads until the client has closed, or has sent too much.
async fn discard(tcp: &TcpStream, bytes_max: usize) {
    let mut left = bytes_max;
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
