//! `kubectl sluice dashboard`: the real kubectl and API server, pods on three nodes, one of them away.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::rig::{wait_until, wait_within};
use serde_json::Value;

use super::plugin::{Running, Stage};

#[test]
#[ignore = "needs root: network namespaces"]
fn kubectl_sluice_dashboard_joins_all_nodes_and_leaves_nothing_on_them() -> Result<()> {
    let stage = Stage::set(3)?;
    stage.take_away("edge3")?;
    let mut view = View::start(&stage)?;
    view.wait_for("edge1", "ready")?;
    view.wait_for("edge2", "ready")?;
    view.wait_for("edge3", "away")?;
    wait_until("the reason of the node that is away", || {
        let node = view.node("edge3")?;
        let reason = node["reason"].as_str().unwrap_or_default();
        Ok(reason.contains("no container"))
    })?;
    for (node, count) in [("edge1", 2), ("edge2", 3)] {
        let url = format!("http://{}/joined", stage.cluster.node(node)?.v4);
        for _ in 0..count {
            Request::get(&url, "joined.test").send(&stage.cluster.network.client)?;
        }
    }
    // No rule is for the host: the requests are those without a name.
    wait_until("the requests of both nodes", || {
        let rows = view.get("traffic/hosts")?;
        let mut rows = rows.as_array().into_iter().flatten();
        Ok(rows.any(|row| row["name"] == "" && row["requests"] == 5))
    })?;
    let status = view.get("status")?;
    ensure!(status["state"] == "away", "the worst state: {status}");
    let workers = status["workers"].as_array().context("no workers")?;
    for node in ["edge1", "edge2"] {
        ensure!(
            workers.iter().any(|worker| worker["node"] == node),
            "{node}"
        );
    }
    ensure!(!workers.iter().any(|worker| worker["node"] == "edge3"));

    // An update replaces the pod of a node: the view follows it, and the sums go on.
    let uptime =
        |view: &View| Ok::<_, anyhow::Error>(view.node("edge2")?["uptime_seconds"].as_u64());
    let before = uptime(&view)?;
    ensure!(before.is_some(), "no uptime");
    let pod = stage.cluster.sluice_pod("edge2")?;
    let deleted = ["delete", "pod", &pod, "--namespace=sluice-system"];
    stage.cluster.plane.kubectl(&deleted)?;
    wait_until("the daemon of the new pod", || {
        Ok(uptime(&view)?.is_some_and(|now| Some(now) < before))
    })?;
    view.wait_for("edge2", "ready")?;
    let rows = view.get("traffic/hosts")?;
    let mut rows = rows.as_array().into_iter().flatten();
    ensure!(rows.any(|row| row["name"] == "" && row["requests"] == 5));

    ensure!(!feeds()?.is_empty(), "the test finds the commands");
    let id = view.process.0.id().to_string();
    ensure!(Command::new("kill").args(["-INT", &id]).status()?.success());
    ensure!(view.process.0.wait()?.success(), "Ctrl-C is a good end");
    wait_until("the commands on the nodes to end", || {
        Ok(feeds()?.is_empty())
    })?;

    // What else a node tells of itself.
    let pod = stage.cluster.sluice_pod("edge1")?;
    let top = ["/sluice", "top", "devices"];
    let devices = stage.cluster.exec("sluice-system", &pod, &top)?;
    ensure!(devices.lines().count() > 1, "no device: {devices}");
    Ok(())
}

/// Processes of `sluice dashboard feed`, on all nodes: their kernel is this machine's.
fn feeds() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")? {
        let command = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.starts_with("/sluice dashboard feed") {
            found.push(command);
        }
    }
    Ok(found)
}

/// The plugin, which serves the dashboard, and a session of it.
struct View {
    process: Running,
    address: String,
    cookie: String,
}

impl View {
    fn start(stage: &Stage) -> Result<Self> {
        let mut kubectl = stage.kubectl(&["dashboard"])?;
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running(kubectl.spawn()?);
        let output = process.0.stdout.take().context("no output")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        let parts = url.trim().strip_prefix("http://");
        let parts = parts.and_then(|url| url.split_once("/#t="));
        let (address, token) = parts.with_context(|| format!("no URL: {url}"))?;
        let mut view = Self {
            process,
            address: address.to_owned(),
            cookie: String::new(),
        };
        let body = format!("{{\"token\":\"{token}\"}}");
        let head = format!(
            "POST /session HTTP/1.1\r\nOrigin: http://{address}\r\nContent-Length: {}\r\n",
            body.len()
        );
        let answer = view.ask(&head, &body)?;
        let cookie = answer.lines().find_map(|line| {
            let cookie = line.strip_prefix("set-cookie: ")?;
            cookie.split(';').next().map(str::to_owned)
        });
        view.cookie = cookie.with_context(|| format!("no session: {answer}"))?;
        Ok(view)
    }

    fn get(&self, resource: &str) -> Result<Value> {
        let head = format!(
            "GET /api/v1/{resource} HTTP/1.1\r\nCookie: {}\r\n",
            self.cookie
        );
        let answer = self.ask(&head, "")?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{resource}: {answer}");
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        Ok(serde_json::from_str(body.context("no body")?)?)
    }

    fn ask(&self, head: &str, body: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let host = format!("Host: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all([head, &host, body].concat().as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn node(&self, name: &str) -> Result<Value> {
        let nodes = self.get("nodes")?;
        let mut nodes = nodes.as_array().into_iter().flatten();
        let node = nodes.find(|node| node["node"] == name);
        Ok(node.cloned().unwrap_or_default())
    }

    fn wait_for(&self, name: &str, state: &str) -> Result<()> {
        // A pod is replaced meanwhile, and pods are listed every ten seconds.
        wait_within(
            Duration::from_mins(1),
            &format!("{name} to be {state}"),
            || Ok(self.node(name)?["state"] == state),
        )
    }
}
