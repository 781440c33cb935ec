//! Challenges of ACME servers: answered before anything that a host's rules say, and nothing beside them.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Arc;

use ingress_core::ir::{
    AccessList, Acme, Challenge, ChallengeKind, Config, Filter, Host, HostPattern, VerifyMode,
};
use proxy_rig::trusting;
use rustls::{ClientConnection, StreamOwned};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::client_auth::{Authority, asking};
use crate::rig::{Origin, Proxy, config, with_policy};

fn with_challenge(mut config: Config, kind: ChallengeKind) -> Config {
    let challenge = Challenge {
        host: Host::parse("one.test").unwrap(),
        kind,
        token: "abc".into(),
        key_authorization: "abc.thumb".into(),
    };
    config.acme = Some(Arc::new(Acme {
        challenges: [challenge].into(),
        ..Acme::default()
    }));
    config
}

#[test]
fn token_is_answered_before_the_rules_of_its_host_and_others_go_to_the_rules() {
    let origin = Origin::echo("origin");
    let config = config(&[
        ("one.test", "/", &[origin.address]),
        ("two.test", "/", &[origin.address]),
    ]);
    let nobody = AccessList {
        allow: Some(["203.0.113.0/24".parse().unwrap()].into()),
        ..AccessList::default()
    };
    let filters = [Filter::Access(nobody)];
    let config = with_policy(config, |policy| policy.filters = filters.clone().into());
    let proxy = Proxy::start(with_challenge(config, ChallengeKind::Http01));
    let path = "/.well-known/acme-challenge/abc";
    let answer = proxy.get("one.test", path);
    assert_eq!((answer.status, &*answer.body), (200, &b"abc.thumb"[..]));
    let with_port = proxy.get("One.test:80", path);
    assert_eq!(with_port.status, 200);
    for (host, path) in [
        ("one.test", "/.well-known/acme-challenge/other"),
        ("one.test", "/.well-known/acme-challenge/"),
        ("one.test", "/"),
        ("two.test", path),
    ] {
        assert_eq!(proxy.get(host, path).status, 403, "{host}{path}");
    }
}

#[test]
fn acme_server_gets_the_certificate_of_the_challenge_and_no_more() {
    let origin = Origin::echo("origin");
    let config = config(&[("one.test", "/", &[origin.address])]);
    let mut config = with_challenge(config, ChallengeKind::TlsAlpn01);
    // It has no certificate to show, whatever the host asks of clients.
    let authority = Authority::root("ca");
    let auth = asking(VerifyMode::Required, &authority.pem, None);
    let host = HostPattern::parse("one.test").unwrap();
    config.client_auth.insert(host, Arc::new(auth));
    let proxy = Proxy::start(config);
    let mut stream = connect(&proxy, "one.test", &[b"acme-tls/1"]);
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "nothing follows the handshake: {end:?}");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert!(is_challenge(&stream), "certificate of the challenge");
    // A browser's handshake is not the ACME server's.
    let mut browser = connect(&proxy, "one.test", &[b"acme-tls/1", b"http/1.1"]);
    while browser.conn.is_handshaking() {
        browser.conn.complete_io(&mut browser.sock).unwrap();
    }
    assert_eq!(browser.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(!is_challenge(&browser));
    // There is no challenge for this host.
    let mut other = connect(&proxy, "two.test", &[b"acme-tls/1"]);
    assert!(other.read_to_end(&mut rest).is_err());
}

/// Whether the server has shown a certificate with the extension of RFC 8737 §3.
fn is_challenge(stream: &StreamOwned<ClientConnection, TcpStream>) -> bool {
    let chain = stream.conn.peer_certificates().unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let mut extensions = leaf.extensions().iter();
    extensions.any(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31" && one.critical)
}

fn connect(
    proxy: &Proxy,
    host: &'static str,
    protocols: &[&[u8]],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config = trusting::client();
    config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
    let name = host.try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(proxy.https).unwrap())
}
