//! HTTP/1.1 as clients speak it.

use std::process::Command;

use ingress_userspace::proxy::{ClientLimits, WorkerOptions};

use crate::frames::{Raw, SETTINGS};
use crate::rig::{Client, Options, Origin, Proxy, config};

#[test]
fn requests_go_where_host_and_path_say() {
    let [a, b, c] = ["a", "b", "c"].map(Origin::echo);
    let proxy = Proxy::start(config(&[
        ("one.test", "/", &[a.address]),
        ("one.test", "/deep", &[b.address]),
        ("*.two.test", "/", &[c.address]),
    ]));
    let answers = |host, path| {
        proxy
            .get(host, path)
            .text()
            .lines()
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(answers("one.test", "/"), "a");
    assert_eq!(answers("ONE.test.:8080", "/x?y=z"), "a");
    assert_eq!(answers("one.test", "/deep/er"), "b");
    assert_eq!(answers("x.two.test", "/"), "c");
    assert_eq!(proxy.get("two.test", "/").status, 404);
}

#[test]
fn all_endpoints_are_used() {
    let origins = ["a", "b", "c"].map(Origin::echo);
    let addresses = origins.each_ref().map(|origin| origin.address);
    let proxy = Proxy::start(config(&[("one.test", "/", &addresses)]));
    let mut client = proxy.client();
    for _ in 0..90 {
        assert_eq!(client.get("one.test", "/").status, 200);
    }
    // One connection each: of equals, least request draws lots.
    assert_eq!(origins.each_ref().map(Origin::connections), [1; 3]);
}

#[test]
fn head_gives_the_length_and_no_body() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for _ in 0..3 {
        client.write("HEAD / HTTP/1.1\r\nHost: one.test\r\n\r\n");
        let head = client.read_head().unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-length"), Some("12345"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn statuses_without_a_body_leave_the_connection_usable() {
    let origin = Origin::fixed("HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("one.test", "/").status, 204);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    let request = |number| format!("GET /{number} HTTP/1.1\r\nHost: one.test\r\n\r\n");
    client.write(&(0..20).map(request).collect::<Vec<_>>().concat());
    for number in 0..20 {
        let line = format!("GET /{number} HTTP/1.1");
        assert_eq!(
            client.read_reply().text().lines().nth(1),
            Some(line.as_str())
        );
    }
}

#[test]
fn a_client_that_expects_100_gets_it_before_its_body_is_sent() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: one.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert_eq!(client.read_head().unwrap().status(), 100);
    client.write("body");
    let reply = client.read_reply();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.seen("expect"), None);
}

#[test]
fn a_request_without_a_route_gets_no_100() {
    let proxy = Proxy::start(config(&[]));
    let mut client = proxy.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: one.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    assert_eq!(client.read_reply().status, 404);
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.0\r\n\r\n");
    let reply = client.read_reply();
    assert_eq!(reply.status, 200);
    assert!(
        reply.text().contains("GET / HTTP/1.1\r\n"),
        "{}",
        reply.text()
    );
    assert!(client.is_closed());
}

#[test]
fn an_absolute_target_has_to_name_the_host_that_host_does() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET http://one.test/x?y HTTP/1.1\r\nHost: one.test\r\n\r\n");
    let reply = client.read_reply();
    assert_eq!(reply.text().lines().nth(1), Some("GET /x?y HTTP/1.1"));
    assert_eq!(reply.seen("host"), Some("one.test"));
    client.write("GET http://one.test/x?y HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(client.read_reply().status, 400);
    assert!(client.is_closed());
}

#[test]
fn malformed_hosts_are_refused() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a test\r\n\r\n",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let mut client = proxy.client();
        client.write(head);
        assert_eq!(client.read_head().unwrap().status(), 400, "{head}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn heads_beyond_the_bounds_are_refused() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    let many = "X: x\r\n".repeat(101);
    let long = format!("X: {}\r\n", "x".repeat(33 * 1024));
    for fields in [many, long] {
        let mut client = proxy.client();
        client.write(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        assert_eq!(client.read_head().unwrap().status(), 431);
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn heads_and_streams_may_have_other_bounds() {
    let origin = Origin::echo("origin");
    let client_limits = ClientLimits {
        head_bytes_max: 64 * 1024,
        http2_streams_max: 7,
        ..ClientLimits::default()
    };
    let options = WorkerOptions {
        client_limits,
        ..WorkerOptions::default()
    };
    let config = config(&[("", "/", &[origin.address])]);
    let proxy = Proxy::start_with(config, Options::worker(options));
    for (bytes, status) in [(63 * 1024, 200), (65 * 1024, 431)] {
        let field = format!("X: {}\r\n", "x".repeat(bytes));
        let mut client = proxy.client();
        client.write(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n"));
        let head = client.read_head();
        assert_eq!(head.unwrap().status(), status, "{bytes}");
    }
    let settings = Raw::connect(proxy.http).read().unwrap();
    assert_eq!(settings.kind, SETTINGS);
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
    for said in [[0, 3, 0, 0, 0, 7], [0, 6, 0, 1, 0, 0]] {
        let (all, _) = settings.payload.as_chunks();
        assert!(all.contains(&said), "{all:?}");
    }
}

#[test]
fn curl_is_content() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let url = format!("http://{}/", proxy.http);
    let output = Command::new("curl")
        .args([
            "-sS",
            "--fail",
            "-H",
            "Host: one.test",
            "-H",
            "Expect: 100-continue",
        ])
        .args([
            "-H",
            "Transfer-Encoding: chunked",
            "--data-binary",
            "some text",
            &url,
            &url,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("POST / HTTP/1.1").count(), 2, "{text}");
}

#[test]
fn ipv6_clients_are_served_by_the_same_listener() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let address = (std::net::Ipv6Addr::LOCALHOST, proxy.http.port()).into();
    let reply = Client::connect(address).get("one.test", "/");
    assert_eq!(reply.seen("x-forwarded-for"), Some("::1"));
}
