//! Pingora: the minimal proxy of `tests/pingora`, one thread.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;

use super::{Place, Run};
use crate::proxy::scene::{Protocol, Scene, host};
use crate::proxy::stage::Stage;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    let mut hosts = String::new();
    for number in 0..scene.hosts {
        let _ = writeln!(hosts, "{} {}", host(number), scene.backend_of(number));
    }
    let mut backends = String::new();
    for addresses in scene.backends() {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|address| format!("{address}:{}", scene.port()))
            .collect();
        let _ = writeln!(backends, "{}", addresses.join(" "));
    }
    let file = |name: &str| place.directory.join(name);
    fs::write(file("hosts"), hosts)?;
    fs::write(file("backends"), backends)?;
    let (chain, key) = stage.certificate(scene.key);
    let mut command = run(&stage.program("pingora-peer")?);
    command.arg(format!("--http={}", place.http));
    command.arg(format!("--https={}", place.https));
    command.arg("--certificate").arg(chain).arg(key);
    command.arg("--hosts").arg(file("hosts"));
    command.arg("--backends").arg(file("backends"));
    if scene.protocol == Protocol::Grpc {
        command.arg("--grpc");
    }
    Ok(command)
}
