//! What holds for any bytes that may be HTTP/2 frames. Property tests and the fuzz target end here.

use super::frame::{FrameHead, PAYLOAD_BYTES_MAX, PREFACE, Reason};
use super::{FrameReader, Piece};

/// Reads a connection of frames in one part and in parts of `cuts` bytes.
///
/// # Panics
///
/// Panics if that makes a difference, or if more than a frame is kept.
pub fn check(bytes: &[u8], cuts: usize) {
    let connection = [&PREFACE[..], bytes].concat();
    let whole = read(&connection, connection.len());
    let parts = read(&connection, cuts.max(1));
    assert_eq!(whole, parts, "in parts of {cuts}");
    let (frames, outcome) = whole;
    for (head, payload) in &frames {
        assert!(payload.len() <= head.length && head.length <= PAYLOAD_BYTES_MAX);
        assert_eq!(FrameHead::read(head.write()), *head);
    }
    if let Err(reason) = outcome {
        assert_eq!(reason, Reason::FRAME_SIZE_ERROR);
    }
}

type Frames = Vec<(FrameHead, Vec<u8>)>;

/// The frames, with DATA put together again, and how it ended.
fn read(bytes: &[u8], part: usize) -> (Frames, Result<(), Reason>) {
    let mut reader = FrameReader::default();
    let mut frames = Frames::new();
    for mut part in bytes.chunks(part) {
        loop {
            match reader.next(&mut part) {
                Ok(Some(Piece::Frame(head, payload))) => frames.push((head, payload.to_vec())),
                Ok(Some(Piece::DataBegins(head))) => frames.push((head, Vec::new())),
                Ok(Some(Piece::Data(some, is_last))) => {
                    let last = frames.last_mut();
                    let (head, payload) = last.expect("data follows its head");
                    payload.extend_from_slice(some);
                    assert_eq!(is_last, payload.len() == head.length);
                }
                Ok(None) => break,
                Err(reason) => return (frames, Err(reason)),
            }
        }
        assert!(part.is_empty());
    }
    (frames, Ok(()))
}
