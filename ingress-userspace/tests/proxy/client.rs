//! Who a request is from: by the connection, by heads of proxies that are believed, and by the
//! PROXY protocol.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ingress_core::ir::{Config, ProcessSettings};
use ingress_userspace::proxy::{ClientPolicy, ForwardedFor, Timeouts, WorkerOptions};

use crate::rig::{Client, Options, Origin, Proxy, Reply, config, wait_until};

/// A proxy in front of an echo, and whom it believes.
fn start(policy: ClientPolicy) -> Proxy {
    let origin = Origin::echo("origin");
    let options = WorkerOptions {
        clients: policy,
        timeouts: Timeouts {
            proxy_header: Duration::from_millis(100),
            ..Timeouts::default()
        },
        ..WorkerOptions::default()
    };
    let config = config(&[("one.test", "/", &[origin.address])]);
    Proxy::start_with(config, Options::worker(options))
}

/// Believes the test's own address, and one more.
fn believing() -> ClientPolicy {
    ClientPolicy {
        trusted: vec![
            "127.0.0.0/8".parse().unwrap(),
            "10.0.0.0/8".parse().unwrap(),
        ],
        use_forwarded_headers: true,
        ..ClientPolicy::default()
    }
}

fn ask(proxy: &Proxy, fields: &str) -> Reply {
    let mut client = proxy.client();
    ask_on(&mut client, fields)
}

fn ask_on(client: &mut Client, fields: &str) -> Reply {
    client.write(&format!("GET / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n"));
    let reply = client.read_reply();
    assert_eq!(reply.status, 200);
    reply
}

const FORWARDED: &str = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.9\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Host: shop.test\r\n";

#[test]
fn trusted_proxy_names_the_client() {
    let reply = ask(&start(believing()), FORWARDED);
    for (name, value) in [
        ("x-real-ip", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-original-forwarded-for", "6.6.6.6, 203.0.113.7, 10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-scheme", "https"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-host", "shop.test"),
        ("host", "shop.test"),
    ] {
        assert_eq!(reply.seen(name), Some(value), "{name}");
    }
}

#[test]
fn untrusted_peers_cannot_set_the_client_address() {
    let other = ClientPolicy {
        trusted: vec!["10.0.0.0/8".parse().unwrap()],
        passed_on: ForwardedFor::All,
        add_forwarded: true,
        ..believing()
    };
    let unused = ClientPolicy {
        use_forwarded_headers: false,
        ..believing()
    };
    for policy in [ClientPolicy::default(), other, unused] {
        let reply = ask(
            &start(policy),
            &format!("{FORWARDED}Forwarded: for=6.6.6.6\r\n"),
        );
        for (name, value) in [
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "one.test"),
            ("host", "one.test"),
        ] {
            assert_eq!(reply.seen(name), Some(value), "{name}");
        }
        let forwarded = reply.seen("forwarded").unwrap_or_default();
        assert!(!forwarded.contains("6.6.6.6"), "{forwarded}");
    }
}

/// The usual configuration, with settings of the process.
fn config_of(origin: &Origin, process: ProcessSettings) -> Config {
    Config {
        process: Arc::new(process),
        ..config(&[("one.test", "/", &[origin.address])])
    }
}

#[test]
fn trusted_proxies_change_from_the_next_connection_on() {
    let origin = Origin::echo("one");
    let believing = || ProcessSettings {
        trusted: Some(
            [
                "127.0.0.0/8".parse().unwrap(),
                "10.0.0.0/8".parse().unwrap(),
            ]
            .into(),
        ),
        use_forwarded_headers: Some(true),
        ..ProcessSettings::default()
    };
    let proxy = Proxy::start(config_of(&origin, ProcessSettings::default()));
    let address = |reply: &Reply| reply.seen("x-real-ip").map(str::to_owned);
    let mut before = proxy.client();
    let seen = address(&ask_on(&mut before, FORWARDED));
    assert_eq!(seen.as_deref(), Some("127.0.0.1"));
    proxy.publish(config_of(&origin, believing()));
    assert_eq!(
        ask(&proxy, FORWARDED).seen("x-real-ip"),
        Some("203.0.113.7")
    );
    let seen = address(&ask_on(&mut before, FORWARDED));
    assert_eq!(
        seen.as_deref(),
        Some("127.0.0.1"),
        "it is the same connection"
    );
    let full = ProcessSettings {
        compute_full_forwarded_for: Some(true),
        forwarded_for: Some("x-list".into()),
        ..believing()
    };
    proxy.publish(config_of(&origin, full));
    let reply = ask(&proxy, "X-List: 203.0.113.7\r\n");
    assert_eq!(reply.seen("x-real-ip"), Some("203.0.113.7"));
    let seen = reply.seen("x-forwarded-for");
    assert_eq!(seen, Some("203.0.113.7, 127.0.0.1"));
    // Without the settings the flags count again.
    proxy.publish(config_of(&origin, ProcessSettings::default()));
    assert_eq!(ask(&proxy, FORWARDED).seen("x-real-ip"), Some("127.0.0.1"));
    let proxied = ProcessSettings {
        use_proxy_protocol: Some(true),
        ..believing()
    };
    proxy.publish(config_of(&origin, proxied));
    let mut client = proxy.client();
    client.write("PROXY TCP4 198.51.100.7 192.0.2.1 4000 80\r\n");
    let reply = ask_on(&mut client, "");
    assert_eq!(reply.seen("x-real-ip"), Some("198.51.100.7"));
}

#[test]
fn idle_timeout_comes_from_the_configuration() {
    let origin = Origin::echo("one");
    let proxy = Proxy::start(config_of(&origin, ProcessSettings::default()));
    let short = ProcessSettings {
        keep_alive: Some(1),
        ..ProcessSettings::default()
    };
    proxy.publish(config_of(&origin, short));
    let mut client = proxy.client();
    ask_on(&mut client, "");
    assert!(client.is_closed());
}

#[test]
fn the_whole_list_is_passed_on_where_it_is_asked_for() {
    let policy = ClientPolicy {
        passed_on: ForwardedFor::All,
        add_forwarded: true,
        ..believing()
    };
    let proxy = start(policy);
    let reply = ask(
        &proxy,
        &format!("{FORWARDED}Forwarded: for=203.0.113.7\r\n"),
    );
    assert_eq!(
        reply.seen("x-forwarded-for"),
        Some("6.6.6.6, 203.0.113.7, 10.0.0.9, 127.0.0.1")
    );
    assert_eq!(
        reply.seen("forwarded"),
        Some("for=203.0.113.7, for=127.0.0.1;host=\"shop.test\";proto=https")
    );
    assert_eq!(reply.seen("x-real-ip"), Some("203.0.113.7"));
    let bare = ask(&proxy, "");
    assert_eq!(bare.seen("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn another_field_can_list_addresses_and_is_nobody_elses() {
    let policy = ClientPolicy {
        forwarded_for: HeaderName::from_static("cf-connecting-ip"),
        ..believing()
    };
    let fields = "CF-Connecting-IP: 2001:db8::1\r\nX-Forwarded-For: 6.6.6.6\r\n";
    let reply = ask(&start(policy.clone()), fields);
    assert_eq!(reply.seen("x-real-ip"), Some("2001:db8::1"));
    let nobody = ClientPolicy {
        trusted: Vec::new(),
        ..policy
    };
    let reply = ask(&start(nobody), fields);
    assert_eq!(reply.seen("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(reply.seen("cf-connecting-ip"), None);
}

#[test]
fn nonsense_of_a_proxy_that_is_believed_does_no_harm() {
    let fields = "X-Forwarded-For: nobody\r\nX-Forwarded-Proto: gopher\r\n\
                  X-Forwarded-Port: 99999\r\nX-Forwarded-Host: a/b\r\n";
    let reply = ask(&start(believing()), fields);
    for (name, value) in [
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "one.test"),
    ] {
        assert_eq!(reply.seen(name), Some(value), "{name}");
    }
}

/// Takes the header of the PROXY protocol from the test's own address.
fn proxied() -> ClientPolicy {
    ClientPolicy {
        trusted: vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()],
        use_proxy_protocol: true,
        ..ClientPolicy::default()
    }
}

/// A header of version 2 from 203.0.113.7:5 to 192.0.2.1:443, with a field after the addresses.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f\xcb\x00\x71\x07\xc0\x00\x02\x01\
                        \x00\x05\x01\xbb\x04\x00\x00";

#[test]
fn load_balancer_names_the_client_of_a_connection() {
    let proxy = start(proxied());
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 5 443\r\n";
    for (header, address) in [(&line[..], "2001:db8::1"), (BINARY, "203.0.113.7")] {
        let mut client = proxy.client();
        client.stream.get_mut().write_all(header).unwrap();
        for _ in 0..2 {
            let reply = ask_on(&mut client, "X-Forwarded-For: 6.6.6.6\r\n");
            assert_eq!(reply.seen("x-real-ip"), Some(address));
            assert_eq!(reply.seen("x-forwarded-for"), Some(address));
            assert_eq!(reply.seen("x-forwarded-port"), Some("443"));
        }
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_the_request() {
    let proxy = start(proxied());
    let request = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
    let all = [BINARY, request].concat();
    for pause_after in 0..=BINARY.len() {
        let mut client = proxy.client();
        let (first, rest) = all.split_at(pause_after);
        client.stream.get_mut().write_all(first).unwrap();
        client.stream.get_mut().write_all(rest).unwrap();
        let reply = client.read_reply();
        assert_eq!(
            reply.seen("x-real-ip"),
            Some("203.0.113.7"),
            "{pause_after}"
        );
    }
    let mut client = proxy.client();
    for byte in BINARY {
        client.stream.get_mut().write_all(&[*byte]).unwrap();
        std::thread::yield_now();
    }
    client.stream.get_mut().write_all(request).unwrap();
    assert_eq!(client.read_reply().seen("x-real-ip"), Some("203.0.113.7"));
}

#[test]
fn a_load_balancers_own_connection_is_its_own() {
    let proxy = start(proxied());
    let mut client = proxy.client();
    client.write("PROXY UNKNOWN\r\n");
    assert_eq!(ask_on(&mut client, "").seen("x-real-ip"), Some("127.0.0.1"));
}

#[test]
fn a_connection_without_its_header_is_closed() {
    let proxy = start(proxied());
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert!(client.is_closed());
    let mut silent = proxy.client();
    silent.write("PROXY TCP4 ");
    assert!(silent.is_closed(), "by the timeout");
    let mut early = proxy.client();
    early.write("PROXY");
    early
        .stream
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    assert!(early.is_closed());
    wait_until("they are counted", || {
        proxy.snapshot().host.proxy_header_failures == 3
    });
    wait_until("they are gone", || {
        proxy.snapshot().host.connections_open == 0
    });
}

#[test]
fn a_header_of_somebody_else_is_no_http() {
    let stranger = ClientPolicy {
        trusted: vec!["10.0.0.0/8".parse().unwrap()],
        ..proxied()
    };
    let proxy = start(stranger);
    assert_eq!(ask(&proxy, "").seen("x-real-ip"), Some("127.0.0.1"));
    let mut client = proxy.client();
    client.write("PROXY TCP4 6.6.6.6 192.0.2.1 5 80\r\nGET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn tls_comes_after_the_header() {
    let proxy = start(proxied());
    let connect = format!("one.test:443:{}", proxy.https);
    let output = Command::new("curl")
        .args([
            "-skS",
            "--max-time",
            "20",
            "--haproxy-protocol",
            "--connect-to",
            &connect,
        ])
        .arg("https://one.test/")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("x-forwarded-proto: https"), "{text}");
    assert!(text.contains("x-real-ip: 127.0.0.1"), "{text}");
}
