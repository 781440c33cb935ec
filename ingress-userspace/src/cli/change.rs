//! `sluice drain` and `sluice log-level`: what an operator changes in a running daemon.

use anyhow::{Context as _, Result};
use http::Request;

use super::socket;
use crate::admin::{DRAIN, LOG_FILTER, LOG_LEVEL, RESUME};
use crate::settings::{Drain, LogLevel};

/// Has the daemon tell load balancers to send clients elsewhere, or no longer.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub async fn drain(flags: &Drain) -> Result<String> {
    let path = if flags.undo { RESUME } else { DRAIN };
    socket::fetch(&flags.run_dir.path(), Request::post(path)).await?;
    let outcome = if flags.undo {
        "/readyz answers 200 again\n"
    } else {
        "/readyz answers 503; requests that come all the same are served\n"
    };
    Ok(outcome.to_owned())
}

/// Has the daemon log by another filter until it ends.
///
/// # Errors
///
/// An error if the filter is invalid or the daemon cannot be reached.
pub async fn log_level(flags: &LogLevel) -> Result<String> {
    let change = Request::post(LOG_LEVEL).header(LOG_FILTER, &flags.filter);
    let changed = socket::fetch(&flags.run_dir.path(), change).await;
    changed.with_context(|| format!("failed to log by `{}`", flags.filter))?;
    Ok(String::new())
}
