//! Mutual TLS: who gets in, what endpoints are told, and whose connection serves whom.

mod authority;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use ingress_core::ir::{self, Authorities, ClientAuth, Config, HostPattern, ObjectRef, VerifyMode};
use ingress_userspace::proxy::{DefaultCertificate, Table};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use self::authority::SERIAL;
pub(crate) use self::authority::{Authority, Files};
use crate::rig::{Head, Origin, PATIENCE, Proxy, config};
use crate::tls::secret;

pub(crate) fn asking(mode: VerifyMode, ca: &str, crl: Option<String>) -> ClientAuth {
    let authorities = Authorities {
        secret: ObjectRef {
            kind: "Secret",
            namespace: "default".into(),
            name: "ca".into(),
        },
        ca_pem: ca.as_bytes().to_vec(),
        crl_pem: crl.map(String::into_bytes),
    };
    ClientAuth {
        mode,
        depth: 1,
        authorities: Some(Arc::new(authorities)),
        common_name: None,
        passes_certificate: false,
        error_page: None,
    }
}

/// Has a host ask.
fn ask(mut config: Config, host: &str, auth: &ClientAuth) -> Config {
    let host = HostPattern::parse(host).unwrap();
    config.client_auth.insert(host, Arc::new(auth.clone()));
    config
}

pub(crate) fn one_host(origin: &Origin, auth: &ClientAuth) -> Config {
    ask(
        config(&[("one.test", "/", &[origin.address])]),
        "one.test",
        auth,
    )
}

/// curl's answers to these hosts over as few connections as it takes: status and body of each.
pub(crate) fn curl(proxy: &Proxy, client: Option<&Files>, options: &[&str]) -> (String, String) {
    let connect = format!("::{}:{}", proxy.https.ip(), proxy.https.port());
    let mut command = Command::new("curl");
    command.args(["-skS", "--max-time", "20", "--connect-to", &connect]);
    if let Some(Files { chain, key, .. }) = client {
        command.arg("--cert").arg(chain).arg("--key").arg(key);
    }
    let output = command
        .args([
            "-H",
            "ssl-client-verify: SUCCESS",
            "-H",
            "SSL-Client-Cert: mine",
        ])
        .args(["-w", "\nstatus %{http_code} %{redirect_url}"])
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once("\nstatus ").unwrap();
    (status.trim().to_owned(), body.to_owned())
}

pub(crate) fn get(proxy: &Proxy, client: Option<&Files>) -> (String, String) {
    curl(proxy, client, &["https://one.test/"])
}

/// The line of a field as the echo origin saw it.
fn field<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}: ");
    body.lines().find_map(|line| line.strip_prefix(&prefix))
}

#[test]
fn a_client_that_an_authority_vouches_for_gets_in_and_is_introduced() {
    let authority = Authority::root("authority");
    let ada = authority.client(|_| {}, &[]);
    let origin = Origin::echo("origin");
    let mut auth = asking(VerifyMode::Required, &authority.pem, None);
    auth.passes_certificate = true;
    let proxy = Proxy::start(one_host(&origin, &auth));
    for option in ["--http1.1", "--http2", "--tlsv1.3"] {
        let (status, body) = curl(&proxy, Some(&ada), &[option, "https://one.test/"]);
        assert_eq!(status, "200", "{body}");
        assert_eq!(field(&body, "ssl-client-verify"), Some("SUCCESS"));
        let subject = field(&body, "ssl-client-subject-dn");
        assert_eq!(subject, Some("CN=ada,O=Shop\\, Inc."));
        assert_eq!(field(&body, "ssl-client-issuer-dn"), Some("CN=authority"));
        let certificate = field(&body, "ssl-client-cert").unwrap();
        let pem = percent_decoded(certificate);
        let file = fs::read_to_string(&ada.chain).unwrap();
        assert_eq!(pem, file.replace("\r\n", "\n"));
    }
    let (status, _) = curl(
        &proxy,
        Some(&ada),
        &["--tls-max", "1.2", "https://one.test/"],
    );
    assert_eq!(status, "200");
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        decoded.push(char::from(u8::from_str_radix(digits, 16).unwrap()));
        decoded.push_str(rest);
    }
    decoded
}

#[test]
fn everybody_else_is_refused_with_a_reason() {
    let authority = Authority::root("authority");
    let stranger = Authority::root("stranger").client(|_| {}, &[]);
    let expired = authority.client(
        |parameters| {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        },
        &[],
    );
    let server = authority.client(
        |parameters| parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        &[],
    );
    let origin = Origin::echo("origin");
    let auth = asking(VerifyMode::Required, &authority.pem, None);
    let proxy = Proxy::start(one_host(&origin, &auth));
    let none = (
        "400".to_owned(),
        "400 no client certificate was sent\n".to_owned(),
    );
    assert_eq!(get(&proxy, None), none);
    for files in [&stranger, &expired, &server] {
        let bad = (
            "400".to_owned(),
            "400 the client certificate is not good\n".to_owned(),
        );
        assert_eq!(get(&proxy, Some(files)), bad);
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(proxy.snapshot().client_certificate_refusals, 4);
    assert_eq!(proxy.get("one.test", "/").status, 400, "without TLS");
}

#[test]
fn optional_modes_let_in_and_say_so() {
    let authority = Authority::root("authority");
    let ada = authority.client(|_| {}, &[]);
    let stranger = Authority::root("stranger").client(|_| {}, &[]);
    let expired = authority.client(
        |parameters| {
            parameters.not_before = date_time_ymd(2020, 1, 1);
            parameters.not_after = date_time_ymd(2021, 1, 1);
        },
        &[],
    );
    let origin = Origin::echo("origin");
    let untrusted = "FAILED:unable to get local issuer certificate";
    for (mode, files, status, told) in [
        (VerifyMode::Optional, None, "200", Some("NONE")),
        (VerifyMode::Optional, Some(&ada), "200", Some("SUCCESS")),
        (VerifyMode::Optional, Some(&stranger), "400", None),
        (VerifyMode::OptionalNoCa, None, "200", Some("NONE")),
        (
            VerifyMode::OptionalNoCa,
            Some(&stranger),
            "200",
            Some(untrusted),
        ),
        (VerifyMode::OptionalNoCa, Some(&expired), "400", None),
    ] {
        let auth = asking(mode, &authority.pem, None);
        let proxy = Proxy::start(one_host(&origin, &auth));
        let (found, body) = get(&proxy, files);
        assert_eq!(found, status, "{mode:?} {told:?}");
        assert_eq!(field(&body, "ssl-client-verify"), told, "{mode:?} {body}");
        assert_eq!(field(&body, "ssl-client-cert"), None, "nobody asked for it");
    }
}

#[test]
fn revoked_and_unlisted_certificates_are_refused() {
    let authority = Authority::root("authority");
    let ada = authority.client(|_| {}, &[]);
    let origin = Origin::echo("origin");
    let other = Authority::root("other");
    for (crl, status) in [
        (authority.revocations(&[1, 2]), "200"),
        (authority.revocations(&[1, SERIAL]), "400"),
        (other.revocations(&[]), "400"),
    ] {
        let auth = asking(VerifyMode::Required, &authority.pem, Some(crl));
        let proxy = Proxy::start(one_host(&origin, &auth));
        assert_eq!(get(&proxy, Some(&ada)).0, status);
    }
}

#[test]
fn chains_may_be_as_deep_as_the_host_says() {
    let root = Authority::root("root");
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let near = first.client(|_| {}, &[&first]);
    let far = second.client(|_| {}, &[&second, &first]);
    let origin = Origin::echo("origin");
    let mut auth = asking(VerifyMode::Required, &root.pem, None);
    for (depth, files, status) in [(1, &near, "200"), (1, &far, "400"), (2, &far, "200")] {
        auth.depth = depth;
        let proxy = Proxy::start(one_host(&origin, &auth));
        assert_eq!(get(&proxy, Some(files)).0, status, "depth {depth}");
    }
}

#[test]
fn refused_clients_are_redirected_to_the_error_page() {
    let authority = Authority::root("authority");
    let origin = Origin::echo("origin");
    let mut auth = asking(VerifyMode::Required, &authority.pem, None);
    auth.error_page = Some("https://help.test/certificates".into());
    let proxy = Proxy::start(one_host(&origin, &auth));
    assert_eq!(get(&proxy, None).0, "302 https://help.test/certificates");
}

#[test]
fn connection_serves_only_hosts_with_the_same_client_authentication() {
    let authority = Authority::root("authority");
    let other = Authority::root("other");
    let ada = authority.client(|_| {}, &[]);
    let origin = Origin::echo("origin");
    let endpoints = [origin.address];
    let hosts = ["one.test", "two.test", "same.test", "open.test"];
    let rules = hosts.map(|host| (host, "/", &endpoints[..]));
    let first = asking(VerifyMode::Required, &authority.pem, None);
    let second = asking(VerifyMode::Optional, &other.pem, None);
    let config = ask(config(&rules), "one.test", &first);
    let config = ask(config, "same.test", &first);
    let proxy = Proxy::start(ask(config, "two.test", &second));
    let status = |name: &str, host: &str, protocol: &str| {
        let (url, host) = (format!("https://{name}/"), format!("Host: {host}"));
        curl(&proxy, Some(&ada), &[protocol, "-H", &host, &url]).0
    };
    for protocol in ["--http1.1", "--http2"] {
        for (name, host, expected) in [
            ("one.test", "one.test", "200"),
            ("one.test", "ONE.test.:443", "200"),
            ("one.test", "same.test", "200"),
            ("one.test", "two.test", "421"),
            ("one.test", "open.test", "200"),
            ("open.test", "open.test", "200"),
            ("open.test", "one.test", "421"),
            ("unknown.test", "one.test", "421"),
        ] {
            let found = status(name, host, protocol);
            assert_eq!(found, expected, "{name} {host} {protocol}");
        }
    }
    assert_eq!(proxy.snapshot().misdirected, 6);
    let told = curl(&proxy, Some(&ada), &["https://open.test/"]).1;
    assert_eq!(
        field(&told, "ssl-client-verify"),
        None,
        "nobody says so but us"
    );
    assert_eq!(field(&told, "ssl-client-cert"), None);
}

#[test]
fn most_specific_host_decides_the_client_authentication() {
    let authority = Authority::root("authority");
    let origin = Origin::echo("origin");
    let endpoints = [origin.address];
    let rules = ["*.test", "one.test", ""].map(|host| (host, "/", &endpoints[..]));
    let auth = asking(VerifyMode::Required, &authority.pem, None);
    let asked = ask(config(&rules), "*.test", &auth);
    let proxy = Proxy::start(asked);
    let status = |host: &str| curl(&proxy, None, &[&format!("https://{host}/")]).0;
    assert_eq!(status("one.test"), "200");
    assert_eq!(status("two.test"), "400");
    assert_eq!(status("other.example"), "200");
    proxy.publish(ask(config(&rules), "", &auth));
    assert_eq!(status("one.test"), "200");
    assert_eq!(status("two.test"), "200");
    assert_eq!(status("other.example"), "400");
}

#[test]
fn a_change_counts_at_once_also_for_open_connections() {
    let authority = Authority::root("authority");
    let ada = authority.client(|_| {}, &[]);
    let origin = Origin::echo("origin");
    let served = secret("served", "one.test");
    let host = HostPattern::parse("one.test").unwrap();
    let open = || {
        let mut config = config(&[("one.test", "/", &[origin.address])]);
        let served = Arc::clone(&served);
        config.certificates.insert(host.clone(), served);
        config
    };
    let asked = |crl| {
        let auth = asking(VerifyMode::Required, &authority.pem, crl);
        ask(open(), "one.test", &auth)
    };
    let proxy = Proxy::start(open());
    let mut before = Kept::open(&proxy, &served, &ada);
    assert_eq!(before.get(), 200);
    proxy.publish(asked(None));
    assert_eq!(before.get(), 421, "this connection was not asked");
    let mut after = Kept::open(&proxy, &served, &ada);
    assert_eq!(after.get(), 200);
    proxy.publish(asked(Some(authority.revocations(&[SERIAL]))));
    assert_eq!(after.get(), 400, "it is judged anew");
    proxy.publish(open());
    assert_eq!(after.get(), 200);
}

/// A kept-alive connection of a client with a certificate.
struct Kept {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Kept {
    fn open(proxy: &Proxy, served: &ir::Certificate, files: &Files) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(&served.chain_pem).unwrap();
        roots.add(root).unwrap();
        let chain = CertificateDer::pem_file_iter(&files.chain).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let name = "one.test".try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(proxy.https).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: StreamOwned::new(connection, stream),
        }
    }

    /// The status of one more request.
    fn get(&mut self) -> u16 {
        let request = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
        self.stream.write_all(request).unwrap();
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        let head = Head {
            text: String::from_utf8(text).unwrap(),
        };
        let length: usize = head.field("content-length").unwrap().parse().unwrap();
        self.stream.read_exact(&mut vec![0; length]).unwrap();
        head.status()
    }
}

#[test]
fn authorities_that_cannot_be_read_close_their_host_and_no_other() {
    let authority = Authority::root("authority");
    let ada = authority.client(|_| {}, &[]);
    let origin = Origin::echo("origin");
    let endpoints = [origin.address];
    let rules = ["one.test", "two.test"].map(|host| (host, "/", &endpoints[..]));
    let good = &authority.pem;
    let mut missing = asking(VerifyMode::Optional, good, None);
    missing.authorities = None;
    let list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (auth, is_told) in [
        (missing, false),
        (asking(VerifyMode::Required, "nonsense", None), true),
        (
            asking(VerifyMode::Required, good, Some(String::new())),
            true,
        ),
        (
            asking(VerifyMode::Optional, good, Some(list.to_owned())),
            true,
        ),
    ] {
        let proxy = Proxy::start(config(&rules));
        let asked = ask(config(&rules), "one.test", &auth);
        let current = proxy.table.current();
        let certificate = DefaultCertificate::generate().unwrap();
        let (table, problems) = Table::build(Some(&current), Arc::new(asked), 2, &certificate);
        proxy.table.publish(table);
        assert_eq!(problems.len(), usize::from(is_told), "{problems:?}");
        assert!(
            problems
                .iter()
                .all(|one| one.secret.to_string() == "Secret default/ca")
        );
        assert_eq!(get(&proxy, Some(&ada)).0, "403");
        assert_eq!(proxy.get("one.test", "/").status, 403);
        assert_eq!(curl(&proxy, None, &["https://two.test/"]).0, "200");
    }
}
