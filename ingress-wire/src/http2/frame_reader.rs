//! Bytes as they come, cut into frames.
//!
//! A frame that is there from its head to its end is looked at where it was read. One that is not
//! is kept until it is, except for DATA, which is handed on as it comes: an idle connection keeps
//! nothing, and a body is copied once.

use super::frame::{FrameHead, Kind, PADDED, PAYLOAD_BYTES_MAX, PREFACE, Reason};

/// What has come of a frame that is not complete.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// How many bytes of the preface have come.
    preface: usize,
    /// Its head and what there is of its payload; empty between two frames.
    partial: Vec<u8>,
    /// Whether that was handed out.
    is_taken: bool,
    /// Bytes of a DATA frame that are still to come.
    data_left: usize,
}

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame and its payload.
    Frame(FrameHead, &'a [u8]),
    /// The head of a DATA frame without padding, of which pieces follow.
    DataBegins(FrameHead),
    /// Some of its payload, and whether it is the last.
    Data(&'a [u8], bool),
}

impl FrameReader {
    /// The next piece of what is in `bytes`, which is shortened by it. `None`: nothing is left.
    ///
    /// # Errors
    ///
    /// Returns the [`Reason`] to end the connection for: a frame that is larger than allowed or has an
    /// invalid length.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        bytes: &mut &'b [u8],
    ) -> Result<Option<Piece<'a>>, Reason> {
        if std::mem::take(&mut self.is_taken) {
            self.partial = Vec::new();
        }
        if self.data_left > 0 {
            return Ok(self.data(bytes));
        }
        self.check_preface(bytes)?;
        if !self.partial.is_empty() {
            return self.complete(bytes);
        }
        let Some((head, rest)) = bytes.split_first_chunk() else {
            self.keep(bytes);
            return Ok(None);
        };
        let head = checked(FrameHead::read(*head))?;
        if is_handed_on(head) {
            *bytes = rest;
            return Ok(Some(self.begin(head)));
        }
        let Some((payload, rest)) = rest.split_at_checked(head.length) else {
            self.keep(bytes);
            return Ok(None);
        };
        *bytes = rest;
        Ok(Some(Piece::Frame(head, payload)))
    }

    /// Whether the client has said that it speaks HTTP/2.
    pub fn has_preface(&self) -> bool {
        self.preface == PREFACE.len()
    }

    /// Bytes that are still to come of a DATA frame.
    pub fn data_left(&self) -> usize {
        self.data_left
    }

    fn check_preface(&mut self, bytes: &mut &[u8]) -> Result<(), Reason> {
        let expected = &PREFACE[self.preface..];
        let (begin, rest) = bytes.split_at(expected.len().min(bytes.len()));
        if !expected.starts_with(begin) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        self.preface += begin.len();
        *bytes = rest;
        Ok(())
    }

    fn keep(&mut self, bytes: &mut &[u8]) {
        self.partial.extend_from_slice(bytes);
        *bytes = &[];
    }

    /// Adds to what was kept until so many bytes are there; returns whether they are.
    fn fill(&mut self, length: usize, bytes: &mut &[u8]) -> bool {
        let missing = length.saturating_sub(self.partial.len()).min(bytes.len());
        let (begin, rest) = bytes.split_at(missing);
        self.partial.extend_from_slice(begin);
        *bytes = rest;
        self.partial.len() >= length
    }

    fn complete<'a>(&'a mut self, bytes: &mut &[u8]) -> Result<Option<Piece<'a>>, Reason> {
        if !self.fill(FrameHead::BYTES, bytes) {
            return Ok(None);
        }
        let Some(head) = self.partial.first_chunk() else {
            return Ok(None);
        };
        let head = checked(FrameHead::read(*head))?;
        if is_handed_on(head) {
            self.partial = Vec::new();
            return Ok(Some(self.begin(head)));
        }
        if !self.fill(FrameHead::BYTES + head.length, bytes) {
            return Ok(None);
        }
        self.is_taken = true;
        Ok(Some(Piece::Frame(head, &self.partial[FrameHead::BYTES..])))
    }

    fn begin(&mut self, head: FrameHead) -> Piece<'static> {
        self.data_left = head.length;
        Piece::DataBegins(head)
    }

    fn data<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        let (some, rest) = bytes.split_at(self.data_left.min(bytes.len()));
        *bytes = rest;
        self.data_left -= some.len();
        (!some.is_empty()).then_some(Piece::Data(some, self.data_left == 0))
    }
}

fn checked(head: FrameHead) -> Result<FrameHead, Reason> {
    if head.length > PAYLOAD_BYTES_MAX {
        return Err(Reason::FRAME_SIZE_ERROR);
    }
    Ok(head)
}

fn is_handed_on(head: FrameHead) -> bool {
    head.kind == Kind::Data && !head.has(PADDED) && head.length > 0
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::check::check;
    use super::super::frame::END_STREAM;
    use super::*;

    /// What pieces come to, with DATA put together again.
    fn frames(parts: &[&[u8]]) -> Result<Vec<(FrameHead, Vec<u8>)>, Reason> {
        let mut input = FrameReader::default();
        let mut frames = Vec::new();
        for part in parts {
            let mut bytes = *part;
            while let Some(piece) = input.next(&mut bytes)? {
                match piece {
                    Piece::Frame(head, payload) => frames.push((head, payload.to_vec())),
                    Piece::DataBegins(head) => frames.push((head, Vec::new())),
                    Piece::Data(some, is_last) => {
                        let (head, payload) = frames.last_mut().unwrap();
                        payload.extend_from_slice(some);
                        assert_eq!(is_last, payload.len() == head.length);
                    }
                }
            }
            assert!(bytes.is_empty());
        }
        let keeps = !input.partial.is_empty() && !input.is_taken;
        assert!(!keeps || input.partial.capacity() < 2 * PAYLOAD_BYTES_MAX);
        Ok(frames)
    }

    fn any_frame() -> impl Strategy<Value = (FrameHead, Vec<u8>)> {
        let kinds = prop_oneof![
            Just(Kind::Data),
            Just(Kind::Headers),
            Just(Kind::Ping),
            Just(Kind::Unknown(77)),
        ];
        let flags = prop_oneof![Just(0), Just(END_STREAM), Just(PADDED)];
        let payload = vec(any::<u8>(), 0..40);
        (kinds, flags, 0..9_u32, payload).prop_map(|(kind, flags, stream, payload)| {
            let head = FrameHead {
                length: payload.len(),
                kind,
                flags,
                stream,
            };
            (head, payload)
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_the_same_frames_in_parts(
            bytes in vec(prop::sample::select(vec![0_u8, 1, 4, 5, 8, 9, 255]), 0..200),
            cuts in 1..20_usize,
        ) {
            check(&bytes, cuts);
        }
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_they_come(
            expected in vec(any_frame(), 0..8),
            cuts in vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut bytes = PREFACE.to_vec();
            for (head, payload) in &expected {
                bytes.extend(head.write());
                bytes.extend(payload);
            }
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            let mut parts = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                parts.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(frames(&parts), Ok(expected));
        }
    }

    #[test]
    fn a_frame_that_is_too_large_is_known_by_its_head() {
        let head = FrameHead {
            length: PAYLOAD_BYTES_MAX + 1,
            kind: Kind::Data,
            flags: 0,
            stream: 1,
        };
        let bytes = [&PREFACE[..], &head.write()].concat();
        assert_eq!(frames(&[&bytes]), Err(Reason::FRAME_SIZE_ERROR));
        let parts = [&bytes[..30], &bytes[30..]];
        assert_eq!(frames(&parts), Err(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn invalid_preface_is_recognised_at_once() {
        assert_eq!(frames(&[b"PRI * HTTP/2.0\r\n\r\nSM\r"]), Ok(vec![]));
        assert_eq!(frames(&[b"PRI * HTTP/1"]), Err(Reason::PROTOCOL_ERROR));
        assert_eq!(frames(&[b"P", b"U"]), Err(Reason::PROTOCOL_ERROR));
    }
}
