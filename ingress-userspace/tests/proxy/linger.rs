//! Connections that are closed while the client is still sending: it gets to read why.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::frames::{GOAWAY, Raw, SETTINGS};
use crate::rig::{Proxy, config, wait_until};

/// More than sockets hold back, less than is read of who goes on.
static MORE: [u8; 300_000] = [0; 300_000];

/// What comes until the other side has closed; a reset is an error.
fn read_to_end(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes)
}

#[test]
fn an_http_2_client_that_is_sending_reads_the_goaway() {
    let proxy = Proxy::start(config(&[]));
    for _ in 0..20 {
        let mut client = Raw::connect(proxy.http);
        // SETTINGS on a stream is a fault of the connection (RFC 9113 §6.5).
        assert!(client.send(SETTINGS, 0, 1, &[]));
        assert!(client.write(&MORE), "what comes after it is taken");
        loop {
            let frame = client.read().expect("a GOAWAY before the end");
            if frame.kind == GOAWAY {
                break;
            }
        }
        assert_eq!(read_to_end(&mut client.stream).unwrap(), b"", "a plain end");
        assert!(client.write(b"still here"), "no reset");
    }
    wait_until("all are gone", || {
        proxy.snapshot().host.connections_open == 0
    });
}

#[test]
fn an_http_1_client_that_is_sending_reads_why_it_is_refused() {
    let proxy = Proxy::start(config(&[]));
    for _ in 0..20 {
        let mut client = connect(proxy.http);
        let head = b"GET / HTTP/1.1\r\nHost : one.test\r\n\r\n";
        client.write_all(head).unwrap();
        client.write_all(&MORE).unwrap();
        let answer = String::from_utf8(read_to_end(&mut client).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[test]
fn lingering_close_is_bounded() {
    let proxy = Proxy::start(config(&[]));
    let mut client = Raw::connect(proxy.http);
    client.send(SETTINGS, 0, 1, &[]);
    let taken = (0..1000).take_while(|_| client.write(&MORE)).count();
    assert!(taken < 100, "{taken} times {} bytes were taken", MORE.len());
    wait_until("it is gone", || proxy.snapshot().host.connections_open == 0);
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
    stream
}
