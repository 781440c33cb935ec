//! Two workers that lend connections to each other, and how few they need.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ingress_userspace::proxy::{
    Datapath, HostDial, Identity, Listener, Metrics, NoGauge, Peers, Scheme, Worker, WorkerHandle,
    WorkerOptions, WorkerSpec, listen,
};

use crate::rig::{Client, Options, Origin, Proxy, config, streaming, wait_until};

/// A proxy and a second worker of it, on a port of its own.
fn two_workers(origin: &Origin) -> (Proxy, WorkerHandle, SocketAddr) {
    let peers = Peers::default();
    let options = Options {
        peers: peers.clone(),
        ..Options::default()
    };
    let proxy = Proxy::start_with(
        streaming(config(&[("one.test", "/", &[origin.address])])),
        options,
    );
    let socket = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener {
        socket,
        scheme: Some(Scheme::Http),
        datapath: Datapath::Host,
    };
    let second = Worker::spawn(WorkerSpec {
        index: 1,
        cpu: None,
        listeners: vec![listener],
        datagram_sockets: Vec::new(),
        table: proxy.table.clone(),
        peers,
        dial: Arc::new(HostDial),
        gauge: Arc::new(NoGauge),
        options: WorkerOptions::default(),
        prepare: None,
    });
    (proxy, second.unwrap(), address)
}

#[test]
fn worker_borrows_an_idle_connection_before_it_connects() {
    let origin = Origin::echo("origin");
    let (proxy, second, address) = two_workers(&origin);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    wait_until("the connection is idle", || {
        proxy.snapshot().upstream_idle == 1
    });
    // Less than a second is not long enough to be spared.
    thread::sleep(Duration::from_secs(3));
    let mut client = Client::connect(address);
    for _ in 0..3 {
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.read_reply().status, 200);
    }
    assert_eq!(origin.connections(), 1);
    let (lender, borrower) = (proxy.snapshot(), second.snapshot());
    assert_eq!((lender.upstream_given, lender.upstream_idle), (1, 0));
    assert_eq!(borrower.upstream_shared, 1);
    assert_eq!(
        (borrower.upstream_connects, borrower.upstream_reuses),
        (0, 3)
    );
}

#[test]
fn worker_connects_where_no_other_has_an_idle_connection() {
    let origin = Origin::echo("origin");
    let (proxy, second, address) = two_workers(&origin);
    // In use.
    let mut busy = proxy.client();
    busy.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\n");
    wait_until("it is under way", || {
        proxy.snapshot().upstream_connects == 1
    });
    assert_eq!(Client::connect(address).get("one.test", "/").status, 200);
    assert_eq!(origin.connections(), 2);
    assert_eq!(second.snapshot().upstream_shared, 0);
    busy.write("body");
    assert_eq!(busy.read_reply().status, 200);
    // A worker that has ended is asked no more.
    drop(proxy);
    assert_eq!(Client::connect(address).get("one.test", "/").status, 200);
}

#[test]
fn steady_load_reuses_connections() {
    const REQUESTS: usize = 5_000;
    let origin = Origin::echo("origin");
    let (proxy, second, address) = two_workers(&origin);
    let addresses = [proxy.http, address];
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let address = addresses[number % 2];
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for request in 0..REQUESTS {
                    if request % 50 == 0 {
                        client = Client::connect(address);
                    }
                    assert_eq!(client.get("one.test", "/").status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    let identity = Identity {
        class: String::new(),
        namespace: String::new(),
        pod: String::new(),
        ignored_annotations: Vec::new(),
    };
    let workers = [proxy.worker, second];
    let text = Metrics::new(identity, &workers, proxy.table.clone())
        .snapshot()
        .text();
    let ratio = text
        .lines()
        .find_map(|line| line.strip_prefix("sluice_upstream_reuse_ratio "))
        .unwrap();
    let ratio: f64 = ratio.parse().unwrap();
    assert!(ratio >= 0.999, "{ratio}");
}
