//! The API server goes away: killed, hanging, and before a daemon has read anything.

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::rig::wait_until;

use crate::{EDGE, HOST, RATE_MIN, Stage};

/// Killed and started again, then hanging for a while: no request fails, and what changes afterwards
/// is served.
pub(crate) fn goes_on(stage: &Stage) -> Result<()> {
    stage.scale(4)?;
    let plane = &stage.cluster.plane;
    let outcome = stage.under_load(RATE_MIN, || {
        plane.stop_api();
        answered(stage, 200)?;
        plane.start_api()?;
        plane.signal_api("STOP")?;
        answered(stage, 200)?;
        plane.signal_api("CONT")
    })?;
    ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    plane.kubectl(&["delete", "ingress", "web"])?;
    wait_until("the route to go", || Ok(status(stage) == Some(404)))?;
    plane.apply(crate::WEB)?;
    wait_until("the route to come back", || Ok(status(stage) == Some(200)))
}

/// A daemon that starts without an API server takes no request, rather than to answer 404 for what it
/// has not read.
pub(crate) fn waits(stage: &Stage) -> Result<()> {
    let cluster = &stage.cluster;
    let pod = cluster.sluice_pod("edge1")?;
    cluster.plane.stop_api();
    cluster.kill_pod("sluice-system", &pod)?;
    let ready = || cluster.exec("sluice-system", &pod, &["/sluice", "ready"]);
    let live = || cluster.exec("sluice-system", &pod, &["/sluice", "ready", "--live"]);
    wait_until("the daemon to run again", || Ok(live().is_ok()))?;
    for _ in 0..20 {
        ensure!(ready().is_err(), "the daemon is ready");
        let status = status(stage);
        ensure!(status.is_none(), "it answered {status:?}");
    }
    cluster.plane.start_api()?;
    let mut answers = Vec::new();
    wait_until("the daemon to serve", || {
        let status = status(stage);
        answers.extend(status);
        Ok(status == Some(200))
    })?;
    ensure!(answers == [200], "it answered {answers:?}");
    Ok(())
}

/// As many requests, one after another, are answered.
fn answered(stage: &Stage, count: usize) -> Result<()> {
    for _ in 0..count {
        ensure!(status(stage) == Some(200), "a request is not answered");
    }
    Ok(())
}

/// The status of an answer; none if there is no connection.
fn status(stage: &Stage) -> Option<u16> {
    let request = Request::get(&format!("http://{EDGE}/"), HOST);
    let request = request.with(&["--connect-timeout", "1"]);
    let response = request.send(&stage.cluster.network.client).ok();
    response.map(|response| response.status)
}
