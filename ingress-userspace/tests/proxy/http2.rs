//! HTTP/2 with clients, frame by frame: what libraries would not send, or would not show.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM,
    Raw, SETTINGS, WINDOW_UPDATE, fields, frame, get,
};
use crate::rig::{Origin, PATIENCE, Proxy, config, wait_until};

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

fn proxy() -> (Proxy, Origin) {
    let origin = counting();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    (proxy, origin)
}

fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let head = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", path),
    ];
    fields(&[&head, more].concat())
}

/// The next frame that is about a stream or the end of the connection.
fn next(raw: &mut Raw) -> Frame {
    loop {
        let frame = raw.read().unwrap();
        if !matches!(frame.kind, SETTINGS | PING | WINDOW_UPDATE) {
            return frame;
        }
    }
}

/// Reads a response without trailers to its end.
fn response(raw: &mut Raw, stream: u32) -> (Vec<u8>, Vec<u8>) {
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
const OK: u8 = 0x88;

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

/// A download that its client does not read holds up no upload beside it.
#[test]
fn who_reads_nothing_may_go_on_to_send() {
    let (lengths, received) = mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        let head = connection.read_head().unwrap();
        if head.text.contains(" /large ") {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            let some = "x".repeat(1 << 16);
            for _ in 0..1000 {
                connection.write(&some);
            }
            return;
        }
        let length = connection.read_body(&head).len();
        lengths.send(length).unwrap();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    raw.send(WINDOW_UPDATE, 0, 0, &0x3fff_ffff_u32.to_be_bytes());
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &post("/large", &[]));
    // As much as the socket takes.
    thread::sleep(Duration::from_millis(300));
    raw.send(
        HEADERS,
        END_HEADERS,
        3,
        &post("/", &[("content-length", "60000")]),
    );
    for _ in 0..6 {
        raw.send(DATA, 0, 3, &[7; 10_000]);
    }
    assert_eq!(received.recv_timeout(PATIENCE), Ok(60_000));
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

/// The code of the GOAWAY that ends a connection (RFC 9113 §7).
fn end(raw: &mut Raw) -> Option<u32> {
    while let Some(frame) = raw.read() {
        if frame.kind == GOAWAY {
            let (_, code) = frame.payload.split_at(4);
            return Some(u32::from_be_bytes(code.try_into().unwrap()));
        }
    }
    None
}

const ENHANCE_YOUR_CALM: u32 = 11;

/// CVE-2023-44487. Who is answered in between may take back as much as pages do.
#[test]
fn who_takes_back_all_requests_is_sent_away() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    let cancel = 8_u32.to_be_bytes();
    for number in 0..600 {
        let stream = 4 * number + 1;
        raw.send(HEADERS, END_HEADERS, stream, &post("/", &[]));
        raw.send(RST_STREAM, 0, stream, &cancel);
        raw.send(HEADERS, END_HEADERS | END_STREAM, stream + 2, &get());
        assert_eq!(response(&mut raw, stream + 2).0[0], OK);
    }
    for number in 600..1200 {
        let stream = 4 * number + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &post("/", &[]));
        let reset = frame(RST_STREAM, 0, stream, &cancel);
        if !raw.write(&[head, reset].concat()) {
            break;
        }
    }
    assert_eq!(end(&mut raw), Some(ENHANCE_YOUR_CALM));
}

/// CVE-2024-27316.
#[test]
fn a_head_without_an_end_is_not_waited_for() {
    let (proxy, _origin) = proxy();
    for part in [&[][..], &fields(&[("x-a", &"y".repeat(8_000))])] {
        let mut raw = Raw::connect(proxy.http);
        raw.send(HEADERS, END_STREAM, 1, &get());
        for _ in 0..17 {
            raw.send(CONTINUATION, 0, 1, part);
        }
        assert_eq!(end(&mut raw), Some(ENHANCE_YOUR_CALM));
    }
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

/// A frame that may be right or wrong in any part.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![6 => 0..10_u8, 1 => any::<u8>()];
    let flags = prop_oneof![
        2 => Just(END_HEADERS | END_STREAM),
        1 => Just(END_HEADERS),
        1 => Just(END_STREAM),
        2 => Just(0),
        1 => any::<u8>(),
    ];
    let stream = prop_oneof![3 => (0..6_u32).prop_map(|number| 2 * number + 1), 1 => 0..12_u32];
    let payload = prop_oneof![
        3 => Just(get()),
        2 => Just(post("/", &[])),
        1 => Just(post("/early", &[("content-length", "4")])),
        1 => Just(vec![0, 4, 0, 0, 0, 9]),
        1 => Just(vec![0, 0, 0, 8]),
        2 => vec(any::<u8>(), 0..12),
    ];
    let parts = (kind, flags, stream, payload);
    parts.prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

/// Whatever a client sends, nothing of it stays, and the next one is served.
#[test]
fn any_frames_are_survived() {
    let (proxy, _origin) = proxy();
    let cases = Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(cases);
    let frames = vec(any_frame(), 1..12);
    let outcome = runner.run(&frames, |frames| {
        let mut raw = Raw::connect(proxy.http);
        raw.write(&frames.concat());
        // What is to be answered may be under way when the client goes.
        let _ = raw.read();
        drop(raw);
        wait_until("all of it has gone", || {
            let snapshot = proxy.snapshot();
            snapshot.host.connections_open == 0 && snapshot.requests_open == 0
        });
        prop_assert_eq!(proxy.snapshot().panics, 0);
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(proxy.get("one.test", "/").text(), "0");
}
