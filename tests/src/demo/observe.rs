//! Sends requests and looks at what they left behind.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{Both, RequestLine, Stage};
use crate::curl::Request;
use crate::host::Host;
use crate::rig::{CLIENT_V4, CLIENT_V6, CLIENT6_V6, EDGE_V4, EDGE_V6};
use crate::services::NODE_PORT;

/// A request, and what it has to come to.
struct Expectation {
    client: Client,
    scheme: &'static str,
    address: &'static str,
    host: &'static str,
    path: &'static str,
    status: u16,
    /// The pods that may answer; none for an answer of Sluice's own.
    pods: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Client {
    DualStack,
    V6Only,
}

/// Sends the demo's requests one by one.
pub(super) fn requests(stage: &Stage) -> Result<Vec<RequestLine>> {
    EXPECTATIONS
        .iter()
        .map(|expectation| request(stage, expectation))
        .collect()
}

/// Sends as many requests along both paths; gives the connection tracking table after each, and
/// the addresses told.
pub(super) fn both_paths(stage: &Stage) -> Result<(Both<Vec<String>>, Both<String>)> {
    let rig = &stage.rig;
    let along = |port: u16| -> Result<(Vec<String>, String)> {
        rig.edge.flush_conntrack()?;
        let url = format!("http://{EDGE_V4}:{port}/");
        let mut told = String::new();
        for _ in 0..COMPARED_REQUESTS {
            told = Request::get(&url, SHOP)
                .send(&rig.client)?
                .client_address()?;
        }
        Ok((rig.edge.conntrack_table()?, told))
    };
    // Sluice's path goes first: what a NodePort connection says after its end is tracked again.
    let (sluice, told_by_sluice) = along(80).context("Sluice's path")?;
    let (nodeport, told_by_nodeport) = along(NODE_PORT).context("the NodePort path")?;
    let conntrack = Both { nodeport, sluice };
    Ok((
        conntrack,
        Both {
            nodeport: told_by_nodeport,
            sluice: told_by_sluice,
        },
    ))
}

/// Packets by program and reason.
pub(super) fn programs(stage: &Stage) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let status = stage.sluice.status()?;
    let mut programs: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for count in status["datapath"]["counters"]
        .as_array()
        .cloned()
        .unwrap_or_default()
    {
        let text = |key: &str| count[key].as_str().unwrap_or_default().to_owned();
        let packets = count["packets"].as_u64().unwrap_or(0);
        programs
            .entry(text("program"))
            .or_default()
            .insert(text("reason"), packets);
    }
    Ok(programs)
}

fn request(stage: &Stage, expectation: &Expectation) -> Result<RequestLine> {
    let Expectation {
        client,
        scheme,
        address,
        host,
        path,
        status,
        pods,
    } = expectation;
    let (sender, client_ip) = client.sender(stage, address);
    let before = stage.sluice.requests("netns")?;
    let request = if *scheme == "https" {
        Request::get_tls(address, host, path)
    } else {
        let address = if address.contains(':') {
            format!("[{address}]")
        } else {
            (*address).to_owned()
        };
        Request::get(&format!("http://{address}{path}"), host)
    };
    let response = request.send(sender)?;
    let report = response.report().ok();
    let pod = report
        .as_ref()
        .and_then(|report| report["pod"].as_str())
        .map(str::to_owned);
    let told = report
        .as_ref()
        .map(|report| &report["headers"]["x-forwarded-for"]);
    let told = told.and_then(|told| told.as_str()).map(str::to_owned);
    let is_steered = stage.sluice.requests("netns")? == before + 1;
    let is_right_pod = match &pod {
        Some(pod) => pods.contains(&pod.as_str()),
        None => pods.is_empty(),
    };
    let is_right_client = pods.is_empty() || told.as_deref() == Some(client_ip);
    Ok(RequestLine {
        url: format!("{scheme}://{host}{path}"),
        client: client_ip.to_owned(),
        status: response.status,
        http: response.version,
        pod,
        client_ip: told,
        datapath: if is_steered { "netns" } else { "host" }.to_owned(),
        ok: response.status == *status && is_right_pod && is_right_client && is_steered,
    })
}

impl Client {
    fn sender<'a>(self, stage: &'a Stage, address: &str) -> (&'a Host, &'static str) {
        match self {
            Self::DualStack if address.contains(':') => (&stage.rig.client, CLIENT_V6),
            Self::DualStack => (&stage.rig.client, CLIENT_V4),
            Self::V6Only => (&stage.rig.client6, CLIENT6_V6),
        }
    }
}

/// Requests along each path for the comparison.
pub(super) const COMPARED_REQUESTS: u64 = 20;

const SHOP: &str = "shop.example.com";

const fn over_v4(
    scheme: &'static str,
    host: &'static str,
    path: &'static str,
    status: u16,
    pods: &'static [&'static str],
) -> Expectation {
    Expectation {
        client: Client::DualStack,
        scheme,
        address: EDGE_V4,
        host,
        path,
        status,
        pods,
    }
}

const fn over_v6(
    client: Client,
    scheme: &'static str,
    host: &'static str,
    path: &'static str,
    pods: &'static [&'static str],
) -> Expectation {
    Expectation {
        client,
        scheme,
        address: EDGE_V6,
        host,
        path,
        status: 200,
        pods,
    }
}

/// `deploy/demo` says why.
const EXPECTATIONS: &[Expectation] = &[
    over_v4("http", SHOP, "/", 200, &["pod1", "pod2"]),
    over_v4("http", SHOP, "/cart", 200, &["pod3"]),
    over_v4("http", SHOP, "/cart/items/7", 200, &["pod3"]),
    over_v4("http", SHOP, "/cartoon", 200, &["pod1", "pod2"]),
    over_v4("https", SHOP, "/", 200, &["pod1", "pod2"]),
    over_v4("https", SHOP, "/cart", 200, &["pod3"]),
    over_v4("http", "blog.example.com", "/2026/", 200, &["pod3"]),
    over_v4("https", "blog.example.com", "/", 200, &["pod3"]),
    over_v4("http", "status.example.com", "/healthz", 200, &["pod2"]),
    over_v4("http", "status.example.com", "/other", 404, &[]),
    over_v4("http", "nobody.example.org", "/", 404, &[]),
    over_v4("http", "empty.example.com", "/", 503, &[]),
    over_v6(Client::DualStack, "http", SHOP, "/", &["pod1", "pod2"]),
    over_v6(Client::V6Only, "http", SHOP, "/cart", &["pod3"]),
    over_v6(Client::V6Only, "https", SHOP, "/", &["pod1", "pod2"]),
    over_v6(Client::V6Only, "https", "blog.example.com", "/", &["pod3"]),
];
