//! A Service of type `ExternalName`, with a real name server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::curl::Request;
use ingress_tests::host::Process;
use ingress_tests::rig::wait_until;

use crate::{CLASS, origin, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn a_name_is_followed_when_its_addresses_change() -> Result<()> {
    let plane = plane("dns")?;
    let host = plane.host();
    let mut pods = Vec::new();
    for (address, name) in PODS {
        host.ip(&format!("addr add {address}/32 dev lo"))?;
        let mut pod = host.command(origin()?);
        pod.args(["--name", name, "--listen", &format!("{address}:8080")]);
        pods.push(Process::spawn(pod, &log(&plane, name))?);
    }
    host.use_name_server([127, 0, 0, 1].into())?;
    let [(first, _), (second, _)] = PODS;
    let server = name_server(&plane, &[first])?;
    plane.apply(&format!("{CLASS}{EXTERNAL}"))?;
    let daemon = Daemon::start(&plane, &sluice()?, "dns", &["--update-status=false"])?;
    wait_until("the first address to be asked", || {
        Ok(answers(&plane, "first"))
    })?;
    drop(server);
    let server = name_server(&plane, &[second])?;
    wait_until("the second address to be asked", || {
        Ok(answers(&plane, "second"))
    })?;
    drop(server);
    let _server = name_server(&plane, &[])?;
    wait_until("a name without an address to be a problem", || {
        let problems = daemon.status()?["problems"].to_string();
        Ok(problems.contains(NAME) && problems.contains("no address"))
    })?;
    drop(pods);
    Ok(())
}

/// A name server that gives the name these addresses for a second.
fn name_server(plane: &ControlPlane, addresses: &[&str]) -> Result<Process> {
    let mut server: Command = plane.host().command("dnsmasq");
    server.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--user=root",
        "--pid-file=",
        "--local=/test/",
    ]);
    for address in addresses {
        server.arg(format!("--host-record={NAME},{address},1"));
    }
    Process::spawn(server, &log(plane, "dnsmasq"))
}

/// Whether this pod answers.
fn answers(plane: &ControlPlane, pod: &str) -> bool {
    let request = Request::get("http://127.0.0.1/", "external.test");
    let response = request.send(plane.host());
    response
        .and_then(|response| response.pod())
        .is_ok_and(|name| name == pod)
}

fn log(plane: &ControlPlane, name: &str) -> PathBuf {
    plane.directory().join(format!("{name}.log"))
}

const NAME: &str = "backend.test";
const PODS: [(&str, &str); 2] = [("10.99.0.1", "first"), ("10.99.0.2", "second")];
const EXTERNAL: &str = "---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: default}
spec: {type: ExternalName, externalName: backend.test, ports: [{port: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: external, namespace: default}
spec:
  ingressClassName: sluice
  rules:
    - host: external.test
      http:
        paths: [{path: /, pathType: Prefix, backend: {service: {name: external, port: {number: 8080}}}}]
";
