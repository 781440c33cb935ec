//! `sluice report` of a daemon that runs: what is in the archive, and what is never in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::daemon::{Place, origin, wait_for};

/// What must not leave the machine. The Secrets are real ones: they are used by the rules.
const SECRETS: [&str; 4] = [
    "canary-password",
    "Y2FuYXJ5LXBhc3N3b3Jk",
    "canary-query",
    "BEGIN",
];

/// What names the installation.
const NAMES: [&str; 8] = [
    "secret-host",
    "secret-namespace",
    "secret-ingress",
    "secret-service",
    "secret-secret",
    "unserved-host",
    "canary unserved",
    "192.0.2.77",
];

const MANIFEST: &str = "
---
apiVersion: v1
kind: Secret
metadata: {name: secret-secret, namespace: secret-namespace}
stringData: {auth: 'user:{PLAIN}canary-password'}
---
apiVersion: v1
kind: Secret
metadata: {name: secret-secret-tls, namespace: secret-namespace}
stringData: {tls.crt: 'canary-password', tls.key: 'canary-password'}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: secret-ingress
  namespace: secret-namespace
  annotations:
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: secret-secret
    nginx.ingress.kubernetes.io/auth-url: http://user:canary-password@auth.secret-host.example/
    nginx.ingress.kubernetes.io/proxy-body-size: canary unserved-host.example
spec:
  tls: [{hosts: [secret-host.example], secretName: secret-secret-tls}]
  rules:
  - host: secret-host.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: secret-service, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: secret-service, namespace: secret-namespace}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: secret-1, namespace: secret-namespace, labels: {kubernetes.io/service-name: secret-service}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [192.0.2.77]}]
";

/// The files of an archive by their names.
fn unpack(archive: &Path) -> BTreeMap<String, String> {
    let mode = archive.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    let file = std::fs::File::open(archive).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (
            name.strip_prefix("sluice-report/").unwrap().to_owned(),
            text,
        )
    });
    files.collect()
}

/// Makes a report, checks what holds for each, and gives its files.
fn report(place: &Place, redact: bool) -> BTreeMap<String, String> {
    let archive = place.directory.path().join(format!("{redact}.tar.gz"));
    let file = format!("--output={}", archive.display());
    let mut arguments = vec!["report", &*file];
    if redact {
        arguments.push("--redact");
    }
    let output = place.sluice(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let files = unpack(&archive);
    let listed = String::from_utf8(output.stdout).unwrap();
    let index: Value = serde_json::from_str(&files["index.json"]).unwrap();
    assert_eq!(index["redacted"], redact);
    let named = index["files"].as_array().unwrap().iter();
    let named: BTreeSet<_> = named.map(|file| file["name"].as_str().unwrap()).collect();
    for (name, text) in &files {
        assert!(listed.contains(&format!(" {name} ")), "{name} in {listed}");
        assert!(named.contains(&**name) || name == "index.json", "{name}");
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {name}: {text}");
        }
        for canary in NAMES {
            let is_hidden = !redact || !text.contains(canary);
            assert!(is_hidden, "{canary} in {name}: {text}");
        }
    }
    assert_eq!(named.len() + 1, files.len());
    // A second report does not replace the first.
    assert_eq!(place.sluice(&arguments).status.code(), Some(1));
    files
}

#[test]
fn report_names_its_files_and_holds_no_secret_and_no_name_if_redacted() {
    let place = Place::new(origin());
    let manifest = place.directory.path().join("manifests/secret.yaml");
    std::fs::write(manifest, MANIFEST).unwrap();
    let daemon = place.start("a", &["--watch-namespace=secret-namespace,web"]);
    for path in ["/", "/a?token=canary-query"] {
        daemon.get(daemon.http, path);
        daemon.get_host(daemon.http, "secret-host.example", path);
    }
    wait_for("the requests to be counted", || {
        let metrics = daemon.get(daemon.admin, "/metrics").body;
        metrics.contains("host=\"secret-host.example\"")
    });
    let (plain, redacted) = (&report(&place, false), &report(&place, true));
    assert!(
        plain["flags.txt"].contains("--datapath=host"),
        "{}",
        plain["flags.txt"]
    );
    assert!(
        plain["log.txt"].contains("secret-ingress"),
        "{}",
        plain["log.txt"]
    );
    assert!(
        plain["problems.json"].contains("proxy-body-size"),
        "{}",
        plain["problems.json"]
    );
    assert!(plain["endpoints.json"].contains("192.0.2.77:80"));
    assert!(plain["limits.txt"].contains("Max open files"));
    assert!(plain["metrics.txt"].contains("nginx_ingress_controller_requests"));
    let version: Value = serde_json::from_str(&plain["version.json"]).unwrap();
    assert_eq!(version["daemon"], env!("CARGO_PKG_VERSION"));

    let routes: Value = serde_json::from_str(&redacted["routes.json"]).unwrap();
    let route = &routes.as_array().unwrap()[1];
    let host = route["host"].as_str().unwrap();
    assert!(host.starts_with("host-"), "{route}");
    let label = format!("host=\"{host}\"");
    assert!(
        redacted["metrics.txt"].contains(&label),
        "one hash in all files"
    );
}

#[test]
fn report_of_a_stopped_daemon_says_what_did_not_answer() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let signal = |name: &str| {
        let id = daemon.process.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &id])
            .status();
        assert!(sent.unwrap().success());
    };
    signal("-STOP");
    let archive = place.directory.path().join("stopped.tar.gz");
    let output = place.sluice(&["report", &format!("--output={}", archive.display())]);
    signal("-CONT");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let files = unpack(&archive);
    let status = &files["status.json"];
    assert!(status.contains("/status: no answer in 5 s"), "{status}");
    assert!(files["metrics.txt"].contains("no answer in 5 s"));
}
