//! What an idle connection of a client costs. Each kind is measured in a process of its own, because
//! it is the memory of the whole that is looked at, and what another kind has given back would serve
//! the next; the clients' ends are file descriptors and nothing more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress_core::ir::{Certificate, Config, HostPattern, ObjectRef};
use ingress_userspace::allocator::Allocator;
use ingress_userspace::proxy::Timeouts;
use proxy_rig::frames::{ACK, DATA, END_HEADERS, END_STREAM, HEADERS, Raw, SETTINGS, remembered};
use proxy_rig::rig::{Options, Origin, PATIENCE, Proxy, config, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Connections of each kind, where there are file descriptors for both ends; the environment's
/// [`CONNECTIONS_VARIABLE`] names another number.
const CONNECTIONS: usize = WARMING + 4_000;
const CONNECTIONS_VARIABLE: &str = "SLUICE_TEST_IDLE_CONNECTIONS";

/// Connections from one address: fewer than it has ports.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;

/// Of those, the ones that come before the measured: what is there once is no part of the figure.
const WARMING: usize = 200;

/// Names the kind that a process is to measure.
const KIND_VARIABLE: &str = "SLUICE_TEST_IDLE_KIND";

/// A kind of connection.
struct Kind {
    name: &'static str,
    is_tls: bool,
    is_http2: bool,
    /// User-space memory of one that has had an answer.
    bytes_max: usize,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "HTTP/1.1",
        is_tls: false,
        is_http2: false,
        bytes_max: 10 << 10,
    },
    Kind {
        name: "HTTP/1.1 over TLS",
        is_tls: true,
        is_http2: false,
        bytes_max: 20 << 10,
    },
    Kind {
        name: "HTTP/2",
        is_tls: false,
        is_http2: true,
        bytes_max: 10 << 10,
    },
    Kind {
        name: "HTTP/2 over TLS",
        is_tls: true,
        is_http2: true,
        bytes_max: 20 << 10,
    },
];

#[test]
fn idle_connections_cost_little() {
    if let Ok(name) = std::env::var(KIND_VARIABLE) {
        let kind = KINDS.iter().find(|kind| kind.name == name);
        let kind = kind.expect("the name of a kind");
        let (connections, bytes) = measure(kind);
        println!("{connections} of {}: {bytes} bytes each", kind.name);
        assert!(bytes <= kind.bytes_max, "{bytes} bytes");
        return;
    }
    for kind in &KINDS {
        let measured = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "idle_connections_cost_little", "--nocapture"])
            .env(KIND_VARIABLE, kind.name)
            .status();
        assert!(measured.unwrap().success(), "{}", kind.name);
    }
}

/// How many were measured, and the bytes that each costs.
fn measure(kind: &Kind) -> (usize, usize) {
    let wanted =
        std::env::var(CONNECTIONS_VARIABLE).map_or(CONNECTIONS, |number| number.parse().unwrap());
    let connections = wanted.min(descriptors() / 2 - 500) - WARMING;
    let origin = Origin::echo("origin");
    let (served, root) = certificate();
    let mut config = config(&[("one.test", "/", &[origin.address])]);
    config
        .certificates
        .insert(HostPattern::parse("one.test").unwrap(), served);
    let client = tls_client(&root, kind.is_http2);
    let bytes = cost(&config, connections, kind, |proxy, from| {
        let to = if kind.is_tls { proxy.https } else { proxy.http };
        let mut stream = connect(from, to);
        if !kind.is_tls {
            ask(&mut stream, kind.is_http2);
            return stream;
        }
        let name = "one.test".try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&client), name).unwrap();
        ask(
            &mut rustls::Stream::new(&mut connection, &mut stream),
            kind.is_http2,
        );
        // Its keys are forgotten, and the connection stays open.
        stream
    });
    (connections, bytes)
}

/// Bytes of resident memory that one more connection costs, after its first request. `open`
/// makes one from an address.
fn cost(
    config: &Config,
    connections: usize,
    kind: &Kind,
    open: impl Fn(&Proxy, Ipv4Addr) -> TcpStream,
) -> usize {
    let timeouts = Timeouts {
        request_head: PATIENCE * 1000,
        buffers_idle: Duration::from_millis(1),
        ..Timeouts::default()
    };
    let proxy = Proxy::start_with(config.clone(), Options::timeouts(timeouts));
    let open = |index| open(&proxy, source(index));
    let mut kept: Vec<_> = (0..WARMING).map(open).collect();
    let before = resident_bytes();
    kept.extend((WARMING..WARMING + connections).map(open));
    wait_until("all are idle", || {
        let counted = proxy.snapshot().host;
        kind.is_http2 || counted.connections_idle_unbuffered == kept.len() as u64
    });
    let each = || resident_bytes().saturating_sub(before) / connections;
    // The allocator gives pages back when it next has something to do.
    let deadline = Instant::now() + PATIENCE;
    while each() > kind.bytes_max && Instant::now() < deadline {
        proxy.get("one.test", "/");
    }
    each()
}

/// The address that a connection comes from.
fn source(index: usize) -> Ipv4Addr {
    let address =
        Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap();
    Ipv4Addr::from_bits(address)
}

/// Asks, and reads the answer.
fn ask(stream: &mut (impl Read + Write), is_http2: bool) {
    if is_http2 {
        ask_by_frames(stream);
        return;
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        .unwrap();
    // It is small, and comes as a whole or is left in the socket.
    let mut some = [0; 4096];
    assert!(stream.read(&mut some).unwrap() > 0);
}

fn ask_by_frames(stream: &mut (impl Read + Write)) {
    let mut raw = Raw::over(stream);
    raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &remembered(&BROWSERS));
    loop {
        let frame = raw.read().unwrap();
        if frame.kind == SETTINGS && frame.flags != ACK {
            raw.send(SETTINGS, ACK, 0, &[]);
        }
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            return;
        }
    }
}

/// What a browser sends, which the proxy keeps for its next request.
const BROWSERS: [(&str, &str); 16] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "one.test"),
    (":path", "/"),
    (
        "sec-ch-ua",
        "\"Chromium\";v=\"142\", \"Not_A Brand\";v=\"99\"",
    ),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("upgrade-insecure-requests", "1"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 \
         Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-US,en;q=0.9"),
    (
        "cookie",
        "session=0123456789abcdef0123456789abcdef; theme=dark",
    ),
];

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    // Its port is free again as soon as it is closed.
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn certificate() -> (Arc<Certificate>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["one.test".to_owned()]).unwrap();
    let chain_pem = made.cert.pem().into_bytes();
    let root = CertificateDer::from_pem_slice(&chain_pem).unwrap();
    let certificate = Certificate {
        secret: ObjectRef {
            kind: "Secret",
            namespace: "default".into(),
            name: "one".into(),
        },
        chain_pem,
        key_pem: made.signing_key.serialize_pem().into_bytes(),
        alternative: None,
    };
    (Arc::new(certificate), root)
}

fn tls_client(root: &CertificateDer<'static>, is_http2: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if is_http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    Arc::new(config)
}

/// As many file descriptors as this process may have.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    usize::try_from(limit.maximum.unwrap_or(1 << 20)).unwrap()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse::<usize>().unwrap() << 10
}
