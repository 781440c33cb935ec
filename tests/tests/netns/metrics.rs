//! The kernel's counters as a scrape shows them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::prometheus::{Prometheus, dashboards, filled_in, is_of_netns_datapath, targets};
use ingress_tests::rig::{EDGE_V4, wait_until};

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn scrape_shows_packets_by_program_and_reason_and_how_programs_are_attached() -> Result<()> {
    let scene = Scene::set()?;
    request(&scene, "near.test")?;
    let first = scrape(&scene)?;
    for (program, reason) in COUNTED {
        let name = packets(program, reason);
        ensure!(first.contains_key(&name), "{name}: {first:?}");
    }
    request(&scene, "near.test")?;
    // Clients that come within a second share a snapshot.
    wait_until("the next snapshot to show more packets", || {
        let second = scrape(&scene)?;
        Ok(COUNTED.iter().all(|(program, reason)| {
            let name = packets(program, reason);
            second.get(&name) > first.get(&name)
        }))
    })?;
    assert_eq!(first["sluice_datapath_mode{mode=\"netns\"}"], 1);
    assert_eq!(first["sluice_datapath_mode{mode=\"host\"}"], 0);
    let direct = first["sluice_datapath_direct_endpoints"];
    ensure!(direct >= 2, "{direct} direct endpoints");
    let status = scene.sluice.status()?;
    let devices = status["datapath"]["devices"]
        .as_array()
        .context("devices")?;
    let attached = |program: &str| -> u64 {
        let label = format!("program=\"{program}\"");
        let is_of =
            |name: &str| name.starts_with("sluice_datapath_devices{") && name.contains(&label);
        let of_it = first.iter().filter(|(name, _)| is_of(name));
        of_it.map(|(_, count)| count).sum()
    };
    let uplinks = devices.iter().filter(|device| device["role"] == "uplink");
    assert_eq!(attached("steer"), devices.len() as u64);
    assert_eq!(attached("guard"), uplinks.count() as u64);
    assert_eq!(attached("return_path"), 1);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn scrape_of_the_host_datapath_has_its_mode_and_no_packets() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--datapath=host"))?;
    request(&scene, "near.test")?;
    let scrape = scrape(&scene)?;
    assert_eq!(scrape["sluice_datapath_mode{mode=\"netns\"}"], 0);
    assert_eq!(scrape["sluice_datapath_mode{mode=\"host\"}"], 1);
    assert_eq!(scrape["sluice_denied_networks{source=\"admin\"}"], 0);
    let of_programs = scrape.keys().find(|name| is_of_netns_datapath(name));
    assert_eq!(of_programs, None);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn every_datapath_expression_of_the_dashboards_returns_data() -> Result<()> {
    let scene = Scene::set()?;
    let directory = scene.rig.path("prometheus");
    fs::create_dir_all(&directory)?;
    let prometheus = Prometheus::start(Some(&scene.rig.edge), 9090, METRICS_PORT, &directory)?;
    let mut count = 0;
    for (_, dashboard) in dashboards()? {
        let asked = targets(&dashboard).map(|(expression, _)| filled_in(&expression));
        for expression in asked.filter(|expression| is_of_netns_datapath(expression)) {
            // Rates want samples of a counter that moves.
            request(&scene, "near.test")?;
            prometheus.wait_for_data(&expression)?;
            count += 1;
        }
    }
    ensure!(count >= 4, "{count} expressions");
    Ok(())
}

/// What each steered request adds to.
const COUNTED: [(&str, &str); 4] = [
    ("guard", "accepted"),
    ("steer", "frontend"),
    ("return_path", "forwarded"),
    ("dispatch", "assigned"),
];

fn packets(program: &str, reason: &str) -> String {
    format!("sluice_datapath_packets_total{{program=\"{program}\",reason=\"{reason}\"}}")
}

fn request(scene: &Scene, host: &str) -> Result<()> {
    let response = Request::get(&format!("http://{EDGE_V4}/"), host).send(&scene.rig.client)?;
    ensure!(response.status == 200, "{}", response.status);
    Ok(())
}

/// The whole numbers of a scrape by their series.
fn scrape(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let line = format!("curl --silent --fail http://127.0.0.1:{METRICS_PORT}/metrics");
    let text = scene.rig.edge.sh(&line)?;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = samples.filter_map(|sample| {
        let (series, value) = sample.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    });
    Ok(parsed.collect())
}

/// The default of `--metrics-address`.
const METRICS_PORT: u16 = 10254;
