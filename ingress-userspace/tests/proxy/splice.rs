//! Large bodies and bulk in tunnels go from socket to socket through pipes of the kernel, and arrive
//! as they would have without.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use ingress_core::ir::{Config, HostPattern};
use ingress_userspace::proxy::Timeouts;

use crate::relay::service;
use crate::rig::{Client, Options, Origin, Proxy, config, wait_until};
use crate::upgrade::{ASK, echo};

/// Bytes of which no two pages are the same, other ones for each length.
fn bytes(length: usize) -> &'static [u8] {
    &ALL[length % OFFSETS..][..length]
}

static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_ne_bytes()
    };
    let words = std::iter::repeat_with(word).flatten();
    words.take(BYTES_MAX + OFFSETS).collect()
});

const BYTES_MAX: usize = 20_000_000;

/// Shares no factor with what lengths are multiples of.
const OFFSETS: usize = 4_093;

/// Answers with as many bytes as the path says, and breaks off before the last of them where it
/// says so: `/1000` and `/1000/400`.
fn origin() -> Origin {
    Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            let path = head.text.split(' ').nth(1).unwrap();
            let numbers: Vec<usize> = path[1..].split('/').flat_map(str::parse).collect();
            let length = numbers[0];
            connection.write(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            ));
            let sent = numbers.get(1).copied().unwrap_or(length);
            let _ = connection
                .stream
                .get_mut()
                .write_all(&bytes(length)[..sent]);
            if sent < length {
                return;
            }
        }
    })
}

fn proxy(origin: &Origin) -> Proxy {
    Proxy::start(config(&[("one.test", "/", &[origin.address])]))
}

fn ask(client: &mut Client, length: usize) {
    client.write(&format!("GET /{length} HTTP/1.1\r\nHost: one.test\r\n\r\n"));
}

/// Whether these bytes come next, with their head.
fn is_answered(client: &mut Client, length: usize) -> bool {
    let reply = client.read_reply();
    reply.status == 200 && reply.body == bytes(length)
}

#[test]
fn bodies_of_all_sizes_come_whole() {
    let origin = origin();
    let proxy = proxy(&origin);
    let mut client = proxy.client();
    for length in SIZES {
        ask(&mut client, length);
        assert!(is_answered(&mut client, length), "{length}");
    }
    let small = proxy.snapshot().spliced_bytes;
    assert_eq!(origin.connections(), 1);
    ask(&mut client, 20_000_000);
    assert!(is_answered(&mut client, 20_000_000));
    let spliced = proxy.snapshot().spliced_bytes - small;
    assert!(spliced > 19_000_000, "{spliced}");
}

#[test]
fn answers_to_requests_sent_together_keep_their_order() {
    let origin = origin();
    let proxy = proxy(&origin);
    let mut client = proxy.client();
    for length in SIZES {
        ask(&mut client, length);
    }
    for length in SIZES {
        assert!(is_answered(&mut client, length), "{length}");
    }
}

#[test]
fn aborted_splice_leaves_no_bytes_in_the_pipe() {
    let origin = origin();
    let proxy = proxy(&origin);
    for length in [BYTES_MAX, BYTES_MAX - 1] {
        let mut gone = proxy.client();
        ask(&mut gone, length);
        // The sockets are full then, and so is the pipe.
        let spliced = || proxy.snapshot().spliced_bytes;
        let mut before = 0;
        while spliced() != before || before == 0 {
            before = spliced();
            thread::sleep(Duration::from_millis(50));
        }
        drop(gone);
        wait_until("it is gone", || proxy.snapshot().requests_open == 0);
        let mut client = proxy.client();
        ask(&mut client, 1_000_000);
        assert!(is_answered(&mut client, 1_000_000));
    }
}

#[test]
fn a_client_gets_what_came_before_the_endpoint_broke_off() {
    let origin = origin();
    let proxy = proxy(&origin);
    let mut client = proxy.client();
    client.write("GET /3000000/2000000 HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    let mut body = Vec::new();
    if let Err(error) = client.stream.read_to_end(&mut body) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(body.len(), 2_000_000);
    assert!(bytes(3_000_000).starts_with(&body));
}

#[test]
fn a_client_that_pauses_is_not_the_endpoints_fault() {
    let origin = origin();
    let timeouts = Timeouts {
        body_idle: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start_with(config, Options::timeouts(timeouts));
    // What is left in a pipe when a client pauses is now more, now less than hyper waits for.
    let lengths: Vec<_> = (0..16).map(|number| 8_000_000 + number * 50_000).collect();
    let mut clients: Vec<_> = lengths.iter().map(|_| proxy.client()).collect();
    for (client, length) in clients.iter_mut().zip(&lengths) {
        ask(client, *length);
    }
    // Each part of the next request has the connection looked at.
    for part in [
        "GET /1 HT",
        "TP/1.1\r\n",
        "Host: ",
        "one",
        ".te",
        "st\r\n",
        "\r\n",
    ] {
        thread::sleep(Duration::from_millis(75));
        for client in &mut clients {
            client.write(part);
        }
    }
    for (client, length) in clients.iter_mut().zip(&lengths) {
        assert!(is_answered(client, *length), "{length}");
        assert!(is_answered(client, 1), "{length}");
    }
}

#[test]
fn without_pipes_bodies_come_all_the_same() {
    let origin = origin();
    let proxy = proxy(&origin);
    // More than a worker has pipes, each with more on its way than sockets hold.
    let mut clients: Vec<_> = (0..300).map(|_| proxy.client()).collect();
    for client in &mut clients {
        ask(client, LARGE);
        assert_eq!(client.read_head().unwrap().status(), 200);
    }
    let expected = bytes(LARGE);
    for client in &mut clients {
        let mut body = vec![0; LARGE];
        client.stream.read_exact(&mut body).unwrap();
        assert!(body == expected, "a whole body");
    }
    let all = (clients.len() * LARGE) as u64;
    assert!(
        proxy.snapshot().spliced_bytes < all - LARGE as u64,
        "some went without"
    );
}

/// What curl gets of a large body with these arguments.
fn curl(proxy: &Proxy, arguments: &[&str]) -> Vec<u8> {
    let connect = |from: u16, to| format!("one.test:{from}:{to}");
    let output = Command::new("curl")
        .args(["-skS", "--max-time", "60", "--noproxy", "*"])
        .args(["--connect-to", &connect(80, proxy.http)])
        .args(["--connect-to", &connect(443, proxy.https)])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn http2_and_tls_are_not_spliced() {
    let origin = origin();
    let proxy = proxy(&origin);
    let expected = bytes(LARGE);
    let path = format!("one.test/{LARGE}");
    let (plain, tls) = (format!("http://{path}"), format!("https://{path}"));
    for arguments in [
        &["--http2-prior-knowledge", &*plain][..],
        &["--http2", &*tls],
        &["--http1.1", &*tls],
    ] {
        assert!(curl(&proxy, arguments) == expected, "{arguments:?}");
        assert_eq!(proxy.snapshot().spliced_bytes, 0, "{arguments:?}");
    }
    assert!(curl(&proxy, &["--http1.0", &plain]) == expected);
    assert_ne!(proxy.snapshot().spliced_bytes, 0);
}

#[test]
fn bulk_of_a_tcp_service_is_spliced_both_ways_to_both_ends() {
    let said = bytes(10_000_000);
    let origin = Origin::start(move |mut connection| {
        // Much to say, and all of it heard, before anything else is said.
        let mut heard = Vec::new();
        connection.stream.read_to_end(&mut heard).unwrap();
        assert!(heard == said);
        let stream = connection.stream.get_mut();
        stream.write_all(b"small").unwrap();
        stream.write_all(&heard).unwrap();
    });
    let proxy = Proxy::start(Config::default());
    proxy.publish(service(proxy.tcp.port(), "", &[origin.address]));
    let mut client = Client::connect(proxy.tcp);
    let mut writing = client.stream.get_ref().try_clone().unwrap();
    let mut back = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            writing.write_all(said).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        client.stream.read_to_end(&mut back).unwrap();
    });
    assert!(back.starts_with(b"small"));
    assert!(back[5..] == *said);
    let spliced = proxy.snapshot().spliced_bytes;
    assert!(spliced > said.len() as u64, "{spliced}");
}

#[test]
fn bulk_of_a_tunnel_with_tls_is_not_spliced() {
    let origin = echo();
    let secret = crate::tls::secret("one", "one.test");
    let mut config = config(&[("one.test", "/", &[origin.address])]);
    let host = HostPattern::parse("one.test").unwrap();
    config.certificates.insert(host, Arc::clone(&secret));
    let proxy = Proxy::start(config);
    let mut client = crate::tls::connect(&proxy, &secret);
    client.write_all(format!("{ASK}\r\n").as_bytes()).unwrap();
    let said = bytes(500_000);
    let mut heard = Vec::new();
    for part in said.chunks(100_000) {
        client.write_all(part).unwrap();
        heard.resize(heard.len() + part.len(), 0);
        let begin = heard.len() - part.len();
        client.read_exact(&mut heard[begin..]).unwrap();
    }
    // The echo begins with two heads: its own, and the one that it was asked by.
    let ends = heard.windows(4).enumerate();
    let mut ends = ends.filter(|(_, end)| end == b"\r\n\r\n");
    let (end, _) = ends.nth(1).unwrap();
    assert!(said.starts_with(&heard[end + 4..]));
    assert_eq!(proxy.snapshot().spliced_bytes, 0);
}

/// Some on either side of what is worth a pipe, of a buffer, of a pipe.
const SIZES: [usize; 8] = [0, 1, 8_000, 20_000, 65_536, 300_000, 1 << 20, 3_000_001];

const LARGE: usize = 8_000_000;
