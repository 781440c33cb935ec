//! Addresses of a Service of type `LoadBalancer` on a real API server, as `MetalLB` and Cilium write them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::ControlPlane;
use ingress_tests::rig::wait_until;
use serde_json::{Value, json};

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn addresses_of_an_adopted_service_become_frontends_and_refusals_become_events() -> Result<()> {
    let plane = plane("adopt")?;
    plane.apply(&format!(
        "{CLASS}{}{OBJECTS}",
        ingress("default", "web", "web.test")
    ))?;
    let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]}});
    patch_status(&plane, "node/edge", &node)?;
    let flags = [
        "--adopt-service=lb/sluice",
        // The Service is adopted from wherever it is.
        "--watch-namespace=default",
        "--publish-status-address=192.0.2.1",
    ];
    let daemon = Daemon::start(&plane, &sluice()?, "adopt", &flags)?;
    ensure!(daemon.is_served("web.test", "/")?);
    assert_eq!(adopted(&daemon)?, json!([]), "it has no address yet");

    let addresses = ["192.0.2.8", "2001:db8::8", "10.1.0.1", "10.2.0.7"];
    let since = assign(&plane, &addresses)?;
    let served = json!([
        {"address": "192.0.2.8", "ports": [80, 443], "given_by": "Service lb/sluice",
         "is_steered": false},
        {"address": "2001:db8::8", "ports": [80, 443], "given_by": "Service lb/sluice",
         "is_steered": false},
    ]);
    wait_until("the addresses", || Ok(adopted(&daemon)? == served))?;
    ensure!(
        since.elapsed() < SOON,
        "adopted after {:?}",
        since.elapsed()
    );
    wait_until("Events", || {
        let fields = "--output=jsonpath={range .items[*]}{.type} {.reason} {.regarding.kind}/{.regarding.name}: {.note}\n{end}";
        let events = plane.kubectl(&["-n", "lb", "get", "events.events.k8s.io", fields])?;
        Ok([
            "Warning AddressNotAdopted Service/sluice: status.loadBalancer.ingress[2].ip: `10.1.0.1` is an address of node `edge`",
            "Warning AddressNotAdopted Service/sluice: status.loadBalancer.ingress[3].ip: `10.2.0.7` is in the pod network 10.2.0.0/24",
            "Warning PortNotServed Service/sluice: spec.ports[2]: port 9000 leads to a target port that is not served here",
        ]
        .iter()
        .all(|told| events.lines().any(|event| event.starts_with(told))))
    })?;
    let problems = daemon.status()?["problems"].to_string();
    ensure!(problems.contains("AddressNotAdopted"), "{problems}");
    let metrics = daemon.metrics()?;
    for line in [
        "sluice_adopted_frontends{namespace=\"lb\",service=\"sluice\"} 4\n",
        "sluice_adoption_problems{namespace=\"lb\",service=\"sluice\"} 3\n",
    ] {
        ensure!(metrics.contains(line), "{line}: {metrics}");
    }

    let since = assign(&plane, &["2001:db8::8"])?;
    wait_until("one address to go", || {
        Ok(adopted(&daemon)?
            .as_array()
            .is_some_and(|left| left.len() == 1))
    })?;
    ensure!(since.elapsed() < SOON, "gone after {:?}", since.elapsed());
    plane.kubectl(&["-n", "lb", "delete", "service", "sluice"])?;
    wait_until("all to go with their Service", || {
        let problems = daemon.status()?["problems"].to_string();
        Ok(adopted(&daemon)? == json!([]) && problems.contains("ServiceNotFound"))
    })?;
    daemon.stop()
}

/// The adopted addresses, as `sluice status` has them.
fn adopted(daemon: &Daemon<'_>) -> Result<Value> {
    Ok(daemon.status()?["frontends"].clone())
}

/// Does what a load-balancer implementation does.
fn assign(plane: &ControlPlane, addresses: &[&str]) -> Result<Instant> {
    let ingress: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    patch_status(plane, "service/sluice", &status)?;
    Ok(Instant::now())
}

fn patch_status(plane: &ControlPlane, object: &str, status: &Value) -> Result<()> {
    let patch = status.to_string();
    let flags = ["--subresource=status", "--type=merge", "--patch"];
    let mut arguments = vec!["-n", "lb", "patch", object];
    arguments.extend(flags);
    arguments.push(&patch);
    plane.kubectl(&arguments).map(drop)
}

/// Followed within a second.
const SOON: Duration = Duration::from_secs(1);
const OBJECTS: &str = "---
apiVersion: v1
kind: Namespace
metadata: {name: lb}
---
apiVersion: v1
kind: Node
metadata: {name: edge}
spec: {podCIDR: 10.2.0.0/24, podCIDRs: [10.2.0.0/24]}
---
apiVersion: v1
kind: Service
metadata: {name: sluice, namespace: lb}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  allocateLoadBalancerNodePorts: false
  ports:
    - {name: http, port: 80}
    - {name: https, port: 443}
    - {name: else, port: 9000}
";
