//! ConfigMaps of TCP and UDP services on a real API server.

use std::net::{TcpStream, UdpSocket};

use anyhow::{Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::rig::wait_until;

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn entries_of_config_maps_become_ports_and_mistakes_become_events() -> Result<()> {
    let plane = plane("ports")?;
    plane.apply(&format!(
        "{CLASS}{}{DNS}",
        ingress("default", "web", "web.test")
    ))?;
    let flags = [
        "--tcp-services-configmap=default/tcp",
        "--udp-services-configmap=default/udp",
        "--publish-status-address=192.0.2.1",
    ];
    let daemon = Daemon::start(&plane, &sluice()?, "ports", &flags)?;
    ensure!(daemon.is_served("web.test", "/")?, "without the ConfigMaps");
    plane.apply(&config_map(
        "tcp",
        "{\"9000\": default/web:80, \"80\": default/web:80}",
    ))?;
    plane.apply(&config_map("udp", "{\"9000\": default/dns:53}"))?;
    wait_until("the TCP port", || is_open(&plane, 9000))?;
    wait_until("the UDP port", || is_bound(&plane, 9000))?;
    wait_until("an Event", || {
        let fields = "--output=jsonpath={range .items[*]}{.type} {.reason} {.regarding.kind}/{.regarding.name}: {.note}\n{end}";
        let events = plane.kubectl(&["get", "events.events.k8s.io", fields])?;
        let told = "Warning PortConflict ConfigMap/tcp: data[80]: port 80 already belongs to";
        Ok(events.lines().any(|event| event.starts_with(told)))
    })?;
    plane.apply(&config_map("tcp", "{\"9001\": default/web:80}"))?;
    wait_until("the new TCP port", || is_open(&plane, 9001))?;
    wait_until("the end of the old one", || Ok(!is_open(&plane, 9000)?))?;
    plane.kubectl(&["delete", "configmap", "tcp", "udp"])?;
    wait_until("the end of all", || {
        Ok(!is_open(&plane, 9001)? && !is_bound(&plane, 9000)?)
    })?;
    ensure!(daemon.is_served("web.test", "/")?);
    daemon.stop()
}

fn config_map(name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {data}\n"
    )
}

/// Whether somebody takes connections at a port of the daemon's host.
fn is_open(plane: &ControlPlane, port: u16) -> Result<bool> {
    let connect = move || TcpStream::connect(("127.0.0.1", port)).is_ok();
    plane.host().run(connect)
}

/// Whether somebody has a UDP port there.
fn is_bound(plane: &ControlPlane, port: u16) -> Result<bool> {
    let bind = move || UdpSocket::bind(("0.0.0.0", port)).is_err();
    plane.host().run(bind)
}

const DNS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec: {ports: [{port: 53, protocol: UDP}]}
";
