//! Requests that wait for an endpoint that has as many as it may have.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use ingress_core::balance::hash_of_address;
use ingress_core::ir::AffinityMode;
use ingress_userspace::proxy::Balancing;

use crate::balancing::{name, start, sticky};
use crate::rig::{Client, Origin, PATIENCE, config, wait_until};

/// Holds every request, whose path it tells, until it may go on.
fn holding() -> (Origin, mpsc::Receiver<String>, mpsc::Sender<()>) {
    let (asked, is_asked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let channels = Mutex::new(asked);
    let may_go = Mutex::new(may_go);
    let origin = Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            let path = head.text.split(' ').nth(1).unwrap().to_owned();
            channels.lock().unwrap().send(path).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (origin, is_asked, go)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: one.test\r\n\r\n")
}

/// One request at a time, and all the time to wait.
fn patient() -> Balancing {
    Balancing {
        requests_max: Some(1),
        pending_time: PATIENCE * 10,
        ..Balancing::default()
    }
}

#[test]
fn requests_wait_for_a_busy_endpoint_within_bounds() {
    let (origin, is_asked, go) = holding();
    let balancing = Balancing {
        requests_max: Some(1),
        pending_max: 1,
        ..Balancing::default()
    };
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = start(config, balancing);
    let mut clients: [Client; 3] = std::array::from_fn(|_| proxy.client());
    clients[0].write(GET);
    is_asked.recv_timeout(PATIENCE).unwrap();
    clients[1].write(GET);
    wait_until("it waits", || proxy.snapshot().upstream_queued == 1);
    clients[2].write(GET);
    assert_eq!(clients[2].read_reply().status, 503, "one too many");
    assert!(
        is_asked.try_recv().is_err(),
        "the endpoint has one request only"
    );
    go.send(()).unwrap();
    assert_eq!(clients[0].read_reply().status, 200);
    is_asked.recv_timeout(PATIENCE).unwrap();
    go.send(()).unwrap();
    assert_eq!(clients[1].read_reply().status, 200);
    let counted = proxy.snapshot();
    assert_eq!(
        (counted.upstream_queued, counted.upstream_rejections),
        (2, 1)
    );
}

#[test]
fn queued_request_goes_to_a_new_endpoint_and_fails_without_one() {
    let (origin, is_asked, _go) = holding();
    let proxy = start(config(&[("one.test", "/", &[origin.address])]), patient());
    let mut clients: [Client; 2] = std::array::from_fn(|_| proxy.client());
    clients[0].write(GET);
    is_asked.recv_timeout(PATIENCE).unwrap();
    clients[1].write(GET);
    wait_until("it waits", || proxy.snapshot().upstream_queued == 1);
    let other = Origin::echo("other");
    let both = [origin.address, other.address];
    proxy.publish(config(&[("one.test", "/", &both)]));
    assert_eq!(name(&clients[1].read_reply()), "other");

    proxy.publish(config(&[("one.test", "/", &[origin.address])]));
    clients[1].write(GET);
    wait_until("it waits", || proxy.snapshot().upstream_queued == 2);
    proxy.publish(config(&[("one.test", "/", &[])]));
    assert_eq!(clients[1].read_reply().status, 503);
}

#[test]
fn a_request_waits_only_so_long_and_one_that_is_cancelled_not_at_all() {
    let (origin, is_asked, _go) = holding();
    let balancing = Balancing {
        requests_max: Some(1),
        pending_max: 1,
        pending_time: Duration::from_millis(300),
        ..Balancing::default()
    };
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = start(config, balancing);
    let mut first = proxy.client();
    first.write(GET);
    is_asked.recv_timeout(PATIENCE).unwrap();
    let mut cancelled = proxy.client();
    cancelled.write(GET);
    wait_until("it waits", || proxy.snapshot().upstream_queued == 1);
    drop(cancelled);
    wait_until("it is gone", || proxy.snapshot().requests_open == 1);
    let mut late = proxy.client();
    late.write(GET);
    assert_eq!(late.read_reply().status, 503);
    assert_eq!(
        proxy.snapshot().upstream_queued,
        2,
        "there was room to wait"
    );
}

#[test]
fn queue_is_first_come_first_served() {
    const COUNT: usize = 6;
    let (origin, is_asked, go) = holding();
    let proxy = start(config(&[("one.test", "/", &[origin.address])]), patient());
    let mut clients: [Client; COUNT] = std::array::from_fn(|_| proxy.client());
    for (index, client) in clients.iter_mut().enumerate() {
        client.write(&get(&format!("/{index}")));
        wait_until("it waits", || {
            let counted = proxy.snapshot();
            counted.requests_open == index as u64 + 1 && counted.upstream_queued == index as u64
        });
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let asked = is_asked.recv_timeout(PATIENCE).unwrap();
        assert_eq!(asked, format!("/{index}"));
        go.send(()).unwrap();
        assert_eq!(client.read_reply().status, 200);
    }
}

/// Its next request is there before anybody has been told that there is room.
#[test]
fn served_client_queues_behind_the_others() {
    let (origin, is_asked, go) = holding();
    let proxy = start(config(&[("one.test", "/", &[origin.address])]), patient());
    let [mut busy, mut waiting] = std::array::from_fn(|_| proxy.client());
    busy.write(&["/first", "/again"].map(get).concat());
    assert_eq!(is_asked.recv_timeout(PATIENCE).unwrap(), "/first");
    waiting.write(&get("/other"));
    wait_until("it waits", || proxy.snapshot().upstream_queued == 1);
    go.send(()).unwrap();
    for path in ["/other", "/again"] {
        assert_eq!(is_asked.recv_timeout(PATIENCE).unwrap(), path);
        go.send(()).unwrap();
    }
    assert_eq!(waiting.read_reply().status, 200);
    for _ in 0..2 {
        assert_eq!(busy.read_reply().status, 200);
    }
}

#[test]
fn each_backend_has_a_bound_of_its_own() {
    let (one, one_is_asked, _go_one) = holding();
    let (two, two_is_asked, _go_two) = holding();
    let both = config(&[
        ("one.test", "/", &[one.address]),
        ("two.test", "/", &[two.address]),
    ]);
    let balancing = Balancing {
        pending_max: 1,
        ..patient()
    };
    let proxy = start(both, balancing);
    let ask = |host: &str| {
        let mut client = proxy.client();
        client.write(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client
    };
    let _busy = [ask("one.test"), ask("two.test")];
    for is_asked in [one_is_asked, two_is_asked] {
        is_asked.recv_timeout(PATIENCE).unwrap();
    }
    let _waiting = [ask("one.test"), ask("two.test")];
    wait_until("both wait", || proxy.snapshot().upstream_queued == 2);
    assert_eq!(proxy.snapshot().upstream_rejections, 0);
    for host in ["one.test", "two.test"] {
        assert_eq!(ask(host).read_reply().status, 503, "one too many");
    }
}

#[test]
fn queued_session_does_not_block_other_requests() {
    let (busy, is_asked, _go) = holding();
    let free = Origin::echo("free");
    let endpoints = [busy.address, free.address];
    let balancing = Balancing {
        pending_max: 1,
        ..patient()
    };
    let proxy = start(sticky(&endpoints, &[], AffinityMode::Persistent), balancing);
    let session = hash_of_address(busy.address);
    let of_session =
        format!("GET / HTTP/1.1\r\nHost: one.test\r\nCookie: STICK={session:016x}\r\n\r\n");
    let mut sessions: [Client; 2] = std::array::from_fn(|_| proxy.client());
    sessions[0].write(&of_session);
    is_asked.recv_timeout(PATIENCE).unwrap();
    sessions[1].write(&of_session);
    wait_until("it waits", || proxy.snapshot().upstream_queued == 1);
    for _ in 0..3 {
        let mut client = proxy.client();
        client.write(GET);
        assert_eq!(name(&client.read_reply()), "free");
    }
}
