//! A response on its way to an HTTP/1 client.
//!
//! Head and body leave together where both are there. A body is asked for more only when the client
//! has taken what it gave before, so that nothing piles up here. While the client takes nothing, no
//! large buffer is kept, unless there is a permit for it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::Frame;
use ingress_wire::http1::{Framing, LAST_CHUNK, write_chunk_size, write_trailers};
use thiserror::Error;

use super::client_io::ClientIo;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::runtime::bulk::BulkPermit;
use crate::proxy::runtime::limits::{
    CONNECTION_BUFFER_BYTES_MAX, HELD_BYTES_MAX, STALLED_CONNECTION_BYTES,
};
use crate::proxy::runtime::pipe::Pipe;
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::stalls::Stall;
use crate::proxy::upstream::error::BodyError;

/// What is to be written.
#[derive(Default)]
pub(super) struct ResponseWriter {
    /// Heads, and what stands around chunks.
    text: Vec<u8>,
    text_written: usize,
    /// A piece of a body, which follows the text.
    data: Bytes,
    /// The same, in a pipe.
    pipe: Option<Pipe>,
    /// What follows the piece.
    after: &'static [u8],
    /// For large pieces.
    permit: Option<BulkPermit>,
    /// Since the client has taken as much as a stalled connection holds.
    stall: Option<Stall>,
    /// Bytes that it has taken since the stall began.
    taken: usize,
}

/// A body that has not ended.
pub(super) struct Sending {
    pub(super) body: ResponseBody,
    pub(super) framing: Framing,
}

/// Why a response is not written to its end.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    /// The client takes nothing more.
    #[error("client connection broke")]
    Io(#[from] io::Error),
    /// The endpoint has broken off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body has another length than its head says.
    #[error("response body has another length than its head says")]
    OtherLength,
}

impl ResponseWriter {
    /// Where text goes that is written next; what was there has left.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        if self.text_written == self.text.len() {
            self.text.clear();
            self.text_written = 0;
        }
        &mut self.text
    }

    fn is_written(&self) -> bool {
        self.text_written == self.text.len() && !self.has_piece()
    }

    fn has_piece(&self) -> bool {
        !self.data.is_empty() || self.pipe.is_some() || !self.after.is_empty()
    }

    /// Writes as much as there is, to the end of `sending`, which is `None` then.
    pub(super) fn poll(
        &mut self,
        sending: &mut Option<Sending>,
        io: &ClientIo,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        loop {
            let Some(Sending { body, framing }) = sending else {
                return self.poll_taken(None, io, cx).map_err(WriteError::Io);
            };
            // A piece that is there leaves with the text before it.
            if self.has_piece() {
                ready!(self.poll_taken(Some(body), io, cx))?;
                continue;
            }
            let frame = match body.poll_frame(self.bytes_max(), cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.poll_taken(Some(body), io, cx))?;
                    self.stall = None;
                    body.let_go();
                    self.end_bulk(io);
                    return Poll::Pending;
                }
            };
            let taken = match frame {
                Some(Ok(frame)) => {
                    self.ask_for_bulk(&frame, io);
                    // Known before it is written, so that the request has ended for whoever asks
                    // when the client has its response.
                    let is_last = body.is_end_stream();
                    self.take(frame, is_last, framing)
                }
                Some(Err(error)) => Err(error.into()),
                None => self.end(framing),
            };
            match taken {
                Ok(Progress::GoesOn) => {}
                Ok(Progress::Ends) => *sending = None,
                Err(error) => {
                    // The client gets all that the endpoint has sent.
                    ready!(self.poll_write(io, cx))?;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Bytes of a body that may be read at once.
    fn bytes_max(&self) -> usize {
        if self.permit.is_some() {
            CONNECTION_BUFFER_BYTES_MAX
        } else {
            // As much again may be held back by TLS.
            HELD_BYTES_MAX / 2
        }
    }

    /// Asks for a permit for larger pieces, if this one is as large as it may be without.
    fn ask_for_bulk(&mut self, frame: &Frame<Chunk>, io: &ClientIo) {
        if let Some(Chunk::Bytes(bytes)) = frame.data_ref()
            && bytes.len() >= HELD_BYTES_MAX / 4
            && self.permit.is_none()
        {
            self.permit = io.take_bulk();
        }
    }

    /// Writes what there is, and keeps little of `body` while the client takes nothing.
    fn poll_taken(
        &mut self,
        body: Option<&mut ResponseBody>,
        io: &ClientIo,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = self.poll_write(io, cx);
        if poll.is_ready() {
            return poll;
        }
        let held = body.map_or(0, ResponseBody::let_go).max(self.data.len());
        // TLS holds back no more bytes than the permit allows.
        if held <= HELD_BYTES_MAX && !io.may_hold_bytes() && self.end_bulk(io) {
            // The rest of a large piece would keep all of its memory.
            self.data = Bytes::copy_from_slice(&self.data);
        }
        if self.stall.get_or_insert_with(|| io.stall(cx)).is_ended() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Gives the permit back, if there is one.
    fn end_bulk(&mut self, io: &ClientIo) -> bool {
        let permit = self.permit.take();
        if permit.is_some() {
            io.end_bulk();
        }
        permit.is_some()
    }

    /// Counts bytes that the client has taken. A client that takes them one by one still stalls.
    fn note_taken(&mut self, count: usize) {
        self.taken += count;
        if self.taken >= STALLED_CONNECTION_BYTES {
            self.stall = None;
            self.taken = 0;
        }
    }

    /// Takes what comes next of a body.
    fn take(
        &mut self,
        frame: Frame<Chunk>,
        is_last: bool,
        framing: &mut Framing,
    ) -> Result<Progress, WriteError> {
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => {
                let Framing::Chunked { trailers: names } = framing else {
                    return self.end(framing);
                };
                let trailers = frame.into_trailers().unwrap_or_default();
                write_trailers(&trailers, names, self.text());
                return Ok(Progress::Ends);
            }
        };
        let length = chunk.length();
        match framing {
            Framing::None => return Ok(Progress::Ends),
            Framing::Length(left) => {
                // A longer body would be read as the next response.
                let rest = left.checked_sub(length as u64);
                *left = rest.ok_or(WriteError::OtherLength)?;
            }
            Framing::UntilClose => {}
            Framing::Chunked { .. } if length == 0 => {}
            Framing::Chunked { .. } => {
                write_chunk_size(length, self.text());
                self.after = if is_last { AFTER_LAST } else { AFTER };
            }
        }
        self.put(chunk);
        let is_whole = match framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked { .. } => length > 0,
            Framing::None | Framing::UntilClose => true,
        };
        Ok(if is_last && is_whole {
            Progress::Ends
        } else {
            Progress::GoesOn
        })
    }

    /// Ends a body without fields after it.
    fn end(&mut self, framing: &Framing) -> Result<Progress, WriteError> {
        match framing {
            Framing::None | Framing::Length(0) | Framing::UntilClose => {}
            Framing::Length(_) => return Err(WriteError::OtherLength),
            Framing::Chunked { .. } => self.text().extend_from_slice(LAST_CHUNK),
        }
        Ok(Progress::Ends)
    }

    fn put(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Bytes(bytes) => self.data = bytes,
            Chunk::Spliced(pipe) => self.pipe = Some(pipe),
        }
    }

    fn poll_write(&mut self, io: &ClientIo, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let text = &self.text[self.text_written..];
            if let Some(pipe) = &mut self.pipe {
                if text.is_empty() {
                    let written = ready!(io.poll_drain(pipe, cx))?;
                    if pipe.length() == 0 {
                        self.pipe = None;
                    }
                    self.note_taken(written);
                    continue;
                }
                let written = ready!(io.poll_write_before_pipe(&[IoSlice::new(text)], cx))?;
                self.text_written += written;
                continue;
            }
            let parts = [text, &self.data, self.after].map(IoSlice::new);
            let from = usize::from(text.is_empty());
            let to = if self.after.is_empty() { 2 } else { 3 };
            let to = if self.data.is_empty() && to == 2 {
                1
            } else {
                to
            };
            let written = ready!(io.poll_write(&parts[from..to], cx))?;
            self.advance(written);
        }
        io.poll_flush(cx)
    }

    fn advance(&mut self, mut count: usize) {
        self.note_taken(count);
        let text = count.min(self.text.len() - self.text_written);
        self.text_written += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        count -= data;
        self.after = &self.after[count..];
    }

    /// Gives back what it has room for beyond the usual, between two responses.
    pub(super) fn settle(&mut self, io: &ClientIo) {
        self.stall = None;
        self.end_bulk(io);
        if self.text.capacity() > TEXT_BYTES_KEPT {
            self.text = Vec::new();
            self.text_written = 0;
        }
    }
}

/// What follows a chunk.
const AFTER: &[u8] = b"\r\n";

/// What follows the last one.
const AFTER_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How far a body has come.
enum Progress {
    GoesOn,
    Ends,
}

/// Room for heads that a connection keeps between two responses.
const TEXT_BYTES_KEPT: usize = 4096;
