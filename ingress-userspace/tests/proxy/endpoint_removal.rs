//! Endpoints that leave while a connection to them is being made.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use ingress_core::balance::hash_of_address;
use ingress_core::ir::{AffinityMode, Config, Endpoint, UpstreamProtocol};
use ingress_userspace::proxy::{Dial, HostDial, Timeouts, WorkerOptions};
use socket2::{Domain, Socket, Type};

use crate::balancing::{config_with, sticky};
use crate::grpc::speaking;
use crate::h2rig::{self, Asked, H2Origin, run};
use crate::relay::service;
use crate::rig::{Client, Options, Origin, PATIENCE, Proxy, config, wait_until};

/// An endpoint that the kernel ignores, like the address of a pod that has gone.
pub(crate) struct Vanished {
    pub(crate) address: SocketAddr,
    _listening: Socket,
    _filling: TcpStream,
}

impl Vanished {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        // A backlog of 0 has room for one.
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let filling = TcpStream::connect(address).unwrap();
        Self {
            address,
            _listening: socket,
            _filling: filling,
        }
    }
}

/// Tells of each socket that is made, right before it is connected.
struct TellingDial(mpsc::Sender<()>);

impl Dial for TellingDial {
    fn socket(&self, endpoint: SocketAddr) -> std::io::Result<Socket> {
        // The last sockets are nobody's concern.
        let _ = self.0.send(());
        HostDial.socket(endpoint)
    }
}

/// A proxy that would wait for a connection until the test has failed.
pub(crate) fn start(config: Config) -> (Proxy, mpsc::Receiver<()>) {
    let (tell, dialled) = mpsc::channel();
    let timeouts = Timeouts {
        upstream_connect: PATIENCE * 10,
        ..Timeouts::default()
    };
    let options = Options {
        worker: WorkerOptions {
            timeouts,
            ..WorkerOptions::default()
        },
        dial: Arc::new(TellingDial(tell)),
        ..Options::default()
    };
    (Proxy::start_with(config, options), dialled)
}

#[test]
fn requests_go_on_to_another_endpoint_at_once() {
    const REQUESTS: usize = 150;
    let gone = Vanished::new();
    let origin = Origin::echo("origin");
    let (proxy, dialled) = start(config(&[("one.test", "/", &[gone.address])]));
    let clients: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut client = proxy.client();
            client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
            client
        })
        .collect();
    for _ in 0..REQUESTS {
        dialled.recv_timeout(PATIENCE).unwrap();
    }
    proxy.publish(config(&[("one.test", "/", &[origin.address])]));
    for mut client in clients {
        assert_eq!(client.read_reply().status, 200);
    }
    let counted = proxy.snapshot();
    assert_eq!(counted.upstream_connects_abandoned, REQUESTS as u64);
    assert_eq!(counted.upstream_connect_failures, 0);
    assert_eq!(counted.upstream_ejections, 0);
    let metrics = proxy.metrics();
    let line = format!("sluice_upstream_connects_abandoned_total{{worker=\"0\"}} {REQUESTS}");
    assert!(metrics.contains(&line), "{metrics}");
}

#[test]
fn draining_endpoint_gets_no_queued_request() {
    let gone = Vanished::new();
    let origin = Origin::echo("origin");
    let (proxy, dialled) = start(config(&[("one.test", "/", &[gone.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    dialled.recv_timeout(PATIENCE).unwrap();
    proxy.publish(config_with(&[origin.address], |backend| {
        backend.draining = vec![Endpoint {
            address: gone.address,
        }];
    }));
    assert_eq!(client.read_reply().status, 200);
    assert_eq!(proxy.snapshot().upstream_connects_abandoned, 1);
}

#[test]
fn a_session_waits_for_one_that_drains_until_that_has_gone() {
    let gone = Vanished::new();
    let origin = Origin::echo("origin");
    let published = |endpoints: &[SocketAddr], draining: &[SocketAddr]| {
        sticky(endpoints, draining, AffinityMode::Persistent)
    };
    let ready = [origin.address];
    let (proxy, dialled) = start(published(&[origin.address, gone.address], &[]));
    let session = hash_of_address(gone.address);
    let mut client = proxy.client();
    client.write(&format!(
        "GET / HTTP/1.1\r\nHost: one.test\r\nCookie: STICK={session:016x}\r\n\r\n"
    ));
    dialled.recv_timeout(PATIENCE).unwrap();
    proxy.publish(published(&ready, &[gone.address]));
    let mut other = proxy.client();
    other.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(other.read_reply().status, 200);
    assert_eq!(proxy.snapshot().upstream_connects_abandoned, 0);
    proxy.publish(published(&ready, &[]));
    assert_eq!(client.read_reply().status, 200);
    assert_eq!(proxy.snapshot().upstream_connects_abandoned, 1);
}

#[test]
fn requests_over_http2_do_so_too() {
    let gone = Vanished::new();
    let origin = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let (proxy, dialled) = start(speaking(UpstreamProtocol::Http2, &[gone.address]));
    run(async {
        let client = h2rig::connect(proxy.http).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            let mut client = client.clone().ready().await.unwrap();
            let request = Request::get("http://one.test/").body(()).unwrap();
            answers.push(client.send_request(request, true).unwrap().0);
        }
        while proxy.snapshot().requests_open < 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        dialled.recv_timeout(PATIENCE).unwrap();
        proxy.publish(speaking(UpstreamProtocol::Http2, &[origin.address]));
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    });
}

#[test]
fn no_endpoint_left_is_503_at_once() {
    let gone = Vanished::new();
    let (proxy, dialled) = start(config(&[("one.test", "/", &[gone.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    dialled.recv_timeout(PATIENCE).unwrap();
    proxy.publish(config(&[("one.test", "/", &[])]));
    assert_eq!(client.read_reply().status, 503);
}

/// What a TCP service says first.
pub(crate) fn first_line(service: SocketAddr) -> String {
    let mut line = String::new();
    let mut client = Client::connect(service);
    std::io::BufRead::read_line(&mut client.stream, &mut line).unwrap();
    line
}

#[test]
fn a_tcp_connection_goes_on_to_another_endpoint() {
    let gone = Vanished::new();
    let origin = Origin::start(|mut connection| connection.write("hello\n"));
    let (proxy, dialled) = start(Config::default());
    let port = proxy.tcp.port();
    proxy.publish(service(port, "", &[gone.address]));
    let tcp = proxy.tcp;
    let reading = thread::spawn(move || first_line(tcp));
    dialled.recv_timeout(PATIENCE).unwrap();
    proxy.publish(service(port, "", &[origin.address]));
    assert_eq!(reading.join().unwrap(), "hello\n");
    wait_until("it is counted", || {
        proxy.snapshot().upstream_connects_abandoned == 1
    });
}
