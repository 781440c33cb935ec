//! A Deployment that changes under load. Its pods serve on for a second after they are told to end,
//! but where a test says otherwise.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::rig::wait_until;

use crate::{RATE_MIN, Stage};

/// Each pod is replaced by a new one.
pub(crate) fn update(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    nothing_is_lost(stage, USUAL, || {
        stage.change_deployment(&["rollout", "restart"])
    })
}

/// Each pod is replaced by a new one, and none waits until nobody knows of it any more: it closes its
/// listener when it is told to end, and its connections after what they are answering.
pub(crate) fn update_without_a_hook(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    stage.change_deployment(&["patch", "--type=json", WITHOUT_HOOK])?;
    let done = nothing_is_lost(stage, USUAL, || {
        stage.change_deployment(&["rollout", "restart"])
    });
    stage.change_deployment(&["patch", "--type=strategic", WITH_HOOK])?;
    done
}

/// Three of four pods end at once.
pub(crate) fn scale_down(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    nothing_is_lost(stage, USUAL, || stage.scale(1))
}

/// Three pods come.
pub(crate) fn scale_up(stage: &Stage) -> Result<()> {
    stage.scale(1)?;
    nothing_is_lost(stage, USUAL, || stage.scale(4))
}

fn nothing_is_lost(stage: &Stage, bounds: Bounds, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let log_start = log(stage)?.len();
    let outcome = stage.under_load(bounds.rate_min, f)?;
    ensure!(
        outcome.failures.is_empty(),
        "{:?}; the daemon's log: {}",
        outcome.failures,
        log(stage)?.get(log_start..).unwrap_or_default()
    );
    let slowest = outcome.slowest;
    ensure!(slowest < bounds.wait_max, "a request took {slowest:?}");
    Ok(())
}

/// A pod is killed without notice: what it was answering is lost, at most one request for each
/// connection of the load, and nothing else. Who answered what is read from the access log.
pub(crate) fn kill(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    let plane = &stage.cluster.plane;
    let names = plane.kubectl(&["get", "pods", "--selector=app=web", "--output=name"])?;
    let victim = names.lines().next().unwrap_or_default();
    let victim = victim.trim_start_matches("pod/");
    let address = plane.kubectl(&["get", "pod", victim, "--output=jsonpath={.status.podIP}"])?;
    let log_start = log(stage)?.len();
    let outcome = stage.under_load(RATE_MIN, || {
        stage.cluster.kill_pod("default", victim)?;
        let restarts = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
        let pod = format!("pod/{victim}");
        plane.kubectl(&["wait", restarts, &pod, "--timeout=30s"])?;
        plane
            .kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=30s"])
            .map(drop)
    })?;
    let failures = &outcome.failures;
    ensure!(failures.len() <= CONNECTIONS, "{failures:?}");
    let mut lost = Vec::new();
    wait_until("every failure to be in the access log", || {
        lost = lost_requests(stage, log_start)?;
        Ok(lost.len() >= failures.len())
    })?;
    for line in &lost {
        let was_its_own = line.rsplit(' ').next().is_some_and(|upstream| {
            upstream
                .rsplit_once(':')
                .is_some_and(|(ip, _)| ip == address)
        });
        ensure!(was_its_own, "not a request of {address}: {line}");
    }
    Ok(())
}

/// A node with pods is cut off without a word, and stays in every EndpointSlice: nobody but the
/// proxy notices. Requests that were on their way to it go to other pods.
pub(crate) fn lose_a_node(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    let plane = &stage.cluster.plane;
    let nodes = plane.kubectl(&["get", "pods", "--selector=app=web", NODES])?;
    // Clients come to the others.
    let mut workers = nodes.split(' ').filter(|node| node.starts_with("worker"));
    let node = workers.next().context("no pod is on a worker")?;
    let link = |state: &str| {
        let switch = &stage.cluster.network.switch;
        switch.ip(&format!("link set {node} {state}"))
    };
    let done = nothing_is_lost(stage, UNNOTICED, || {
        link("down")?;
        std::thread::sleep(CUT);
        Ok(())
    });
    link("up")?;
    done
}

/// Lines of the access log, from byte `start` of the log, about requests of the load that did not get
/// their whole answer.
fn lost_requests(stage: &Stage, start: usize) -> Result<Vec<String>> {
    let log = log(stage)?;
    let of_load = log
        .get(start..)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("request /bytes/1024 "));
    let lost = of_load.filter(|line| !line.starts_with("200 1024 "));
    Ok(lost.map(str::to_owned).collect())
}

/// The log of the daemon that the load goes through.
fn log(stage: &Stage) -> Result<String> {
    let pod = stage.cluster.sluice_pod("edge1")?;
    Ok(stage.cluster.log("sluice-system", &pod, "sluice"))
}

const WITHOUT_HOOK: &str =
    r#"--patch=[{"op": "remove", "path": "/spec/template/spec/containers/0/lifecycle"}]"#;

/// As in the Deployment.
const WITH_HOOK: &str = r#"--patch={"spec": {"template": {"spec": {"containers": [
    {"name": "web", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]}}}}"#;

/// Where pods are.
const NODES: &str = "--output=jsonpath={.items[*].spec.nodeName}";

/// For how long a node is cut off.
const CUT: Duration = Duration::from_secs(12);

/// What load has to come to.
#[derive(Clone, Copy)]
struct Bounds {
    /// Requests a second.
    rate_min: f64,
    /// How long each may take.
    wait_max: Duration,
}

/// Who waits for a pod that has gone would wait for `proxy-connect-timeout`, 5 seconds.
const USUAL: Bounds = Bounds {
    rate_min: RATE_MIN,
    wait_max: Duration::from_secs(4),
};

/// Any of the eight who ask may wait for the node, up to 8 seconds for what it has taken.
const UNNOTICED: Bounds = Bounds {
    rate_min: RATE_MIN / 2.0,
    wait_max: Duration::from_secs(15),
};

/// Requests that can be under way at one time.
const CONNECTIONS: usize = 8;
