//! `sluice ready`: whether the running daemon serves, for probes that run in its container.
//!
//! On the host network a probe by port could reach the daemon of another pod on the same node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use serde_json::Value;

use super::socket;
use crate::settings::Ready;

/// Gives one line for people, and whether the daemon serves (with `--live`: whether it lives).
pub async fn run(flags: &Ready) -> Result<(String, bool)> {
    let run_dir = flags.run_dir.path();
    let asked = socket::fetch(&run_dir, Request::get("/status"));
    let json = tokio::time::timeout(ANSWER_MAX, asked);
    let json = json.await.context("the daemon does not answer in time")??;
    let status: Value = serde_json::from_slice(&json).context("daemon returned invalid JSON")?;
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

const ANSWER_MAX: Duration = Duration::from_secs(2);
