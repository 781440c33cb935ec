//! Ingresses as applications publish them for ingress-nginx, with their gRPC and WebSocket clients: Argo CD's
//! (docs/operator-manual/ingress.md) and Grafana's (its tutorial on reverse proxies, for a subpath).

use std::env;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::wait_until;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::{Scene, free_ports};

#[test]
fn argo_cd_with_tls_of_its_own_is_passed_through() -> Result<()> {
    let annotations = [("force-ssl-redirect", "true"), ("ssl-passthrough", "true")];
    let own = Certificate::new("argocd.example.com")?;
    let stage = Stage::set(std::slice::from_ref(&own), Some(&own), |service| {
        ingress(
            "argocd-server-ingress",
            "argocd.example.com",
            service,
            &annotations,
            "/",
            "",
        )
    })?;
    for kind in ["page", "grpc"] {
        let seen = stage.visit(kind, "argocd.example.com", "/")?;
        ensure!(seen["certificate"] == "argocd.example.com", "{seen}");
        ensure!(seen["protocol"] == "HTTP/2.0", "{seen}");
    }
    Ok(())
}

#[test]
fn argo_cd_with_one_host_for_pages_and_one_for_grpc() -> Result<()> {
    let pages = Certificate::new("argocd.example.com")?;
    let calls = Certificate::new("grpc.argocd.example.com")?;
    let stage = Stage::set(&[pages, calls], None, |service| {
        let of_pages = [("force-ssl-redirect", "true"), ("backend-protocol", "HTTP")];
        let tls = "  tls: [{hosts: [argocd.example.com], secretName: argocd.example.com}]\n";
        let http = ingress(
            "argocd-server-http-ingress",
            "argocd.example.com",
            service,
            &of_pages,
            "/",
            tls,
        );
        let of_calls = [("backend-protocol", "GRPC")];
        let tls =
            "  tls: [{hosts: [grpc.argocd.example.com], secretName: grpc.argocd.example.com}]\n";
        let grpc = ingress(
            "argocd-server-grpc-ingress",
            "grpc.argocd.example.com",
            service,
            &of_calls,
            "/",
            tls,
        );
        format!("{http}---\n{grpc}")
    })?;
    let page = stage.visit("page", "argocd.example.com", "/applications")?;
    ensure!(
        page["answer"] == "/applications of argocd.example.com by https",
        "{page}"
    );
    let call = stage.visit("grpc", "grpc.argocd.example.com", "/")?;
    ensure!(
        call["answer"] == "SERVING" && call["certificate"] == "grpc.argocd.example.com",
        "{call}"
    );
    Ok(())
}

#[test]
fn argo_cd_behind_tls_that_begins_anew_at_the_ingress() -> Result<()> {
    let outer = Certificate::new("argocd.example.com")?;
    let inner = Certificate::new("argocd-server")?;
    let annotations = [
        ("force-ssl-redirect", "true"),
        ("backend-protocol", "HTTPS"),
    ];
    let stage = Stage::set(&[outer], Some(&inner), |service| {
        let tls = "  tls: [{hosts: [argocd.example.com], secretName: argocd.example.com}]\n";
        ingress(
            "argocd-server-ingress",
            "argocd.example.com",
            service,
            &annotations,
            "/",
            tls,
        )
    })?;
    let page = stage.visit("page", "argocd.example.com", "/login")?;
    ensure!(
        page["answer"] == "/login of argocd.example.com by https",
        "{page}"
    );
    ensure!(page["certificate"] == "argocd.example.com", "{page}");
    Ok(())
}

#[test]
fn grafana_below_a_path_with_its_live_websocket() -> Result<()> {
    let certificate = Certificate::new("grafana.example.com")?;
    let annotations = [("use-regex", "true"), ("rewrite-target", "/$1")];
    let stage = Stage::set(&[certificate], None, |service| {
        let tls = "  tls: [{hosts: [grafana.example.com], secretName: grafana.example.com}]\n";
        ingress(
            "monitoring-grafana",
            "grafana.example.com",
            service,
            &annotations,
            "/grafana/?(.*)",
            tls,
        )
    })?;
    let page = stage.visit("page", "grafana.example.com", "/grafana/d/home?orgId=1")?;
    ensure!(
        page["answer"] == "/d/home of grafana.example.com by https",
        "{page}"
    );
    let socket = stage.visit("websocket", "grafana.example.com", "/grafana/api/live/ws")?;
    ensure!(socket["answer"] == "to and fro", "{socket}");
    Ok(())
}

/// A certificate for one name, which clients trust as it is.
struct Certificate {
    name: String,
    chain: String,
    key: String,
}

impl Certificate {
    fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let chain = CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
        Ok(Self {
            name: name.to_owned(),
            chain: chain.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The Secret of its name.
    fn secret(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {}}}\ntype: kubernetes.io/tls\n\
             data: {{tls.crt: {}, tls.key: {}}}\n",
            self.name,
            STANDARD.encode(&self.chain),
            STANDARD.encode(&self.key)
        )
    }
}

/// A daemon in front of one application.
struct Stage {
    scene: Scene,
    clients: PathBuf,
}

impl Stage {
    /// Serves an application, by TLS if it has a certificate of its own, through the Ingresses that `ingresses` makes
    /// for its Service. Clients trust the certificates of the Ingresses.
    fn set(
        certificates: &[Certificate],
        own: Option<&Certificate>,
        ingresses: impl Fn(&str) -> String,
    ) -> Result<Self> {
        let clients = env::var_os("SLUICE_CLIENTS").context("SLUICE_CLIENTS is not set")?;
        let clients = PathBuf::from(clients);
        let [port] = free_ports()?;
        // Its Ingress is for a host that nobody visits; the Service is what is wanted.
        let mut manifest = Manifest::default()
            .serve_at("application", &["127.0.0.1"], port)
            .with(&ingresses("application"));
        for certificate in certificates {
            manifest = manifest.with(&certificate.secret());
        }
        let mut scene = Scene::with("host", &manifest)?;
        let directory = scene.directory.path().to_owned();
        let trusted: String = certificates.iter().map(|one| one.chain.as_str()).collect();
        fs::write(directory.join("trusted.pem"), trusted)?;
        let mut application = Command::new(&clients);
        application.args(["application", &format!("127.0.0.1:{port}")]);
        if let Some(own) = own {
            for (name, text) in [("own.crt", &own.chain), ("own.key", &own.key)] {
                fs::write(directory.join(name), text)?;
                application.arg(directory.join(name));
            }
        }
        let log = directory.join("application.log");
        scene.processes.push(Process::spawn(application, &log)?);
        wait_until("the application to listen", || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(Self { scene, clients })
    }

    fn visit(&self, kind: &str, host: &str, path: &str) -> Result<Value> {
        let trusted = self.scene.directory.path().join("trusted.pem");
        let output = Command::new(&self.clients)
            .args([kind, &format!("127.0.0.1:{}", self.scene.https_port), host])
            .arg(trusted)
            .arg(path)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{kind}: {said}{}",
            self.scene.log()?
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// An Ingress with annotations of ingress-nginx for one path of a host.
fn ingress(
    name: &str,
    host: &str,
    service: &str,
    annotations: &[(&str, &str)],
    path: &str,
    tls: &str,
) -> String {
    let annotations: Vec<String> = annotations
        .iter()
        .map(|(key, value)| format!("    nginx.ingress.kubernetes.io/{key}: \"{value}\"\n"))
        .collect();
    let annotations = annotations.concat();
    let kind = if path == "/" {
        "Prefix"
    } else {
        "ImplementationSpecific"
    };
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n{annotations}\
         spec:\n  rules:\n  - host: {host}\n    http:\n      paths:\n      - path: {path}\n        pathType: {kind}\n\
         \x20       backend: {{service: {{name: {service}, port: {{name: http}}}}}}\n{tls}"
    )
}
