//! HTTP/2 with clients, frame by frame: what libraries would not send, or would not show.

use crate::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, get,
};
use crate::rig::{Origin, Proxy, config, streaming};

/// Answers with the length of the body that was sent; at `/early` before it was sent.
fn counting() -> Origin {
    Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            if head.text.contains(" /early ") {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
                return;
            }
            let body = connection.read_body(&head).len().to_string();
            connection.write(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

pub(crate) fn proxy() -> (Proxy, Origin) {
    let origin = counting();
    let proxy = Proxy::start(streaming(config(&[("one.test", "/", &[origin.address])])));
    (proxy, origin)
}

pub(crate) fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", path),
    ];
    fields(&[&head, more].concat())
}

/// The next frame that is about a stream or the end of the connection.
pub(crate) fn next(raw: &mut Raw) -> Frame {
    loop {
        let frame = raw.read().unwrap();
        if !matches!(frame.kind, SETTINGS | PING | WINDOW_UPDATE) {
            return frame;
        }
    }
}

/// Reads a response without trailers to its end.
pub(crate) fn response(raw: &mut Raw, stream: u32) -> (Vec<u8>, Vec<u8>) {
    let head = next(raw);
    assert_eq!((head.kind, head.stream), (HEADERS, stream));
    let mut body = Vec::new();
    let mut flags = head.flags;
    while flags & END_STREAM == 0 {
        let frame = next(raw);
        assert_eq!((frame.kind, frame.stream), (DATA, stream));
        body.extend(frame.payload);
        flags = frame.flags;
    }
    (head.payload, body)
}

/// `:status 200` (RFC 7541 appendix A).
pub(crate) const OK: u8 = 0x88;

#[test]
fn a_client_that_expects_100_gets_it_before_its_body_is_sent() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    let expects = [("content-length", "3"), ("expect", "100-continue")];
    raw.send(HEADERS, END_HEADERS, 1, &post("/", &expects));
    let interim = next(&mut raw);
    assert_eq!((interim.kind, interim.flags), (HEADERS, END_HEADERS));
    assert_eq!(interim.payload, [0x08, 3, b'1', b'0', b'0']);
    raw.send(DATA, END_STREAM, 1, b"abc");
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], &body[..]), (OK, &b"3"[..]));
}

#[test]
fn a_request_without_a_route_gets_no_100() {
    let proxy = Proxy::start(config(&[]));
    let mut raw = Raw::connect(proxy.http);
    let expects = [("content-length", "3"), ("expect", "100-continue")];
    raw.send(HEADERS, END_HEADERS, 1, &post("/", &expects));
    let (head, _) = response(&mut raw, 1);
    // `:status 404`.
    assert_eq!(head[0], 0x8d);
    let reset = next(&mut raw);
    assert_eq!((reset.kind, reset.payload), (RST_STREAM, vec![0; 4]));
}

/// RFC 9113 §8.1: and the rest of the body is of no interest.
#[test]
fn an_early_answer_ends_the_stream_and_not_the_connection() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS, 1, &post("/early", &[]));
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], &body[..]), (OK, &b"early"[..]));
    let reset = next(&mut raw);
    assert_eq!((reset.kind, reset.stream), (RST_STREAM, 1));
    assert_eq!(reset.payload, [0; 4]);
    raw.send(DATA, 0, 1, &[7; 1000]);
    raw.send(DATA, END_STREAM, 1, &[7; 1000]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &get());
    let (head, body) = response(&mut raw, 3);
    assert_eq!((head[0], &body[..]), (OK, &b"0"[..]));
}

/// RFC 7541 §4.2: such a client takes no block that does not begin with the new size.
#[test]
fn a_client_with_another_table_is_told_that_it_is_empty() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    // SETTINGS_HEADER_TABLE_SIZE.
    raw.send(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
    for (stream, begin) in [(1, &[0x20, OK][..]), (3, &[OK][..])] {
        raw.send(HEADERS, END_HEADERS | END_STREAM, stream, &get());
        let (head, _) = response(&mut raw, stream);
        assert_eq!(&head[..begin.len()], begin);
    }
}

#[test]
fn windows_are_given_back_for_all_that_is_read_and_for_padding() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    let (bodies, frames, length) = (3_u32, 160_usize, 8_000_usize);
    // Each body is larger than the window of a stream, and all are larger than the connection's.
    let mut payload = vec![99; 1];
    payload.extend(vec![7; length + 99]);
    for stream in (0..bodies).map(|number| 2 * number + 1) {
        let total = (frames * length).to_string();
        let head = post("/", &[("content-length", &total)]);
        raw.send(HEADERS, END_HEADERS, stream, &head);
        let mut window = 65_535;
        for _ in 0..frames {
            while window < payload.len() {
                let frame = raw.read().unwrap();
                if (frame.kind, frame.stream) == (WINDOW_UPDATE, stream) {
                    let bytes: [u8; 4] = frame.payload.try_into().unwrap();
                    window += u32::from_be_bytes(bytes) as usize;
                }
            }
            // PADDED.
            assert!(raw.send(DATA, 8, stream, &payload));
            window -= payload.len();
        }
        raw.send(DATA, END_STREAM, stream, &[]);
        let (head, body) = response(&mut raw, stream);
        assert_eq!((head[0], body), (OK, total.into_bytes()));
    }
}

#[test]
fn a_window_that_becomes_smaller_is_kept_to() {
    let origin = Origin::repeating();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
    raw.send(
        HEADERS,
        END_HEADERS,
        1,
        &post("/", &[("content-length", "100")]),
    );
    raw.send(DATA, END_STREAM, 1, &[b'x'; 100]);
    assert_eq!(next(&mut raw).kind, HEADERS);
    assert_eq!(next(&mut raw).payload.len(), 10);
    // It is 5 less than nothing now, and 3 more than that after it is opened.
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 5]);
    raw.send(WINDOW_UPDATE, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(next(&mut raw).payload.len(), 3);
    raw.send(WINDOW_UPDATE, 0, 1, &1000_u32.to_be_bytes());
    let rest = next(&mut raw);
    assert_eq!((rest.payload.len(), rest.flags), (87, END_STREAM));
}

#[test]
fn a_client_that_says_goodbye_is_answered_first() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS, 1, &post("/", &[]));
    raw.send(GOAWAY, 0, 0, &[0; 8]);
    raw.send(PING, 0, 0, &[5; 8]);
    loop {
        let frame = raw.read().unwrap();
        if (frame.kind, frame.flags) == (PING, ACK) {
            break;
        }
    }
    raw.send(DATA, END_STREAM, 1, b"abc");
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], &body[..]), (OK, &b"3"[..]));
    assert!(raw.read().is_none());
}

/// Where trailers follow a body without a length, they follow its chunks to the endpoint.
#[test]
fn trailers_of_a_request_reach_the_endpoint() {
    let origin = Origin::start(|mut connection| {
        let head = connection.read_head().unwrap();
        assert_eq!(head.field("transfer-encoding"), Some("chunked"));
        assert_eq!(connection.read_body(&head), b"abc");
        // The end of the last chunk was looked for where a trailer begins.
        assert_eq!(connection.read_head().unwrap().text.trim_end(), "sum: 7");
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    let announced = [("trailer", "x-sum")];
    raw.send(HEADERS, END_HEADERS, 1, &post("/", &announced));
    raw.send(DATA, 0, 1, b"abc");
    raw.send(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &fields(&[("x-sum", "7")]),
    );
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], body.len()), (OK, 0));
}
