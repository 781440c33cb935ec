//! What was read from a connection and not yet used, in a buffer that grows with what comes at once
//! and is given back when the connection is idle.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::proxy::runtime::limits::CONNECTION_BUFFER_BYTES_MAX;

/// Bytes that have come.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: BytesMut,
    /// What the next read has room for.
    room: usize,
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            room: ROOM_MIN,
        }
    }
}

impl ReadBuffer {
    /// Reads once; zero is the end of the stream.
    pub(crate) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Self { bytes, room } = self;
        if bytes.capacity() - bytes.len() < *room / 2 {
            bytes.reserve(*room);
        }
        let spare = bytes.capacity() - bytes.len();
        let count = ready!(pin!(stream.read_buf(bytes)).poll(cx))?;
        // A large body moves by large reads, and what is small leaves no large buffer behind.
        if count >= spare.min(*room) {
            *room = (*room * 2).min(CONNECTION_BUFFER_BYTES_MAX);
        } else if count < *room / 4 {
            *room = (*room / 2).max(ROOM_MIN);
        }
        Poll::Ready(Ok(count))
    }

    /// Makes the next read a small one. The buffer must be empty.
    pub(crate) fn shrink(&mut self) {
        debug_assert!(self.bytes.is_empty(), "what was read would be lost");
        if self.bytes.capacity() > ROOM_MIN {
            self.bytes = BytesMut::new();
        }
        self.room = ROOM_MIN;
    }

    /// Keeps no memory. The buffer must be empty.
    pub(crate) fn release(&mut self) {
        debug_assert!(self.bytes.is_empty(), "what was read would be lost");
        *self = Self::default();
    }
}

/// Bytes that a read has room for at least.
const ROOM_MIN: usize = 8 * 1024;
