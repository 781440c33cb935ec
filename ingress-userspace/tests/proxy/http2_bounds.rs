//! HTTP/2 clients that keep to no bound, by mistake or on purpose: what it costs them, and nobody else.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ingress_userspace::proxy::Timeouts;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, fields, frame, get,
};
use crate::http2::{OK, next, post, proxy, response};
use crate::rig::{Options, Origin, PATIENCE, Proxy, config, wait_until};

/// A download that its client does not read holds up no upload beside it.
#[test]
fn client_that_reads_nothing_may_go_on_sending() {
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

/// However busy its connection is otherwise.
#[test]
fn client_that_opens_no_window_loses_its_stream() {
    let origin = Origin::repeating();
    let timeouts = Timeouts {
        downstream_write: Duration::from_millis(500),
        ..Timeouts::default()
    };
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start_with(config, Options::timeouts(timeouts));
    let mut raw = Raw::connect(proxy.http);
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    raw.send(
        HEADERS,
        END_HEADERS,
        1,
        &post("/", &[("content-length", "9")]),
    );
    raw.send(DATA, END_STREAM, 1, &[b'x'; 9]);
    assert_eq!(next(&mut raw).kind, HEADERS);
    let mut is_reset = false;
    while !is_reset {
        thread::sleep(Duration::from_millis(100));
        raw.send(PING, 0, 0, &[5; 8]);
        loop {
            let frame = raw.read().unwrap();
            is_reset |= (frame.kind, frame.stream) == (RST_STREAM, 1);
            if frame.kind == PING {
                break;
            }
        }
    }
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &get());
    assert_eq!(response(&mut raw, 3).0[0], OK);
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

/// CVE-2023-44487. Some requests may be taken back, as a page does that the user leaves.
#[test]
fn client_that_takes_back_all_requests_is_sent_away() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    let cancel = 8_u32.to_be_bytes();
    for number in 0..300 {
        let stream = 4 * number + 1;
        raw.send(HEADERS, END_HEADERS, stream, &post("/", &[]));
        raw.send(RST_STREAM, 0, stream, &cancel);
        raw.send(HEADERS, END_HEADERS | END_STREAM, stream + 2, &get());
        assert_eq!(response(&mut raw, stream + 2).0[0], OK);
    }
    for number in 300..1200 {
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
