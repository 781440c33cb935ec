//! What was read from a connection and not yet used, in a buffer that grows with what comes at once
//! and is given back when the connection is idle.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::proxy::runtime::limits::{CONNECTION_BUFFER_BYTES_MAX, HELD_BYTES_MAX};

/// Bytes that have come.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: BytesMut,
    /// What the next read has room for.
    room: usize,
    /// Bytes of the memory that stands behind `bytes`, at most.
    block: usize,
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self {
            bytes: BytesMut::new(),
            room: ROOM_MIN,
            block: 0,
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
        self.poll_read_some(stream, usize::MAX, cx)
    }

    /// Reads once, and no more than so many bytes, of which there must be some.
    pub(crate) fn poll_read_some<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Self { bytes, room, block } = self;
        let wanted = bytes_max.min(*room);
        if bytes.capacity() - bytes.len() < wanted.div_ceil(2) {
            bytes.reserve(wanted);
            *block = bytes.capacity().max(*block);
        }
        let spare = bytes.capacity() - bytes.len();
        let mut limited = (&mut *bytes).limit(bytes_max);
        let count = ready!(pin!(stream.read_buf(&mut limited)).poll(cx))?;
        // A large body moves by large reads, and what is small leaves no large buffer behind.
        if count >= spare.min(wanted) {
            *room = (*room * 2).min(CONNECTION_BUFFER_BYTES_MAX);
        } else if count < *room / 4 {
            *room = (*room / 2).max(ROOM_MIN);
        }
        Poll::Ready(Ok(count))
    }

    /// Keeps no more memory than what is in it takes, for as long as nothing is read; returns how
    /// many bytes that is at most. The next read is as large as before.
    pub(crate) fn let_go(&mut self) -> usize {
        let length = self.bytes.len();
        if self.block > length && length <= HELD_BYTES_MAX {
            // Bytes that were taken out of the block may still be in use, and keep the whole block alive.
            self.bytes = BytesMut::from(&self.bytes[..]);
            self.block = length;
        }
        self.block
    }

    /// Makes the next read a small one. The buffer must be empty.
    pub(crate) fn shrink(&mut self) {
        debug_assert!(self.bytes.is_empty(), "what was read would be lost");
        if self.bytes.capacity() > ROOM_MIN {
            self.bytes = BytesMut::new();
            self.block = 0;
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
