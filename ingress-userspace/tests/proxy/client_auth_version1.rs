//! Client certificates of version 1, as `openssl x509 -req` makes them, are judged like others.
//!
//! Those of the directory are for the same key; `foreign-client.pem` is by another authority of the
//! same name, and `revoked.crl` names `client.pem`.

use std::fs;

use ingress_core::ir::VerifyMode;

use crate::client_auth::{Files, asking, curl, one_host};
use crate::rig::{Origin, Proxy};

fn file(name: &str) -> String {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/proxy/client_auth/version1"
    );
    fs::read_to_string(format!("{directory}/{name}")).unwrap()
}

/// The status of a request, and what its endpoint was told about the certificate.
fn ask(mode: VerifyMode, crl: Option<&str>, chain: &str, options: &[&str]) -> (String, String) {
    let origin = Origin::echo("origin");
    let auth = asking(mode, &file("ca.pem"), crl.map(file));
    let proxy = Proxy::start(one_host(&origin, &auth));
    let client = Files::new(&file(chain), &file("client.key"));
    let options = [options, &["https://one.test/"]].concat();
    let (status, body) = curl(&proxy, Some(&client), &options);
    let told = body
        .lines()
        .find_map(|line| line.strip_prefix("ssl-client-verify: "));
    (status, told.unwrap_or_default().to_owned())
}

fn answer(status: &str, told: &str) -> (String, String) {
    (status.to_owned(), told.to_owned())
}

#[test]
fn a_certificate_of_version_1_gets_in_over_either_tls() {
    for option in ["--tlsv1.3", "--tls-max=1.2"] {
        let option: Vec<_> = option.split('=').collect();
        let asked = ask(VerifyMode::Required, None, "client.pem", &option);
        assert_eq!(asked, answer("200", "SUCCESS"), "{option:?}");
    }
}

#[test]
fn a_certificate_of_version_1_that_is_no_good_is_refused_with_a_reason() {
    for (chain, crl, reason) in [
        ("expired.pem", None, "FAILED:certificate has expired"),
        (
            "foreign-client.pem",
            None,
            "FAILED:unable to verify the first certificate",
        ),
        (
            "client.pem",
            Some("revoked.crl"),
            "FAILED:certificate revoked",
        ),
    ] {
        let refused = ask(VerifyMode::Required, crl, chain, &[]);
        assert_eq!(refused.0, "400", "{chain}");
        let told = ask(VerifyMode::Optional, crl, chain, &[]);
        assert_eq!(told.0, "400", "{chain}");
        let passed = ask(VerifyMode::OptionalNoCa, crl, chain, &[]);
        if chain == "foreign-client.pem" {
            assert_eq!(passed, answer("200", reason));
        } else {
            assert_eq!(passed.0, "400", "{chain}");
        }
    }
    let asked = ask(VerifyMode::Required, Some("none.crl"), "client.pem", &[]);
    assert_eq!(asked, answer("200", "SUCCESS"));
}
