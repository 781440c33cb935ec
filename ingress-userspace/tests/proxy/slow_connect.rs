//! Endpoints that neither take nor refuse a connection, like those of a node that has gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use ingress_core::balance::hash_of_address;
use ingress_core::ir::{AffinityMode, Balance, Config, UpstreamProtocol};

use crate::balancing::{config_with, sticky};
use crate::endpoint_removal::{Vanished, first_line, start};
use crate::grpc::speaking;
use crate::h2rig::{self, Asked, H2Origin, run};
use crate::relay::service;
use crate::rig::{Origin, Proxy, config};

const REQUESTS: usize = 30;

/// Longer than an endpoint has where there is another.
const LONG: Duration = Duration::from_millis(1500);

/// Many requests that have bodies, at a time.
fn ask_at_once(proxy: &Proxy) {
    let clients: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut client = proxy.client();
            client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.read_reply().status, 200);
    }
}

#[test]
fn requests_go_on_to_another_endpoint() {
    let gone = [Vanished::new(), Vanished::new()];
    let origin = Origin::echo("origin");
    let endpoints = [gone[0].address, gone[1].address, origin.address];
    let (proxy, _dialled) = start(config(&[("one.test", "/", &endpoints)]));
    ask_at_once(&proxy);
    let counted = proxy.snapshot();
    assert!(counted.upstream_connect_failures > 0);
    assert_eq!(
        counted.upstream_retries, counted.upstream_connect_failures,
        "none of them asked twice at an endpoint"
    );
}

#[test]
fn an_endpoint_that_is_slow_twice_is_ejected() {
    let gone = Vanished::new();
    let origin = Origin::echo("origin");
    let endpoints = [gone.address, origin.address];
    let balance = Balance::RoundRobin;
    let (proxy, _dialled) = start(config_with(&endpoints, |backend| {
        Arc::make_mut(&mut backend.key).policy.balance = Some(balance.clone());
    }));
    ask_at_once(&proxy);
    let counted = proxy.snapshot();
    assert!(counted.upstream_connect_failures > 1);
    assert!(counted.upstream_ejections > 0);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    assert_eq!(
        proxy.snapshot().upstream_connect_failures,
        counted.upstream_connect_failures
    );
}

#[test]
fn single_endpoint_gets_the_full_connect_timeout() {
    let gone = Vanished::new();
    let (proxy, _dialled) = start(config(&[("one.test", "/", &[gone.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    thread::sleep(LONG);
    let counted = proxy.snapshot();
    assert_eq!(counted.requests_open, 1);
    assert_eq!(counted.upstream_connect_failures, 0);
    // One who comes is better than none who takes connections.
    let origin = Origin::echo("origin");
    proxy.publish(config(&[(
        "one.test",
        "/",
        &[gone.address, origin.address],
    )]));
    assert_eq!(client.read_reply().status, 200);
}

#[test]
fn a_session_does_not_move() {
    let gone = Vanished::new();
    let origin = Origin::echo("origin");
    let endpoints = [origin.address, gone.address];
    let (proxy, _dialled) = start(sticky(&endpoints, &[], AffinityMode::Persistent));
    let session = hash_of_address(gone.address);
    let mut client = proxy.client();
    client.write(&format!(
        "GET / HTTP/1.1\r\nHost: one.test\r\nCookie: STICK={session:016x}\r\n\r\n"
    ));
    thread::sleep(LONG);
    let counted = proxy.snapshot();
    assert_eq!(counted.requests_open, 1);
    assert_eq!(counted.upstream_connect_failures, 0);
}

#[test]
fn requests_over_http2_go_on_together() {
    let gone = Vanished::new();
    let origin = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let endpoints = [gone.address, origin.address];
    let (proxy, _dialled) = start(speaking(UpstreamProtocol::Http2, &endpoints));
    run(async {
        let client = h2rig::connect(proxy.http).await;
        let mut answers = Vec::new();
        for _ in 0..REQUESTS {
            let mut client = client.clone().ready().await.unwrap();
            let request = Request::post("http://one.test/").body(()).unwrap();
            answers.push(client.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    });
    let counted = proxy.snapshot();
    assert!(
        counted.upstream_retries > counted.upstream_connect_failures,
        "one has dialled for several"
    );
}

#[test]
fn a_tcp_connection_goes_on() {
    let gone = Vanished::new();
    let origin = Origin::start(|mut connection| connection.write("hello\n"));
    let (proxy, _dialled) = start(Config::default());
    let endpoints: [SocketAddr; 2] = [gone.address, origin.address];
    proxy.publish(service(proxy.tcp.port(), "", &endpoints));
    for _ in 0..REQUESTS {
        assert_eq!(first_line(proxy.tcp), "hello\n");
    }
    assert!(proxy.snapshot().upstream_connect_failures > 0);
}
