//! Networks that are denied, and budgets of new connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::rig::{CLIENT_V4, EDGE_V4, EDGE_V6, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn denied_network_is_dropped_at_frontends_until_its_time_ends() -> Result<()> {
    let scene = Scene::set()?;
    let client = &scene.rig.client;
    let mut open = client.run(|| TcpStream::connect((EDGE_V4, 80)))??;
    ask_over(&mut open)?;
    let list = deny(&scene, &[&format!("{CLIENT_V4}/24"), "--for=4s"])?;
    ensure!(list.contains("10.1.0.0/24"), "{list}");
    let error = connect(client, EDGE_V4, 80)?
        .err()
        .map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::TimedOut));
    assert!(ask_over(&mut open).is_err(), "open connections are cut");
    assert!(scene.sluice.packets("guard", "denied")? > 0);
    // Nothing of it has to do with other ports and other networks.
    let refused = connect(client, EDGE_V4, 22)?
        .err()
        .map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    ask(client, &format!("[{EDGE_V6}]"))?;
    wait_until("the entry to end", || {
        Ok(connect(client, EDGE_V4, 80)?.is_ok())
    })?;
    ensure!(!deny(&scene, &["--list"])?.contains("10.1.0.0"));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn client_that_is_not_steered_is_denied_by_the_acceptor() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--datapath=host"))?;
    ask(&scene.rig.client, EDGE_V4)?;
    deny(&scene, &["10.1.0.0/24"])?;
    let answer = connect(&scene.rig.client, EDGE_V4, 80)?.and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: near.test\r\n\r\n")?;
        stream.read(&mut [0; 1])
    });
    let error = answer.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    ask(&scene.rig.client, &format!("[{EDGE_V6}]"))?;
    deny(&scene, &["10.1.0.0/24", "--remove"])?;
    ask(&scene.rig.client, EDGE_V4)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn source_has_a_budget_of_new_connections_of_its_own() -> Result<()> {
    let scene = Scene::set_with(|daemon| {
        let daemon = daemon.with("--source-connection-rate=1");
        daemon.with("--source-connection-burst=5")
    })?;
    let client = &scene.rig.client;
    let mut open = client.run(|| TcpStream::connect((EDGE_V4, 80)))??;
    let opened = (0..10).filter_map(|_| connect(client, EDGE_V4, 80).ok());
    let opened: Vec<_> = opened.filter_map(Result::ok).collect();
    // Each that is dropped is tried for a second, in which one more is earned.
    ensure!((4..10).contains(&opened.len()), "{}", opened.len());
    assert!(scene.sluice.packets("guard", "over_budget")? > 0);
    ask_over(&mut open)?;
    ask(client, &format!("[{EDGE_V6}]"))
}

/// Runs `sluice deny` with these arguments.
fn deny(scene: &Scene, arguments: &[&str]) -> Result<String> {
    let run_dir = scene.daemon.arguments().iter();
    let run_dir = run_dir.filter(|argument| argument.starts_with("--run-dir="));
    let output = Command::new(&scene.rig.options.sluice)
        .arg("deny")
        .args(arguments)
        .args(run_dir)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn connect(sender: &Host, address: &str, port: u16) -> Result<std::io::Result<TcpStream>> {
    let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
    sender.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(900)))
}

fn ask(sender: &Host, authority: &str) -> Result<()> {
    let response = Request::get(&format!("http://{authority}/"), "near.test").send(sender)?;
    ensure!(response.status == 200, "{}", response.status);
    Ok(())
}

fn ask_over(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /bytes/4 HTTP/1.1\r\nHost: near.test\r\n\r\n")?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(5);
