//! Bodies stream in both directions and end as they ended on the other side.

use std::io::Read;

use crate::rig::{Origin, Proxy, config, streaming, wait_until};

#[test]
fn chunks_stream_up_and_down_one_by_one() {
    // Answers each chunk before it reads the next.
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(chunk) = connection.read_chunk().filter(|chunk| !chunk.is_empty()) {
            let text = String::from_utf8(chunk).unwrap();
            connection.write(&format!("{:x}\r\n{text}\r\n", text.len()));
        }
        connection.write("0\r\n\r\n");
    });
    let proxy = Proxy::start(streaming(config(&[("one.test", "/", &[origin.address])])));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write("3\r\none\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    assert_eq!(client.read_chunk().unwrap(), b"one");
    for text in ["two", "three", "four"] {
        client.write(&format!("{:x}\r\n{text}\r\n", text.len()));
        assert_eq!(client.read_chunk().unwrap(), text.as_bytes());
    }
    client.write("0\r\n\r\n");
    assert_eq!(client.read_chunk().unwrap(), b"");
}

#[test]
fn trailers_pass() {
    let origin = Origin::fixed(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\nTE: trailers\r\nConnection: te\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    assert_eq!(client.read_chunk().unwrap(), b"ok");
    assert_eq!(
        client.read_head().unwrap().text.to_lowercase(),
        "0\r\nx-sum: 42\r\n\r\n"
    );
}

#[test]
fn a_truncated_body_stays_truncated() {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "half"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "4\r\nhalf\r\n",
        ),
    ] {
        let origin = Origin::start(move |mut connection| {
            connection.read_head();
            connection.write(answer);
        });
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        let mut client = proxy.client();
        client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
        assert_eq!(client.read_head().unwrap().status(), 200);
        let mut rest = String::new();
        let _ = client.stream.read_to_string(&mut rest);
        assert_eq!(rest, body);
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_complete() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    assert_eq!(proxy.get("one.test", "/").text(), "all of it");
}

#[test]
fn an_upload_that_breaks_off_breaks_off_at_the_origin() {
    let (body, arrived) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(body);
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        let mut body = Vec::new();
        let _ = connection.stream.read_to_end(&mut body);
        sender.lock().unwrap().send(body).unwrap();
    });
    let proxy = Proxy::start(streaming(config(&[("one.test", "/", &[origin.address])])));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.write("4\r\nhalf\r\n");
    wait_until("the request is on its way", || origin.connections() == 1);
    drop(client);
    let body = arrived.recv_timeout(crate::rig::PATIENCE).unwrap();
    assert!(
        !body.ends_with(b"0\r\n\r\n"),
        "the origin sees no end: {body:?}"
    );
}
