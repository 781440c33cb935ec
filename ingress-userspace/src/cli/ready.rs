//! `sluice ready`: whether the running daemon serves, for probes that run in its container and for
//! programs that announce an address of this node.
//!
//! On the host network a probe by port could reach the daemon of another pod on the same node.
//!
//! Invariant: with `--serving` each obstacle is a "no" with a sentence of its own, also that the daemon
//! is stuck: an announcer that is left waiting keeps an address that nobody serves.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use serde_json::Value;

use super::socket;
use crate::settings::Ready;

/// Gives one line for people, and whether the daemon serves (with `--live`: whether it lives).
///
/// # Errors
///
/// An error if the daemon does not answer; with `--serving` that is a "no".
pub async fn run(flags: &Ready) -> Result<(String, bool)> {
    if flags.serving {
        return Ok(match serving(flags).await {
            Ok(sentence) => (format!("yes: {sentence}\n"), true),
            Err(sentence) => (format!("no: {sentence}\n"), false),
        });
    }
    let status = tokio::time::timeout(ANSWER_MAX, ask(flags));
    let status = status
        .await
        .context("the daemon does not answer in time")??;
    let state = status["state"].as_str().unwrap_or_default();
    let generation = &status["generation"];
    let workers = status["workers"].as_array().map_or(&[][..], Vec::as_slice);
    let is_alive = workers.iter().all(|worker| worker["is_running"] == true);
    let is_current = workers
        .iter()
        .all(|worker| worker["generation"] == *generation);
    let is_good = is_alive && (flags.live || state == "ready" && is_current);
    Ok((format!("{state}, generation {generation}\n"), is_good))
}

/// The state of the daemon in one sentence, or the reason why clients should go elsewhere.
async fn serving(flags: &Ready) -> Result<String, String> {
    let asked = tokio::time::timeout(SERVING_ANSWER_MAX, ask(flags)).await;
    let limit = SERVING_ANSWER_MAX.as_secs();
    let answer = asked.map_err(|_| format!("the daemon does not answer within {limit} s"))?;
    let status = answer.map_err(|error| format!("{error:#}"))?;
    judge(&status, flags.require_datapath)
}

/// Judges a status. Returns what is served, or the reason why clients should go elsewhere.
fn judge(status: &Value, requires_datapath: bool) -> Result<String, String> {
    let generation = status["generation"].as_u64().unwrap_or(0);
    match status["state"].as_str() {
        Some("draining") => return Err("the daemon is draining".to_owned()),
        Some("ready") if generation > 0 => {}
        _ => return Err("the daemon has no configuration yet".to_owned()),
    }
    let workers = status["workers"].as_array().map_or(&[][..], Vec::as_slice);
    let serves = |worker: &&Value| {
        worker["is_running"] == true && worker["generation"].as_u64().is_some_and(|of| of > 0)
    };
    let serving = workers.iter().filter(serves).count();
    if serving == 0 {
        return Err("no worker listens".to_owned());
    }
    let datapath = &status["datapath"];
    let mode = datapath["mode"].as_str().unwrap_or("host");
    if requires_datapath && mode != "netns" {
        let reason = datapath["reason"].as_str().unwrap_or("no reason is known");
        return Err(format!("the eBPF datapath is off: {reason}"));
    }
    Ok(format!(
        "generation {generation} is served by {serving} workers, datapath {mode}"
    ))
}

async fn ask(flags: &Ready) -> Result<Value> {
    let json = socket::fetch(&flags.run_dir.path(), Request::get("/status")).await?;
    serde_json::from_slice(&json).context("daemon returned invalid JSON")
}

const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Announcers ask every second or two, and wait for the answer.
const SERVING_ANSWER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(state: &str, generation: u64, workers: &Value) -> Value {
        json!({
            "state": state,
            "generation": generation,
            "workers": workers,
            "datapath": {"mode": "host", "reason": "the kernel lacks sk_lookup"},
        })
    }

    fn worker(is_running: bool, generation: u64) -> Value {
        json!({"is_running": is_running, "generation": generation})
    }

    #[test]
    fn a_daemon_serves_once_it_has_a_generation_and_until_it_drains() {
        let workers = json!([worker(true, 3), worker(true, 2)]);
        let yes = judge(&status("ready", 3, &workers), false).unwrap();
        assert_eq!(yes, "generation 3 is served by 2 workers, datapath host");
        for (state, generation, reason) in [
            ("draining", 3, "the daemon is draining"),
            ("starting", 0, "the daemon has no configuration yet"),
            ("ready", 0, "the daemon has no configuration yet"),
            ("unheard of", 3, "the daemon has no configuration yet"),
        ] {
            let no = judge(&status(state, generation, &workers), false);
            assert_eq!(no.unwrap_err(), reason, "{state}");
        }
        judge(&json!({}), false).unwrap_err();
    }

    #[test]
    fn one_worker_that_listens_is_enough() {
        let one = json!([worker(false, 3), worker(true, 3)]);
        judge(&status("ready", 3, &one), false).unwrap();
        for none in [
            json!([]),
            json!([worker(false, 3)]),
            json!([worker(true, 0)]),
        ] {
            let no = judge(&status("ready", 3, &none), false);
            assert_eq!(no.unwrap_err(), "no worker listens");
        }
    }

    #[test]
    fn the_datapath_counts_where_it_is_required() {
        let mut status = status("ready", 3, &json!([worker(true, 3)]));
        let no = judge(&status, true).unwrap_err();
        assert_eq!(no, "the eBPF datapath is off: the kernel lacks sk_lookup");
        status["datapath"] = json!({"mode": "netns", "reason": null});
        judge(&status, true).unwrap();
    }
}
