//! A real Prometheus that scrapes a daemon, and the expressions that the dashboards ask it for.
//!
//! Grafana itself is not run: what is checked is what it would ask Prometheus for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::host::{Host, Process};
use crate::rig::wait_until;

/// A running Prometheus, on the loopback of a host or of this machine.
#[derive(Debug)]
pub struct Prometheus<'a> {
    _process: Process,
    host: Option<&'a Host>,
    port: u16,
    log: PathBuf,
}

impl<'a> Prometheus<'a> {
    /// Starts it on a port; it scrapes another port of loopback each second, and keeps its files in
    /// `directory`.
    pub fn start(
        host: Option<&'a Host>,
        port: u16,
        scraped: u16,
        directory: &Path,
    ) -> Result<Self> {
        let configuration = directory.join("prometheus.yaml");
        fs::write(&configuration, scrape_of(scraped))?;
        let mut command = program(host, "prometheus");
        command.arg(format!("--config.file={}", configuration.display()));
        let storage = directory.join("prometheus");
        command.arg(format!("--storage.tsdb.path={}", storage.display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.arg("--enable-feature=exemplar-storage");
        let log = directory.join("prometheus.log");
        let process = Process::spawn(command, &log)
            .context("failed to run prometheus, of Debian's package `prometheus`")?;
        Ok(Self {
            _process: process,
            host,
            port,
            log,
        })
    }

    /// The data of an answer of its API.
    pub fn ask(&self, path: &str, parameters: &[&str]) -> Result<Value> {
        let mut curl = program(self.host, "curl");
        curl.args(["--silent", "--show-error", "--get"]);
        for parameter in parameters {
            curl.args(["--data-urlencode", parameter]);
        }
        curl.arg(format!("http://127.0.0.1:{}/api/v1/{path}", self.port));
        let output = curl.output()?;
        let mut answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            format!("{}{log}", String::from_utf8_lossy(&output.stderr))
        })?;
        ensure!(answer["status"] == "success", "{parameters:?}: {answer}");
        Ok(answer["data"].take())
    }

    /// The series that an expression gives, once it gives any.
    pub fn wait_for_data(&self, expression: &str) -> Result<Vec<Value>> {
        let query = format!("query={expression}");
        let mut found = Vec::new();
        let waited = wait_until("an expression to return data", || {
            let Ok(data) = self.ask("query", &[&query]) else {
                return Ok(false);
            };
            found = data["result"].as_array().cloned().unwrap_or_default();
            Ok(!found.is_empty())
        });
        waited.with_context(|| match self.ask("query", &[&query]) {
            Ok(data) => format!("{expression}: {data}"),
            Err(error) => format!("{expression}: {error:#}"),
        })?;
        Ok(found)
    }
}

fn program(host: Option<&Host>, name: &str) -> Command {
    match host {
        Some(host) => host.command(name),
        None => Command::new(name),
    }
}

fn scrape_of(port: u16) -> String {
    format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs:\n\
         - job_name: sluice\n\
         \x20 static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
}

/// The dashboards by their file names.
pub fn dashboards() -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("deploy/grafana"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let text = fs::read_to_string(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let dashboard = serde_json::from_str(&text).with_context(|| name.to_string())?;
            all.push((name.into_owned(), dashboard));
        }
    }
    if all.is_empty() {
        bail!("there are no dashboards");
    }
    Ok(all)
}

/// The expressions of a dashboard, and the data sources that they go to.
pub fn targets(dashboard: &Value) -> impl Iterator<Item = (String, String)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&target["expr"]), text(&target["datasource"]["uid"]))
    })
}

/// Whether an expression asks for what only the netns datapath has.
pub fn is_of_netns_datapath(expression: &str) -> bool {
    let series = [
        "sluice_datapath_packets_total",
        "sluice_datapath_devices",
        "sluice_datapath_direct_endpoints",
    ];
    series.iter().any(|name| expression.contains(name))
}

/// An expression as Grafana asks for it when `All` is chosen of each variable.
pub fn filled_in(expression: &str) -> String {
    let expression = expression.replace("$instance", ".*").replace("$host", ".*");
    expression.replace("$__rate_interval", "10s")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
