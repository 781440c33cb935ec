//! TLS, certificates by SNI, and HTTP/2.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use ingress_core::ir::{self, HostPattern, ObjectRef};
use ingress_userspace::proxy::{CipherSuites, Table, TicketKeys, Tickets, TlsOptions, TlsVersion};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rig::{Client, Options, Origin, Proxy, config, wait_until};

pub(crate) fn secret(name: &str, host: &str) -> Arc<ir::Certificate> {
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
        alternative: None,
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
pub(crate) fn served(address: SocketAddr, name: Option<&str>) -> String {
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

/// A connection to `one.test`, whose certificate this is.
pub(crate) fn connect(
    proxy: &Proxy,
    served: &ir::Certificate,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(&served.chain_pem).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "one.test".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = Client::connect(proxy.https).stream.into_inner();
    StreamOwned::new(connection, stream)
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
    assert!(text.contains("x-forwarded-port: 443\r\n"), "{text}");
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
    let wildcard = secret("wildcard", "*.two.test");
    let broken = ir::Certificate {
        key_pem: Vec::new(),
        ..(*wildcard).clone()
    };
    let mut config = config(&[]);
    config.certificates.insert(
        HostPattern::parse("one.two.test").unwrap(),
        Arc::new(broken),
    );
    config.certificates.insert(
        HostPattern::parse("*.two.test").unwrap(),
        Arc::clone(&wildcard),
    );
    let proxy = Proxy::start(crate::rig::config(&[]));
    let current = proxy.table.current();
    let (table, problems) = Table::build(Some(&current), Arc::new(config), 2, &proxy.certificate);
    assert_eq!(problems.len(), 1);
    proxy.table.publish(table);
    assert_eq!(served(proxy.https, Some("one.two.test")), pem(&wildcard));
}

#[test]
fn a_certificate_for_other_hosts_gives_way_to_the_last_good_one_and_is_reported() {
    let good = secret("good", "one.test");
    let foreign = secret("foreign", "other.test");
    let with = |certificate: &Arc<ir::Certificate>| {
        let mut config = config(&[]);
        let pattern = HostPattern::parse("one.test").unwrap();
        config.certificates.insert(pattern, Arc::clone(certificate));
        config
    };
    let proxy = Proxy::start(with(&good));
    let publish = |config: ir::Config, generation| {
        let current = proxy.table.current();
        let (table, problems) = Table::build(
            Some(&current),
            Arc::new(config),
            generation,
            &proxy.certificate,
        );
        proxy.table.publish(table);
        problems
            .iter()
            .map(|problem| problem.message.to_string())
            .collect::<Vec<_>>()
    };
    let problems = publish(with(&foreign), 2);
    assert!(
        problems[0].contains("does not cover the host `one.test`"),
        "{problems:?}"
    );
    assert_eq!(served(proxy.https, Some("one.test")), pem(&good));
    let absent = Arc::new(ir::Certificate::absent(good.secret.clone()));
    assert_eq!(
        publish(with(&absent), 3),
        [""; 0],
        "its users are told by the translation"
    );
    assert_eq!(
        served(proxy.https, Some("one.test")),
        pem(&good),
        "the Secret is gone"
    );
}

#[test]
fn a_handshake_that_fails_is_counted() {
    let proxy = Proxy::start(config(&[]));
    let mut client = Client::connect(proxy.https);
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    while client.read_head().is_some() {}
    wait_until("it is counted", || {
        proxy.snapshot().host.tls_handshake_failures == 1
    });
}

/// What `openssl s_client` prints; it ends when it has what it waits for.
fn s_client(address: SocketAddr, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-servername", "one.test"]);
    command
        .args(["-connect", &address.to_string()])
        .args(options);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Tickets of TLS 1.3 come with what is sent first.
    let request = b"GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n";
    child.stdin.take().unwrap().write_all(request).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn start_with(tls: TlsOptions, config: ir::Config) -> Proxy {
    let options = Options {
        tls,
        ..Options::default()
    };
    Proxy::start_with(config, options)
}

/// A line of a file of ticket keys.
fn ticket_key(letter: &str) -> String {
    format!("{}\n", letter.repeat(64))
}

#[test]
fn sessions_are_resumed_on_any_node_that_has_the_key() {
    let keys = |text: &str| TicketKeys::parse(text).unwrap();
    let node = |keys: Arc<TicketKeys>| {
        let tls = TlsOptions {
            tickets: Tickets::Shared(keys),
            ..TlsOptions::default()
        };
        start_with(tls, config(&[]))
    };
    let first = node(keys(&ticket_key("A")));
    let rolling = keys(&(ticket_key("B") + &ticket_key("A")));
    let second = node(Arc::clone(&rolling));
    let other = node(keys(&ticket_key("C")));
    let directory = tempfile::tempdir().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = directory.path().join(version);
        let session = session.to_str().unwrap();
        let resumes = |proxy: &Proxy, sink: &str| {
            let options = [version, "-ign_eof", sink, session];
            s_client(proxy.https, &options).contains("Reused, TLS")
        };
        assert!(!resumes(&first, "-sess_out"), "{version}");
        assert!(resumes(&first, "-sess_in"), "{version}");
        assert!(resumes(&second, "-sess_in"), "{version}");
        assert!(!resumes(&other, "-sess_in"), "{version}");
        rolling.replace(&ticket_key("B")).unwrap();
        assert!(!resumes(&second, "-sess_in"), "{version}: the key is gone");
        rolling
            .replace(&(ticket_key("B") + &ticket_key("A")))
            .unwrap();
    }
}

#[test]
fn sessions_are_not_resumed_where_tickets_are_off() {
    let off = TlsOptions {
        tickets: Tickets::Off,
        ..TlsOptions::default()
    };
    let proxy = start_with(off, config(&[]));
    let directory = tempfile::tempdir().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = directory.path().join(version);
        let session = session.to_str().unwrap();
        let sink = s_client(proxy.https, &[version, "-ign_eof", "-sess_out", session]);
        assert!(sink.contains("New, TLS"), "{version}: {sink}");
        assert!(!sink.contains("TLS session ticket:"), "{version}: {sink}");
    }
}

#[test]
fn old_versions_and_other_suites_can_be_refused() {
    let newest = TlsOptions {
        min_version: TlsVersion::Tls13,
        ..TlsOptions::default()
    };
    let proxy = start_with(newest, config(&[]));
    assert!(s_client(proxy.https, &["-tls1_2"]).contains("Cipher is (NONE)"));
    assert!(s_client(proxy.https, &["-tls1_3"]).contains("New, TLSv1.3"));
    let suites = CipherSuites::parse("ECDHE-ECDSA-AES256-GCM-SHA384").unwrap();
    let strict = TlsOptions {
        cipher_suites: Some(suites),
        ..TlsOptions::default()
    };
    let proxy = start_with(strict, config(&[]));
    let chosen = s_client(proxy.https, &["-tls1_2"]);
    assert!(
        chosen.contains("Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
        "{chosen}"
    );
    let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    assert!(s_client(proxy.https, &other).contains("Cipher is (NONE)"));
    assert!(s_client(proxy.https, &["-tls1_3"]).contains("New, TLSv1.3"));
}

#[test]
fn a_client_gets_the_certificate_that_it_can_verify() {
    let ecdsa = secret("ecdsa", "one.test");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["one.test".to_owned()]).unwrap();
    let rsa = Arc::new(ir::Certificate {
        chain_pem: parameters.self_signed(&key).unwrap().pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
        ..(*ecdsa).clone()
    });
    let both = ir::Certificate {
        alternative: Some(Arc::clone(&ecdsa)),
        ..(*rsa).clone()
    };
    let mut config = config(&[]);
    let pattern = HostPattern::parse("one.test").unwrap();
    config.certificates.insert(pattern, Arc::new(both));
    let proxy = Proxy::start(config);
    let signature = |options: &[&str]| {
        let text = s_client(proxy.https, options);
        let line = text
            .lines()
            .find(|line| line.starts_with("Peer signature type"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert_eq!(signature(&[]), "Peer signature type: ECDSA");
    let modern = ["-sigalgs", "RSA-PSS+SHA256"];
    assert_eq!(signature(&modern), "Peer signature type: RSA-PSS");
    let old = [
        "-tls1_2",
        "-cipher",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "-sigalgs",
        "RSA+SHA256",
    ];
    assert_eq!(signature(&old), "Peer signature type: RSA");
    let metrics = proxy.metrics();
    for algorithm in ["RSA", "ECDSA"] {
        let label = format!("public_key_algorithm=\"{algorithm}\"");
        assert!(metrics.contains(&label), "{metrics}");
    }
}
