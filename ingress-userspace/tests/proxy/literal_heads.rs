//! Heads as clients and endpoints write them: raw targets, capital letters, methods, trailers.

use std::io::{BufRead as _, Read as _, Write as _};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, Raw, fields};
use crate::rig::{Origin, PATIENCE, Proxy, config};

/// Targets that RFC 3986 wants encoded, and that clients send all the same.
const RAW_TARGETS: [&[u8]; 6] = [
    b"/api/v1/query?query=up{job=\"node\"}",
    b"/s?hl=<b>",
    b"/a`b",
    "/caf\u{e9}?q=\u{fc}".as_bytes(),
    b"/u?name=utsav\xf1",
    b"/\xfc/x^y|z\\",
];

/// An endpoint that reports the first line of each request.
fn request_lines() -> (Origin, Receiver<Vec<u8>>) {
    let (lines, seen) = channel();
    let lines = Mutex::new(lines);
    let origin = Origin::start(move |mut connection| {
        let mut line = Vec::new();
        while connection.stream.read_until(b'\n', &mut line).is_ok() && !line.is_empty() {
            connection.read_head();
            lines
                .lock()
                .unwrap()
                .send(std::mem::take(&mut line))
                .unwrap();
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (origin, seen)
}

/// A proxy in front of an endpoint that answers each request with its head.
fn start() -> (Proxy, Origin) {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    (proxy, origin)
}

fn line_of(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\n"].concat()
}

#[test]
fn raw_targets_pass_unchanged_over_http1() {
    let (origin, seen) = request_lines();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for target in RAW_TARGETS {
        let head = [&line_of(target)[..], b"Host: one.test\r\n\r\n"].concat();
        client.stream.get_mut().write_all(&head).unwrap();
        assert_eq!(client.read_reply().status, 200, "{}", target.escape_ascii());
        let line = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(line, line_of(target), "{}", line.escape_ascii());
    }
}

#[test]
fn raw_targets_pass_unchanged_over_http2() {
    let (origin, seen) = request_lines();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = Raw::connect(proxy.http);
    for (stream, target) in (1..).step_by(2).zip(RAW_TARGETS) {
        let mut block = fields(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "one.test"),
            (":path", ""),
        ]);
        *block.last_mut().unwrap() = u8::try_from(target.len()).unwrap();
        block.extend(target);
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        let line = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(line, line_of(target), "{}", line.escape_ascii());
    }
}

#[test]
fn paths_are_matched_as_they_were_sent() {
    let [all, umlaut] = ["all", "umlaut"].map(Origin::echo);
    let proxy = Proxy::start(config(&[
        ("one.test", "/", &[all.address]),
        ("one.test", "/\u{fc}", &[umlaut.address]),
    ]));
    for (path, expected) in [
        ("/\u{fc}/<a>", "umlaut"),
        ("/%C3%BC/a", "umlaut"),
        ("/u", "all"),
    ] {
        let reply = proxy.get("one.test", path);
        assert_eq!(reply.text().lines().next(), Some(expected), "{path}");
    }
    // A raw backslash is no encoded separator.
    assert_eq!(proxy.get("one.test", "/a\\b/./<c>").status, 200);
    assert_eq!(proxy.get("one.test", "/a%5cb/./<c>").status, 400);
}

#[test]
fn names_of_fields_keep_their_capitals_both_ways() {
    let (proxy, _origin) = start();
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\nSOAPAction: v\r\nX-AUTH-TOKEN: w\r\n\r\n");
    let reply = client.read_reply();
    for line in ["\r\nSOAPAction: v\r\n", "\r\nX-AUTH-TOKEN: w\r\n"] {
        assert!(reply.text().contains(line), "{}", reply.text());
    }
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nETag: \"a\"\r\nX-CamelCase: v\r\nContent-Length: 0\r\n\r\n",
    );
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let head = proxy.get("one.test", "/").head.text;
    for line in ["\r\nETag: \"a\"\r\n", "\r\nX-CamelCase: v\r\n"] {
        assert!(head.contains(line), "{head}");
    }
}

#[test]
fn methods_and_targets_that_are_none_are_refused() {
    let (proxy, origin) = start();
    for (line, status) in [
        ("TRACE / HTTP/1.1", 405),
        ("get / HTTP/1.1", 400),
        ("Get / HTTP/1.1", 400),
        ("GET foo HTTP/1.1", 400),
        ("GET one.test:80 HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ?x HTTP/1.1", 400),
        ("GET http://two.test/ HTTP/1.1", 400),
    ] {
        let mut client = proxy.client();
        client.write(&format!("{line}\r\nHost: one.test\r\n\r\n"));
        assert_eq!(client.read_reply().status, status, "{line}");
        assert!(client.is_closed(), "{line}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn trailers_carry_nothing_that_a_head_may_not() {
    let (bodies, seen) = channel();
    let bodies = Mutex::new(bodies);
    let origin = Origin::start(move |mut connection| {
        while connection.read_head().is_some() {
            while connection
                .read_chunk()
                .is_some_and(|chunk| !chunk.is_empty())
            {}
            // The empty chunk took what follows its size for data.
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let mut rest = vec![0; 64];
            let count = connection.stream.read(&mut rest).unwrap();
            rest.truncate(count);
            bodies.lock().unwrap().send(rest).unwrap();
        }
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\
         TE: trailers\r\nTrailer: X-Forwarded-For, X-Real-IP, Cookie, Ssl-Client-Verify, X-Sum\r\n\r\n\
         2\r\nok\r\n0\r\nX-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nCookie: a\r\n\
         Ssl-Client-Verify: SUCCESS\r\nX_Forwarded_For: 9.9.9.9\r\nX-Sum: 42\r\n\r\n",
    );
    let trailers = seen.recv_timeout(PATIENCE).unwrap();
    let trailers = String::from_utf8(trailers).unwrap().to_ascii_lowercase();
    assert!(trailers.ends_with("sum: 42\r\n\r\n"), "{trailers}");
    assert_eq!(
        trailers.lines().filter(|line| !line.is_empty()).count(),
        1,
        "{trailers}"
    );
}

#[test]
fn line_feeds_in_chunk_extensions_end_the_connection() {
    let (proxy, _origin) = start();
    let mut client = proxy.client();
    client.write(
        "POST /p HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;\nxx\r\n28\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: one.test\r\n\r\n",
    );
    let mut answers = String::new();
    let _ = client.stream.read_to_string(&mut answers);
    assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

/// An endpoint may refuse an upload that it has not read, and close the connection after its answer.
#[test]
fn connections_are_not_used_again_after_a_refused_upload() {
    for (status, size, connects) in [
        ("401 Unauthorized", 64 << 10, 2),
        ("200 OK", 64 << 10, 1),
        ("401 Unauthorized", 1 << 10, 1),
    ] {
        let origin = Origin::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                connection.read_body(&head);
                connection.write(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
            }
        });
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        for _ in 0..2 {
            let mut client = proxy.client();
            let head =
                format!("PUT / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {size}\r\n\r\n");
            client.write(&head);
            client.write(&"x".repeat(size));
            let reply = client.read_reply();
            assert!(status.starts_with(&reply.status.to_string()), "{status}");
        }
        assert_eq!(origin.connections(), connects, "{status}, {size} bytes");
    }
}

/// Bytes of uploads, from one read to many.
const UPLOADS: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 8 << 20];

/// An endpoint may answer before it has read a body and close, with which the kernel resets the
/// connection under the proxy's writes.
#[test]
fn early_answers_to_uploads_are_delivered() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let upload = |size: usize| {
        let mut client = proxy.client();
        let head = format!("PUT / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {size}\r\n\r\n");
        client.write(&head);
        let mut stream = client.stream.get_ref().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let piece = vec![b'x'; 64 << 10];
            for _ in 0..size / piece.len() {
                if stream.write_all(&piece).is_err() {
                    break;
                }
            }
        });
        let status = client.read_reply().status;
        let _ = client.stream.get_ref().shutdown(std::net::Shutdown::Both);
        sending.join().unwrap();
        status
    };
    for number in 0..1000 {
        let size = UPLOADS[number % UPLOADS.len()];
        assert_eq!(upload(size), 401, "upload {number} of {size} bytes");
    }
}
