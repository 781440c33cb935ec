//! Clients that cancel most of what they open, as real libraries do it: grpc-go's health watches, and
//! event streams of Go's HTTP/2 client. The budget of resets that ends attacks must not end them.

use std::env;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::wait_until;
use serde_json::Value;

use crate::{Scene, free_ports};

/// Streams that each client cancels: ten times the budget of resets.
const CANCELLED: u64 = 5_000;

#[test]
fn clients_that_cancel_5000_streams_keep_their_long_one() -> Result<()> {
    let program = env::var_os("SLUICE_CLIENTS").context("SLUICE_CLIENTS is not set")?;
    let program = PathBuf::from(program);
    let [grpc, events] = free_ports()?;
    let manifest = Manifest::default()
        .serve_at("events.test", &["127.0.0.1"], events)
        .serve_at("grpc.test", &["127.0.0.1"], grpc)
        .annotated("grpc.test", "backend-protocol: GRPC");
    let scene = Scene::with("host", &manifest)?;
    let mut server = Command::new(&program);
    server.args([
        "serve",
        &format!("127.0.0.1:{grpc}"),
        &format!("127.0.0.1:{events}"),
    ]);
    let _server = Process::spawn(server, &scene.directory.path().join("clients.log"))?;
    wait_until("the endpoints to listen", || {
        let mut ports = [grpc, events].into_iter();
        Ok(ports.all(|port| TcpStream::connect(("127.0.0.1", port)).is_ok()))
    })?;
    for (client, host) in [("watch", "grpc.test"), ("events", "events.test")] {
        let address = format!("127.0.0.1:{}", scene.http_port);
        let count = CANCELLED.to_string();
        let output = Command::new(&program)
            .args([client, &address, host, &count])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{client}: {said}{}", scene.log()?);
        let report: Value = serde_json::from_slice(&output.stdout)?;
        println!("{client}: {report}");
        ensure!(report["cancelled"] == CANCELLED, "{client}: {report}");
        ensure!(report["messages"] == 20, "{client}: {report}");
    }
    Ok(())
}
