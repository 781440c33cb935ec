//! The request's half of a connection to an endpoint: what still has to be written.
//!
//! Head and body leave together where both are there. A body is asked for more only when what it
//! gave before has been taken, so that nothing piles up here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use ingress_wire::http1::{Framing, LAST_CHUNK, write_chunk_size, write_trailers};

use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::pipe::Pipe;
use crate::proxy::runtime::splice::poll_send_more;
use crate::proxy::runtime::stream::Joined;
use crate::proxy::upstream::request_body::RequestBody;

/// What is being sent.
#[derive(Default)]
pub(crate) struct Sender {
    /// Heads, and what stands around chunks.
    text: Vec<u8>,
    text_written: usize,
    /// Whether any byte of the request has left.
    has_begun: bool,
    /// Whether the request has a body, or had one.
    has_body: bool,
    /// Bytes of the body that were taken so far.
    body_bytes: u64,
    /// A piece of a body, which follows the text.
    data: Bytes,
    /// The same, in a pipe.
    pipe: Option<Pipe>,
    /// What follows the piece.
    after: &'static [u8],
    body: Option<Sending>,
}

/// A body that has not ended.
struct Sending {
    body: RequestBody,
    framing: Framing,
}

/// Why a request can't be sent to its end.
#[derive(Debug)]
pub(crate) enum SendFault {
    /// The connection takes nothing more.
    Write(io::Error),
    /// The body breaks off, or has another length than its head has said.
    Body,
}

impl Sender {
    /// Has a request leave, whose head is appended by `encode`. There must be none before it.
    pub(crate) fn begin(
        &mut self,
        body: RequestBody,
        encode: impl FnOnce(&RequestBody, &mut Vec<u8>) -> Framing,
    ) {
        debug_assert!(self.is_done(), "one request at a time");
        self.text.clear();
        self.text_written = 0;
        self.has_begun = false;
        self.body_bytes = 0;
        let framing = encode(&body, &mut self.text);
        self.has_body = framing != Framing::None;
        self.body = self.has_body.then_some(Sending { body, framing });
    }

    /// Whether all of it has left.
    pub(crate) fn is_done(&self) -> bool {
        self.body.is_none() && self.is_written()
    }

    /// The head of a request without a body, which may be sent again.
    pub(crate) fn head(&self) -> &[u8] {
        &self.text
    }

    /// Bytes of the body that were taken so far.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether nothing of it has left, and a body has nothing to do with it.
    pub(crate) fn is_unsent(&self) -> bool {
        !self.has_begun && !self.has_body
    }

    /// Sends nothing more. The connection is good for nothing else then.
    pub(crate) fn give_up(&mut self) {
        self.text_written = self.text.len();
        self.data = Bytes::new();
        self.pipe = None;
        self.after = b"";
        self.body = None;
    }

    /// Gives back what it has room for beyond the usual, between two requests.
    pub(crate) fn settle(&mut self) {
        if self.text.capacity() > TEXT_BYTES_KEPT {
            self.text = Vec::new();
            self.text_written = 0;
        }
    }

    /// Whether all that was taken of it has left.
    pub(crate) fn is_written(&self) -> bool {
        self.text_written == self.text.len() && !self.has_piece()
    }

    fn has_piece(&self) -> bool {
        !self.data.is_empty() || self.pipe.is_some() || !self.after.is_empty()
    }

    /// Writes as much as can be.
    pub(crate) fn poll<S: Joined>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendFault>> {
        loop {
            // A piece that is there leaves with the text before it.
            if self.body.is_some() && self.has_piece() {
                ready!(self.poll_write(stream, activity, cx))?;
                continue;
            }
            let Some(sending) = &mut self.body else {
                return self.poll_write(stream, activity, cx);
            };
            if stream.plain().is_some()
                && let Framing::Length(left) = &mut sending.framing
            {
                match sending.body.poll_splice(cx) {
                    Poll::Ready(Some(Ok(pipe))) => {
                        let rest = left.checked_sub(pipe.length() as u64);
                        *left = rest.ok_or(SendFault::Body)?;
                        self.body_bytes += pipe.length() as u64;
                        self.pipe = Some(pipe);
                        continue;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(SendFault::Body)),
                    Poll::Ready(None) => {}
                    Poll::Pending => {
                        ready!(self.poll_write(stream, activity, cx))?;
                        return Poll::Pending;
                    }
                }
            }
            let frame = match Pin::new(&mut sending.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    ready!(self.poll_write(stream, activity, cx))?;
                    return Poll::Pending;
                }
            };
            let frame = frame.transpose().map_err(|_| SendFault::Body)?;
            self.take(frame)?;
        }
    }

    /// Takes what comes next of the body; `None` is its end.
    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), SendFault> {
        let Some(sending) = &mut self.body else {
            return Ok(());
        };
        if self.text_written == self.text.len() {
            self.text.clear();
            self.text_written = 0;
        }
        let data = frame.as_ref().and_then(Frame::data_ref);
        self.body_bytes += data.map_or(0, |data| data.len() as u64);
        match (&mut sending.framing, frame.map(Frame::into_data)) {
            (Framing::Length(left), Some(Ok(data))) => {
                let after = left.checked_sub(data.len() as u64);
                *left = after.ok_or(SendFault::Body)?;
                self.data = data;
            }
            (Framing::Length(0), Some(Err(_)) | None)
            | (Framing::None | Framing::UntilClose, _) => {
                self.body = None;
            }
            (Framing::Length(_), Some(Err(_)) | None) => return Err(SendFault::Body),
            (Framing::Chunked { .. }, Some(Ok(data))) if data.is_empty() => {}
            (Framing::Chunked { .. }, Some(Ok(data))) => {
                write_chunk_size(data.len(), &mut self.text);
                self.data = data;
                self.after = b"\r\n";
            }
            (Framing::Chunked { trailers: names }, Some(Err(frame))) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                write_trailers(&trailers, names, &mut self.text);
                self.body = None;
            }
            (Framing::Chunked { .. }, None) => {
                self.text.extend_from_slice(LAST_CHUNK);
                self.body = None;
            }
        }
        Ok(())
    }

    fn poll_write<S: Joined>(
        &mut self,
        stream: &mut S,
        activity: &Activity,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendFault>> {
        while !self.is_written() {
            let text = &self.text[self.text_written..];
            if let (Some(pipe), Some(tcp)) = (&mut self.pipe, stream.plain()) {
                let poll = if text.is_empty() {
                    pipe.poll_drain(tcp, usize::MAX, cx)
                } else {
                    poll_send_more(tcp, &[IoSlice::new(text)], cx)
                };
                let count = ready!(poll).map_err(SendFault::Write)?;
                if text.is_empty() && pipe.length() == 0 {
                    self.pipe = None;
                } else if !text.is_empty() {
                    self.text_written += count;
                }
                self.has_begun = true;
                activity.touch();
                continue;
            }
            let poll = if self.data.is_empty() && self.after.is_empty() {
                Pin::new(&mut *stream).poll_write(cx, text)
            } else {
                let parts = [text, &self.data, self.after].map(IoSlice::new);
                let parts = &parts[usize::from(text.is_empty())..];
                Pin::new(&mut *stream).poll_write_vectored(cx, parts)
            };
            match ready!(poll) {
                Ok(0) => {
                    return Poll::Ready(Err(SendFault::Write(io::ErrorKind::WriteZero.into())));
                }
                Ok(count) => self.advance(count),
                Err(error) => return Poll::Ready(Err(SendFault::Write(error))),
            }
            activity.touch();
        }
        // Nothing for TCP; what TLS holds back.
        Pin::new(stream).poll_flush(cx).map_err(SendFault::Write)
    }

    fn advance(&mut self, mut count: usize) {
        self.has_begun = true;
        let text = count.min(self.text.len() - self.text_written);
        self.text_written += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        count -= data;
        self.after = &self.after[count..];
    }
}

/// Room for heads that an idle connection keeps.
const TEXT_BYTES_KEPT: usize = 4096;
