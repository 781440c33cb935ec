//! The Grafana dashboards: a real Prometheus scrapes a real daemon with traffic, and every expression of
//! every dashboard returns data. So does everything that ingress-nginx's own two dashboards ask for.
//!
//! Grafana itself is not run: what is checked is what it would ask Prometheus for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::prometheus::{Prometheus, dashboards, filled_in, is_of_netns_datapath, targets};
use ingress_tests::rig::{Options, wait_until};
use serde_json::Value;

use crate::{Scene, free_ports};

#[test]
fn every_expression_of_every_dashboard_returns_data() -> Result<()> {
    let watched = Watched::start()?;
    let mut expressions: Vec<String> = Vec::new();
    for (_, dashboard) in dashboards()? {
        // Another test, on network namespaces, asks for the rest.
        let asked = targets(&dashboard).map(|(expression, _)| filled_in(&expression));
        expressions.extend(asked.filter(|expression| !is_of_netns_datapath(expression)));
    }
    ensure!(expressions.len() > 50, "{} expressions", expressions.len());
    for asked in OF_INGRESS_NGINX {
        expressions.push(asked.expression());
    }
    for expression in &expressions {
        watched.prometheus.wait_for_data(expression)?;
    }
    for asked in OF_INGRESS_NGINX {
        watched.has_labels(asked)?;
    }
    Ok(())
}

#[test]
fn scrapes_in_openmetrics_are_taken_and_exemplars_lead_to_traces() -> Result<()> {
    let watched = Watched::start()?;
    let duration = "nginx_ingress_controller_request_duration_seconds_bucket";
    watched.prometheus.wait_for_data(duration)?;
    let targets = watched.prometheus.ask("targets", &[])?;
    let target = &targets["activeTargets"][0];
    ensure!(target["health"] == "up", "{target}");
    // Kinds and units come with OpenMetrics only.
    let metadata = watched.prometheus.ask("metadata", &[])?;
    let unit = &metadata["nginx_ingress_controller_request_duration_seconds"][0]["unit"];
    ensure!(unit == "seconds", "{unit}");
    wait_until("an exemplar to be stored", || {
        let query = format!("query={duration}{{host=\"any.test\"}}");
        let exemplars = watched
            .prometheus
            .ask("query_exemplars", &[&query, "start=0", "end=9999999999"])?;
        let exemplars = exemplars.as_array().context("a list")?;
        let trace = exemplars.iter().find_map(|series| {
            let exemplar = series["exemplars"].as_array()?.first()?;
            exemplar["labels"]["trace_id"].as_str()
        });
        Ok(trace.is_some_and(|trace| trace.len() == 32))
    })?;
    // The same series in both formats.
    let text = watched.scrape("text/plain")?;
    let open = watched.scrape("application/openmetrics-text")?;
    ensure!(open.ends_with("# EOF\n"), "the end");
    ensure!(
        !text.contains("# EOF") && !text.contains("trace_id"),
        "text has neither"
    );
    let names = |scrape: &str| -> BTreeSet<String> {
        let samples = scrape.lines().filter(|line| !line.starts_with('#'));
        let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
        samples.map(name).collect()
    };
    assert_eq!(names(&text), names(&open));
    Ok(())
}

#[test]
fn dashboards_have_uids_units_and_a_templated_data_source() -> Result<()> {
    let metrics = fs::read_to_string(root().join("docs/metrics.md"))?;
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards()? {
        let uid = dashboard["uid"].as_str().context("a uid")?;
        ensure!(
            uid.starts_with("sluice-") && uids.insert(uid.to_owned()),
            "{name}: {uid}"
        );
        let variables = dashboard["templating"]["list"]
            .as_array()
            .context("variables")?;
        ensure!(
            variables[0]["type"] == "datasource",
            "{name}: {}",
            variables[0]
        );
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().context("panels")? {
            let title = panel["title"].as_str().context("a title")?;
            let of = format!("{name}: {title}");
            ensure!(
                ids.insert(panel["id"].to_string()),
                "{of}: its id is another panel's"
            );
            ensure!(
                panel["datasource"]["uid"] == "${datasource}",
                "{of}: data source"
            );
            let text = |field: &Value| !field.as_str().unwrap_or_default().is_empty();
            ensure!(
                text(&panel["fieldConfig"]["defaults"]["unit"]),
                "{of}: no unit"
            );
            ensure!(text(&panel["description"]), "{of}: no description");
            ensure!(
                panel["targets"]
                    .as_array()
                    .is_some_and(|all| !all.is_empty()),
                "{of}"
            );
        }
        for (expression, source) in targets(&dashboard) {
            ensure!(source == "${datasource}", "{name}: {expression}");
            ensure!(!expression.contains("namespace="), "{name}: {expression}");
            ensure!(
                expression.contains("instance=~\"$instance\""),
                "{name}: {expression}"
            );
            let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
            let words = expression.split(|character| !is_part(character));
            let asked =
                words.filter(|word| word.starts_with("sluice_") || word.starts_with("nginx_"));
            for metric in asked {
                let suffixes = ["", "_bucket", "_sum", "_count"];
                let mut families = suffixes.iter().filter_map(|end| metric.strip_suffix(end));
                let is_known = families.any(|family| metrics.contains(&format!("| `{family}` |")));
                ensure!(is_known, "{name}: no metric `{metric}`");
            }
        }
    }
    ensure!(uids.len() == 3, "{uids:?}");
    Ok(())
}

/// What a dashboard of ingress-nginx asks Prometheus for: a series with these labels, by these.
///
/// Source: ingress-nginx, `deploy/grafana/dashboards`: `nginx.json` and
/// `request-handling-performance.json`, of release 1.13. Its panel of failed configurations asks for
/// series that are 0, which there are only after a failure; here for the series.
struct Asked {
    series: &'static str,
    labels: &'static [&'static str],
    by: &'static [&'static str],
    is_counter: bool,
}

impl Asked {
    const fn counter(
        series: &'static str,
        labels: &'static [&'static str],
        by: &'static [&'static str],
    ) -> Self {
        Self {
            series,
            labels,
            by,
            is_counter: true,
        }
    }

    const fn gauge(
        series: &'static str,
        labels: &'static [&'static str],
        by: &'static [&'static str],
    ) -> Self {
        Self {
            series,
            labels,
            by,
            is_counter: false,
        }
    }

    /// Any value of each label, as a dashboard asks for `All`.
    fn expression(&self) -> String {
        let matchers: Vec<_> = self
            .labels
            .iter()
            .map(|label| format!("{label}=~\".*\""))
            .collect();
        let selector = format!(
            "nginx_ingress_controller_{}{{{}}}",
            self.series,
            matchers.join(",")
        );
        let by = self.by.join(",");
        if self.is_counter {
            format!("sum by ({by}) (rate({selector}[1m]))")
        } else {
            format!("sum by ({by}) ({selector})")
        }
    }
}

const CONTROLLER: &[&str] = &["controller_pod", "controller_class", "controller_namespace"];
const OF_RULE: &[&str] = &["controller_pod", "controller_class", "namespace", "ingress"];
const OF_INGRESS_NGINX: &[Asked] = &[
    Asked::gauge("config_hash", &[], CONTROLLER),
    Asked::gauge(
        "config_last_reload_successful",
        CONTROLLER,
        &["controller_pod"],
    ),
    Asked::gauge(
        "config_last_reload_successful_timestamp_seconds",
        &["instance", "controller_class", "namespace"],
        &["controller_class"],
    ),
    Asked::counter("success", CONTROLLER, &["controller_class"]),
    Asked::gauge("nginx_process_connections", CONTROLLER, &["state"]),
    Asked::gauge(
        "nginx_process_resident_memory_bytes",
        CONTROLLER,
        &["controller_class"],
    ),
    Asked::counter(
        "nginx_process_cpu_seconds_total",
        CONTROLLER,
        &["controller_class"],
    ),
    Asked::counter("requests", OF_RULE, &["ingress", "status"]),
    Asked::counter("request_size_sum", OF_RULE, &["ingress"]),
    Asked::counter("response_size_sum", OF_RULE, &["ingress", "path"]),
    Asked::counter("response_size_count", OF_RULE, &["path"]),
    Asked::counter("response_size_bucket", OF_RULE, &["le"]),
    Asked::counter(
        "request_duration_seconds_bucket",
        OF_RULE,
        &["le", "ingress"],
    ),
    Asked::counter(
        "request_duration_seconds_count",
        OF_RULE,
        &["path", "status"],
    ),
    Asked::counter("response_duration_seconds_bucket", OF_RULE, &["le", "path"]),
    Asked::counter("response_duration_seconds_sum", OF_RULE, &["path"]),
    Asked::counter(
        "ingress_upstream_latency_seconds_sum",
        OF_RULE,
        &["ingress"],
    ),
    Asked::counter(
        "ingress_upstream_latency_seconds_count",
        OF_RULE,
        &["ingress"],
    ),
    Asked::gauge(
        "ssl_expire_time_seconds",
        &["kubernetes_pod_name", "namespace", "ingress"],
        &["host"],
    ),
];

/// A Prometheus that scrapes a daemon with traffic.
struct Watched {
    _scene: Scene,
    prometheus: Prometheus<'static>,
    _traffic: Traffic,
    metrics_port: u16,
}

impl Watched {
    fn start() -> Result<Self> {
        let [backend, gone, metrics, port] = free_ports()?;
        let manifest = Manifest::default()
            .serve_at("any.test", &["127.0.0.1"], backend)
            .serve_at("gone.test", &["127.0.0.1"], gone);
        let mut scene = Scene::with_flags(
            "host",
            &manifest,
            &[
                &format!("--metrics-address=127.0.0.1:{metrics}"),
                "--controller-class=class",
                "--pod-name=pod",
                "--pod-namespace=namespace",
                // Nobody collects the spans; what is sampled is decided all the same.
                "--otlp-endpoint=http://127.0.0.1:9",
                "--otlp-sample-ratio=1",
            ],
        )?;
        let directory = scene.directory.path().to_owned();
        fs::write(
            directory.join("manifests/more.yaml"),
            more_objects(backend)?,
        )?;
        let mut origin = Command::new(Options::from_env()?.origin);
        origin.args(["--name", "origin", &format!("--listen=127.0.0.1:{backend}")]);
        let process = Process::spawn(origin, &directory.join("origin.log"))?;
        scene.processes.push(process);
        let prometheus = Prometheus::start(None, port, metrics, &directory)?;
        Ok(Self {
            _traffic: Traffic::start(scene.http_port),
            _scene: scene,
            prometheus,
            metrics_port: metrics,
        })
    }

    /// Whether the labels that a dashboard groups by have values.
    fn has_labels(&self, asked: &Asked) -> Result<()> {
        let series = self.prometheus.wait_for_data(&asked.expression())?;
        for label in asked.by {
            let mut values = series.iter().map(|one| &one["metric"][*label]);
            let has_value = values.any(|value| value.as_str().is_some_and(|text| !text.is_empty()));
            ensure!(has_value, "{}: no series has a `{label}`", asked.series);
        }
        Ok(())
    }

    /// The daemon's metrics for a client that accepts this.
    fn scrape(&self, accept: &str) -> Result<String> {
        let output = Command::new("curl")
            .args(["--silent", "--header", &format!("Accept: {accept}")])
            .arg(format!("http://127.0.0.1:{}/metrics", self.metrics_port))
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Requests that are answered with 200, 404 and 502, until it is dropped.
struct Traffic {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                for host in ["any.test", "gone.test", "checked.test", "nobody.test"] {
                    // The next round counts.
                    let _ = request(port, host);
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn request(port: u16, host: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

/// A host with health checks and a certificate.
fn more_objects(port: u16) -> Result<String> {
    let made = rcgen::generate_simple_self_signed(["checked.test".to_owned()])?;
    let indented = |text: &str| text.replace('\n', "\n    ");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: certificate}}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: checked, annotations: {{sluice.dev/health-check: http}}}}\n\
         spec:\n  tls: [{{hosts: [checked.test], secretName: certificate}}]\n\
         \x20 rules: [{{host: checked.test, http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: checked, port: {{number: 80}}}}}}}}]}}}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: checked}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: checked-1, labels: {{kubernetes.io/service-name: checked}}}}\n\
         addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n",
        indented(&chain),
        indented(&key),
    ))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
