//! New tables under old connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::rig::{Origin, Proxy, config, wait_until};

#[test]
fn a_kept_alive_connection_sees_the_newest_table() {
    let [a, b] = ["a", "b"].map(Origin::echo);
    let proxy = Proxy::start(config(&[("one.test", "/", &[a.address])]));
    let mut client = proxy.client();
    assert!(client.get("one.test", "/").text().starts_with("a\n"));
    proxy.publish_unacknowledged(config(&[("one.test", "/", &[b.address])]));
    assert!(client.get("one.test", "/").text().starts_with("b\n"));
    proxy.publish_unacknowledged(config(&[]));
    assert_eq!(client.get("one.test", "/").status, 404);
    assert_eq!(proxy.get("one.test", "/").status, 404);
}

#[test]
fn an_idle_worker_reports_the_generation_it_would_serve() {
    let proxy = Proxy::start(config(&[]));
    assert_eq!(proxy.worker.generation(), 1);
    proxy.publish(config(&[("one.test", "/", &[])]));
    assert_eq!(proxy.worker.generation(), 2);
    assert_eq!(proxy.snapshot().generation, 2);
}

#[test]
fn idle_connections_to_an_endpoint_that_left_are_closed() {
    let (closed, is_closed) = std::sync::mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let leaving = Origin::start(move |mut connection| {
        while connection.read_head().is_some() {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        closed.lock().unwrap().send(()).unwrap();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[leaving.address])]));
    assert_eq!(proxy.get("one.test", "/").status, 200);
    proxy.publish(config(&[("one.test", "/", &[])]));
    is_closed
        .recv_timeout(crate::rig::PATIENCE)
        .expect("the idle connection is closed");
    assert_eq!(proxy.get("one.test", "/").status, 503);
}

#[test]
fn ten_thousand_requests_meet_changing_routes_without_a_failure() {
    let origins = ["a", "b"].map(Origin::echo);
    let [a, b] = origins.each_ref().map(|origin| origin.address);
    let variants = [
        config(&[("one.test", "/", &[a]), ("two.test", "/", &[a])]),
        config(&[("one.test", "/", &[b]), ("one.test", "/x", &[a])]),
        config(&[("one.test", "/", &[a, b]), ("", "/", &[b])]),
        config(&[
            ("one.test", "/x", &[b]),
            ("*.test", "/", &[a]),
            ("one.test", "/", &[b]),
        ]),
    ];
    let proxy = Arc::new(Proxy::start(variants[0].clone()));
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let proxy = Arc::clone(&proxy);
            thread::spawn(move || {
                let mut client = proxy.client();
                (0..2500)
                    .filter(|_| client.get("one.test", "/x").status != 200)
                    .count()
            })
        })
        .collect();
    let changing = {
        let (proxy, done) = (Arc::clone(&proxy), Arc::clone(&done));
        thread::spawn(move || {
            let mut changes = 0;
            while !done.load(Ordering::SeqCst) {
                for variant in &variants {
                    proxy.publish(variant.clone());
                    changes += 1;
                }
            }
            changes
        })
    };
    let failed: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    done.store(true, Ordering::SeqCst);
    assert_eq!(failed, 0);
    assert!(changing.join().unwrap() > 100);
    wait_until("every client is gone", || {
        proxy.snapshot().host.connections_open == 0
    });
    let counted = proxy.snapshot();
    assert_eq!(
        (counted.host.requests, counted.host.responses_2xx),
        (10_000, 10_000)
    );
}
