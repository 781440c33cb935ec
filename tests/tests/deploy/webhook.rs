//! The validating webhook as the overlay installs it: called by the API server, by a certificate that the
//! pods make and renew.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::cluster::{Cluster, Options, objects};
use ingress_tests::rig::{wait_until, wait_within};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use super::audit::used;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn api_server_asks_the_webhook_by_a_certificate_that_the_pods_make_and_renew() -> Result<()> {
    let cluster = Cluster::start(&Options::from_env()?)?;
    let plane = &cluster.plane;
    install(plane)?;
    wait_until("the API server to trust the webhook", || {
        Ok(!trusted(plane)?.is_empty())
    })?;
    // From here on an Ingress that the webhook does not answer for is refused.
    let fail = r#"[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]"#;
    plane.kubectl(&["patch", CONFIGURATION, "--type=json", "--patch", fail])?;
    plane.apply(&objects::ingress("first", "sluice", "web.test", "web"))?;
    refuses_what_another_ingress_has(plane)?;
    renews_what_expires(plane)?;
    refuses_what_another_ingress_has(plane)?;
    let (_, refused) = used(plane)?;
    ensure!(refused.is_empty(), "the API server refused {refused:?}");
    Ok(())
}

fn install(plane: &ControlPlane) -> Result<()> {
    plane.kubectl(&["label", "node", "edge1", "sluice.dev/edge=true"])?;
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy");
    let overlay = deploy.join("kustomize/overlays/webhook");
    plane.apply(&plane.kubectl(&["kustomize", &overlay.to_string_lossy()])?)?;
    let rolled_out = ["rollout", "status", "daemonset/sluice", "--timeout=100s"];
    plane
        .kubectl(&[&["-n", SYSTEM][..], &rolled_out].concat())
        .map(drop)
}

/// An Ingress whose host and path another one has is refused, once the daemon knows the other one.
fn refuses_what_another_ingress_has(plane: &ControlPlane) -> Result<()> {
    let second = objects::ingress("second", "sluice", "web.test", "web");
    let mut refusal = String::new();
    wait_until("the second Ingress to be refused", || {
        if let Err(error) = plane.apply(&second) {
            refusal = format!("{error:#}");
            return Ok(true);
        }
        plane.kubectl(&["delete", "ingress", "second"])?;
        Ok(false)
    })?;
    for part in [
        "admission webhook \"ingress.sluice.dev\" denied the request",
        "spec.rules[0].http.paths[0].path",
        "Ingress default/first",
    ] {
        ensure!(refusal.contains(part), "no `{part}` in: {refusal}");
    }
    Ok(())
}

/// A certificate in the last third of its life is replaced. The API server trusts both for a while.
fn renews_what_expires(plane: &ControlPlane) -> Result<()> {
    let expiring = expiring_certificate()?;
    plane.kubectl(&["-n", SYSTEM, "patch", SECRET, "--patch", &expiring])?;
    let before = certificate(plane)?;
    wait_within(RENEWAL_MAX, "another certificate", || {
        Ok(certificate(plane)? != before)
    })?;
    let trusted = trusted(plane)?;
    let read = |data: &str| -> Result<String> { Ok(String::from_utf8(BASE64.decode(data)?)?) };
    let (trusted, new, old) = (read(&trusted)?, read(&certificate(plane)?)?, read(&before)?);
    ensure!(trusted == format!("{new}{old}"), "{trusted}");
    Ok(())
}

/// A patch of the Secret with a certificate that has a week to live.
fn expiring_certificate() -> Result<String> {
    let mut params = CertificateParams::new(["sluice-webhook.sluice-system.svc".to_owned()])?;
    params.not_after = (SystemTime::now() + Duration::from_hours(7 * 24)).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let patch = serde_json::json!({"stringData": {
        "tls.crt": certificate,
        "tls.key": key.serialize_pem(),
        "ca.crt": certificate,
    }});
    Ok(patch.to_string())
}

/// The certificate of the Secret, in base64.
fn certificate(plane: &ControlPlane) -> Result<String> {
    let secret = plane.kubectl(&["-n", SYSTEM, "get", SECRET, "--output=json"])?;
    let secret: Value = serde_json::from_str(&secret)?;
    let certificate = secret["data"]["tls.crt"].as_str();
    certificate
        .map(str::to_owned)
        .context("the Secret has no certificate")
}

/// The certificates that the API server trusts, in base64.
fn trusted(plane: &ControlPlane) -> Result<String> {
    let bundle = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    plane.kubectl(&["get", CONFIGURATION, bundle])
}

const SYSTEM: &str = "sluice-system";
const SECRET: &str = "secret/sluice-webhook";
const CONFIGURATION: &str = "validatingwebhookconfiguration/sluice";
/// The leader looks at the certificate once a minute.
const RENEWAL_MAX: Duration = Duration::from_secs(90);
