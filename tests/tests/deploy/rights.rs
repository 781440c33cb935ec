//! Sluice as the DaemonSet runs it: with its service account, its capabilities and no more.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::{Cluster, Options, objects};
use ingress_tests::curl::Request;
use ingress_tests::load::{Plan, Reuse};
use ingress_tests::rig::{wait_until, wait_within};

use super::audit::{granted, used};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn sluice_uses_every_right_that_it_has_and_asks_for_no_other() -> Result<()> {
    let cluster = Cluster::start(&Options::from_env()?)?;
    install(&cluster)?;
    serves_and_tells(&cluster)?;
    rolls_without_a_failed_request(&cluster)?;
    loses_its_address(&cluster)?;
    // A server that does not stream lists has them read in pages. Nobody asks while it starts: it
    // refuses what it does not know yet to be allowed.
    cluster.plane.stop_api();
    let pages = ["--feature-gates=WatchList=false"];
    cluster.plane.start_api_with(&pages)?;
    let account = "--as=system:serviceaccount:sluice-system:sluice";
    wait_until("roles to be known", || {
        let question = [
            "auth",
            "can-i",
            "get",
            "leases/sluice-leader",
            "-n",
            SYSTEM,
            account,
        ];
        Ok(cluster.plane.kubectl(&question).is_ok())
    })?;
    install(&cluster)?;
    serves_and_tells(&cluster)?;
    let (used, refused) = used(&cluster.plane)?;
    ensure!(refused.is_empty(), "refused: {refused:?}");
    assert_eq!(granted(&cluster.plane)?, used);
    Ok(())
}

fn install(cluster: &Cluster) -> Result<()> {
    let plane = &cluster.plane;
    plane.kubectl(&[
        "label",
        "--overwrite",
        "node",
        "edge1",
        "sluice.dev/edge=true",
    ])?;
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy");
    let base = base.join("kustomize/base");
    let rendered = plane.kubectl(&["kustomize", &base.to_string_lossy()])?;
    plane.apply(&rendered)?;
    plane.apply(OBJECTS)?;
    plane.apply(&objects::web_deployment(2))?;
    plane.apply(&objects::ingress("web", "tuned", "web.test", "web"))?;
    rolled_out(cluster)?;
    cluster.roll_out("deployment/web")
}

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let waiting = ["rollout", "status", "daemonset/sluice", "--timeout=100s"];
    let mut arguments = vec!["-n", SYSTEM];
    arguments.extend(waiting);
    cluster.plane.kubectl(&arguments).map(drop)
}

fn serves_and_tells(cluster: &Cluster) -> Result<()> {
    wait_until("the address of the edge node", || {
        Ok(addresses(cluster)? == "10.1.0.21,fd01::21")
    })?;
    let client = &cluster.network.client;
    wait_until("an answer", || {
        let answer = Request::get("http://10.1.0.21/", "web.test").send(client);
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    })?;
    let events = || {
        let fields = "--output=jsonpath={range .items[*]}{.reason} {.regarding.name}\n{end}";
        cluster
            .plane
            .kubectl(&["get", "events.events.k8s.io", fields])
    };
    let told = wait_until("Events", || {
        let events = events()?;
        let told = |what: &str| events.lines().any(|line| line == what);
        Ok(told("Synced web") && told("ServiceNotFound faulty"))
    });
    told.with_context(|| events().unwrap_or_default())
}

fn rolls_without_a_failed_request(cluster: &Cluster) -> Result<()> {
    let kept_alive = Plan::kept_alive("10.1.0.21", "web.test")?;
    let renewed = Plan {
        reuse: Reuse::NewConnection,
        ..kept_alive.clone()
    };
    let client = &cluster.network.client;
    let loads = [kept_alive.start(client)?, renewed.start(client)?];
    cluster
        .plane
        .kubectl(&["-n", SYSTEM, "rollout", "restart", "daemonset/sluice"])?;
    rolled_out(cluster)?;
    for load in loads {
        let outcome = load.stop()?;
        ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        ensure!(outcome.answered > 500, "only {} requests", outcome.answered);
    }
    Ok(())
}

fn loses_its_address(cluster: &Cluster) -> Result<()> {
    cluster
        .plane
        .kubectl(&["-n", SYSTEM, "delete", "daemonset", "sluice"])?;
    wait_within(Duration::from_mins(1), "the address to go", || {
        Ok(addresses(cluster)?.is_empty())
    })?;
    // Its watches go on for as long as it drains.
    wait_within(Duration::from_mins(2), "the pod to end", || {
        let pods = ["-n", SYSTEM, "get", "pods", "--output=name"];
        Ok(cluster.plane.kubectl(&pods)?.trim().is_empty())
    })
}

fn addresses(cluster: &Cluster) -> Result<String> {
    let fields = "--output=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let addresses = cluster.plane.kubectl(&["get", "ingress", "web", fields])?;
    Ok(addresses.replace(' ', ","))
}

const SYSTEM: &str = "sluice-system";

/// Something for every right: a Secret to read, parameters to watch, an owner to tell.
const OBJECTS: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: parameters, namespace: sluice-system}
data: {backend-protocol: HTTP}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: tuned}
spec:
  controller: sluice.dev/ingress-controller
  parameters: {kind: ConfigMap, scope: Namespace, namespace: sluice-system, name: parameters}
---
apiVersion: v1
kind: Secret
metadata: {name: named, namespace: default}
type: Opaque
data: {}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: faulty, namespace: default}
spec:
  ingressClassName: sluice
  tls: [{hosts: [faulty.test], secretName: named}]
  rules:
    - host: faulty.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: none, port: {number: 80}}}}]}
";
