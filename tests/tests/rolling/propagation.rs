//! How long an endpoint's way is: from the API server's write to requests on every worker.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingress_tests::rig::wait_until;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{EDGE, Stage};

/// Points a Service without selector from one pod to another and back, and asks on several
/// connections until all of them are answered by the pod that it points to. The clock starts before
/// the write is sent: what the API server itself takes is counted too. The figures are told, not
/// judged: how busy this machine is has a say in them.
pub(crate) fn measure(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    let plane = &stage.cluster.plane;
    let pods = plane.kubectl(&[
        "get",
        "pods",
        "--selector=app=web",
        "--output=jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
    ])?;
    let pods: Vec<(&str, &str)> = pods
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    ensure!(pods.len() == 4, "{pods:?}");
    plane.apply(&DIRECT.replace("ADDRESS", pods[0].1))?;
    let address: SocketAddr = format!("{EDGE}:80").parse()?;
    let client = &stage.cluster.network.client;
    let connect = || TcpStream::connect(address);
    let mut connections = (0..CONNECTIONS)
        .map(|_| Ok(Connection(BufReader::new(client.run(connect)??))))
        .collect::<Result<Vec<_>>>()?;
    wait_until("the first pod to answer", || {
        let mut answers = connections.iter_mut().map(Connection::pod);
        answers.try_fold(true, |all, pod| Ok(all && pod? == pods[0].0))
    })?;
    let slices: Api<EndpointSlice> = Api::namespaced(plane.client(), "default");
    let parameters = PatchParams::default();
    let mut times = Vec::new();
    for change in 1..=CHANGES {
        let (name, ip) = pods[change % 2];
        let endpoints = Patch::Merge(json!({"endpoints": [{"addresses": [ip]}]}));
        let start = Instant::now();
        let write = slices.patch("direct", &parameters, &endpoints);
        plane.driver().block_on(write)?;
        for connection in &mut connections {
            while connection.pod()? != name {
                ensure!(start.elapsed() < PATIENCE, "the change does not arrive");
            }
        }
        times.push(start.elapsed());
    }
    times.sort();
    let (median, p99) = (times[CHANGES / 2], times[CHANGES * 99 / 100 - 1]);
    eprintln!(
        "{CHANGES} changes: median {median:.1?}, p99 {p99:.1?}, longest {:.1?}",
        times[CHANGES - 1]
    );
    Ok(())
}

/// A kept-alive connection.
struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Asks who answers.
    fn pod(&mut self) -> Result<String> {
        let Self(stream) = self;
        stream
            .get_mut()
            .write_all(b"GET / HTTP/1.1\r\nHost: direct.test\r\n\r\n")?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        // Before the first endpoint is known, the answer is no report.
        let report: Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(report["pod"].as_str().unwrap_or_default().to_owned())
    }
}

/// Enough to be accepted by every worker.
const CONNECTIONS: usize = 8;
const CHANGES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(10);
const DIRECT: &str = include_str!("direct.yaml");
