//! Endpoints that fail a request, and those that it goes to instead.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use ingress_userspace::proxy::{Dial, HostDial, Table};
use socket2::Socket;

use crate::rig::{Options, Origin, Proxy, config, dead};

#[test]
fn a_dead_endpoint_is_never_noticed_and_soon_left_alone() {
    let origin = Origin::echo("origin");
    let endpoints = [origin.address, dead()];
    let proxy = Proxy::start(config(&[("one.test", "/", &endpoints)]));
    let mut client = proxy.client();
    for number in 0..200 {
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.read_reply().status, 200, "request {number}");
    }
    let counted = proxy.snapshot();
    assert!(counted.upstream_ejections > 0);
    assert_eq!(counted.upstream_retries, counted.upstream_connect_failures);
    assert!(counted.upstream_retries < 20, "{counted:?}");
}

#[test]
fn a_body_goes_to_the_next_endpoint_as_a_whole() {
    let origin = Origin::repeating();
    for _ in 0..10 {
        let endpoints = [dead(), origin.address, dead()];
        let proxy = Proxy::start(config(&[("one.test", "/", &endpoints)]));
        let mut client = proxy.client();
        let body = "0123456789".repeat(1000);
        client.write(&format!(
            "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let reply = client.read_reply();
        assert_eq!((reply.status, reply.text()), (200, body.as_str()));
    }
}

#[test]
fn tries_are_bounded_and_each_is_another_endpoint() {
    let endpoints: Vec<_> = (0..5).map(|_| dead()).collect();
    let proxy = Proxy::start(config(&[("one.test", "/", &endpoints)]));
    assert_eq!(proxy.get("one.test", "/").status, 502);
    let counted = proxy.snapshot();
    assert_eq!(counted.upstream_connect_failures, 5);
    assert_eq!(counted.upstream_retries, 4);
    assert_eq!(counted.upstream_ejections, 0, "each has failed once");
}

#[test]
fn a_request_whose_fresh_connection_breaks_goes_to_one_more_endpoint() {
    let breaking = BreakingOrigins::start(3);
    let proxy = Proxy::start(config(&[("one.test", "/", &breaking.endpoints())]));
    assert_eq!(proxy.get("one.test", "/").status, 502);
    assert_eq!(breaking.requests(), 2);
}

#[test]
fn a_fresh_connection_that_breaks_costs_the_client_nothing() {
    let breaking = BreakingOrigins::start(1);
    let origin = Origin::echo("origin");
    let endpoints = [breaking.endpoints()[0], origin.address];
    let proxy = Proxy::start(config(&[("one.test", "/", &endpoints)]));
    for number in 0..20 {
        assert_eq!(proxy.get("one.test", "/").status, 200, "request {number}");
    }
    assert!(breaking.requests() > 0);
}

#[test]
fn a_post_whose_fresh_connection_breaks_is_not_retried() {
    let breaking = BreakingOrigins::start(2);
    let proxy = Proxy::start(config(&[("one.test", "/", &breaking.endpoints())]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.read_reply().status, 502);
    assert_eq!(breaking.requests(), 1);
}

/// Origins that close each connection after they have read a request.
struct BreakingOrigins {
    origins: Vec<Origin>,
    requests: Arc<Mutex<usize>>,
}

impl BreakingOrigins {
    fn start(count: usize) -> Self {
        let requests = Arc::default();
        let start = |_| {
            let requests: Arc<Mutex<usize>> = Arc::clone(&requests);
            Origin::start(move |mut connection| {
                if connection.read_head().is_some() {
                    *requests.lock().unwrap() += 1;
                }
            })
        };
        let origins = (0..count).map(start).collect();
        Self { origins, requests }
    }

    fn endpoints(&self) -> Vec<SocketAddr> {
        self.origins.iter().map(|origin| origin.address).collect()
    }

    fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }
}

/// Has the endpoints change at the moment of the first connection.
#[derive(Default)]
struct ChangingDial {
    change: OnceLock<Box<dyn Fn() + Send + Sync>>,
    is_done: OnceLock<()>,
}

impl Dial for ChangingDial {
    fn socket(&self, endpoint: SocketAddr) -> std::io::Result<Socket> {
        if self.is_done.set(()).is_ok() {
            self.change.get().unwrap()();
        }
        HostDial.socket(endpoint)
    }
}

#[test]
fn endpoints_that_come_while_a_request_waits_are_tried() {
    let origin = Origin::echo("origin");
    let address = origin.address;
    let dial = Arc::new(ChangingDial::default());
    let options = Options {
        dial: Arc::clone(&dial) as Arc<dyn Dial>,
        ..Options::default()
    };
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[dead()])]), options);
    let (handle, certificate) = (proxy.table.clone(), proxy.certificate.clone());
    let change = move || {
        let next = Arc::new(config(&[("one.test", "/", &[address])]));
        let (table, _) = Table::build(Some(&handle.current()), next, 2, &certificate);
        handle.publish(table);
    };
    assert!(dial.change.set(Box::new(change)).is_ok());
    assert_eq!(proxy.get("one.test", "/").status, 200);
}
