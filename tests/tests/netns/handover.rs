//! One daemon takes the place of another, as when a DaemonSet with surge rolls: nobody notices.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Instant;

use anyhow::{Result, ensure};
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::host;
use ingress_tests::load::{Plan, Reuse};
use ingress_tests::rig::{EDGE_V4, Options, Rig, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_new_daemon_takes_over_under_load_without_a_failed_request() -> Result<()> {
    let Scene {
        sluice: old,
        manifests,
        rig,
        ..
    } = Scene::set_with(|daemon| daemon.with(GRACE))?;
    let long_lived = Plan {
        connections: LONG_LIVED,
        rate: Some(LONG_LIVED_RATE),
        ..Plan::kept_alive(EDGE_V4, "near.test")?
    };
    let new = Plan {
        connections: 16,
        reuse: Reuse::NewConnection,
        rate: Some(NEW_RATE),
        ..long_lived.clone()
    };
    let loads = [long_lived.start(&rig.client)?, new.start(&rig.client)?];
    let some_requests = |more: u64| {
        let goals = loads.each_ref().map(|load| load.answered() + more);
        wait_until("requests to be answered", || {
            let pairs = loads.iter().zip(goals);
            Ok(pairs
                .into_iter()
                .all(|(load, goal)| load.answered() >= goal))
        })
    };
    some_requests(2000)?;
    let begun = Instant::now();
    let before = loads[1].answered();

    let new = beside(&rig, "new", &manifests).with(GRACE);
    let new = new.start(&rig.edge)?;
    assert_eq!(mode(&new)?, "host", "the other one has the datapath");
    some_requests(1000)?;
    old.stop()?;
    wait_until("the new daemon to have the datapath", || {
        Ok(mode(&new)? == "netns")
    })?;
    let steered = new.requests("netns")?;
    wait_until("requests through it", || {
        Ok(new.requests("netns")? > steered + 2000)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
    let rate = (loads[1].answered() - before) as f64 / seconds;
    eprintln!("{rate:.0} new connections a second for {seconds:.1} s");
    for load in loads {
        let outcome = load.stop()?;
        ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    }
    ensure!(
        rate > f64::from(NEW_RATE) / 4.0,
        "only {rate:.0} new connections a second"
    );
    new.stop()
}

/// Idle connections outlive two requests of each by this.
const GRACE: &str = "--shutdown-grace-period=20";
/// Connections that are kept for the whole test, and their requests a second.
const LONG_LIVED: usize = 1000;
const LONG_LIVED_RATE: u32 = 500;
/// New connections a second. A machine that is busy with other tests makes fewer.
const NEW_RATE: u32 = 2000;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_stranger_in_the_hosts_netns_keeps_no_daemon_from_the_datapath() -> Result<()> {
    let rig = Rig::build(Options::from_env()?)?;
    // Names that anybody may bind, without any privilege.
    let name = format!("sluice-datapath/{}-in-sluice", rig.prefix);
    let name = SocketAddr::from_abstract_name(name)?;
    let _stranger = rig.edge.run(|| UnixListener::bind_addr(&name))??;
    let scene = Scene::set_on(rig, |daemon| daemon)?;
    ensure!(mode(&scene.sluice)? == "netns");
    Ok(())
}

/// A daemon that has all names on the node in common with the scene's, and no file.
fn beside(rig: &Rig, name: &str, manifests: &std::path::Path) -> Daemon {
    let pins = host::bpffs_directory(&rig.prefix).join("sluice");
    Daemon::new(rig, name, manifests)
        .with(&format!("--ingress-netns={}-in-sluice", rig.prefix))
        .with(&format!("--bpffs={}", pins.display()))
}

fn mode(daemon: &Running) -> Result<String> {
    let status = daemon.status()?;
    Ok(status["datapath"]["mode"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}
