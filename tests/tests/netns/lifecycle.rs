//! Start, restart, crash and detachment: what stays, what goes, and who serves in between.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use ingress_tests::curl::Request;
use ingress_tests::daemon::Daemon;
use ingress_tests::host::{self, Host};
use ingress_tests::load::{Plan, Reuse};
use ingress_tests::rig::{CLIENT_V4, EDGE_V4, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn sigterm_leaves_nothing_behind() -> Result<()> {
    let Scene { sluice, rig, .. } = Scene::set()?;
    assert!(links(&rig.edge)?.contains("sluice0"));
    sluice.stop()?;
    assert!(!links(&rig.edge)?.contains("sluice0"), "the gate");
    assert!(!links(&rig.edge)?.contains("xdp"), "the guard");
    let pins = host::bpffs_directory(&rig.prefix).join("sluice");
    assert!(!pins.exists(), "the pins");
    let netns = format!("/run/netns/{}-in-sluice", rig.prefix);
    assert!(!fs::exists(&netns)?, "the ingress netns");
    let refused = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(&rig.client);
    assert!(refused.is_err(), "nobody listens");
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_restarted_daemon_serves_again() -> Result<()> {
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = Scene::set()?;
    ask(&rig.client)?;
    sluice.stop()?;
    let sluice = daemon.start(&rig.edge)?;
    ask(&rig.client)?;
    assert_eq!(sluice.requests("netns")?, 1);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_killed_daemons_remains_are_adopted_and_nothing_leaks() -> Result<()> {
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = Scene::set()?;
    ask(&rig.client)?;
    let pins = host::bpffs_directory(&rig.prefix).join("sluice/links");
    let before = names_in(&pins)?;
    sluice.kill();
    // The programs stay, and notice that nobody listens: a client is refused, not left waiting.
    assert_eq!(names_in(&pins)?, before);
    let refused = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(&rig.client);
    let error = refused.err().context("nobody listens")?.to_string();
    assert!(
        error.contains("refused") || error.contains("connect"),
        "{error}"
    );

    let sluice = daemon.start(&rig.edge)?;
    ask(&rig.client)?;
    assert_eq!(sluice.requests("netns")?, 1);
    assert_eq!(names_in(&pins)?, before, "the same links, each once");
    let lookups = Command::new("bpftool")
        .args(["--json", "net", "show"])
        .output()?;
    assert!(lookups.status.success());
    assert_eq!(
        programs_on(&rig.edge, "eth0")?,
        1,
        "one steer on the uplink"
    );
    sluice.stop()?;
    assert!(!pins.exists());
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn detach_removes_what_a_killed_daemon_has_left() -> Result<()> {
    for tc in ["--tc=auto", "--tc=clsact"] {
        let Scene {
            sluice,
            daemon,
            rig,
            ..
        } = Scene::set()?;
        sluice.stop()?;
        let daemon = daemon.with(tc);
        let sluice = daemon.start(&rig.edge)?;
        ask(&rig.client)?;
        let detach = || {
            let flags = daemon.arguments().iter();
            let flags =
                flags.filter(|flag| flag.starts_with("--bpffs") || flag.starts_with("--ingress"));
            rig.edge
                .command(&rig.options.sluice)
                .arg("detach")
                .args(flags)
                .output()
        };
        let refused = detach()?;
        ensure!(!refused.status.success(), "a daemon has it: {refused:?}");
        sluice.kill();
        // The helper process ends when its daemon has ended.
        wait_until("detach", || Ok(detach()?.status.success()))?;
        assert!(!links(&rig.edge)?.contains("sluice0"), "the gate");
        assert!(!links(&rig.edge)?.contains("xdp"), "the guard");
        assert_eq!(programs_on(&rig.edge, "eth0")?, 0, "steer by TCX");
        let filters = rig.edge.sh("tc filter show dev eth0 ingress")?;
        assert!(!filters.contains("steer"), "steer by clsact: {filters}");
        let pins = host::bpffs_directory(&rig.prefix).join("sluice");
        assert!(!pins.exists(), "the pins");
        let netns = format!("/run/netns/{}-in-sluice", rig.prefix);
        assert!(!fs::exists(&netns)?, "the ingress netns");
        let again = detach()?;
        let said = String::from_utf8_lossy(&again.stdout).into_owned();
        ensure!(said.contains("nothing to remove"), "{said}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn killed_daemons_leave_no_more_than_one() -> Result<()> {
    let kills = std::env::var("SLUICE_TEST_KILLS").map_or(Ok(10), |kills| kills.parse::<u32>())?;
    let Scene {
        mut sluice,
        daemon,
        rig,
        ..
    } = Scene::set()?;
    ask(&rig.client)?;
    let pins = host::bpffs_directory(&rig.prefix).join("sluice");
    let kept = || {
        let devices = links(&rig.edge)?.matches("link/ether").count();
        let programs = programs_on(&rig.edge, "eth0")?;
        Ok::<_, anyhow::Error>((
            names_in(&pins)?,
            names_in(&pins.join("links"))?,
            devices,
            programs,
        ))
    };
    let before = kept()?;
    for _ in 0..kills {
        let helper = &sluice.status()?["datapath"]["helper_pid"];
        let helper = format!("/proc/{}", helper.as_u64().context("there is a helper")?);
        sluice.kill();
        wait_until("the helper to end", || Ok(!fs::exists(&helper)?))?;
        sluice = daemon.start(&rig.edge)?;
        ask(&rig.client)?;
    }
    assert_eq!(kept()?, before, "pins, links, devices and programs");
    sluice.stop()
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn after_a_kill_a_daemon_without_ebpf_serves_the_same_clients() -> Result<()> {
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = Scene::set()?;
    ask(&rig.client)?;
    sluice.kill();
    let sluice = daemon.with("--datapath=host").start(&rig.edge)?;
    ask(&rig.client)?;
    assert_eq!(
        sluice.requests("host")?,
        1,
        "steer left the packets to the host"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn traffic_goes_on_when_the_program_is_detached_under_load() -> Result<()> {
    let scene = Scene::set()?;
    let mut plan = Plan::kept_alive(EDGE_V4, "near.test")?;
    plan.reuse = Reuse::NewConnection;
    let load = plan.start(&scene.rig.client)?;
    wait_until("some load", || Ok(load.answered() > 200))?;
    let steer = fs::read_dir(host::bpffs_directory(&scene.rig.prefix).join("sluice/links"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("steer-eth0"))
        .context("steer is pinned")?;
    host::run(
        Command::new("bpftool")
            .args(["link", "detach", "pinned"])
            .arg(&steer),
    )?;
    let by_host = |least| Ok(scene.sluice.requests("host")? >= least);
    wait_until("the host listeners to serve", || by_host(200))?;
    let outcome = load.stop()?;
    // A connection that is half open at that instant has lost its other half.
    assert!(
        outcome.failures.len() <= plan.connections,
        "{:?}",
        outcome.failures
    );
    assert_eq!(
        Request::get(&format!("http://{EDGE_V4}/"), "near.test")
            .send(&scene.rig.client)?
            .client_address()?,
        CLIENT_V4
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_stays_with_the_stack_that_accepted_it() -> Result<()> {
    let Scene {
        sluice,
        daemon,
        manifests,
        rig,
    } = Scene::set()?;
    sluice.stop()?;
    // A daemon on ordinary sockets has a connection when one with eBPF starts beside it.
    let plain = Daemon::new(&rig, "plain", &manifests).with("--datapath=host");
    let plain = plain.start(&rig.edge)?;
    let mut stream = rig.client.run(|| TcpStream::connect((EDGE_V4, 80)))??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    ask_over(&mut stream)?;
    let steered = daemon.start(&rig.edge)?;
    for _ in 0..10 {
        ask_over(&mut stream)?;
    }
    assert_eq!(plain.requests("host")?, 11, "the old connection stays");
    ask(&rig.client)?;
    assert_eq!(steered.requests("netns")?, 1, "a new one is steered");
    assert!(steered.packets("steer", "host_connection")? > 0);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_second_daemon_is_refused_with_the_reason() -> Result<()> {
    let scene = Scene::set()?;
    let error = scene
        .daemon
        .start(&scene.rig.edge)
        .err()
        .context("it started")?;
    assert!(
        format!("{error:#}").contains("another sluice runs"),
        "{error:#}"
    );
    ask(&scene.rig.client)
}

fn ask_over(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET /bytes/4 HTTP/1.1\r\nHost: near.test\r\n\r\n")?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}

fn ask(client: &Host) -> Result<()> {
    let response = Request::get(&format!("http://{EDGE_V4}/"), "near.test").send(client)?;
    assert_eq!(response.status, 200);
    assert_eq!(response.client_address()?, CLIENT_V4);
    Ok(())
}

fn links(host: &Host) -> Result<String> {
    host.sh("ip -details link show")
}

fn names_in(directory: &std::path::Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?.flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Programs on the ingress of a device: by TCX, or by clsact on kernels without it.
fn programs_on(host: &Host, device: &str) -> Result<usize> {
    let query = || SchedClassifier::query_tcx(device, TcAttachType::Ingress);
    if let Ok((_, programs)) = host.run(query)? {
        return Ok(programs.len());
    }
    let filters = host.sh(&format!("tc filter show dev {device} ingress"))?;
    Ok(filters.matches(" handle ").count())
}
