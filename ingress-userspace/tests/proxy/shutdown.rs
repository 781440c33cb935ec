//! How a worker ends.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};

use crate::h2rig::{connect, run_within};
use crate::rig::{Origin, PATIENCE, Proxy, config};

#[test]
fn a_request_in_flight_is_finished() {
    let (go, gone) = mpsc::channel();
    let (asked, is_asked) = mpsc::channel();
    let channels = Mutex::new((asked, gone));
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        let channels = channels.lock().unwrap();
        channels.0.send(()).unwrap();
        channels.1.recv().unwrap();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut idle = proxy.client();
    assert_eq!(idle.get("none.test", "/").status, 404);
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    is_asked.recv_timeout(PATIENCE).unwrap();
    proxy.worker.shut_down(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(proxy.http).is_ok() {
        assert!(Instant::now() < deadline, "the worker still listens");
    }
    go.send(()).unwrap();
    let reply = client.read_reply();
    assert_eq!((reply.status, reply.text()), (200, "ok"));
    assert_eq!(reply.head.field("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(idle.is_closed());
    proxy.worker.join().unwrap();
}

#[test]
fn client_of_an_idle_connection_is_told_to_leave_with_its_next_response() {
    let origin = Origin::echo("origin");
    let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("one.test", "/").status, 200);
    }
    let grace = Duration::from_secs(8);
    proxy.worker.shut_down(grace);
    // None is closed before a quarter of the time has passed.
    std::thread::sleep(grace / 16);
    for client in &mut clients {
        let reply = client.get("one.test", "/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.head.field("connection"), Some("close"));
        assert!(client.is_closed());
    }
    proxy.worker.join().unwrap();
}

#[test]
fn a_request_that_outlasts_the_grace_is_dropped() {
    let (asked, is_asked) = mpsc::channel();
    let asked = Mutex::new(asked);
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        asked.lock().unwrap().send(()).unwrap();
        connection.read_head();
    });
    let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    is_asked.recv_timeout(PATIENCE).unwrap();
    proxy.worker.shut_down(Duration::from_millis(1));
    assert!(client.is_closed());
    proxy.worker.join().unwrap();
}

#[test]
fn a_connection_that_waits_to_be_accepted_is_served() {
    let origin = Origin::echo("origin");
    for _ in 0..50 {
        let mut proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        let mut client = proxy.client();
        client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
        proxy.worker.shut_down(PATIENCE);
        assert_eq!(client.read_reply().status, 200);
        proxy.worker.join().unwrap();
    }
}

#[test]
fn an_http_2_connection_ends_after_many_requests_without_losing_one() {
    let proxy = Proxy::start(config(&[]));
    // So many requests one after the other take a debug build on a busy machine half a minute.
    run_within(10 * PATIENCE, async {
        let mut client = connect(proxy.http).await;
        let mut number = 0;
        while number < 10_500 {
            // A request that the end overtakes was not sent, or it would be counted twice.
            match ask(&client).await {
                Ok(status) => {
                    assert_eq!(status, 404, "{number}");
                    number += 1;
                }
                Err(error) => {
                    assert!(error.is_go_away(), "{error}");
                    client = connect(proxy.http).await;
                }
            }
        }
    });
    let counted = proxy.snapshot().host;
    assert_eq!(
        (counted.requests, counted.connections_accepted),
        (10_500, 2)
    );
}

async fn ask(client: &SendRequest<Bytes>) -> Result<StatusCode, h2::Error> {
    let mut ready = client.clone().ready().await?;
    let request = Request::get("http://one.test/").body(()).unwrap();
    let (response, _) = ready.send_request(request, true)?;
    Ok(response.await?.status())
}
