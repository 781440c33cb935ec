//! Connections that one client may have.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use ingress_userspace::proxy::{ClientLimits, ClientPolicy, WorkerOptions};

use crate::relay::service;
use crate::rig::{Client, Options, Origin, Proxy, config, wait_until};

/// So many for each client.
fn bounded(max: u32, clients: ClientPolicy) -> Options {
    Options::worker(WorkerOptions {
        clients,
        client_limits: ClientLimits {
            connections_max: NonZeroU32::new(max),
            ..ClientLimits::default()
        },
        ..WorkerOptions::default()
    })
}

/// A client at 127.0.0.2; others are at 127.0.0.1.
fn another(address: SocketAddr) -> Client {
    Client::connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), address)
}

#[test]
fn a_client_with_as_many_as_it_may_have_is_reset_and_others_are_served() {
    let origin = Origin::echo("origin");
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start_with(config, bounded(3, ClientPolicy::default()));
    let mut kept: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("one.test", "/").status, 200);
    }
    let mut tls = Client::connect(proxy.https);
    for client in [&mut proxy.client(), &mut tls] {
        assert!(client.is_closed());
    }
    assert_eq!(another(proxy.http).get("one.test", "/").status, 200);
    assert_eq!(kept[0].get("one.test", "/").status, 200);
    let metric = "sluice_client_limit_refusals_total{";
    let metrics = proxy.metrics();
    let counted = metrics.lines().filter(|line| line.starts_with(metric));
    assert!(counted.into_iter().any(|line| line.ends_with(" 2")));

    kept.truncate(2);
    wait_until("two are left", || {
        proxy.snapshot().host.connections_open == 2
    });
    assert_eq!(proxy.get("one.test", "/").status, 200);
}

#[test]
fn a_load_balancers_clients_are_counted_and_itself_is_not() {
    let origin = Origin::echo("origin");
    let config = config(&[("one.test", "/", &[origin.address])]);
    let policy = ClientPolicy {
        trusted: vec!["127.0.0.1/32".parse().unwrap()],
        use_proxy_protocol: true,
        ..ClientPolicy::default()
    };
    let proxy = Proxy::start_with(config, bounded(1, policy));
    let connect = |source: &str| {
        let mut client = proxy.client();
        let header = format!("PROXY TCP4 {source} 192.0.2.1 5 80\r\n");
        let request = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
        let all = header + request;
        client.stream.get_mut().write_all(all.as_bytes()).unwrap();
        client
    };
    let mut first = connect("203.0.113.7");
    assert_eq!(first.read_reply().status, 200);
    assert!(connect("203.0.113.7").is_closed());
    assert_eq!(connect("203.0.113.8").read_reply().status, 200);
    let own: Vec<_> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            client.write("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
            assert_eq!(client.read_reply().status, 200);
            client
        })
        .collect();
    assert_eq!(own.len(), 3);
}

#[test]
fn connections_to_tcp_services_are_counted() {
    let origin = Origin::start(|mut connection| {
        connection.write("hello\n");
        let _ = connection.is_closed();
    });
    let options = bounded(1, ClientPolicy::default());
    let proxy = Proxy::start_with(config(&[]), options);
    proxy.publish(service(proxy.tcp.port(), "", &[origin.address]));
    let mut first = Client::connect(proxy.tcp);
    assert!(!first.is_closed());
    assert!(Client::connect(proxy.tcp).is_closed());
    assert!(!another(proxy.tcp).is_closed());
}

/// Whoever may write EndpointSlices could else have all of the proxy's descriptors.
#[test]
fn a_request_that_goes_round_ends_and_others_are_served() {
    let origin = Origin::echo("origin");
    let good = ("one.test", "/", &[origin.address][..]);
    let options = bounded(20, ClientPolicy::default());
    let proxy = Proxy::start_with(config(&[good]), options);
    proxy.publish(config(&[good, ("loop.test", "/", &[proxy.http])]));
    let mut looping = another(proxy.http);
    assert_eq!(looping.get("loop.test", "/").status, 502);
    assert_eq!(another(proxy.http).get("one.test", "/").status, 200);
    assert!(proxy.snapshot().host.connections_accepted < 100);
    assert!(proxy.snapshot().host.client_limit_refusals > 0);
}
