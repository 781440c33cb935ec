//! Bodies that are larger than they may be.

use bytes::Bytes;
use http::Request;
use ingress_core::ir::{Config, UpstreamProtocol};
use ingress_userspace::proxy::{ClientLimits, WorkerOptions};

use crate::grpc::speaking;
use crate::h2rig::{H2Origin, connect, run};
use crate::rig::{Options, Origin, Proxy, config, with_policy};

/// Bytes that a body may have where no Ingress says otherwise.
const MAX: usize = 100_000;

fn start(config: Config) -> Proxy {
    let options = WorkerOptions {
        client_limits: ClientLimits {
            body_bytes_max: MAX as u64,
            ..ClientLimits::default()
        },
        ..WorkerOptions::default()
    };
    Proxy::start_with(config, Options::worker(options))
}

/// Reads all that it is sent before it answers; tells what it is told never comes.
fn reader() -> Origin {
    Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            if connection.read_body(&head).is_empty() {
                return;
            }
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })
}

fn with_length(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {length}\r\n")
}

#[test]
fn a_body_may_be_as_large_as_it_may_be() {
    let origin = reader();
    let proxy = start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write(&(with_length(MAX) + "\r\n" + &"x".repeat(MAX)));
    assert_eq!(client.read_reply().status, 200);
}

#[test]
fn nothing_of_a_body_that_says_it_is_larger_is_asked_for_or_sent() {
    let origin = reader();
    let proxy = start(config(&[("one.test", "/", &[origin.address])]));
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut client = proxy.client();
        client.write(&(with_length(MAX + 1) + more + "\r\n"));
        let reply = client.read_reply();
        assert_eq!(reply.status, 413);
        assert_eq!(reply.body, b"413 request body is too large\n");
        assert!(client.is_closed(), "what follows would be the body");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_body_that_turns_out_to_be_larger_ends_with_the_connection_to_its_endpoint() {
    let (sender, seen) = std::sync::mpsc::channel();
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        let mut bytes = 0;
        while let Some(chunk) = connection.read_chunk() {
            bytes += chunk.len();
            if chunk.is_empty() {
                bytes = usize::MAX;
            }
        }
        sender.send(bytes).unwrap();
    });
    let proxy = start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..=MAX / 1000 {
        client.write(&format!("3e8\r\n{}\r\n", "x".repeat(1000)));
    }
    assert_eq!(client.read_reply().status, 413);
    assert!(seen.recv().unwrap() <= MAX, "and its end is never told");
}

#[test]
fn ingress_bounds_the_bodies_of_its_routes() {
    let origin = reader();
    for (max, length, status) in [(0, MAX * 10, 200), (10, 10, 200), (10, 11, 413)] {
        let config = config(&[("one.test", "/", &[origin.address])]);
        let config = with_policy(config, |policy| policy.body_bytes_max = Some(max));
        let proxy = start(config);
        let mut client = proxy.client();
        client.write(&(with_length(length) + "\r\n" + &"x".repeat(length)));
        assert_eq!(client.read_reply().status, status, "{length} of {max}");
    }
}

#[test]
fn bodies_over_http_2_are_no_larger_in_either_direction() {
    let origin = H2Origin::start(|mut asked| async move {
        let mut body = asked.request.into_body();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        let response = http::Response::new(());
        let _ = asked.respond.send_response(response, true);
    });
    let plain = reader();
    let proxies = [
        start(speaking(UpstreamProtocol::Http2, &[origin.address])),
        start(config(&[("one.test", "/", &[plain.address])])),
    ];
    for proxy in &proxies {
        for (length, said, status) in [
            (MAX, true, 200),
            (MAX, false, 200),
            (MAX + 1, true, 413),
            (MAX + 1, false, 413),
        ] {
            let answered = run(async {
                let mut client = connect(proxy.http).await;
                let mut request = Request::post("http://one.test/");
                if said {
                    request = request.header("content-length", length);
                }
                let request = request.body(()).unwrap();
                let (response, mut body) = client.send_request(request, false).unwrap();
                // An error means that the answer is there already.
                let _ = body.send_data(Bytes::from(vec![b'x'; length]), true);
                response.await.unwrap().status()
            });
            assert_eq!(answered, status, "{length}, said before: {said}");
        }
    }
}
