//! The main job on a real cluster: objects applied by kubectl, requests of a client, and what they
//! leave in the edge node's connection tracking.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use super::{Cluster, objects};
use crate::curl::Request;
use crate::rig::wait_until;

/// Does it all and gives a page that shows it.
pub fn show(cluster: &Cluster) -> Result<String> {
    let ingress = objects::ingress("web", "sluice", HOST, "web");
    let objects = [&*objects::web_deployment(3), SERVICE, &*ingress].concat();
    cluster.plane.apply(&objects)?;
    cluster.roll_out("deployment/web")?;
    let address = cluster.node("edge1")?.v4.clone();
    wait_until("the address of the Ingress", || {
        let fields = "--output=jsonpath={.status.loadBalancer.ingress[*].ip}";
        let shown = cluster.plane.kubectl(&["get", "ingress", "web", fields])?;
        Ok(shown.contains(&address))
    })?;
    // Sluice's path goes first: what a NodePort connection says after its end is tracked again.
    let sluice = Path::of(cluster, &format!("http://{address}/"))?;
    let node_port = Path::of(cluster, &format!("http://{address}:{NODE_PORT}/"))?;
    ensure!(
        sluice.tracked.is_empty(),
        "Sluice's path is tracked: {:?}",
        sluice.tracked
    );
    let objects = ["get", "pods,services,ingresses", "--output=wide"];
    let mut page = cluster.plane.kubectl(&objects)?;
    let _ = writeln!(page, "\n{:<36}{:<30}Sluice", "", "NodePort of kube-proxy");
    let _ = writeln!(
        page,
        "{:<36}{:<30}{}",
        format!("conntrack entries, {REQUESTS} requests"),
        node_port.tracked.len(),
        sluice.tracked.len()
    );
    let _ = writeln!(
        page,
        "{:<36}{:<30}{}",
        "client address that the pod saw", node_port.told, sluice.told
    );
    Ok(page)
}

/// What one way to the pods came to.
struct Path {
    /// Entries of the edge node's connection tracking.
    tracked: Vec<String>,
    /// The client's address as the pod was told.
    told: String,
}

impl Path {
    fn of(cluster: &Cluster, url: &str) -> Result<Self> {
        let edge = &cluster.node("edge1")?.host;
        let client = &cluster.network.client;
        wait_until("an answer", || {
            let answer = Request::get(url, HOST).send(client);
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })?;
        edge.flush_conntrack()?;
        let mut told = String::new();
        for _ in 0..REQUESTS {
            let answer = Request::get(url, HOST).send(client)?;
            ensure!(answer.status == 200, "{url} answered {}", answer.status);
            told = answer.client_address()?;
            if told.is_empty() {
                // No proxy told it: the pod knows who it talks to.
                let report = answer.report()?;
                told = report["peer"]
                    .as_str()
                    .map(str::to_owned)
                    .unwrap_or_default();
            }
        }
        let tracked = edge.conntrack_table().context("no conntrack table")?;
        // The node itself has connections too, such as those to the API server.
        let of_client = |entry: &String| entry.contains(&format!("src={} ", crate::rig::CLIENT_V4));
        Ok(Self {
            tracked: tracked.into_iter().filter(of_client).collect(),
            told,
        })
    }
}

const HOST: &str = "shop.example.com";
const REQUESTS: usize = 20;
const NODE_PORT: u16 = 30_080;
const SERVICE: &str = r"
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";
