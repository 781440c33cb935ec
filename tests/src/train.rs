//! Exercise for a daemon that was built to note down what of it is hot: the common kinds of
//! traffic, on loopback and without root. Nothing is measured; every answer is looked at.

mod traffic;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use self::traffic::{Target, Traffic};
use crate::demo::Programs;
use crate::host::{self, Process};
use crate::rig::wait_until;

/// How a daemon is exercised.
#[derive(Clone, Debug)]
pub struct Exercise {
    /// The daemon, and what is behind it.
    pub programs: Programs,
    /// Directory of the notes that an instrumented daemon takes.
    pub notes: PathBuf,
    /// How often everything is done, in percent of what is usual.
    pub percent: u32,
}

impl Exercise {
    /// Has daemons do their work, one with an access log and one without: what is never done is
    /// taken for what need not be fast. `say` is told what is being done.
    pub fn run(&self, say: impl Fn(&str)) -> Result<()> {
        for (access_log, what) in [("nginx", "with an access log"), ("off", "without")] {
            say(what);
            self.exercise(access_log, &say).context(what)?;
        }
        Ok(())
    }

    /// Starts the daemon, has it do its work, and ends it.
    fn exercise(&self, access_log: &str, say: &impl Fn(&str)) -> Result<()> {
        let directory = tempfile::tempdir().context("failed to make a directory")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let site = Site::open(directory.path())?;
        let _origin = self.start_origin(&site)?;
        let mut sluice = self.start_sluice(&site, access_log)?;
        let target = site.target()?;
        wait_until("the daemon to answer", || {
            if let Some(status) = sluice.ended()? {
                bail!("the daemon ended with {status}:\n{}", site.log());
            }
            Ok(runtime.block_on(Traffic::PROBE.run(&target, 0)).is_ok())
        })
        .with_context(|| site.log())?;
        for traffic in &Traffic::ALL {
            say(traffic.name);
            let done = runtime.block_on(traffic.run(&target, self.percent));
            done.with_context(|| traffic.name)?;
        }
        // It writes its notes when it ends by itself.
        host::run(Command::new("kill").args(["-TERM", &sluice.id().to_string()]))?;
        let status = sluice.wait()?;
        if !status.success() {
            bail!("the daemon ended with {status}:\n{}", site.log());
        }
        Ok(())
    }

    fn start_origin(&self, site: &Site) -> Result<Process> {
        let mut origin = Command::new(&self.programs.origin);
        let [.., web, calls] = site.ports;
        origin.arg(format!("--listen=0.0.0.0:{web}"));
        origin.arg(format!("--listen-grpc=0.0.0.0:{calls}"));
        Process::spawn(origin, &site.directory.join("origin.log"))
    }

    fn start_sluice(&self, site: &Site, access_log: &str) -> Result<Process> {
        let [http, https, metrics, ..] = site.ports;
        let mut sluice = Command::new(&self.programs.sluice);
        sluice.args(["run", "--datapath=host"]);
        sluice.arg(format!("--access-log={access_log}"));
        // Notes of one thread are exact, those of several overwrite each other's.
        sluice.args(["--workers=1", "--shutdown-grace-period=5"]);
        for (flag, name) in [
            ("manifests", MANIFESTS),
            ("run-dir", "run"),
            ("bpffs", "bpffs"),
            ("access-log-path", "access.log"),
        ] {
            let path = site.directory.join(name);
            sluice.arg(format!("--{flag}={}", path.display()));
        }
        sluice.arg(format!("--http-port={http}"));
        sluice.arg(format!("--https-port={https}"));
        sluice.arg(format!("--metrics-address=127.0.0.1:{metrics}"));
        sluice.env("LLVM_PROFILE_FILE", self.notes.join("%p.profraw"));
        Process::spawn(sluice, &site.directory.join(LOG))
    }
}

/// Where it takes place.
struct Site {
    directory: PathBuf,
    /// HTTP, HTTPS and metrics of the daemon, then HTTP and gRPC of what is behind it.
    ports: [u16; 5],
    certificate: rcgen::Certificate,
}

impl Site {
    fn open(directory: &Path) -> Result<Self> {
        let ports: [u16; 5] = free_ports()?;
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let names = vec![WEB.to_owned(), CALLS.to_owned()];
        let certificate = CertificateParams::new(names)?.self_signed(&pair)?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "tls" },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate.pem(), "tls.key": pair.serialize_pem() },
        });
        let [.., web, calls] = ports;
        let mut objects = vec![secret];
        objects.extend(served(WEB, web, "http"));
        objects.extend(served(CALLS, calls, "kubernetes.io/h2c"));
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        fs::create_dir(directory.join(MANIFESTS))?;
        fs::write(directory.join(MANIFESTS).join("all.json"), list.to_string())?;
        Ok(Self {
            directory: directory.to_owned(),
            ports,
            certificate,
        })
    }

    fn target(&self) -> Result<Target> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let [http, https, ..] = self.ports;
        Ok(Target::new(local(http), local(https), tls))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join(LOG)).unwrap_or_default()
    }
}

/// A host, and a Service with two endpoints behind it.
fn served(host: &str, port: u16, protocol: &str) -> [Value; 3] {
    let name = host.replace('.', "-");
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            // Clear text is served too, not redirected.
            "annotations": { "nginx.ingress.kubernetes.io/ssl-redirect": "false" },
        },
        "spec": {
            "tls": [{ "hosts": [host], "secretName": "tls" }],
            "rules": [{ "host": host, "http": { "paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": { "service": { "name": name, "port": { "name": "main" } } },
            }] } }],
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "ports": [{
            "name": "main", "port": 80, "targetPort": port, "appProtocol": protocol,
        }] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "ports": [{ "name": "main", "port": port }],
        "endpoints": [{ "addresses": ["127.0.0.1"] }, { "addresses": ["127.0.0.2"] }],
    });
    [ingress, service, slice]
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

const WEB: &str = "web.train.test";
const CALLS: &str = "calls.train.test";
const MANIFESTS: &str = "manifests";
const LOG: &str = "log";
