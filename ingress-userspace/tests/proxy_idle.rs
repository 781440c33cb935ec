//! What an idle connection of a client costs. Alone in its process, because it looks at the memory
//! of the whole; the clients' ends are file descriptors and nothing more.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "shared with the other tests, which use all of it")]
#[path = "proxy/rig.rs"]
mod rig;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingress_core::ir::{Certificate, Config, HostPattern, ObjectRef};
use ingress_userspace::allocator::Allocator;
use ingress_userspace::proxy::Timeouts;
use rig::{Options, Origin, PATIENCE, Proxy, config, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Connections that are measured of each kind, where there are file descriptors for both ends;
/// the environment's [`CONNECTIONS_VARIABLE`] names another number.
const CONNECTIONS: usize = 4_000;
const CONNECTIONS_VARIABLE: &str = "SLUICE_TEST_IDLE_CONNECTIONS";

/// Connections from one address: fewer than it has ports.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;

/// Connections before that, so that what is there once is no part of the figure.
const WARMING: usize = 200;

/// User-space memory of one that has had an answer.
const CLEARTEXT_BYTES_MAX: usize = 10 << 10;
const TLS_BYTES_MAX: usize = 20 << 10;

#[test]
fn idle_connections_cost_little() {
    let wanted =
        std::env::var(CONNECTIONS_VARIABLE).map_or(CONNECTIONS, |number| number.parse().unwrap());
    let connections = wanted.min(descriptors() / 2 - WARMING - 500);
    let origin = Origin::echo("origin");
    let (served, root) = certificate();
    let mut config = config(&[("one.test", "/", &[origin.address])]);
    config
        .certificates
        .insert(HostPattern::parse("one.test").unwrap(), served);
    let cleartext = cost(&config, connections, CLEARTEXT_BYTES_MAX, |proxy, from| {
        idle(from, proxy.http)
    });
    println!("{connections} connections: {cleartext} bytes each");
    let client = tls_client(&root);
    let tls = cost(&config, connections, TLS_BYTES_MAX, |proxy, from| {
        idle_tls(from, proxy.https, &client)
    });
    println!("{connections} with TLS: {tls} bytes each");
    assert!(cleartext <= CLEARTEXT_BYTES_MAX, "{cleartext} bytes");
    assert!(tls <= TLS_BYTES_MAX, "{tls} bytes with TLS");
}

/// Bytes of resident memory that one more connection costs, after its first request. `open`
/// makes one from an address.
fn cost(
    config: &Config,
    connections: usize,
    bytes_max: usize,
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
        let counted = proxy.snapshot();
        counted.host.connections_asleep == kept.len() as u64
    });
    let each = || resident_bytes().saturating_sub(before) / connections;
    // The allocator gives pages back when it next has something to do.
    let deadline = Instant::now() + PATIENCE;
    while each() > bytes_max && Instant::now() < deadline {
        proxy.get("one.test", "/");
    }
    each()
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";

/// The address that a connection comes from.
fn source(index: usize) -> Ipv4Addr {
    let address =
        Ipv4Addr::LOCALHOST.to_bits() + u32::try_from(index / CONNECTIONS_PER_ADDRESS).unwrap();
    Ipv4Addr::from_bits(address)
}

/// A connection that has had an answer.
fn idle(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let mut stream = connect(from, to);
    stream.write_all(REQUEST).unwrap();
    read_some(&mut stream);
    stream
}

fn idle_tls(from: Ipv4Addr, to: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let mut stream = connect(from, to);
    let name = "one.test".try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    tls.write_all(REQUEST).unwrap();
    read_some(&mut tls);
    // Its keys are forgotten, and the connection stays open.
    stream
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The answer is small, and comes as a whole or is left in the socket.
fn read_some(stream: &mut impl Read) {
    let mut some = [0; 4096];
    assert!(stream.read(&mut some).unwrap() > 0);
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

fn tls_client(root: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
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
