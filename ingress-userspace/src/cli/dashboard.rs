//! `sluice dashboard`: how a browser comes to the running daemon's dashboard.

use anyhow::{Context as _, Result};
use http::{Request, Uri};

use super::socket;
use crate::admin::DASHBOARD_URL;
use crate::settings::{DashboardCommand, DashboardVerb};

/// Gives a URL that opens the dashboard once, within a minute.
///
/// # Errors
///
/// An error if the daemon cannot be reached or has no dashboard.
pub async fn run(flags: &DashboardVerb) -> Result<String> {
    let DashboardCommand::Url { port, run_dir } = &flags.command;
    let url = socket::fetch(&run_dir.path(), Request::post(DASHBOARD_URL)).await?;
    let url = str::from_utf8(&url).context("the daemon returned a URL of another version")?;
    let url = match port {
        Some(port) => with_port(url, *port).context("the daemon returned an invalid URL")?,
        None => url.to_owned(),
    };
    Ok(format!("{url}\n"))
}

/// The URL as a browser spells it that reaches the dashboard through a forwarded port of its own machine.
fn with_port(url: &str, port: u16) -> Option<String> {
    let (head, fragment) = url.split_once('#')?;
    let head: Uri = head.parse().ok()?;
    let scheme = head.scheme_str()?;
    Some(format!("{scheme}://localhost:{port}/#{fragment}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_port_is_one_of_the_users_machine() {
        assert_eq!(
            with_port("https://10.0.0.7:10256/#t=abc", 8080).as_deref(),
            Some("https://localhost:8080/#t=abc")
        );
    }
}
