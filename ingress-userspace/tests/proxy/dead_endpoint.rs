//! Endpoints that go away without a word while connections to them are open, as those of a node do
//! that fails.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use ingress_core::ir::{Balance, Config, UpstreamProtocol};
use socket2::{SockFilter, SockRef};

use crate::balancing::{config_with, name};
use crate::grpc::speaking;
use crate::h2rig::{self, Asked, H2Origin, run};
use crate::relay::service;
use crate::rig::{Client, Options, Origin, PATIENCE, Proxy, config, streaming, wait_until};

/// The way to an origin, which can be cut.
struct Way {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Way {
    fn to(origin: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sockets = Arc::new(Mutex::new(vec![listener.try_clone().unwrap().into()]));
        let kept = Arc::clone(&sockets);
        thread::spawn(move || {
            for client in listener.incoming().map(Result::unwrap) {
                kept.lock()
                    .unwrap()
                    .push(client.try_clone().unwrap().into());
                let origin = TcpStream::connect(origin).unwrap();
                carry(client.try_clone().unwrap(), origin.try_clone().unwrap());
                carry(origin, client);
            }
        });
        Self { address, sockets }
    }

    /// From now on nothing arrives, and so nothing is answered, not even by the kernel.
    fn cut(&self) {
        // "ret 0": nothing of a packet is taken.
        let nothing = [SockFilter::new(BPF_RETURN, 0, 0, 0)];
        for socket in &*self.sockets.lock().unwrap() {
            SockRef::from(socket).attach_filter(&nothing).unwrap();
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // It ends when the test does.
        let _ = io::copy(&mut from, &mut to);
    });
}

/// A proxy that takes turns between both, and has two idle connections to each.
fn start(way: &Way, origin: &Origin) -> Proxy {
    let endpoints = [way.address, origin.address];
    let proxy = Proxy::start(streaming(config_with(&endpoints, |backend| {
        Arc::make_mut(&mut backend.key).policy.balance = Some(Balance::RoundRobin);
    })));
    let mut clients: [Client; 4] = std::array::from_fn(|_| proxy.client());
    for (client, connects) in clients.iter_mut().zip(1..) {
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\n");
        wait_until("it is there", || {
            proxy.snapshot().upstream_connects == connects
        });
    }
    let mut names = clients.map(|mut client| {
        client.write("body");
        name(&client.read_reply())
    });
    names.sort_unstable();
    assert_eq!(names, ["far", "far", "near", "near"]);
    proxy
}

#[test]
fn idempotent_request_moves_from_a_dead_endpoint() {
    let (far, near) = (Origin::echo("far"), Origin::echo("near"));
    let way = Way::to(far.address);
    let proxy = start(&way, &near);
    way.cut();
    // Two of them come to the endpoint that has gone, whose turn it may be now or then.
    for _ in 0..3 {
        assert_eq!(name(&proxy.get("one.test", "/")), "near");
    }
    let counted = proxy.snapshot();
    assert_eq!(counted.upstream_retries, 2, "{counted:?}");
    assert_eq!(
        counted.upstream_connect_failures, 1,
        "no other connection was tried"
    );
    assert_eq!(counted.upstream_ejections, 1, "it was gone twice");
}

#[test]
fn endpoint_that_took_a_request_and_vanished_is_probed() {
    let (taken, is_taken) = mpsc::channel();
    let taken = Mutex::new(taken);
    let far = Origin::start(move |mut connection| {
        connection.read_head();
        taken.lock().unwrap().send(()).unwrap();
        thread::sleep(PATIENCE);
    });
    let near = Origin::echo("near");
    let way = Way::to(far.address);
    let proxy = Proxy::start(config(&[("one.test", "/", &[way.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    is_taken.recv_timeout(PATIENCE).unwrap();
    way.cut();
    let both = [way.address, near.address];
    proxy.publish(config(&[("one.test", "/", &both)]));
    assert_eq!(name(&client.read_reply()), "near");
}

#[test]
fn non_idempotent_request_to_a_dead_endpoint_fails() {
    let (far, near) = (Origin::echo("far"), Origin::echo("near"));
    let way = Way::to(far.address);
    let proxy = start(&way, &near);
    way.cut();
    let mut clients: [Client; 2] = std::array::from_fn(|_| proxy.client());
    for client in &mut clients {
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
    }
    let mut statuses = clients.map(|mut client| client.read_reply().status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    let counted = proxy.snapshot();
    assert_eq!((counted.upstream_replays, counted.upstream_retries), (0, 0));
}

#[test]
fn slow_but_acking_endpoint_is_not_retried() {
    let slow = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            thread::sleep(Duration::from_secs(5));
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let other = Origin::fixed("HTTP/1.1 503 Other\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(config(&[("one.test", "/", &[slow.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    wait_until("it is there", || slow.connections() == 1);
    let both = [slow.address, other.address];
    proxy.publish(config(&[("one.test", "/", &both)]));
    assert_eq!(client.read_reply().status, 200);
    assert_eq!(proxy.snapshot().upstream_replays, 0);
}

/// A response, a tunnel and a TCP connection have nobody else to go on with: they end, and their
/// clients are told.
#[test]
fn response_from_a_dead_endpoint_ends() {
    let far = Origin::start(|mut connection| {
        let head = connection.read_head().unwrap();
        connection.write(if head.text.starts_with("GET /tunnel") {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhalf"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
        });
        connection.read_head();
    });
    let way = Way::to(far.address);
    let mut all = config(&[("one.test", "/", &[way.address])]);
    let proxy = Proxy::start(Config::default());
    let of_tcp = service(proxy.tcp.port(), "", &[way.address]);
    for (key, backend) in of_tcp.backends.iter() {
        all.backends.insert(key.clone(), Arc::clone(backend));
    }
    all.tcp_services.extend(of_tcp.tcp_services);
    proxy.publish(all);
    let clients = [
        (proxy.client(), "GET / HTTP/1.1\r\n"),
        (
            proxy.client(),
            "GET /tunnel HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n",
        ),
        (Client::connect(proxy.tcp), "GET /tcp HTTP/1.1\r\n"),
    ];
    let clients = clients.map(|(mut client, head)| {
        client.write(&format!("{head}Host: one.test\r\n\r\n"));
        assert!(client.read_head().is_some(), "{head}");
        let mut half = [0; 4];
        client.stream.read_exact(&mut half).unwrap();
        assert_eq!(&half, b"half");
        (client, head)
    });
    way.cut();
    for (mut client, head) in clients {
        assert!(client.is_closed(), "{head}");
    }
}

#[test]
fn streams_of_http2_go_on_elsewhere() {
    let answer = |asked: Asked| async move {
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    };
    let (far, near) = (H2Origin::start(answer), H2Origin::start(answer));
    let way = Way::to(far.address);
    let endpoints = [way.address, near.address];
    let config = speaking(UpstreamProtocol::Http2, &endpoints);
    let proxy = Proxy::start_with(config, Options::default());
    run(async {
        let client = h2rig::connect(proxy.http).await;
        for is_cut in [false, true] {
            if is_cut {
                way.cut();
            }
            let mut answers = Vec::new();
            for _ in 0..40 {
                let mut client = client.clone().ready().await.unwrap();
                let request = Request::get("http://one.test/").body(()).unwrap();
                answers.push(client.send_request(request, true).unwrap().0);
            }
            for answer in answers {
                assert_eq!(answer.await.unwrap().status(), 200);
            }
        }
    });
    let counted = proxy.snapshot();
    assert!(counted.upstream_retries > 1, "{counted:?}");
    assert!(counted.upstream_ejections > 0, "{counted:?}");
}

/// `BPF_RET | BPF_K` of `linux/bpf_common.h`.
const BPF_RETURN: u16 = 6;
