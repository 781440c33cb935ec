//! A Deployment that changes under load. Its pods serve on for a second after they are told to end.

use anyhow::{Result, ensure};

use crate::Stage;

/// Each pod is replaced by a new one.
pub(crate) fn update(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    nothing_is_lost(stage, || {
        stage
            .cluster
            .plane
            .kubectl(&["rollout", "restart", "deployment/web"])?;
        stage.wait_for_pods(4)
    })
}

/// Three of four pods end at once.
pub(crate) fn scale_down(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    nothing_is_lost(stage, || stage.scale(1))
}

/// Three pods come.
pub(crate) fn scale_up(stage: &Stage) -> Result<()> {
    stage.scale(1)?;
    nothing_is_lost(stage, || stage.scale(4))
}

fn nothing_is_lost(stage: &Stage, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let outcome = stage.under_load(f)?;
    ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    Ok(())
}

/// A pod is killed without notice: what it was answering is lost, at most one request for each
/// connection of the load, and nothing else.
pub(crate) fn kill(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    let plane = &stage.cluster.plane;
    let names = plane.kubectl(&["get", "pods", "--selector=app=web", "--output=name"])?;
    let victim = names.lines().next().unwrap_or_default();
    let victim = victim.trim_start_matches("pod/");
    let outcome = stage.under_load(|| {
        stage.cluster.kill_pod("default", victim)?;
        let restarts = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
        let pod = format!("pod/{victim}");
        plane.kubectl(&["wait", restarts, &pod, "--timeout=30s"])?;
        plane
            .kubectl(&["wait", "--for=condition=Ready", &pod, "--timeout=30s"])
            .map(drop)
    })?;
    ensure!(
        outcome.failures.len() <= CONNECTIONS,
        "{:?}",
        outcome.failures
    );
    Ok(())
}

/// Requests that can be under way at one time.
const CONNECTIONS: usize = 8;
