//! Requests that leave HTTP: WebSocket and any other upgrade.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use ingress_userspace::proxy::Timeouts;

use crate::rig::{Client, Options, Origin, PATIENCE, Proxy, config, wait_until};

pub(crate) const ASK: &str =
    "GET /chat HTTP/1.1\r\nHost: one.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x/1\r\n";

const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x/1\r\nX-A: b\r\n\r\n";

/// Agrees to every upgrade, says what it was asked, and then sends back what it gets.
pub(crate) fn echo() -> Origin {
    Origin::start(|mut connection| {
        let head = connection.read_head().unwrap();
        connection.write(AGREE);
        connection.write(&head.text);
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = connection.stream.read(&mut bytes) {
            if connection
                .stream
                .get_mut()
                .write_all(&bytes[..count])
                .is_err()
            {
                return;
            }
        }
        let _ = connection.stream.get_mut().write_all(b"end");
    })
}

fn open(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.write(&format!("{ASK}\r\n"));
    let head = client.read_head().unwrap();
    assert_eq!(head.status(), 101);
    client
}

fn expect(client: &mut Client, text: &[u8]) {
    let mut got = vec![0; text.len()];
    client.stream.read_exact(&mut got).unwrap();
    assert!(got == text, "{:?}", String::from_utf8_lossy(&got));
}

#[test]
fn an_upgrade_is_passed_on_and_agreed_to() {
    let origin = echo();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write(&format!(
        "{ASK}Sec-WebSocket-Key: abc\r\nKeep-Alive: 1\r\n\r\nearly"
    ));
    let head = client.read_head().unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.field("connection"), Some("upgrade"));
    assert_eq!(head.field("upgrade"), Some("x/1"));
    assert_eq!(head.field("x-a"), Some("b"));
    assert_eq!(head.field("transfer-encoding"), None);
    let seen = client.read_head().unwrap();
    assert_eq!(seen.field("connection"), Some("upgrade"));
    assert_eq!(seen.field("upgrade"), Some("x/1"));
    assert_eq!(seen.field("sec-websocket-key"), Some("abc"));
    assert_eq!(seen.field("keep-alive"), None);
    assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
    expect(&mut client, b"early");
    client.write("later");
    expect(&mut client, b"later");
    let counted = proxy.snapshot();
    assert_eq!((counted.tunnels, counted.tunnels_open), (1, 1));
    drop(client);
    wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
    wait_until("it is closed", || {
        proxy.snapshot().host.connections_open == 0
    });
}

#[test]
fn the_end_of_one_direction_leaves_the_other_open() {
    let origin = echo();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = open(&proxy);
    client.write("last words");
    client.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    client.read_head();
    expect(&mut client, b"last wordsend");
    assert!(client.is_closed());
    wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
}

#[test]
fn both_directions_carry_more_than_any_buffer() {
    let origin = echo();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = open(&proxy);
    client.read_head();
    let bytes: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    let mut writing = client.stream.get_mut().try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || writing.write_all(&sent).unwrap());
    expect(&mut client, &bytes);
    writer.join().unwrap();
}

#[test]
fn unread_tunnel_direction_applies_back_pressure() {
    let (stuck, is_stuck) = std::sync::mpsc::channel();
    let stuck = std::sync::Mutex::new(stuck);
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        connection.write(AGREE);
        let stream = connection.stream.get_mut();
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let some = vec![0; 1 << 20];
        let written = (0..1000)
            .take_while(|_| stream.write_all(&some).is_ok())
            .count();
        stuck.lock().unwrap().send(written).unwrap();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let _client = open(&proxy);
    let written = is_stuck.recv_timeout(PATIENCE).unwrap();
    assert!(written < 64, "{written} MiB went somewhere");
}

#[test]
fn a_silent_tunnel_is_closed() {
    let origin = echo();
    let timeouts = Timeouts {
        tunnel_idle: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let options = Options::timeouts(timeouts);
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), options);
    let mut client = open(&proxy);
    client.read_head();
    assert!(client.is_closed());
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    for _ in 0..3 {
        let mut client = proxy.client();
        client.write(&format!("{ASK}\r\n"));
        let reply = client.read_reply();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.seen("upgrade"), Some("x/1"));
        // What the client may have sent for the other protocol is not to be read as HTTP.
        assert_eq!(reply.head.field("connection"), Some("close"));
        assert!(client.is_closed());
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.snapshot().tunnels, 0);
}

#[test]
fn invalid_upgrades_are_not_passed_on() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    for request in [
        "GET / HTTP/1.1\r\nHost: one.test\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\nUpgrade: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\
         Content-Length: 2\r\n\r\nhi",
    ] {
        let mut client = proxy.client();
        client.write(request);
        let reply = client.read_reply();
        assert_eq!(reply.status, 200, "{request}");
        for field in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(reply.seen(field), None, "{request}");
        }
    }
}

#[test]
fn an_endpoint_may_not_switch_to_something_else() {
    let other = Origin::fixed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: y\r\n\r\n");
    let none = Origin::fixed("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    for origin in [other, none] {
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        let mut client = proxy.client();
        client.write(&format!("{ASK}\r\n"));
        assert_eq!(client.read_reply().status, 502);
    }
}

#[test]
fn a_new_table_leaves_open_tunnels_alone() {
    let origin = echo();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = open(&proxy);
    client.read_head();
    proxy.publish(config(&[("other.test", "/", &[])]));
    client.write("still here");
    expect(&mut client, b"still here");
    assert_eq!(proxy.get("one.test", "/").status, 404);
}

#[test]
fn a_tunnel_has_the_grace_period() {
    let origin = echo();
    let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let (mut short, mut long) = (open(&proxy), open(&proxy));
    short.read_head();
    long.read_head();
    proxy.worker.shut_down(Duration::from_millis(500));
    short.write("still here");
    expect(&mut short, b"still here");
    short.stream.get_mut().shutdown(Shutdown::Write).unwrap();
    expect(&mut short, b"end");
    assert!(long.is_closed());
    proxy.worker.join().unwrap();
}
