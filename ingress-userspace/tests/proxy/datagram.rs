//! UDP services: sessions, their ends and their bound.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ingress_core::ir::{Config, Endpoint, UdpService, UpstreamProtocol};
use ingress_userspace::proxy::{DatagramLimits, WorkerOptions};

use crate::rig::{Options, PATIENCE, Proxy, config, wait_until};

/// Answers each datagram with its name, the address that it came from, and the datagram.
pub(crate) fn echo(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{name} {from} ").into_bytes();
            answer.extend_from_slice(&buffer[..count]);
            socket.send_to(&answer, from).unwrap();
        }
    });
    address
}

/// A UDP service of the proxy's port.
pub(crate) fn service(port: u16, endpoints: &[SocketAddr]) -> Config {
    service_draining(port, endpoints, &[])
}

fn service_draining(port: u16, endpoints: &[SocketAddr], draining: &[SocketAddr]) -> Config {
    let mut config = config(&[("udp.test", "/", endpoints)]);
    let backends = std::mem::take(&mut config.backends);
    let (key, backend) = backends.iter().next().unwrap();
    let service: UdpService = "default/udp:53".parse().unwrap();
    let mut backend = (**backend).clone();
    backend.key = service.backend.clone();
    backend.protocol = UpstreamProtocol::Datagrams;
    let endpoint = |address: &SocketAddr| Endpoint { address: *address };
    backend.draining = draining.iter().map(endpoint).collect();
    assert_ne!(*key, backend.key);
    config.hosts.clear();
    config
        .backends
        .insert(backend.key.clone(), Arc::new(backend));
    config.udp_services.insert(port, service);
    config
}

fn start(limits: DatagramLimits) -> Proxy {
    Proxy::start_with(
        Config::default(),
        Options::worker(WorkerOptions {
            datagrams: limits,
            ..WorkerOptions::default()
        }),
    )
}

pub(crate) fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The answer to a datagram: who gave it, to which address, and the rest.
pub(crate) fn ask(client: &UdpSocket, datagram: &[u8]) -> (String, String, Vec<u8>) {
    client.send(datagram).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let count = client.recv(&mut buffer).unwrap();
    let mut parts = buffer[..count].splitn(3, |byte| *byte == b' ');
    let mut text = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
    let (name, from) = (text(), text());
    (name, from, parts.next().unwrap().to_vec())
}

#[test]
fn datagrams_of_a_client_stay_with_one_endpoint_and_answers_find_it() {
    let proxy = start(DatagramLimits::default());
    let endpoints = ["a", "b", "c"].map(echo);
    proxy.publish(service(proxy.udp.port(), &endpoints));
    let clients: Vec<_> = (0..20).map(|_| client(proxy.udp)).collect();
    let first: Vec<_> = clients.iter().map(|client| ask(client, b"one")).collect();
    for (client, first) in clients.iter().zip(&first) {
        assert_eq!(ask(client, b"one"), *first);
    }
    for size in [0, 1, 1400, 9000, 60_000] {
        let datagram = vec![b'x'; size];
        assert_eq!(ask(&clients[0], &datagram).2, datagram, "{size} bytes");
    }
    wait_until("the last answer is counted", || {
        proxy.snapshot().udp_datagrams == 90
    });
    let counted = proxy.snapshot();
    assert_eq!((counted.udp_sessions, counted.udp_sessions_open), (20, 20));
    assert_eq!(counted.udp_datagrams_dropped, 0);
    let metrics = proxy.metrics();
    assert!(metrics.contains("sluice_udp_sessions_open{worker=\"0\"} 20"));
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let proxy = start(DatagramLimits::default());
    proxy.publish(service(proxy.udp.port(), &[echo("a")]));
    // A connected socket hears of nobody else.
    for address in ["127.0.0.1", "127.7.7.7", "::1"] {
        let ip: IpAddr = address.parse().unwrap();
        let any: IpAddr = if ip.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let Ok(socket) = UdpSocket::bind((any, 0)) else {
            continue;
        };
        socket.connect((ip, proxy.udp.port())).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ask(&socket, b"hello").2, b"hello", "{address}");
    }
}

#[test]
fn a_session_moves_when_its_endpoint_leaves() {
    let proxy = start(DatagramLimits::default());
    let port = proxy.udp.port();
    let [a, b] = ["a", "b"].map(echo);
    proxy.publish(service(port, &[a]));
    let client = client(proxy.udp);
    assert_eq!(ask(&client, b"x").0, "a");
    proxy.publish(service_draining(port, &[b], &[a]));
    for _ in 0..3 {
        assert_eq!(ask(&client, b"x").0, "a", "it drains");
    }
    proxy.publish(service(port, &[b]));
    wait_until("the session has ended", || {
        proxy.snapshot().udp_sessions_open == 0
    });
    assert_eq!(ask(&client, b"x").0, "b");
}

#[test]
fn an_endpoint_that_refuses_is_left_for_another() {
    let proxy = start(DatagramLimits::default());
    let closed = {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.local_addr().unwrap()
    };
    proxy.publish(service(proxy.udp.port(), &[closed, echo("a")]));
    let client = client(proxy.udp);
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let mut buffer = [0; 100];
    // As clients of UDP do, it asks again where no answer comes.
    let answered = (0..100).any(|_| {
        client.send(b"x").unwrap();
        client.recv(&mut buffer).is_ok()
    });
    assert!(answered);
}

#[test]
fn idle_sessions_end() {
    let proxy = start(DatagramLimits {
        session_idle: Duration::from_millis(300),
        ..DatagramLimits::default()
    });
    proxy.publish(service(proxy.udp.port(), &[echo("a")]));
    let client = client(proxy.udp);
    client
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    // A session may end before its endpoint has had a turn to answer.
    let address = || {
        let mut buffer = [0; 100];
        loop {
            client.send(b"x").unwrap();
            if let Ok(count) = client.recv(&mut buffer) {
                return String::from_utf8(buffer[..count].to_vec()).unwrap();
            }
        }
    };
    let first = address();
    wait_until("the session has ended", || {
        proxy.snapshot().udp_sessions_open == 0
    });
    assert_ne!(address(), first, "a session has its own socket");
    assert!(proxy.snapshot().udp_sessions >= 2);
}

#[test]
fn sessions_are_bounded_and_those_that_are_there_go_on() {
    let proxy = start(DatagramLimits {
        // A client has a quarter of them.
        sessions_max: 12,
        ..DatagramLimits::default()
    });
    proxy.publish(service(proxy.udp.port(), &[echo("a")]));
    let clients: Vec<_> = (0..3).map(|_| client(proxy.udp)).collect();
    for client in &clients {
        assert_eq!(ask(client, b"x").0, "a");
    }
    let late = client(proxy.udp);
    for _ in 0..10 {
        late.send(b"x").unwrap();
    }
    wait_until("they are dropped", || {
        proxy.snapshot().udp_datagrams_dropped == 10
    });
    for client in &clients {
        assert_eq!(ask(client, b"x").0, "a");
    }
    assert_eq!(proxy.snapshot().udp_sessions, 3);
    let other = client_from(2, proxy.udp);
    assert_eq!(ask(&other, b"x").0, "a", "others have their shares");
}

/// A client at another address of this host.
fn client_from(number: u8, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Answers as [`echo`] does, but for datagrams that say nothing.
fn choosy() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            if count > 0 {
                let answer = format!("a {from} ");
                socket.send_to(answer.as_bytes(), from).unwrap();
            }
        }
    });
    address
}

#[test]
fn sessions_that_never_had_an_answer_give_way() {
    let proxy = start(DatagramLimits {
        sessions_max: 4,
        ..DatagramLimits::default()
    });
    proxy.publish(service(proxy.udp.port(), &[choosy()]));
    let answered = client_from(2, proxy.udp);
    let port = ask(&answered, b"x").1;
    let silent: Vec<_> = (3..6)
        .map(|number| client_from(number, proxy.udp))
        .collect();
    for (socket, sent) in silent.iter().zip(2..) {
        socket.send(b"").unwrap();
        wait_until("it is carried", || proxy.snapshot().udp_sessions == sent);
    }
    for number in 6..9 {
        assert_eq!(ask(&client_from(number, proxy.udp), b"x").0, "a");
    }
    assert_eq!(ask(&answered, b"x").1, port, "its session has stayed");
    silent[0].send(b"x").unwrap();
    wait_until("all have had answers, and stay", || {
        proxy.snapshot().udp_datagrams_dropped == 1
    });
}

#[test]
fn sessions_without_an_answer_end_sooner() {
    let proxy = start(DatagramLimits {
        unanswered_idle: Duration::from_millis(1),
        ..DatagramLimits::default()
    });
    proxy.publish(service(proxy.udp.port(), &[choosy()]));
    let [answered, silent] = [2, 3].map(|number| client_from(number, proxy.udp));
    ask(&answered, b"x");
    silent.send(b"").unwrap();
    wait_until("it has ended", || {
        let counted = proxy.snapshot();
        (counted.udp_sessions, counted.udp_sessions_open) == (2, 1)
    });
}

#[test]
fn without_endpoints_datagrams_are_dropped() {
    let proxy = start(DatagramLimits::default());
    proxy.publish(service(proxy.udp.port(), &[]));
    client(proxy.udp).send(b"x").unwrap();
    wait_until("it is dropped", || {
        proxy.snapshot().udp_datagrams_dropped == 1
    });
    assert_eq!(proxy.snapshot().udp_sessions, 0);
}
