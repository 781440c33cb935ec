//! Transforms of response bodies: compression, and a bandwidth bound.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::request::compress::Encoder;
use crate::proxy::request::pace::Pace;
use crate::proxy::runtime::splice::Chunk;

/// The transforms of one response body.
#[derive(Default)]
pub(crate) struct Transform {
    pub(crate) pace: Option<Pace>,
    pub(crate) encoder: Option<Encoder>,
    /// The trailers after the compressed body.
    trailers: Option<Frame<Chunk>>,
    /// Whether the endpoint has sent everything.
    is_read: bool,
}

impl Transform {
    pub(crate) fn new(pace: Option<Pace>, encoder: Option<Encoder>) -> Option<Box<Self>> {
        let is_any = pace.is_some() || encoder.is_some();
        is_any.then(|| {
            Box::new(Self {
                pace,
                encoder,
                ..Self::default()
            })
        })
    }

    /// Ready when more may follow.
    pub(crate) fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll(cx));
        }
        Poll::Ready(())
    }

    /// Notes bytes that were handed over.
    pub(crate) fn note(&mut self, bytes: usize) {
        if let Some(pace) = &mut self.pace {
            pace.note(bytes);
        }
    }

    /// The output that is ready without reading from the endpoint: compressed bytes, then the trailers.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Option<Frame<Chunk>> {
        let encoder = self.encoder.as_mut()?;
        if let Some(bytes) = encoder.take(bytes_max) {
            return Some(Frame::data(Chunk::Bytes(bytes)));
        }
        self.trailers.take().filter(|_| encoder.is_over())
    }

    /// Compresses what an endpoint has sent: a frame, nothing for now, or the end.
    ///
    /// # Errors
    ///
    /// An I/O error if the encoder has no memory.
    pub(crate) fn add(&mut self, piece: Piece) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(());
        };
        match piece {
            Piece::Data(bytes) => encoder.write(&bytes),
            Piece::Pause => encoder.flush(),
            Piece::Trailers(frame) => {
                self.trailers = Some(frame);
                self.is_read = true;
                encoder.finish()
            }
            Piece::End => {
                self.is_read = true;
                encoder.finish()
            }
        }
    }

    /// Compressed bytes that were not handed over yet.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.encoder.as_ref().map_or(0, Encoder::ready_bytes)
    }

    /// Whether the endpoint has sent everything.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Whether everything was handed over, where the body is compressed.
    pub(crate) fn is_over(&self) -> Option<bool> {
        let encoder = self.encoder.as_ref()?;
        Some(encoder.is_over() && self.trailers.is_none())
    }
}

/// A piece of a body from an endpoint.
pub(crate) enum Piece {
    Data(Bytes),
    /// It pauses.
    Pause,
    Trailers(Frame<Chunk>),
    End,
}
