//! Certificates by ACME on a real API server: the Secret, the Event, and Secrets of others.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::pebble::{Pebble, Settings};
use ingress_tests::rig::wait_until;

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn certificate_is_ordered_into_a_secret_and_a_failure_is_an_event() -> Result<()> {
    let plane = plane("acme")?;
    let pebble = start_pebble(&plane)?;
    pebble.reach("lost.test", false);
    plane.apply(&(CLASS.to_owned() + SECRET))?;
    for (name, host) in [
        ("good", "good.test"),
        ("lost", "lost.test"),
        ("own", "own.test"),
    ] {
        plane.apply(&asking(name, host))?;
    }
    let flags = [
        &*pebble.flag("pebble", ""),
        "--acme-retry=3600",
        "--publish-status-address=192.0.2.1",
    ];
    let daemon = Daemon::start(&plane, &sluice()?, "acme", &flags)?;
    wait_until("the certificate", || {
        let secret = get(
            &plane,
            &["secret", "good-tls"],
            "{.type} {.metadata.annotations}",
        )?;
        Ok(secret.starts_with("kubernetes.io/tls") && secret.contains("sluice.dev/acme-renew-at"))
    })?;
    wait_until("the certificate to be served", || {
        let root = pebble.root()?;
        let mut curl = plane.host().command("curl");
        curl.args(["--silent", "--max-time", "5", "--cacert"])
            .arg(root);
        curl.args(["--resolve", "good.test:443:127.0.0.1", "https://good.test/"]);
        Ok(curl.output()?.status.success())
    })?;
    let events = || {
        let fields = "{range .items[*]}{.type} {.reason} {.regarding.name} {.note}\n{end}";
        get(&plane, &["events.events.k8s.io"], fields)
    };
    wait_until("Events", || {
        let events = events()?;
        let has = |start: &str| events.lines().any(|line| line.starts_with(start));
        Ok(has("Warning CertificateOrderFailed lost") && has("Warning CertificateNotOrdered own"))
    })?;
    let own = get(&plane, &["secret", "own-tls"], "{.data}")?;
    ensure!(own == r#"{"other":"eA=="}"#, "{own}");
    let accounts = get(&plane, &["secret", "sluice-acme-accounts"], "{.data}")?;
    ensure!(accounts.contains("pebble.json"), "{accounts}");

    // A renewal, by a daemon that finds everything in Secrets.
    daemon.stop()?;
    let before = get(&plane, &["secret", "good-tls"], "{.data.tls\\.crt}")?;
    let due = "sluice.dev/acme-renew-at=2020-01-01T00:00:00Z";
    plane.kubectl(&["annotate", "--overwrite", "secret", "good-tls", due])?;
    let daemon = Daemon::start(&plane, &sluice()?, "acme", &flags)?;
    wait_until("the renewal", || {
        Ok(get(&plane, &["secret", "good-tls"], "{.data.tls\\.crt}")? != before)
    })?;
    let log = daemon.log();
    ensure!(
        !log.contains("made an ACME account"),
        "the account is kept: {log}"
    );
    let orders = log.matches("ordering a certificate").count();
    ensure!(orders == 1, "the failed order is postponed still: {log}");
    Ok(())
}

fn start_pebble(plane: &ControlPlane) -> Result<Pebble> {
    Pebble::start(&Settings {
        directory: &plane.directory().join("pebble"),
        host: Some(plane.host()),
        address: Ipv4Addr::LOCALHOST,
        hosts_at: Ipv4Addr::LOCALHOST,
        ports: [14000, 15000, 5353],
        http_port: 80,
        tls_port: 443,
        needs_external_account: false,
        refused_nonces: 0,
    })
}

/// A part of objects, by a path of kubectl.
fn get(plane: &ControlPlane, object: &[&str], path: &str) -> Result<String> {
    let output = format!("--output=jsonpath={path}");
    plane.kubectl(&[&["get"], object, &["--ignore-not-found", &output]].concat())
}

/// An Ingress that asks for a certificate.
fn asking(name: &str, host: &str) -> String {
    let tls = format!("  tls: [{{hosts: [{host}], secretName: {name}-tls}}]\n  rules:");
    let annotated = format!("{{name: {name}, annotations: {{sluice.dev/acme: pebble}}, ");
    ingress("default", name, host)
        .replacen(&format!("{{name: {name}, "), &annotated, 1)
        .replacen("  rules:", &tls, 1)
}

/// Somebody else's.
const SECRET: &str = "
---
apiVersion: v1
kind: Secret
metadata: {name: own-tls}
data: {other: eA==}
";
