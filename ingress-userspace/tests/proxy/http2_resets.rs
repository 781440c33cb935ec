//! The budget of resets of an HTTP/2 connection: attackers spend it, ordinary clients do not.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, frame, get};
use crate::http2::{OK, next, post, proxy, response};
use crate::rig::{Origin, PATIENCE, Proxy, config};

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The last stream and the code of the next GOAWAY (RFC 9113 §6.8).
fn go_away(raw: &mut Raw) -> Option<(u32, u32)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    while let Some(frame) = raw.read() {
        if frame.kind == GOAWAY {
            return Some((number(&frame.payload[..4]), number(&frame.payload[4..8])));
        }
    }
    None
}

/// Answers `/begun` with a head and one byte of a body that never ends, `/held` when it is told to.
fn slow_origin() -> (Origin, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let origin = Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            if head.text.contains(" /begun ") {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx");
            } else if head.text.contains(" /held ") {
                released.lock().unwrap().recv().unwrap();
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld");
            } else {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    (origin, release)
}

/// CVE-2025-8671: the client provokes resets by the server instead of sending them.
#[test]
fn resets_that_a_wrong_content_length_provokes_are_counted() {
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    for number in 0..3_000 {
        let stream = 2 * number + 1;
        let head = post("/", &[("content-length", "5")]);
        let head = frame(HEADERS, END_HEADERS, stream, &head);
        let end = frame(DATA, END_STREAM, stream, &[]);
        if !raw.write(&[head, end].concat()) {
            break;
        }
    }
    let (_, code) = go_away(&mut raw).expect("the connection is ended by GOAWAY");
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(proxy.snapshot().host.requests < 2_000);
}

/// A cancelled gRPC watch, a closed `EventSource`.
#[test]
fn streams_cancelled_after_their_response_head_are_free() {
    let (origin, release) = slow_origin();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &post("/held", &[]));
    for number in 1..=1_500 {
        let stream = 2 * number + 1;
        raw.send(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &post("/begun", &[]),
        );
        let head = next(&mut raw);
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{number}");
        let data = next(&mut raw);
        assert_eq!((data.kind, data.stream), (DATA, stream), "{number}");
        raw.send(RST_STREAM, 0, stream, &CANCEL);
    }
    release.send(()).unwrap();
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], &*body), (OK, &b"held"[..]));
}

#[test]
fn exhausted_budget_lets_open_streams_finish_and_refuses_new_ones() {
    let (origin, release) = slow_origin();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &post("/held", &[]));
    let mut stream = 3;
    for _ in 0..800 {
        let head = frame(HEADERS, END_HEADERS, stream, &post("/", &[]));
        let reset = frame(RST_STREAM, 0, stream, &CANCEL);
        assert!(raw.write(&[head, reset].concat()));
        stream += 2;
    }
    let (last, code) = go_away(&mut raw).unwrap();
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(last < stream, "{last}");
    let before = proxy.snapshot().host.requests;
    raw.send(HEADERS, END_HEADERS | END_STREAM, stream, &get());
    release.send(()).unwrap();
    let (head, body) = response(&mut raw, 1);
    assert_eq!((head[0], &*body), (OK, &b"held"[..]));
    assert!(raw.read().is_none(), "the connection ends when it is idle");
    assert_eq!(proxy.snapshot().host.requests, before);
}

#[test]
fn client_that_ignores_a_goaway_is_refused_new_streams_after_a_second() {
    let (origin, release) = slow_origin();
    let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &post("/held", &[]));
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &get());
    assert_eq!(response(&mut raw, 3).0[0], OK);
    proxy.worker.shut_down(PATIENCE);
    // The first announces the end, the second names the last stream.
    let announced = go_away(&mut raw).unwrap();
    assert_eq!(announced, ((1 << 31) - 1, NO_ERROR));
    assert_eq!(go_away(&mut raw).unwrap(), (3, NO_ERROR));
    raw.send(HEADERS, END_HEADERS | END_STREAM, 5, &get());
    release.send(()).unwrap();
    assert_eq!(response(&mut raw, 1).0[0], OK);
    assert!(raw.read().is_none());
    proxy.worker.join().unwrap();
}

#[test]
fn idle_client_that_ignores_a_goaway_does_not_delay_the_end() {
    let (mut proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &get());
    assert_eq!(response(&mut raw, 1).0[0], OK);
    let begun = Instant::now();
    proxy.worker.shut_down(PATIENCE);
    proxy.worker.join().unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Of several values for one setting in a frame the last counts (RFC 9113 §6.5.3).
#[test]
fn last_window_size_of_a_settings_frame_counts() {
    use crate::frames::SETTINGS;
    let (proxy, _origin) = proxy();
    let mut raw = Raw::connect(proxy.http);
    let mut settings = Vec::new();
    for window in [0_u32, 0x7fff_ffff, 3, 0, 65_535] {
        settings.extend([0, 4]);
        settings.extend(window.to_be_bytes());
    }
    raw.send(SETTINGS, 0, 0, &settings);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &get());
    assert_eq!(response(&mut raw, 1).0[0], OK);
}
