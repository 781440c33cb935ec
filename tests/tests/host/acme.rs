//! Certificates by ACME from Pebble, with a directory of manifests: two daemons share it, one orders, both
//! answer and serve.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Process;
use ingress_tests::pebble::{KEY_ID, Pebble, Settings};
use ingress_tests::rig::{Options, wait_until, wait_within};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::{as_nobody, copy_program};

#[test]
fn certificate_by_http_01_is_served_and_renewed_although_nonces_are_refused() -> Result<()> {
    let scene = Scene::set(Wishes {
        refused_nonces: 20,
        ..Wishes::default()
    })?;
    scene.ask_for("a.test", "pebble")?;
    scene.wait_for_certificate("a.test", 0)?;
    let secret = scene.secret("a-test-tls")?;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(
        secret["metadata"]["annotations"]["sluice.dev/acme-issuer"],
        "pebble"
    );
    let mode = fs::metadata(scene.file("a-test-tls"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds a key");
    let listed = scene.certificate("a.test", 0)?;
    let order = &listed["order"];
    assert_eq!(
        (&order["issuer"], &order["error"]),
        (&json!("pebble"), &Value::Null)
    );
    // Pebble suggests a time before its certificates' end (RFC 9773), in 60 days at the latest.
    let days_left = listed["days_left"].as_i64().unwrap_or_default();
    ensure!((80..=90).contains(&days_left), "{listed}");

    // Another token is nobody's challenge: the rules of the host see it, as cert-manager needs it.
    let path = "/.well-known/acme-challenge/other";
    assert_eq!(
        scene.status_of("a.test", path)?,
        308,
        "redirected as any other path"
    );

    let before = secret["data"]["tls.crt"].clone();
    scene.make_due("a-test-tls")?;
    scene.wait("the renewal", || {
        let now = scene.secret("a-test-tls")?;
        Ok(now["data"]["tls.crt"] != before)
    })?;
    scene.wait_for_certificate("a.test", 0)?;
    let metrics = scene.metrics(0)?;
    let issued = "sluice_acme_orders_total{issuer=\"pebble\",result=\"issued\"}";
    let line = metrics.lines().find_map(|line| line.strip_prefix(issued));
    let issued: f64 = line.context("no count of orders")?.trim().parse()?;
    ensure!(issued >= 2.0, "{issued}");
    assert!(
        metrics.contains("sluice_acme_renewal_time_seconds{"),
        "{metrics}"
    );
    Ok(())
}

#[test]
fn daemon_that_does_not_order_answers_tls_alpn_01_and_serves_the_certificate() -> Result<()> {
    let mut scene = Scene::set(Wishes {
        challenge: "tls-alpn-01",
        needs_external_account: true,
        has_second: true,
        ..Wishes::default()
    })?;
    scene.ask_for("a.test", "pebble")?;
    // Pebble validates at the second daemon.
    for daemon in [1, 0] {
        scene.wait_for_certificate("a.test", daemon)?;
    }
    ensure!(scene.log(0)?.contains("this daemon orders certificates"));
    ensure!(!scene.log(1)?.contains("this daemon orders certificates"));

    // The second one takes over.
    drop(scene.daemons.remove(0));
    scene.wait("the second daemon to lead", || {
        Ok(scene.log(0)?.contains("this daemon orders certificates"))
    })?;
    scene.ask_for("b.test", "pebble")?;
    scene.wait_for_certificate("b.test", 0)
}

#[test]
fn failed_validation_is_reported_and_postponed_while_the_old_certificate_is_served() -> Result<()> {
    let scene = Scene::set(Wishes::default())?;
    scene.ask_for("a.test", "pebble")?;
    scene.wait_for_certificate("a.test", 0)?;
    let before = scene.secret("a-test-tls")?["data"]["tls.crt"].clone();
    scene.pebble.reach("a.test", false);
    scene.make_due("a-test-tls")?;
    scene.wait("two failures", || {
        let order = &scene.certificate("a.test", 0)?["order"];
        Ok(order["failed_attempts"].as_u64() >= Some(2))
    })?;
    let order = scene.certificate("a.test", 0)?["order"].clone();
    let error = order["error"].as_str().unwrap_or_default();
    ensure!(error.contains("http-01 of `a.test` failed"), "{error}");
    let problems = scene.status(0)?["problems"].to_string();
    ensure!(problems.contains("CertificateOrderFailed"), "{problems}");
    assert_eq!(scene.secret("a-test-tls")?["data"]["tls.crt"], before);
    scene
        .wait_for_certificate("a.test", 0)
        .context("the old certificate")?;

    scene.ask_for("b.test", "pebble")?;
    scene
        .wait_for_certificate("b.test", 0)
        .context("another host")?;

    scene.pebble.reach("a.test", true);
    scene.wait("the renewal", || {
        let now = scene.secret("a-test-tls")?;
        Ok(now["data"]["tls.crt"] != before)
    })?;
    scene.wait("the failure to be forgotten", || {
        let order = &scene.certificate("a.test", 0)?["order"];
        Ok(order["failed_attempts"] == 0
            && !scene.status(0)?["problems"]
                .to_string()
                .contains("CertificateOrderFailed"))
    })
}

#[test]
fn secrets_of_others_are_never_written_and_refused_orders_are_reported() -> Result<()> {
    let scene = Scene::set(Wishes::default())?;
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec!["own.test".to_owned()])?.self_signed(&key)?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own-test-tls"},
        "stringData": {"tls.crt": own.pem(), "tls.key": key.serialize_pem()},
    });
    let file = scene.manifests().join("own.json");
    fs::write(&file, secret.to_string())?;
    scene.ask_for("own.test", "pebble")?;
    scene.ask_for("unknown.test", "nobody")?;
    scene.ask_for("*.wild.test", "pebble")?;
    scene.ask_for("a.test", "pebble")?;
    scene.wait_for_certificate("a.test", 0)?;
    let problems = scene.status(0)?["problems"].to_string();
    for expected in [
        "exists and was not made by ACME",
        "ACME issuer `nobody` is not known, known are `pebble`",
        "certificates for `*.wild.test` need DNS-01",
    ] {
        ensure!(problems.contains(expected), "{expected}: {problems}");
    }
    assert_eq!(fs::read_to_string(&file)?, secret.to_string());
    ensure!(!scene.file("own-test-tls").exists());
    let flag = scene.pebble.flag("pebble", "");
    let check = Command::new(&scene.sluice)
        .args(["check", &flag])
        .arg(scene.manifests())
        .output()?;
    let found = String::from_utf8_lossy(&check.stdout);
    ensure!(found.contains("(UnknownIssuer)"), "{found}");
    Ok(())
}

/// What a test needs.
#[derive(Clone, Copy)]
struct Wishes {
    challenge: &'static str,
    refused_nonces: u8,
    needs_external_account: bool,
    /// Whether there is a second daemon, at which Pebble validates.
    has_second: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            challenge: "http-01",
            refused_nonces: 0,
            needs_external_account: false,
            has_second: false,
        }
    }
}

struct Daemon {
    _process: Process,
    name: String,
    ports: [u16; 3],
}

struct Scene {
    directory: tempfile::TempDir,
    sluice: PathBuf,
    pebble: Pebble,
    daemons: Vec<Daemon>,
}

impl Scene {
    fn set(wishes: Wishes) -> Result<Self> {
        let directory = tempfile::tempdir_in("/tmp")?;
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), open.clone())?;
        let manifests = directory.path().join("manifests");
        fs::create_dir(&manifests)?;
        fs::set_permissions(&manifests, open)?;
        let sluice = directory.path().join("sluice");
        copy_program(&Options::from_env()?.sluice, &sluice)?;
        let ports: [u16; 9] = own_ports()?;
        let (own, others) = ports.split_at(3);
        let place = |ports: &[u16]| [ports[0], ports[1], ports[2]];
        let validated = if wishes.has_second {
            &others[3..]
        } else {
            &others[..3]
        };
        let pebble = Pebble::start(&Settings {
            directory: &directory.path().join("pebble"),
            host: None,
            address: Ipv4Addr::LOCALHOST,
            hosts_at: Ipv4Addr::LOCALHOST,
            ports: place(own),
            http_port: validated[0],
            tls_port: validated[1],
            needs_external_account: wishes.needs_external_account,
            refused_nonces: wishes.refused_nonces,
        })?;
        let mut scene = Self {
            directory,
            sluice,
            pebble,
            daemons: Vec::new(),
        };
        let mut further = format!(",contact=ops@a.test,challenge={}", wishes.challenge);
        if wishes.needs_external_account {
            let file = scene.pebble.external_key();
            let file = file.display();
            further = format!("{further},eab-key-id={KEY_ID},eab-key-file={file}");
        }
        scene.start("first", place(&others[..3]), &further)?;
        if wishes.has_second {
            scene.wait("the first daemon to lead", || {
                Ok(scene.log(0)?.contains("this daemon orders certificates"))
            })?;
            scene.start("second", place(&others[3..]), &further)?;
        }
        Ok(scene)
    }

    fn start(&mut self, name: &str, ports: [u16; 3], further: &str) -> Result<()> {
        let [http, https, metrics] = ports;
        let run_dir = self.directory.path().join(name);
        let mut command = as_nobody(&self.sluice);
        command.args(["run", "--datapath=host", "--workers=1", "--access-log=off"]);
        command.arg(format!("--manifests={}", self.manifests().display()));
        command.arg(format!("--http-port={http}"));
        command.arg(format!("--https-port={https}"));
        command.arg(format!("--metrics-address=127.0.0.1:{metrics}"));
        command.arg(format!("--run-dir={}", run_dir.display()));
        command.args([&self.pebble.flag("pebble", further), "--acme-retry=1"]);
        let log = self.directory.path().join(format!("{name}.log"));
        self.daemons.push(Daemon {
            _process: Process::spawn(command, &log)?,
            name: name.to_owned(),
            ports,
        });
        let last = self.daemons.len() - 1;
        wait_until("the daemon to serve", || Ok(self.status(last).is_ok()))
            .with_context(|| self.log(last).unwrap_or_default())
    }

    fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Adds an Ingress with TLS that asks this issuer.
    fn ask_for(&self, host: &str, issuer: &str) -> Result<()> {
        let name = host.replace('.', "-").replace('*', "any");
        let backend = json!({"service": {"name": "none", "port": {"number": 80}}});
        let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "annotations": {"sluice.dev/acme": issuer}},
            "spec": {
                "tls": [{"hosts": [host], "secretName": format!("{name}-tls")}],
                "rules": [{"host": host, "http": {"paths": [path]}}],
            },
        });
        let file = self.manifests().join(format!("{name}.json"));
        Ok(fs::write(file, ingress.to_string())?)
    }

    /// The file of a Secret that was made.
    fn file(&self, secret: &str) -> PathBuf {
        let name = format!("sluice-acme.default.{secret}.json");
        self.manifests().join(name)
    }

    fn secret(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.file(name))?)?)
    }

    /// Has a certificate look as if its time had come.
    fn make_due(&self, secret: &str) -> Result<()> {
        let mut object = self.secret(secret)?;
        object["metadata"]["annotations"]["sluice.dev/acme-renew-at"] =
            "2020-01-01T00:00:00Z".into();
        replace(&self.file(secret), &object.to_string())
    }

    /// Waits until a client that trusts Pebble's root alone accepts the certificate of a host.
    fn wait_for_certificate(&self, host: &str, daemon: usize) -> Result<()> {
        let root = self.pebble.root()?;
        let port = self.daemons[daemon].ports[1];
        let mut last = String::new();
        let waited = self.wait(&format!("a certificate for {host}"), || {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "5"]);
            curl.args(["--noproxy", "*", "--cacert"]).arg(&root);
            let resolve = format!("{host}:{port}:127.0.0.1");
            curl.args(["--resolve", &resolve]);
            let outcome = curl.arg(format!("https://{host}:{port}/")).output()?;
            last = String::from_utf8_lossy(&outcome.stderr).into_owned();
            Ok(outcome.status.success())
        });
        waited.context(last)
    }

    fn status_of(&self, host: &str, path: &str) -> Result<u16> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--max-time",
            "5",
            "--noproxy",
            "*",
            "--output",
            "/dev/null",
        ]);
        curl.args([
            "--write-out",
            "%{http_code}",
            "--header",
            &format!("Host: {host}"),
        ]);
        let url = format!("http://127.0.0.1:{}{path}", self.daemons[0].ports[0]);
        let output = curl.arg(url).output()?;
        Ok(String::from_utf8(output.stdout)?.parse()?)
    }

    fn metrics(&self, daemon: usize) -> Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.daemons[daemon].ports[2]);
        let output = Command::new("curl")
            .args(["--silent", "--noproxy", "*", &url])
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn certificate(&self, host: &str, daemon: usize) -> Result<Value> {
        let listed = self.ask(daemon, "certificates")?;
        let mut all = listed.as_array().into_iter().flatten();
        let found = all.find(|one| one["host"] == host);
        Ok(found.cloned().unwrap_or_default())
    }

    fn status(&self, daemon: usize) -> Result<Value> {
        self.ask(daemon, "status")
    }

    fn ask(&self, daemon: usize, verb: &str) -> Result<Value> {
        let run_dir = self.directory.path().join(&self.daemons[daemon].name);
        let run_dir = format!("--run-dir={}", run_dir.display());
        let mut command = Command::new(&self.sluice);
        let output = command.args([verb, "--output=json", &run_dir]).output()?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn log(&self, daemon: usize) -> Result<String> {
        let file = format!("{}.log", self.daemons[daemon].name);
        Ok(fs::read_to_string(self.directory.path().join(file))?)
    }

    fn wait(&self, what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        // Pauses after failures double.
        wait_within(Duration::from_mins(1), what, is_so).with_context(|| {
            let logs = ["first.log", "second.log", "pebble/log"].map(|file| {
                let text = fs::read_to_string(self.directory.path().join(file));
                text.unwrap_or_default()
            });
            logs.join("\n")
        })
    }
}

/// Puts a file in place as editors do.
fn replace(file: &Path, text: &str) -> Result<()> {
    let temporary = file.with_extension("new");
    fs::write(&temporary, text)?;
    // The daemon has to be able to replace it.
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o666))?;
    Ok(fs::rename(temporary, file)?)
}

/// Free ports below those that the kernel gives to connections (32768 and up), of which there are many
/// here.
fn own_ports<const N: usize>() -> Result<[u16; N]> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut ports = [0; N];
    for port in &mut ports {
        while *port == 0 {
            let number = std::process::id() * 40 + NEXT.fetch_add(1, Ordering::Relaxed);
            let candidate = u16::try_from(20_000 + number % 12_000)?;
            if TcpListener::bind(("0.0.0.0", candidate)).is_ok() {
                *port = candidate;
            }
        }
    }
    Ok(ports)
}
