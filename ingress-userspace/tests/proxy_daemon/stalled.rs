//! Clients that ask for large responses and do not read them hold a bounded amount of memory.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use proxy_rig::trusting;
use rustls::{ClientConfig, ClientConnection};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::daemon::{Daemon, PATIENCE, Place, wait_for};
use crate::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, fields,
};

/// Connections of the client, and the streams of each.
const CONNECTIONS: usize = 50;
const STREAMS: u32 = 128;

/// Bytes that the client takes of each response before it stalls: more than one read takes.
const WINDOW: u32 = 40_000;

/// What all of them together may add to the process.
const GROWTH_KIB_MAX: usize = 256 << 10;

/// A server whose responses have 64 MiB, of which as many bytes come as the proxy might read before it
/// finds out that the client does not. One thread serves thousands of connections.
pub(crate) fn large_origin() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket2::SockRef::from(&listener).listen(4096).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    // More than the kernel buffers for clients that read nothing.
                    let pieces = if request.starts_with(b"GET /large") {
                        1024
                    } else {
                        4
                    };
                    if request.starts_with(b"GET /ok") {
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        continue;
                    }
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n";
                    let body = vec![0; 1 << 16];
                    let _ = stream.write_all(head.as_bytes()).await;
                    for _ in 0..pieces {
                        if stream.write_all(&body).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    };
    thread::spawn(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(serve);
    });
    address
}

/// Asks for as many responses as may be open, and takes no more of each than `WINDOW`.
pub(crate) fn stall(address: SocketAddr) -> Raw {
    let mut raw = Raw::connect(address);
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    let window = WINDOW.to_be_bytes();
    raw.send(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat());
    raw.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let head = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/"),
    ]);
    for number in 0..STREAMS {
        raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head);
    }
    let mut left = (STREAMS * WINDOW) as usize;
    while left > 0 {
        let frame = raw.read().expect("the connection stays open");
        if frame.kind == DATA {
            left -= frame.payload.len();
        }
    }
    raw
}

#[test]
fn stalled_streams_hold_little_memory() {
    let place = Place::new(large_origin());
    let daemon = place.start("a", &["--client-connections-max=0"]);
    assert_eq!(daemon.get(daemon.http, "/ok").status, 200);
    let before = daemon.resident_kib("VmRSS:");
    let stalled: Vec<_> = (0..CONNECTIONS).map(|_| stall(daemon.http)).collect();
    let growth = daemon.resident_kib("VmRSS:").saturating_sub(before);
    let each = growth * 1024 / (CONNECTIONS * STREAMS as usize);
    println!("{growth} KiB, {each} bytes a stream");
    assert!(growth < GROWTH_KIB_MAX, "grew by {growth} KiB");
    assert!(each <= 16 * 1024, "{each} bytes a stream");
    assert_eq!(daemon.get(daemon.http, "/ok").status, 200);
    drop(stalled);
}

#[test]
fn longest_stalled_responses_are_reset_when_memory_is_short() {
    let place = Place::new(large_origin());
    // A quarter of it is for stalled streams: one connection's.
    let daemon = place.start("a", &["--memory-limit=8m"]);
    let mut first = stall(daemon.http);
    wait_for("all to be stalled", || {
        gauge(&daemon, "sluice_stalled_requests") == STREAMS as usize
    });
    let _second = stall(daemon.http);
    for _ in 0..STREAMS {
        let frame = first.read().expect("the connection stays open");
        assert_eq!(
            frame.kind, RST_STREAM,
            "all of its streams have stalled longer"
        );
    }
    assert_eq!(gauge(&daemon, "sluice_stalled_requests"), STREAMS as usize);
    assert_eq!(daemon.get(daemon.http, "/ok").status, 200);
}

/// Connections over TLS, and what each may hold.
const TLS_CONNECTIONS: usize = 800;
const TLS_KIB_MAX: usize = 64;

/// Asks for a large response over TLS, reads its beginning, and no more.
pub(crate) fn stall_over_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let name = "one.test".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    tls.write_all(b"GET /large HTTP/1.1\r\nHost: one.test\r\n\r\n")
        .unwrap();
    let mut some = [0; 1024];
    assert!(tls.read(&mut some).unwrap() > 0);
    stream
}

#[test]
fn stalled_connections_over_tls_hold_little_memory() {
    let place = Place::new(large_origin());
    let daemon = place.start("a", &["--client-connections-max=0"]);
    let config = Arc::new(trusting::client());
    let https = SocketAddr::from((Ipv4Addr::LOCALHOST, place.https));
    let stall = || stall_over_tls(https, &config);
    let mut stalled: Vec<_> = (0..WARMING).map(|_| stall()).collect();
    let before = daemon.resident_kib("VmRSS:");
    stalled.extend((0..TLS_CONNECTIONS).map(|_| stall()));
    wait_for("all to be stalled", || {
        gauge(&daemon, "sluice_stalled_requests") == stalled.len()
    });
    let growth = daemon.resident_kib("VmRSS:").saturating_sub(before);
    let each = growth / TLS_CONNECTIONS;
    println!("{growth} KiB, {each} KiB a connection");

    assert!(each <= TLS_KIB_MAX, "{each} KiB a connection");
}

/// Connections that come first, and have the permits for large pieces.
const WARMING: usize = 200;

/// A number that the daemon tells of its worker.
pub(crate) fn gauge(daemon: &Daemon, name: &str) -> usize {
    let metrics = Daemon::try_get(daemon.admin, "/metrics");
    let metrics = metrics.map_or_else(String::new, |answer| answer.body);
    let lines = metrics.lines();
    let mut numbers = lines.filter_map(|line| {
        let (series, number) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(name)?;
        labels.starts_with('{').then_some(number)
    });
    numbers.next().map_or(0, |number| number.parse().unwrap())
}
