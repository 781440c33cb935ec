//! Frames that are to be written.
//!
//! What is small is copied and leaves together; what is large is never copied. An idle connection
//! has no memory for either.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};

use super::frame::{
    ACK, END_HEADERS, END_STREAM, FrameHead, Kind, PAYLOAD_BYTES_MAX, Reason, WINDOW_MAX,
};

/// Frames in the order in which they leave.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// The first of them, none of which is empty.
    chunks: VecDeque<Bytes>,
    /// Frames after those.
    tail: Vec<u8>,
    /// Bytes of `tail` that have left.
    left: usize,
    /// Bytes of all chunks.
    chunked: usize,
    /// Whether what has been written may be held back, as TLS does.
    is_unflushed: bool,
}

impl SendQueue {
    /// How many bytes are to be written.
    pub fn length(&self) -> usize {
        self.chunked + self.tail.len() - self.left
    }

    fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = payload.len();
        let head = FrameHead {
            length,
            kind,
            flags,
            stream,
        };
        if self.tail.capacity() == 0 {
            self.tail.reserve(FIRST_BYTES);
        }
        self.tail.extend_from_slice(&head.write());
        self.tail.extend_from_slice(payload);
    }

    /// Bytes of a body, as many as one frame may have.
    pub fn data(&mut self, stream: u32, bytes: Bytes, is_end: bool) {
        let flags = if is_end { END_STREAM } else { 0 };
        if bytes.len() <= COPIED_BYTES_MAX {
            return self.frame(Kind::Data, flags, stream, &bytes);
        }
        let head = FrameHead {
            length: bytes.len(),
            kind: Kind::Data,
            flags,
            stream,
        };
        self.tail.extend_from_slice(&head.write());
        let mut before = Bytes::from(std::mem::take(&mut self.tail));
        before.advance(std::mem::take(&mut self.left));
        self.chunked += before.len() + bytes.len();
        self.chunks.extend([before, bytes]);
    }

    /// A field block, which `encode` appends to what it is given (RFC 9113 §4.3).
    pub fn block(&mut self, stream: u32, is_end: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        let flags = if is_end { END_STREAM } else { 0 };
        let begin = self.tail.len();
        self.frame(Kind::Headers, flags | END_HEADERS, stream, &[]);
        let payload = self.tail.len();
        encode(&mut self.tail);
        let length = self.tail.len() - payload;
        if length > PAYLOAD_BYTES_MAX {
            let block = self.tail.split_off(payload);
            self.tail.truncate(begin);
            return self.split(stream, flags, &block);
        }
        let head = FrameHead {
            length,
            kind: Kind::Headers,
            flags: flags | END_HEADERS,
            stream,
        };
        self.tail[begin..payload].copy_from_slice(&head.write());
    }

    /// A field block that is too large for one frame.
    fn split(&mut self, stream: u32, flags: u8, block: &[u8]) {
        let mut parts = block.chunks(PAYLOAD_BYTES_MAX).peekable();
        let (mut kind, mut flags) = (Kind::Headers, flags);
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                flags |= END_HEADERS;
            }
            self.frame(kind, flags, stream, part);
            (kind, flags) = (Kind::Continuation, 0);
        }
    }

    /// Ends a stream.
    pub fn reset(&mut self, stream: u32, reason: Reason) {
        self.frame(Kind::Reset, 0, stream, &reason.code().to_be_bytes());
    }

    /// Says our settings, each an identifier and a value.
    pub fn settings(&mut self, settings: &[[u8; 6]]) {
        self.frame(Kind::Settings, 0, 0, settings.as_flattened());
    }

    /// Answers SETTINGS.
    pub fn acknowledge_settings(&mut self) {
        self.frame(Kind::Settings, ACK, 0, &[]);
    }

    /// Asks whether the peer is there.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.frame(Kind::Ping, 0, 0, &payload);
    }

    /// Answers a PING.
    pub fn acknowledge_ping(&mut self, payload: [u8; 8]) {
        self.frame(Kind::Ping, ACK, 0, &payload);
    }

    /// No stream after `last` is served.
    pub fn go_away(&mut self, last: u32, reason: Reason) {
        let last = (last & WINDOW_MAX).to_be_bytes();
        let payload = [last, reason.code().to_be_bytes()];
        self.frame(Kind::GoAway, 0, 0, payload.as_flattened());
    }

    /// So many bytes more may be sent. 0 is the connection.
    pub fn window_update(&mut self, stream: u32, bytes: u32) {
        self.frame(Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes());
    }

    /// The bytes to be written next, in order: puts as many pieces into `slices` as it has room for,
    /// and returns how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.left..];
        let parts = (self.chunks.iter().map(|chunk| &**chunk)).chain([tail]);
        let places = slices.iter_mut().zip(parts);
        places
            .map(|(slice, part)| *slice = IoSlice::new(part))
            .count()
    }

    /// Whether bytes have left that a layer below, such as TLS, may still hold back.
    pub fn needs_flush(&self) -> bool {
        self.is_unflushed
    }

    /// Notes that nothing is held back any more.
    pub fn flushed(&mut self) {
        self.is_unflushed = false;
    }

    /// Takes out `written` bytes that have left.
    pub fn advance(&mut self, mut written: usize) {
        self.is_unflushed = true;
        while let Some(chunk) = self.chunks.front_mut() {
            let of_chunk = written.min(chunk.len());
            chunk.advance(of_chunk);
            self.chunked -= of_chunk;
            written -= of_chunk;
            if !chunk.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.left += written;
        if self.left == self.tail.len() {
            *self = Self {
                is_unflushed: self.is_unflushed,
                ..Self::default()
            };
        }
    }
}

/// Room for the frames of a small answer.
const FIRST_BYTES: usize = 512;

/// Larger payloads are worth a system call's piece of their own.
const COPIED_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::frame::PREFACE;
    use super::super::frame_reader::{FrameReader, Piece};
    use super::*;

    /// Pieces that are written at once.
    const SLICES_MAX: usize = 32;

    struct Wire {
        written: Vec<u8>,
        is_vectored: bool,
    }

    /// Writes everything, at most `takes` bytes at a time.
    fn flush(queue: &mut SendQueue, takes: usize) -> Wire {
        let mut wire = Wire {
            written: Vec::new(),
            is_vectored: false,
        };
        while queue.length() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = queue.slices(&mut slices);
            wire.is_vectored |= count > 1;
            let mut bytes: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            bytes.truncate(takes);
            queue.advance(bytes.len());
            wire.written.extend(bytes);
        }
        queue.flushed();
        assert!(queue.length() == 0 && !queue.needs_flush());
        assert_eq!(queue.tail.capacity() + queue.chunks.capacity(), 0);
        wire
    }

    proptest! {
        #[test]
        fn frames_leave_in_their_order(
            payloads in vec(0..2 * COPIED_BYTES_MAX, 1..40),
            takes in 1..100_000_usize,
        ) {
            let mut output = SendQueue::default();
            let mut expected = Vec::new();
            for (number, length) in (1..).zip(payloads) {
                let payload = vec![u8::try_from(number).unwrap(); length];
                expected.push((number, payload.clone()));
                output.data(number, payload.into(), false);
            }
            let total: usize = expected.iter().map(|(_, payload)| 9 + payload.len()).sum();
            prop_assert_eq!(output.length(), total);
            let wire = flush(&mut output, takes);
            let mut input = FrameReader::default();
            let bytes = [&PREFACE[..], &wire.written].concat();
            let mut bytes = &bytes[..];
            let mut frames = Vec::new();
            while let Some(piece) = input.next(&mut bytes).unwrap() {
                match piece {
                    Piece::Frame(head, payload) => frames.push((head.stream, payload.to_vec())),
                    Piece::DataBegins(head) => frames.push((head.stream, Vec::new())),
                    Piece::Data(some, _) => frames.last_mut().unwrap().1.extend(some),
                }
            }
            prop_assert_eq!(frames, expected);
        }
    }

    #[test]
    fn small_frames_are_coalesced() {
        let mut output = SendQueue::default();
        output.ping([7; 8]);
        output.data(1, Bytes::from(vec![1; COPIED_BYTES_MAX]), true);
        assert!(!flush(&mut output, usize::MAX).is_vectored);
        output.data(1, Bytes::from(vec![1; COPIED_BYTES_MAX + 1]), true);
        assert!(flush(&mut output, usize::MAX).is_vectored);
    }

    #[test]
    fn a_block_is_as_many_frames_as_it_needs() {
        for (length, expected) in [
            (5, vec![(Kind::Headers, END_STREAM | END_HEADERS, 5)]),
            (
                PAYLOAD_BYTES_MAX,
                vec![(Kind::Headers, END_STREAM | END_HEADERS, PAYLOAD_BYTES_MAX)],
            ),
            (
                2 * PAYLOAD_BYTES_MAX + 1,
                vec![
                    (Kind::Headers, END_STREAM, PAYLOAD_BYTES_MAX),
                    (Kind::Continuation, 0, PAYLOAD_BYTES_MAX),
                    (Kind::Continuation, END_HEADERS, 1),
                ],
            ),
        ] {
            let mut output = SendQueue::default();
            output.block(3, true, |block| block.resize(block.len() + length, 7));
            let wire = flush(&mut output, usize::MAX);
            let bytes = [&PREFACE[..], &wire.written].concat();
            let mut bytes = &bytes[..];
            let mut input = FrameReader::default();
            let mut frames = Vec::new();
            while let Some(piece) = input.next(&mut bytes).unwrap() {
                let Piece::Frame(head, payload) = piece else {
                    panic!("{piece:?}");
                };
                assert_eq!((head.stream, payload.len()), (3, head.length));
                frames.push((head.kind, head.flags, head.length));
            }
            assert_eq!(frames, expected);
        }
    }
}
