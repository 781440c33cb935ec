//! Ports of services that come and go while packets to them are steered.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::rig::{EDGE_V4, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_port_is_steered_while_it_is_served_and_its_last_connections_after_that() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--tcp-services-configmap=default/services"))?;
    let assigned = || scene.sluice.packets("dispatch", "assigned");
    save(&scene, &format!("\"{PORT}\": default/near-test:80"))?;
    wait_until("the port", || Ok(connect(&scene)?.is_some()))?;
    let before = assigned()?;
    let mut first = connect(&scene)?.context("no connection")?;
    ask(&mut first)?;
    ensure!(assigned()? > before, "it was steered");

    save(&scene, "{}")?;
    wait_until("the end of the port", || Ok(connect(&scene)?.is_none()))?;
    let steered = || scene.sluice.packets("steer", "frontend");
    let before = steered()?;
    ask(&mut first)?;
    ensure!(steered()? > before, "what was there is still steered");

    save(&scene, &format!("\"{PORT}\": default/near-test:80"))?;
    wait_until("the port again", || Ok(connect(&scene)?.is_some()))?;
    let before = assigned()?;
    let mut second = connect(&scene)?.context("no connection")?;
    ask(&mut second)?;
    ensure!(assigned()? > before, "it was steered");
    ask(&mut first)?;

    save(&scene, "{}")?;
    wait_until("the end of the port", || Ok(connect(&scene)?.is_none()))?;
    drop((first, second));
    wait_until("the port to be nobody's concern", || {
        let before = scene.sluice.packets("steer", "no_listener")?;
        ensure!(connect(&scene)?.is_none());
        Ok(scene.sluice.packets("steer", "no_listener")? == before)
    })
}

/// Saves a ConfigMap with one entry.
fn save(scene: &Scene, entry: &str) -> Result<()> {
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: services}\ndata:\n";
    let temporary = scene.manifests.join(".services.yaml.new");
    fs::write(&temporary, format!("{head}  {entry}\n"))?;
    Ok(fs::rename(
        temporary,
        scene.manifests.join("services.yaml"),
    )?)
}

/// A connection of the client to the port, if somebody listens.
fn connect(scene: &Scene) -> Result<Option<BufReader<TcpStream>>> {
    let stream = scene
        .rig
        .client
        .run(|| TcpStream::connect((EDGE_V4, PORT)))?;
    let Ok(stream) = stream else { return Ok(None) };
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(Some(BufReader::new(stream)))
}

/// One request on a connection that is kept.
fn ask(stream: &mut BufReader<TcpStream>) -> Result<()> {
    stream
        .get_mut()
        .write_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n")?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(stream.read_line(&mut head)? > 0, "closed after `{head}`");
    }
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    let length = lengths.next().context("no length")?.parse()?;
    stream.read_exact(&mut vec![0; length])?;
    Ok(())
}

const PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(20);
