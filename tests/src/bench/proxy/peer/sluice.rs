//! Sluice on ordinary sockets, with routing, forwarded fields, metrics and limits on.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::{Place, Run};
use crate::bench::proxy::scene::{Protocol, Scene, host};
use crate::bench::proxy::stage::Stage;
use crate::daemon::Daemon;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    let manifests = place.directory.join("manifests");
    fs::create_dir_all(&manifests)?;
    let (chain, key) = stage.certificate(scene.key);
    let tls = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "tls" },
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": fs::read_to_string(chain)?,
            "tls.key": fs::read_to_string(key)?,
        },
    });
    fs::write(manifests.join("tls.yaml"), tls.to_string())?;
    for (number, addresses) in scene.backends().iter().enumerate() {
        write_backend(place, scene, number, addresses)?;
    }
    // A directory has a bound on its files.
    let of_a_file = scene.hosts.div_ceil(FILES_OF_HOSTS);
    for (file, first) in (0..scene.hosts).step_by(of_a_file).enumerate() {
        let last = (first + of_a_file).min(scene.hosts);
        let mut text = String::new();
        for number in first..last {
            let _ = writeln!(text, "---\n{}", ingress(scene, number));
        }
        fs::write(manifests.join(format!("hosts{file}.yaml")), text)?;
    }
    let daemon = Daemon::new(&stage.rig, &place.name, &manifests)
        .with("--datapath=host")
        .with("--workers=1")
        .with("--access-log=off")
        .with(&format!("--tls-session-tickets={}", scene.tickets))
        .with(&format!("--http-port={}", place.http))
        .with(&format!("--https-port={}", place.https))
        .with(&format!("--metrics-address=127.0.0.1:{}", place.https + 1));
    let mut command = run(&stage.rig.options.sluice.display().to_string());
    command.args(daemon.arguments());
    Ok(command)
}

/// Writes, or replaces, a backend with these endpoints.
pub(super) fn write_backend(
    place: &Place,
    scene: &Scene,
    number: usize,
    addresses: &[String],
) -> Result<()> {
    let name = format!("backend{number}");
    let port = scene.port();
    let app_protocol = match scene.protocol {
        Protocol::Http1 => "http",
        Protocol::Grpc => "kubernetes.io/h2c",
    };
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "ports": [{
            "name": "main", "port": 80, "targetPort": port, "appProtocol": app_protocol,
        }] },
    });
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address] }))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "ports": [{ "name": "main", "port": port }],
        "endpoints": endpoints,
    });
    let directory = place.directory.join("manifests");
    let temporary = directory.join(".new");
    fs::write(&temporary, format!("{service}\n---\n{slice}\n"))?;
    fs::rename(temporary, directory.join(format!("{name}.yaml")))?;
    Ok(())
}

fn ingress(scene: &Scene, number: usize) -> serde_json::Value {
    let backend = format!("backend{}", scene.backend_of(number));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": format!("host{number}") },
        "spec": {
            "tls": [{ "hosts": [host(number)], "secretName": "tls" }],
            "rules": [{ "host": host(number), "http": { "paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": { "service": { "name": backend, "port": { "name": "main" } } },
            }] } }],
        },
    })
}

const FILES_OF_HOSTS: usize = 5_000;
