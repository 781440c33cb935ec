//! Who may open connections at all.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::rig::{EDGE_V4, EDGE_V6, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn only_named_networks_open_connections_through_the_ingress_netns() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with(ALLOWED))?;
    let client = &scene.rig.client;
    asks(client, EDGE_V6)?;
    let dropped = connect(client, EDGE_V4)?;
    assert!(dropped.is_err(), "10.1.0.2 is in no named network");
    assert!(scene.sluice.packets("steer", "foreign_source")? > 0);
    assert_eq!(scene.sluice.requests("netns")?, 1);
    // Nothing of it has to do with other ports: the host says that nobody is there.
    let refused = connect_to(client, EDGE_V4, 22)?.err();
    let refused = refused.map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    // Pods come by the host's listeners.
    is_reset(&scene, &scene.rig.pod1)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn only_named_networks_open_connections_to_ordinary_sockets() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--datapath=host").with(ALLOWED))?;
    asks(&scene.rig.client, EDGE_V6)?;
    is_reset(&scene, &scene.rig.client)?;
    // The node itself, which probes its own ports.
    asks_at(&scene.rig.edge, "127.0.0.1")
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_daemon_without_the_flag_lets_everybody_in_again() -> Result<()> {
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = Scene::set_with(|daemon| daemon.with(ALLOWED))?;
    assert!(connect(&rig.client, EDGE_V4)?.is_err());
    // The maps stay for the next daemon.
    sluice.kill();
    let _sluice = daemon.with(EVERYBODY).start(&rig.edge)?;
    asks(&rig.client, EDGE_V4)
}

fn is_reset(scene: &Scene, sender: &Host) -> Result<()> {
    let before = refusals(scene)?;
    // As soon as it is open, or a little later.
    let answer = connect(sender, EDGE_V4)?.and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: near.test\r\n\r\n")?;
        stream.read(&mut [0; 1])
    });
    let error = answer.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    wait_until("the refusal to be counted", || {
        Ok(refusals(scene)? == before + 1)
    })
}

fn refusals(scene: &Scene) -> Result<u64> {
    let status = scene.sluice.status()?;
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    let of_worker = |worker: &serde_json::Value| worker["host"]["source_refusals"].as_u64();
    Ok(workers.iter().filter_map(of_worker).sum())
}

fn connect(sender: &Host, address: &str) -> Result<std::io::Result<TcpStream>> {
    connect_to(sender, address, 80)
}

fn connect_to(sender: &Host, address: &str, port: u16) -> Result<std::io::Result<TcpStream>> {
    let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
    sender.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)))
}

fn asks(sender: &Host, address: &str) -> Result<()> {
    let address = address.parse::<IpAddr>()?;
    asks_at(sender, &SocketAddr::new(address, 80).to_string())
}

fn asks_at(sender: &Host, authority: &str) -> Result<()> {
    let response = Request::get(&format!("http://{authority}/"), "near.test").send(sender)?;
    ensure!(response.status == 200, "{}", response.status);
    Ok(())
}

const ALLOWED: &str = "--frontend-source-cidr=fd01::/64,192.0.2.0/24";
const EVERYBODY: &str = "--frontend-source-cidr=0.0.0.0/0,::/0";
const PATIENCE: Duration = Duration::from_secs(5);
