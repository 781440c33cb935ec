//! `sluice dashboard`: how a browser comes to the running daemon's dashboard, or to one of several nodes.

mod feed;
mod look;
mod sockets;
mod view;

use anyhow::{Context as _, Result, bail};
use http::{Request, Uri};

use super::socket;
use crate::admin::DASHBOARD_URL;
use crate::settings::{DashboardCommand, DashboardVerb, RunDir};
pub(super) use view::show;

/// Prints a URL that opens the dashboard once, or serves one of several nodes until it is stopped.
///
/// # Errors
///
/// An error if the daemon cannot be reached or has no dashboard, or if the view cannot be served.
pub async fn run(flags: &DashboardVerb) -> Result<String> {
    match &flags.command {
        Some(DashboardCommand::Url { port, run_dir }) => url(run_dir, *port).await,
        Some(DashboardCommand::Feed { run_dir }) => {
            feed::run(&run_dir.path()).await?;
            Ok(String::new())
        }
        None if flags.view.endpoints.is_empty() => bail!(
            "name what to show: `sluice dashboard url` opens the dashboard of the daemon on this node, \
             `kubectl sluice dashboard` joins all edge nodes of a cluster, and `--endpoints \
             unix:PATH,…` joins daemons by their admin sockets"
        ),
        None => {
            sockets::run(&flags.view).await?;
            Ok(String::new())
        }
    }
}

async fn url(run_dir: &RunDir, port: Option<u16>) -> Result<String> {
    let url = socket::fetch(&run_dir.path(), Request::post(DASHBOARD_URL)).await?;
    let url = str::from_utf8(&url).context("the daemon returned a URL of another version")?;
    let url = match port {
        Some(port) => with_port(url, port).context("the daemon returned an invalid URL")?,
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
