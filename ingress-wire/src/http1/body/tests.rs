//! Bodies in whole and in parts.

use proptest::prelude::*;

use super::*;

/// All that comes out when the bytes come in these parts, and what is left of them.
fn read(
    decoder: &mut BodyDecoder,
    parts: &[&[u8]],
) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), BodyError> {
    let mut buffer = BytesMut::new();
    let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
    for part in parts {
        buffer.extend_from_slice(part);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(more) => {
                    assert!(!more.is_empty());
                    data.extend_from_slice(&more);
                }
                Decoded::Trailers(fields) => trailers = fields,
                Decoded::Nothing | Decoded::End => break,
            }
        }
    }
    Ok((data, trailers, buffer.to_vec()))
}

#[test]
fn a_length_is_kept_to() {
    let mut decoder = BodyDecoder::length(5);
    let (data, _, rest) = read(&mut decoder, &[b"he", b"llo, more"]).unwrap();
    assert_eq!((&data[..], &rest[..]), (&b"hello"[..], &b", more"[..]));
    assert!(decoder.is_over());
    assert!(BodyDecoder::length(0).is_over());
    assert_eq!(BodyDecoder::length(1).close(), Err(BodyError::Closed));
}

#[test]
fn chunks_are_joined_and_trailers_follow() {
    let mut decoder = BodyDecoder::chunked();
    let text = b"3;a=b\r\nabc\r\n0a \r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nrest";
    let (data, trailers, rest) = read(&mut decoder, &[text]).unwrap();
    assert_eq!(data, b"abc0123456789");
    assert_eq!(trailers["x-sum"], "1");
    assert_eq!(rest, b"rest");
    assert!(decoder.is_over());
}

#[test]
fn trailers_that_would_decide_about_a_message_are_dropped() {
    let text = b"0\r\nX-Forwarded-For: 9.9.9.9\r\nx_real_ip: 9.9.9.9\r\nHost: b\r\n\
        Authorization: c\r\nssl-client-verify: SUCCESS\r\ngrpc-status: 0\r\n\r\n";
    let (_, trailers, _) = read(&mut BodyDecoder::chunked(), &[text]).unwrap();
    let names: Vec<_> = trailers.keys().collect();
    assert_eq!(names, ["grpc-status"]);
}

#[test]
fn bytes_that_are_no_chunks_end_the_body() {
    for (text, fault) in [
        (&b"x\r\n"[..], BodyError::ChunkSize),
        (b"\r\n", BodyError::ChunkSize),
        (b"3\nabc\r\n", BodyError::ChunkSize),
        (b"3;x\nabc\r\n", BodyError::ChunkSize),
        (b"3;\nx\r\nabc\r\n", BodyError::ChunkSize),
        (b"3;\0x\r\nabc\r\n", BodyError::ChunkSize),
        (b"3;\rx\r\nabc\r\n", BodyError::ChunkSize),
        (b"3\r\r\nabc\r\n", BodyError::ChunkSize),
        (b"+3\r\nabc\r\n", BodyError::ChunkSize),
        (b"0x3\r\nabc\r\n", BodyError::ChunkSize),
        (b"3 3\r\nabc\r\n", BodyError::ChunkSize),
        (b"00000000000000001\r\n", BodyError::ChunkSize),
        (b"3\r\nabcd\r\n", BodyError::ChunkEnd),
        (b"3\r\nabc\n", BodyError::ChunkEnd),
        (b"0\r\n: x\r\n\r\n", BodyError::Trailers),
        (b"0\r\na b: x\r\n\r\n", BodyError::Trailers),
        (b"0\r\na: x\n\r\n", BodyError::Trailers),
        (b"0\r\na: x\r\n\n", BodyError::Trailers),
        (b"0\r\na : x\r\n\r\n", BodyError::Trailers),
    ] {
        let outcome = read(&mut BodyDecoder::chunked(), &[text]);
        assert_eq!(outcome.err(), Some(fault), "{}", text.escape_ascii());
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let chunk = format!("1;{}\r\na\r\n", "x".repeat(1_000));
    let chunks = chunk.repeat(CHUNK_LINES_BYTES_MAX / 1_000 + 1);
    let outcome = read(&mut BodyDecoder::chunked(), &[chunks.as_bytes()]);
    assert_eq!(outcome.err(), Some(BodyError::ChunkExtensions));
    let line = vec![b'1'; CHUNK_LINES_BYTES_MAX + 1];
    let outcome = read(&mut BodyDecoder::chunked(), &[&line]);
    assert_eq!(outcome.err(), Some(BodyError::ChunkExtensions));
    let fields = "x-field: value\r\n".repeat(HEAD_BYTES_MAX / 16 + 1);
    let outcome = read(&mut BodyDecoder::chunked(), &[b"0\r\n", fields.as_bytes()]);
    assert_eq!(outcome.err(), Some(BodyError::Trailers));
    // A body of many chunks without extensions is nobody's attack.
    let chunks = "1\r\na\r\n".repeat(100_000) + "0\r\n\r\n";
    let (data, ..) = read(&mut BodyDecoder::chunked(), &[chunks.as_bytes()]).unwrap();
    assert_eq!(data.len(), 100_000);
}

proptest! {
    #[test]
    fn the_way_that_bytes_come_makes_no_difference(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut text = Vec::new();
        for chunk in &chunks {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\nX-A: b\r\n\r\n");
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let mut decoder = BodyDecoder::chunked();
        let (data, trailers, rest) = read(&mut decoder, &parts).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(trailers.len(), 1);
        prop_assert!(rest.is_empty() && decoder.is_over());
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&mut BodyDecoder::chunked(), &[&text]);
    }
}
