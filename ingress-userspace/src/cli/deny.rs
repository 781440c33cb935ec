//! `sluice deny`: asks the daemon to drop what comes from a network, or what it drops.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use http::{Method, Request};
use serde_json::Value;

use super::socket;
use crate::admin::{DENY_NETWORK, DENY_SECONDS};
use crate::settings::{Deny, Output};

/// Gives the list after the change, in the form that was asked for.
pub async fn run(flags: &Deny) -> Result<String> {
    let mut question = Request::get("/deny");
    if let Some(network) = flags.network {
        let method = if flags.remove {
            Method::DELETE
        } else {
            Method::PUT
        };
        question = question
            .method(method)
            .header(DENY_NETWORK, network.to_string());
    }
    if let Some(time) = flags.time {
        question = question.header(DENY_SECONDS, time.as_secs());
    }
    let json = socket::fetch(&flags.run_dir.path(), question).await?;
    let entries: Vec<Value> =
        serde_json::from_slice(&json).context("daemon returned an unexpected answer")?;
    match flags.output {
        Output::Json => Ok(serde_json::to_string_pretty(&entries)? + "\n"),
        Output::Text => Ok(render(&entries)),
    }
}

fn render(entries: &[Value]) -> String {
    let mut out = format!("{:<44} {:<12} SECONDS LEFT\n", "NETWORK", "SOURCE");
    for entry in entries {
        let left = entry["seconds_left"].as_u64();
        let _ = writeln!(
            out,
            "{:<44} {:<12} {}",
            entry["network"].as_str().unwrap_or_default(),
            entry["source"].as_str().unwrap_or_default(),
            left.map_or("-".to_owned(), |left| left.to_string()),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_has_a_line_for_each_network() {
        let entry = serde_json::json!(
            {"network": "192.0.2.0/24", "source": "admin", "seconds_left": 17}
        );
        let text = render(&[entry]);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("192.0.2.0/24") && text.contains("17"),
            "{text}"
        );
    }
}
