//! What owners of objects are told: addresses, Events, each once and by one pod.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::rig::{wait_until, wait_within};

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn a_thousand_ingresses_have_their_address_within_ten_seconds() -> Result<()> {
    let plane = plane("many")?;
    let mut objects = CLASS.to_owned();
    for number in 0..1000 {
        objects += &ingress(
            "default",
            &format!("web{number}"),
            &format!("h{number}.test"),
        );
    }
    // The Service is the same in each.
    plane.apply(&objects)?;
    let flags = ["--publish-status-address=192.0.2.1,lb.example"];
    let daemon = Daemon::start(&plane, &sluice()?, "many", &flags)?;
    let began = Instant::now();
    wait_within(Duration::from_mins(1), "all addresses", || {
        Ok(addresses(&plane)?.matches("192.0.2.1 lb.example;").count() == 1000)
    })?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(10), "it took {took:?}");
    ensure!(
        plane
            .driver()
            .block_on(plane.client().apiserver_version())
            .is_ok()
    );
    daemon.stop()?;
    ensure!(
        !addresses(&plane)?.contains("192.0.2.1"),
        "the last one takes them back"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn what_was_told_is_not_told_again_after_a_restart_or_for_an_unchanged_object() -> Result<()> {
    let plane = plane("told")?;
    let faulty =
        ingress("default", "faulty", "faulty.test").replace("name: web, port", "name: none, port");
    plane.apply(&format!(
        "{CLASS}{}{faulty}",
        ingress("default", "web", "web.test")
    ))?;
    let flags = ["--publish-status-address=192.0.2.1", "--election-ttl=3"];
    let daemon = Daemon::start(&plane, &sluice()?, "told", &flags)?;
    let expected = ["Normal Synced web", "Warning ServiceNotFound faulty"];
    wait_until("both Events", || Ok(events(&plane)? == expected))?;
    // Writing its status has changed the object, and an annotation does not change its meaning.
    plane.kubectl(&["annotate", "ingress", "web", "example.com/note=1"])?;
    daemon.stop()?;
    let again = Daemon::start(&plane, &sluice()?, "again", &flags)?;
    wait_until(
        "an address",
        || Ok(addresses(&plane)?.contains("192.0.2.1")),
    )?;
    plane.apply(&faulty.replace("name: none, port", "name: gone, port"))?;
    let expected = [
        "Normal Synced web",
        "Warning ServiceNotFound faulty",
        "Warning ServiceNotFound faulty",
    ];
    wait_until("news of what has changed", || {
        Ok(events(&plane)? == expected)
    })?;
    again.stop()
}

/// Addresses of all Ingresses: `ip hostname;` for each.
fn addresses(plane: &ControlPlane) -> Result<String> {
    let fields = "--output=jsonpath={range .items[*]}{.status.loadBalancer.ingress[*].ip} {.status.loadBalancer.ingress[*].hostname};{end}";
    plane.kubectl(&["get", "ingress", fields])
}

/// Events about Ingresses, sorted: type, reason and name.
fn events(plane: &ControlPlane) -> Result<Vec<String>> {
    let fields = "--output=jsonpath={range .items[?(@.regarding.kind==\"Ingress\")]}{.type} {.reason} {.regarding.name};{end}";
    let events = plane.kubectl(&["get", "events.events.k8s.io", fields])?;
    let events = events.split_terminator(';').map(str::to_owned);
    let mut events: Vec<String> = events.collect();
    events.sort();
    Ok(events)
}
