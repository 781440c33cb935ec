//! Connections that are carried as they are: TLS passed through, and TCP services.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use ingress_core::ir::{Backend, Config, Endpoint, HostPattern};
use ingress_userspace::proxy::{ClientPolicy, WorkerOptions};

use crate::rig::{Client, Options, Origin, Proxy, config, dead, wait_until};
use crate::tls::served;

/// Passes TLS through to the hosts in `hosts`, and ends that of `ended.test` and `no.wild.test`.
fn passing(hosts: &[&str], endpoint: SocketAddr) -> Config {
    let mut config = config(&[
        ("ended.test", "/", &[endpoint]),
        ("no.wild.test", "/", &[endpoint]),
    ]);
    let other = crate::rig::config(
        &hosts
            .iter()
            .map(|host| (*host, "/", std::slice::from_ref(&endpoint)))
            .collect::<Vec<_>>(),
    );
    for (key, backend) in other.backends.iter() {
        config.backends.insert(Arc::clone(key), Arc::clone(backend));
    }
    for (host, mut rules) in other.hosts {
        let host_rules = Arc::make_mut(&mut rules);
        host_rules.passthrough = host_rules.rules[0].target.primary().cloned();
        config.hosts.insert(host, rules);
    }
    config
}

#[test]
fn tls_is_passed_through_by_server_name_and_ended_for_others() {
    let secret = crate::tls::secret("behind", "one.test");
    let mut behind = config(&[("one.test", "/", &[Origin::echo("behind").address])]);
    let pattern = HostPattern::parse("one.test").unwrap();
    behind.certificates.insert(pattern, secret);
    let behind = Proxy::start(behind);
    let certificate_behind = served(behind.https, Some("one.test"));
    let front = Proxy::start(passing(&["one.test", "*.wild.test"], behind.https));
    assert_eq!(served(front.https, Some("one.test")), certificate_behind);
    assert_eq!(served(front.https, Some("ONE.test")), certificate_behind);
    let own = served(front.https, Some("ended.test"));
    assert_ne!(own, certificate_behind);
    assert_eq!(
        served(front.https, Some("no.wild.test")),
        own,
        "a host has its say before a wildcard"
    );
    assert_eq!(served(front.https, None), own);
    let before = behind.snapshot().host.connections_accepted;
    served(front.https, Some("a.wild.test"));
    assert_eq!(behind.snapshot().host.connections_accepted, before + 1);
    let connect = format!("one.test:443:{}", front.https);
    let output = std::process::Command::new("curl")
        .args([
            "-skS",
            "--max-time",
            "20",
            "--http2",
            "--connect-to",
            &connect,
        ])
        .arg("https://one.test/")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("behind\n"), "{text}");
    front.publish(config(&[("one.test", "/", &[])]));
    assert_ne!(served(front.https, Some("one.test")), certificate_behind);
}

#[test]
fn malformed_or_short_client_hello_is_closed() {
    let behind = Proxy::start(config(&[]));
    let front = Proxy::start(passing(&["one.test"], behind.https));
    let mut client = Client::connect(front.https);
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    while client.read_head().is_some() {}
    let mut early = Client::connect(front.https);
    // The beginning of a record of 512 bytes.
    early
        .stream
        .get_mut()
        .write_all(b"\x16\x03\x01\x02\x00\x01")
        .unwrap();
    early.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    while early.read_head().is_some() {}
    wait_until("they are gone", || {
        front.snapshot().host.connections_open == 0
    });
    assert_eq!(behind.snapshot().host.connections_accepted, 0);
}

/// A configuration with one TCP service.
pub(crate) fn service(port: u16, text: &str, endpoints: &[SocketAddr]) -> Config {
    let service: ingress_core::ir::TcpService = format!("db/mysql:3306{text}").parse().unwrap();
    let endpoint = |address: &SocketAddr| Endpoint { address: *address };
    let backend = Backend {
        key: service.backend.clone(),
        protocol: ingress_core::ir::UpstreamProtocol::Http1,
        endpoints: endpoints.iter().map(endpoint).collect(),
        draining: Vec::new(),
    };
    let mut config = Config::default();
    config
        .backends
        .insert(service.backend.clone(), Arc::new(backend));
    config.tcp_services.insert(port, service);
    config
}

/// Says what it was sent, when the client has nothing more to say.
fn parrot() -> Origin {
    Origin::start(|mut connection| {
        let mut said = Vec::new();
        connection.stream.read_to_end(&mut said).unwrap();
        connection.stream.get_mut().write_all(&said).unwrap();
    })
}

/// What comes back for these bytes.
fn say(proxy: &Proxy, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(proxy.tcp);
    client.stream.get_mut().write_all(bytes).unwrap();
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.stream.read_to_end(&mut back).unwrap();
    back
}

#[test]
fn a_tcp_service_is_carried_both_ways_to_an_endpoint_that_is_there() {
    let origin = parrot();
    let dead = dead();
    let proxy = Proxy::start(Config::default());
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).collect();
    assert_eq!(say(&proxy, b""), b"", "there is no such service");
    proxy.publish(service(proxy.tcp.port(), "", &[dead, origin.address]));
    for _ in 0..4 {
        assert_eq!(say(&proxy, b"hello"), b"hello");
    }
    assert!(say(&proxy, &large) == large);
    proxy.publish(service(proxy.tcp.port(), "", &[dead]));
    let mut nobody = Client::connect(proxy.tcp);
    assert!(nobody.is_closed());
    wait_until("it is counted", || proxy.snapshot().relay_failures == 2);
    let carried = 2 * (large.len() as u64 + 4 * 5);
    wait_until("bytes are counted", || {
        proxy.snapshot().relayed_bytes == carried
    });
}

#[test]
fn endpoints_of_a_tcp_service_see_the_client() {
    let origin = parrot();
    let policy = ClientPolicy {
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        ..ClientPolicy::default()
    };
    let options = WorkerOptions {
        clients: policy,
        ..WorkerOptions::default()
    };
    let proxy = Proxy::start_with(Config::default(), Options::worker(options));
    let port = proxy.tcp.port();
    proxy.publish(service(port, "::PROXY", &[origin.address]));
    let text = String::from_utf8(say(&proxy, b"hi")).unwrap();
    assert!(
        text.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
        "{text}"
    );
    assert!(text.ends_with(&format!(" {port}\r\nhi")), "{text}");
    proxy.publish(service(port, ":PROXY:PROXY2", &[origin.address]));
    let back = say(&proxy, b"PROXY TCP4 203.0.113.7 192.0.2.1 5 443\r\nhi");
    let expected =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x00\x05\x01\xbbhi";
    assert_eq!(back, expected);
    let mut silent = Client::connect(proxy.tcp);
    silent.write("no header at all\r\n");
    assert!(silent.is_closed());
}
