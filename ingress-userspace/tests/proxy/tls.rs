//! TLS, certificates by SNI, and HTTP/2.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use ingress_core::ir::{self, HostPattern, ObjectRef};
use ingress_userspace::proxy::Table;

use crate::rig::{Origin, Proxy, config, wait_until};

fn secret(name: &str, host: &str) -> Arc<ir::Certificate> {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Arc::new(ir::Certificate {
        secret: ObjectRef {
            kind: "Secret",
            namespace: "default".into(),
            name: name.into(),
        },
        chain_pem: chain.into_bytes(),
        key_pem: key.into_bytes(),
    })
}

/// curl's answer: body, then the HTTP version and the subject names of the certificate.
fn curl(proxy: &Proxy, host: &str, options: &[&str]) -> String {
    let connect = format!("{host}:443:{}:{}", proxy.https.ip(), proxy.https.port());
    let output = Command::new("curl")
        .args(["-skS", "--max-time", "20", "--connect-to", &connect])
        .args([
            "-w",
            "\nversion %{http_version}\nstatus %{http_code}\n%{certs}",
        ])
        .args(options)
        .arg(format!("https://{host}/"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The leaf certificate that is served for a name, as `openssl s_client` prints it.
fn served(address: SocketAddr, name: Option<&str>) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-showcerts"]);
    match name {
        Some(name) => command.args(["-servername", name]),
        None => command.arg("-noservername"),
    };
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let from = text.find(begin).unwrap_or_else(|| panic!("{output:?}"));
    let to = text.find(end).unwrap() + end.len();
    text[from..to].split_whitespace().collect()
}

fn pem(certificate: &ir::Certificate) -> String {
    String::from_utf8(certificate.chain_pem.clone())
        .unwrap()
        .split_whitespace()
        .collect()
}

#[test]
fn http_2_by_alpn_reaches_the_origin() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let text = curl(
        &proxy,
        "one.test",
        &["--http2", "-d", "some text", "-H", "Te: trailers"],
    );
    assert!(text.contains("version 2\nstatus 200"), "{text}");
    assert!(text.contains("POST / HTTP/1.1"), "{text}");
    for line in [
        "host: one.test\r\n",
        "x-forwarded-proto: https",
        "te: trailers",
    ] {
        assert!(text.contains(line), "`{line}` is in {text}");
    }
    let port = format!("x-forwarded-port: {}", proxy.https.port());
    assert!(text.contains(&port), "{text}");
}

#[test]
fn http_1_1_by_alpn_and_without() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    for option in ["--http1.1", "--no-alpn"] {
        let text = curl(&proxy, "one.test", &[option]);
        assert!(text.contains("version 1.1\nstatus 200"), "{option}: {text}");
    }
}

#[test]
fn http_2_failures_are_answers_too() {
    let proxy = Proxy::start(config(&[("one.test", "/", &[])]));
    let text = curl(&proxy, "one.test", &["--http2"]);
    assert!(text.starts_with("503 no endpoint is ready\n"), "{text}");
    assert!(text.contains("version 2\nstatus 503"), "{text}");
}

#[test]
fn tls_1_2_is_served() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let text = curl(&proxy, "one.test", &["--tls-max", "1.2"]);
    assert!(text.contains("status 200"), "{text}");
}

#[test]
fn certificates_are_chosen_by_name() {
    let exact = secret("exact", "one.test");
    let wildcard = secret("wildcard", "*.one.test");
    let mut config = config(&[]);
    for (pattern, secret) in [("one.test", &exact), ("*.one.test", &wildcard)] {
        config
            .certificates
            .insert(HostPattern::parse(pattern).unwrap(), Arc::clone(secret));
    }
    let proxy = Proxy::start(config);
    assert_eq!(served(proxy.https, Some("one.test")), pem(&exact));
    assert_eq!(served(proxy.https, Some("ONE.test")), pem(&exact));
    assert_eq!(served(proxy.https, Some("a.one.test")), pem(&wildcard));
    let default = served(proxy.https, None);
    assert!(default != pem(&exact) && default != pem(&wildcard));
    assert_eq!(served(proxy.https, Some("a.b.one.test")), default);
    assert_eq!(served(proxy.https, Some("other.test")), default);
}

#[test]
fn a_broken_secret_is_reported_and_the_last_certificate_served_on() {
    let pattern = HostPattern::parse("one.test").unwrap();
    let good = secret("good", "one.test");
    let mut first = config(&[]);
    first
        .certificates
        .insert(pattern.clone(), Arc::clone(&good));
    let proxy = Proxy::start(first.clone());
    let other_key = secret("other", "one.test").key_pem.clone();
    let mismatch = ir::Certificate {
        key_pem: other_key,
        ..(*good).clone()
    };
    let nonsense = ir::Certificate {
        chain_pem: b"nonsense".to_vec(),
        ..(*good).clone()
    };
    for (generation, broken) in [(2, mismatch), (3, nonsense)] {
        let mut config = first.clone();
        config
            .certificates
            .insert(pattern.clone(), Arc::new(broken));
        let (config, current) = (Arc::new(config), proxy.table.current());
        let certificate = &proxy.certificate;
        let (table, problems) =
            Table::build(Some(&current), config.clone(), generation, certificate);
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        assert_eq!((&problem.secret, &problem.host), (&good.secret, &pattern));
        proxy.table.publish(table);
        assert_eq!(
            served(proxy.https, Some("one.test")),
            pem(&good),
            "{}",
            problem.message
        );
        // The problem stays as long as the Secret does.
        let current = proxy.table.current();
        let (_, again) = Table::build(Some(&current), config, generation, certificate);
        assert_eq!(again, problems);
    }
}

#[test]
fn a_secret_that_never_was_good_gives_way_to_the_wildcard() {
    let wildcard = secret("wildcard", "*.test");
    let broken = ir::Certificate {
        key_pem: Vec::new(),
        ..(*wildcard).clone()
    };
    let mut config = config(&[]);
    config
        .certificates
        .insert(HostPattern::parse("one.test").unwrap(), Arc::new(broken));
    config
        .certificates
        .insert(HostPattern::parse("*.test").unwrap(), Arc::clone(&wildcard));
    let proxy = Proxy::start(crate::rig::config(&[]));
    let current = proxy.table.current();
    let (table, problems) = Table::build(Some(&current), Arc::new(config), 2, &proxy.certificate);
    assert_eq!(problems.len(), 1);
    proxy.table.publish(table);
    assert_eq!(served(proxy.https, Some("one.test")), pem(&wildcard));
}

#[test]
fn a_handshake_that_fails_is_counted() {
    let proxy = Proxy::start(config(&[]));
    let mut client = crate::rig::Client::connect(proxy.https);
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    while client.read_head().is_some() {}
    wait_until("it is counted", || {
        proxy.snapshot().host.tls_handshake_failures == 1
    });
}
