//! Joins what is known of all nodes into what one dashboard shows. Pure.
//!
//! Counters are summed, histograms merged, states the worst, and rows of one node carry its name. A node
//! that is away keeps its counters, because sums do not fall; its rows and gauges leave.

mod status;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use self::status::{reported_state, status};
use super::view::{Health, NodeView, Sums};
use crate::api::{Node, Sample, Traffic};

/// All nodes as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::dashboard) struct Joined {
    pub(in crate::dashboard) sample: Sample,
    pub(in crate::dashboard) status: Map<String, Value>,
    pub(in crate::dashboard) hosts: Vec<Traffic>,
    pub(in crate::dashboard) backends: Vec<Traffic>,
    pub(in crate::dashboard) routes: Vec<Traffic>,
}

/// Joins nodes with different names, in any order.
pub(in crate::dashboard) fn join(nodes: &[(&str, &NodeView)], time: String) -> Joined {
    let mut nodes: Vec<_> = nodes.to_vec();
    nodes.sort_by_key(|(name, _)| *name);
    let mut sums = Sums::default();
    let mut gauges = Sample::default();
    for (_, view) in &nodes {
        sums.add(&view.carried);
        let Some(last) = &view.last else { continue };
        sums.add(&last.sums);
        if view.health.is_reached() {
            gauges.requests_open += last.sample.requests_open;
            gauges.connections_open += last.sample.connections_open;
            gauges.resident_bytes += last.sample.resident_bytes;
        }
    }
    let described: Vec<_> = nodes.iter().map(|(name, view)| node(name, view)).collect();
    let revision = nodes.iter().map(|(_, view)| view.revision).sum();
    let state = worst(described.iter().map(|node| &*node.state));
    let sample = Sample {
        time,
        state: state.to_owned(),
        generation: revision,
        requests_open: gauges.requests_open,
        connections_open: gauges.connections_open,
        resident_bytes: gauges.resident_bytes,
        ..sums.sample
    };
    let rows = |rows: super::view::Rows| rows.into_values().collect();
    Joined {
        status: status(&nodes, &described, &sample),
        sample,
        hosts: rows(sums.hosts),
        backends: rows(sums.backends),
        routes: rows(sums.routes),
    }
}

/// A node as the page lists it.
fn node(name: &str, view: &NodeView) -> Node {
    let (state, reason) = match &view.health {
        Health::Well => (reported_state(view), None),
        Health::Busy(reason) => ("busy".to_owned(), Some(reason.clone())),
        Health::Slow(reason) => ("slow".to_owned(), Some(reason.clone())),
        Health::Away(reason) => ("away".to_owned(), Some(reason.clone())),
        Health::Unknown => (
            "away".to_owned(),
            Some("the node has not answered yet".to_owned()),
        ),
    };
    let mut sums = view.carried.sample.clone();
    let mut node = Node {
        node: name.to_owned(),
        state,
        reason,
        ..Node::default()
    };
    if let Some(last) = &view.last {
        sums.requests += last.sample.requests;
        sums.server_errors += last.sample.server_errors;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        node.version = last.status.get("version").and_then(text);
        node.generation = last.sample.generation;
        if view.health.is_reached() {
            let datapath = last.status.get("datapath").unwrap_or(&Value::Null);
            node.uptime_seconds = last.status.get("uptime_seconds").and_then(Value::as_u64);
            node.connections_open = last.sample.connections_open;
            node.resident_bytes = last.sample.resident_bytes;
            node.mode = text(&datapath["mode"]);
            node.mode_reason = text(&datapath["reason"]);
        }
        if let Some(config) = last.status.get("config") {
            node.config = serde_json::from_value(config.clone()).unwrap_or_default();
        }
    }
    node.requests = sums.requests;
    node.server_errors = sums.server_errors;
    node
}

/// The worst of these states; `starting` for an empty list.
fn worst<'a>(states: impl Iterator<Item = &'a str>) -> &'a str {
    let rank = |state: &&str| STATES.iter().position(|known| known == state);
    states.max_by_key(rank).unwrap_or("starting")
}

/// From the best to the worst.
const STATES: [&str; 6] = ["ready", "draining", "starting", "busy", "slow", "away"];

/// Joins lists of rows. Rows that are equal become one, with the names of all nodes that have it.
pub(in crate::dashboard) fn rows(answers: &[(String, Value)]) -> Vec<Value> {
    let mut answers: Vec<_> = answers.iter().collect();
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    let all = answers.iter().flat_map(|(node, answer)| {
        let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().map(move |row| (row, &**node))
    });
    let rows = together(all).into_iter().map(|(row, nodes)| {
        let mut row = row.clone();
        if let Value::Object(fields) = &mut row {
            fields.insert("nodes".to_owned(), json!(nodes));
        }
        row
    });
    rows.collect()
}

/// Joins answers that are no lists: each one that differs, with the names of the nodes that gave it.
pub(in crate::dashboard) fn answers(answers: &[(String, Value)]) -> Vec<Value> {
    let mut answers: Vec<_> = answers.iter().collect();
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    let all = answers.iter().map(|(node, answer)| (answer, &**node));
    let answers = together(all).into_iter();
    let answers = answers.map(|(answer, nodes)| json!({"nodes": nodes, "answer": answer}));
    answers.collect()
}

/// Equal values once, in the order of their first appearance, with the names of their nodes.
fn together<'a>(
    values: impl Iterator<Item = (&'a Value, &'a str)>,
) -> Vec<(&'a Value, BTreeSet<&'a str>)> {
    let mut places = std::collections::HashMap::new();
    let mut found: Vec<(&Value, BTreeSet<&str>)> = Vec::new();
    for (value, node) in values {
        let place = *places.entry(value).or_insert_with(|| {
            found.push((value, BTreeSet::new()));
            found.len() - 1
        });
        found[place].1.insert(node);
    }
    found
}

#[cfg(test)]
mod tests;
