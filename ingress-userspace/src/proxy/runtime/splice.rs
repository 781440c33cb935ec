//! The pieces of a response body: bytes in our memory, or bytes in a pipe of the kernel, which go
//! from the endpoint's socket to the client's around our memory.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::proxy::runtime::pipe::{Pipe, poll_when_ready};

/// A piece of a response body.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// In our memory.
    Bytes(Bytes),
    /// In a pipe, which is not empty.
    Spliced(Pipe),
}

impl Chunk {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Spliced(pipe) => pipe.length(),
        }
    }
}

/// Sends bytes that are followed by others at once, so that both leave in the same packets.
pub(crate) fn poll_send_more(
    sink: &TcpStream,
    slices: &[IoSlice<'_>],
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
    let send = || {
        let mut nothing = SendAncillaryBuffer::default();
        Ok(sendmsg(sink, slices, &mut nothing, flags)?)
    };
    poll_when_ready(sink, Interest::WRITABLE, cx, send)
}
