//! Compresses a response body on its way to a client, and replaces texts in it before.
//!
//! What an endpoint sends is written to the encoder piece by piece. When the endpoint pauses, the
//! encoder is flushed, so that a client sees events of a slow stream as they come.

use std::io::{self, Write as _};

use brotli::enc::BrotliEncoderParams;
use bytes::{Bytes, BytesMut};
use flate2::write::GzEncoder;
use ingress_core::filter::substitution::Replacer;
use ingress_core::ir::Coding;

/// A body that is being compressed, or only has texts replaced.
pub(crate) struct Encoder {
    /// Replaces texts before anything else.
    replacer: Option<Replacer>,
    stream: Option<Stream>,
    /// Encoded bytes that were not handed over yet.
    ready: BytesMut,
    /// Whether it has got something since it was flushed.
    is_dirty: bool,
}

enum Stream {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// # Errors
    ///
    /// An I/O error if the encoder has no memory.
    pub(crate) fn new(coding: Coding, level: u32) -> io::Result<Self> {
        let stream = match coding {
            Coding::Gzip => {
                Stream::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::new(level)))
            }
            Coding::Brotli => {
                let parameters = BrotliEncoderParams {
                    quality: i32::try_from(level).unwrap_or(4),
                    lgwin: BROTLI_WINDOW_BITS,
                    ..BrotliEncoderParams::default()
                };
                let writer =
                    brotli::CompressorWriter::with_params(Vec::new(), BUFFER_BYTES, &parameters);
                Stream::Brotli(Box::new(writer))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or(3);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                Stream::Zstd(encoder)
            }
        };
        Ok(Self::of(stream))
    }

    /// One that compresses nothing.
    pub(crate) fn identity() -> Self {
        Self::of(Stream::Identity(Vec::new()))
    }

    fn of(stream: Stream) -> Self {
        Self {
            replacer: None,
            stream: Some(stream),
            ready: BytesMut::new(),
            is_dirty: false,
        }
    }

    /// The same for what a replacer makes of the body.
    pub(crate) fn after(self, replacer: Replacer) -> Self {
        Self {
            replacer: Some(replacer),
            ..self
        }
    }

    /// Adds a piece of the body.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.is_dirty = true;
        let Some(replacer) = &mut self.replacer else {
            return self.with(|stream| stream.write_all(piece));
        };
        let mut text = Vec::with_capacity(piece.len());
        replacer.write(piece, &mut text);
        self.with(|stream| stream.write_all(&text))
    }

    /// Makes everything that was added ready.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_dirty) {
            self.with(Stream::flush)
        } else {
            Ok(())
        }
    }

    /// Ends the body.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(mut replacer) = self.replacer.take() {
            let mut rest = Vec::new();
            replacer.finish(&mut rest);
            self.with(|stream| stream.write_all(&rest))?;
        }
        if let Some(stream) = self.stream.take() {
            let rest = stream.finish()?;
            self.ready.extend_from_slice(&rest);
        }
        Ok(())
    }

    /// The next compressed bytes, at most so many; `None` if there are none yet.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Option<Bytes> {
        let length = self.ready.len().min(bytes_max);
        (length > 0).then(|| self.ready.split_to(length).freeze())
    }

    /// Compressed bytes that were not handed over yet.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Whether all of it was handed over.
    pub(crate) fn is_over(&self) -> bool {
        self.stream.is_none() && self.ready.is_empty()
    }

    fn with(&mut self, change: impl FnOnce(&mut Stream) -> io::Result<()>) -> io::Result<()> {
        if let Some(stream) = &mut self.stream {
            change(stream)?;
            let made = stream.output();
            self.ready.extend_from_slice(made);
            made.clear();
        }
        Ok(())
    }
}

impl Stream {
    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Identity(bytes) => bytes.write_all(piece),
            Self::Gzip(writer) => writer.write_all(piece),
            Self::Brotli(writer) => writer.write_all(piece),
            Self::Zstd(writer) => writer.write_all(piece),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(writer) => writer.flush(),
            Self::Brotli(writer) => writer.flush(),
            Self::Zstd(writer) => writer.flush(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Identity(bytes) => bytes,
            Self::Gzip(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity(bytes) => Ok(bytes),
            Self::Gzip(writer) => writer.finish(),
            Self::Brotli(writer) => Ok(writer.into_inner()),
            Self::Zstd(writer) => writer.finish(),
        }
    }
}

const BUFFER_BYTES: usize = 4096;
/// As nginx's module has it: 512 KiB.
const BROTLI_WINDOW_BITS: i32 = 19;
/// 512 KiB, which every client has to accept (RFC 9659).
const ZSTD_WINDOW_BITS: u32 = 19;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut text),
        }
        .unwrap();
        text
    }

    #[test]
    fn body_is_the_same_after_both_ways() {
        let body: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| (n % 1000).to_be_bytes())
            .collect();
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let mut encoder = Encoder::new(coding, 4).unwrap();
            let mut sent = Vec::new();
            for piece in body.chunks(10_000) {
                encoder.write(piece).unwrap();
                while let Some(bytes) = encoder.take(100) {
                    sent.extend_from_slice(&bytes);
                }
            }
            encoder.finish().unwrap();
            assert!(!encoder.is_over() || encoder.ready_bytes() == 0);
            while let Some(bytes) = encoder.take(usize::MAX) {
                sent.extend_from_slice(&bytes);
            }
            assert!(encoder.is_over());
            assert!(sent.len() < body.len() / 4, "{coding:?}: {}", sent.len());
            assert_eq!(decoded(coding, &sent), body, "{coding:?}");
        }
    }

    #[test]
    fn flushed_pieces_can_be_read_before_the_end() {
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            let mut encoder = Encoder::new(coding, 4).unwrap();
            encoder.write(b"data: 1\n\n").unwrap();
            encoder.flush().unwrap();
            let first = encoder.take(usize::MAX).unwrap();
            let mut text = [0; 9];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&first[..]).read_exact(&mut text),
                Coding::Brotli => brotli::Decompressor::new(&first[..], 4096).read_exact(&mut text),
                Coding::Zstd => zstd::stream::read::Decoder::new(&first[..])
                    .unwrap()
                    .read_exact(&mut text),
            }
            .unwrap();
            assert_eq!(&text, b"data: 1\n\n", "{coding:?}");
            encoder.flush().unwrap();
            assert_eq!(encoder.take(usize::MAX), None, "{coding:?}");
        }
    }
}
