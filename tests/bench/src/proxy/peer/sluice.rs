//! Sluice on ordinary sockets, with routing, forwarded fields, metrics and limits on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::{io, thread};

use anyhow::Result;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::pipe::{SpliceFlags, splice};
use serde_json::{Value, json};

use super::{Place, Run};
use crate::proxy::scene::{Datapath, Protocol, Scene, host};
use crate::proxy::stage::Stage;
use ingress_tests::daemon::Daemon;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
    program: &str,
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
    let backends = scene.backends();
    for first in (0..backends.len()).step_by(OBJECTS_OF_A_FILE) {
        write_backends(place, scene, first, &backends)?;
    }
    write_hosts(place, scene)?;
    let log = if scene.access_log {
        "--access-log=nginx"
    } else {
        "--access-log=off"
    };
    let log_pipe = place.directory.join("access.log");
    if scene.access_log {
        read_all(&log_pipe)?;
    }
    let (datapath, guard) = match scene.datapath {
        Datapath::Host => ("host", "off"),
        Datapath::Netns => ("netns", "auto"),
        Datapath::Unguarded => ("netns", "off"),
    };
    let daemon = Daemon::new(&stage.rig, &place.name, &manifests)
        .with(&format!("--datapath={datapath}"))
        .with(&format!("--xdp={guard}"))
        .with("--workers=1")
        .with(log)
        .with(&format!("--access-log-path={}", log_pipe.display()))
        .with(&format!("--tls-session-tickets={}", scene.tickets))
        .with(&format!("--http-port={}", place.http))
        .with(&format!("--https-port={}", place.https))
        .with(&format!("--metrics-address=127.0.0.1:{}", place.https + 1));
    let daemon = if scene.metrics {
        daemon
    } else {
        daemon.with("--enable-metrics=false")
    };
    let mut command = run(program);
    command.args(daemon.arguments());
    Ok(command)
}

/// Makes a pipe that is read to its end, as the log of a container is. A file that grows would
/// cost what the machine's fresh memory costs, and whoever looked at what is read would take the
/// cache of the one core that everything runs on: it goes from the pipe to nowhere.
fn read_all(pipe: &Path) -> Result<()> {
    mkfifoat(CWD, pipe, Mode::RUSR | Mode::WUSR)?;
    let pipe = pipe.to_owned();
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    thread::spawn(move || -> io::Result<()> {
        let pipe = File::open(pipe)?;
        while splice(
            &pipe,
            None,
            &nowhere,
            None,
            READ_BYTES,
            SpliceFlags::empty(),
        )? > 0
        {}
        Ok(())
    });
    Ok(())
}

/// Writes, or replaces, the Ingresses of all hosts; gives when the last were there.
pub(super) fn write_hosts(place: &Place, scene: &Scene) -> Result<u64> {
    let mut at = 0;
    for first in (0..scene.hosts).step_by(OBJECTS_OF_A_FILE) {
        let last = (first + OBJECTS_OF_A_FILE).min(scene.hosts);
        let hosts: Vec<_> = (first..last).map(|number| ingress(scene, number)).collect();
        at = save(place, &format!("hosts{first}.json"), &hosts)?;
    }
    Ok(at)
}

/// Writes, or replaces, the file of backends that this one is in; gives when it was there.
pub(super) fn write_backends(
    place: &Place,
    scene: &Scene,
    number: usize,
    backends: &[Vec<String>],
) -> Result<u64> {
    let file = number / OBJECTS_OF_A_FILE;
    let first = file * OBJECTS_OF_A_FILE;
    let last = (first + OBJECTS_OF_A_FILE).min(backends.len());
    let numbered = (first..last).zip(&backends[first..last]);
    let objects = numbered.flat_map(|(number, addresses)| backend(scene, number, addresses));
    let objects: Vec<_> = objects.collect();
    save(place, &format!("backends{file}.json"), &objects)
}

/// A Service and its endpoints.
fn backend(scene: &Scene, number: usize, addresses: &[String]) -> [Value; 2] {
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
    [service, slice]
}

/// JSON is read faster than YAML.
fn save(place: &Place, name: &str, objects: &[Value]) -> Result<u64> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    place.replace(&format!("manifests/{name}"), &list.to_string())
}

fn ingress(scene: &Scene, number: usize) -> Value {
    let backend = format!("backend{}", scene.backend_of(number));
    // Cleartext is served too, not redirected.
    let annotations = [("ssl-redirect", "false")].iter().chain(scene.annotations);
    let annotations: BTreeMap<_, _> = annotations
        .map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), *value))
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": format!("host{number}"),
            "annotations": annotations,
        },
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

/// Bytes of a log that are read at once: as many as a pipe has.
const READ_BYTES: usize = 64 * 1024;

/// Few files to look through, and little to read again.
const OBJECTS_OF_A_FILE: usize = 20;
