//! The joined status: lists of all nodes whose rows carry the name of their node, and sums of counters.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::{ConfigCounts, Node, Sample};
use crate::dashboard::nodes::view::NodeView;

/// The status that a page shows, by field. `nodes` are sorted by name and described one by one.
pub(super) fn status(
    nodes: &[(&str, &NodeView)],
    described: &[Node],
    sample: &Sample,
) -> Map<String, Value> {
    let reached: Vec<_> = nodes
        .iter()
        .filter(|(_, view)| view.health.is_reached())
        .filter_map(|(name, view)| Some((*name, &view.last.as_ref()?.status)))
        .collect();
    let versions: BTreeSet<_> = described
        .iter()
        .filter_map(|node| node.version.as_deref())
        .collect();
    let versions: Vec<_> = versions.into_iter().collect();
    let uptime = described.iter().filter_map(|node| node.uptime_seconds);
    let ignored: BTreeSet<_> = listed(&reached, "ignored_annotations")
        .filter_map(|(_, key)| key.as_str())
        .collect();
    let status = json!({
        "version": versions.join(", "),
        "state": sample.state,
        "uptime_seconds": uptime.min().unwrap_or_default(),
        "generation": sample.generation,
        "config": largest(described),
        "datapath": datapath(&reached, described),
        "frontends": tagged(&reached, "frontends"),
        "workers": tagged(&reached, "workers"),
        "health_checks": health_checks(&reached),
        "ignored_annotations": ignored,
        "problems": problems(&reached),
        "nodes": described,
    });
    if let Value::Object(fields) = status {
        fields
    } else {
        Map::new()
    }
}

/// The state that the daemon of a node tells.
pub(super) fn reported_state(view: &NodeView) -> String {
    let last = view.last.as_ref();
    match last.map(|last| &*last.sample.state) {
        Some("ready") => "ready",
        Some("draining") => "draining",
        Some(_) | None => "starting",
    }
    .to_owned()
}

/// Nodes serve the same objects: one that has fewer has not read all of them yet.
fn largest(described: &[Node]) -> ConfigCounts {
    let largest = |field: fn(&ConfigCounts) -> usize| {
        let all = described.iter().map(|node| field(&node.config));
        all.max().unwrap_or_default()
    };
    ConfigCounts {
        hosts: largest(|config| config.hosts),
        rules: largest(|config| config.rules),
        backends: largest(|config| config.backends),
        endpoints: largest(|config| config.endpoints),
        certificates: largest(|config| config.certificates),
    }
}

type Reached<'a> = [(&'a str, &'a Map<String, Value>)];

/// The elements of a list of each node, with the name of the node.
fn listed<'a>(
    reached: &'a Reached<'a>,
    field: &'a str,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    reached.iter().flat_map(move |(node, status)| {
        let list = status.get(field).and_then(Value::as_array);
        list.into_iter().flatten().map(move |row| (*node, row))
    })
}

/// The rows of all nodes, each with the name of its node.
fn tagged(reached: &Reached<'_>, field: &str) -> Vec<Value> {
    let rows = listed(reached, field);
    rows.map(|(node, row)| tag(node, row)).collect()
}

fn tag(node: &str, row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row {
        fields.insert("node".to_owned(), node.into());
    }
    row
}

fn datapath(reached: &Reached<'_>, described: &[Node]) -> Value {
    let all = reached
        .iter()
        .filter_map(|(node, status)| Some((*node, status.get("datapath")?.as_object()?)));
    let all: Vec<_> = all.collect();
    let mut packets: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (_, counter) in listed(&all, "counters") {
        let text = |field: &str| counter[field].as_str().unwrap_or_default().to_owned();
        let sum = packets
            .entry((text("program"), text("reason")))
            .or_default();
        *sum = sum.saturating_add(counter["packets"].as_u64().unwrap_or_default());
    }
    let counters = packets.into_iter().map(|((program, reason), packets)| {
        json!({"program": program, "reason": reason, "packets": packets})
    });
    let counters: Vec<_> = counters.collect();
    let sum = |number: fn(&Map<String, Value>) -> Option<u64>| -> u64 {
        all.iter()
            .filter_map(|(_, datapath)| number(datapath))
            .sum()
    };
    let direct = sum(|datapath| datapath.get("direct_endpoints")?.as_u64());
    let joined_endpoints = sum(|datapath| datapath.get("shortcut")?.get("endpoints")?.as_u64());
    let is_on = |datapath: &Map<String, Value>| {
        let shortcut = datapath.get("shortcut");
        shortcut.is_some_and(|shortcut| shortcut["is_on"] == true)
    };
    let modes = described.iter().filter_map(|node| node.mode.as_deref());
    let is_netns = !all.is_empty() && modes.clone().all(|mode| mode == "netns");
    let reasons = described.iter().filter_map(|node| {
        let reason = node.mode_reason.as_deref()?;
        Some(format!("{}: {reason}", node.node))
    });
    let reasons: Vec<_> = reasons.collect();
    json!({
        "mode": if is_netns { "netns" } else { "host" },
        "reason": (!reasons.is_empty()).then(|| reasons.join("; ")),
        "helper_pid": null,
        "gate": null,
        "devices": tagged(&all, "devices"),
        "counters": counters,
        "direct_endpoints": direct,
        "shortcut": {
            "is_on": !all.is_empty() && all.iter().all(|(_, datapath)| is_on(datapath)),
            "endpoints": joined_endpoints,
        },
    })
}

/// The probed backends, with the failing endpoints of all nodes.
fn health_checks(reached: &Reached<'_>) -> Vec<Value> {
    let mut backends: BTreeMap<String, (u64, Vec<Value>)> = BTreeMap::new();
    for (node, checked) in listed(reached, "health_checks") {
        let name = checked["backend"].as_str().unwrap_or_default();
        let (endpoints, failing) = backends.entry(name.to_owned()).or_default();
        *endpoints = (*endpoints).max(checked["endpoints"].as_u64().unwrap_or_default());
        let seen = checked["failing"].as_array().into_iter().flatten();
        failing.extend(seen.map(|one| tag(node, one)));
    }
    let backends = backends.into_iter().map(|(backend, (endpoints, failing))| {
        json!({"backend": backend, "endpoints": endpoints, "failing": failing})
    });
    backends.collect()
}

/// Equal problems once, with the nodes that have them.
fn problems(reached: &Reached<'_>) -> Vec<Value> {
    let mut problems: BTreeMap<String, (Value, Vec<&str>)> = BTreeMap::new();
    for (node, problem) in listed(reached, "problems") {
        let text = problem["text"].as_str().unwrap_or_default();
        let known = problems.entry(text.to_owned());
        let (_, nodes) = known.or_insert_with(|| (problem.clone(), Vec::new()));
        nodes.push(node);
    }
    let problems = problems.into_values().map(|(mut problem, nodes)| {
        if let Value::Object(fields) = &mut problem {
            fields.insert("nodes".to_owned(), json!(nodes));
        }
        problem
    });
    problems.collect()
}
