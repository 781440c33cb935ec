//! Flags of the dashboard, and of the verb that opens it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use thiserror::Error;

use super::RunDir;
use crate::admin::CertificateFiles;

/// The dashboard in the browser.
#[derive(Clone, Debug, Args)]
pub struct Dashboard {
    /// Address of the dashboard in the browser, such as 127.0.0.1:10256. Beyond loopback it needs a
    /// certificate [default: none, there is no dashboard].
    #[arg(
        long = "dashboard-address",
        env = "SLUICE_DASHBOARD_ADDRESS",
        value_name = "IP:PORT"
    )]
    pub dashboard_address: Option<SocketAddr>,

    /// Further host name under which browsers reach the dashboard; loopback and its own address are
    /// always allowed.
    #[arg(
        long = "dashboard-host",
        env = "SLUICE_DASHBOARD_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub dashboard_hosts: Vec<String>,

    /// Certificate of the dashboard, in PEM; read again when the file changes.
    #[arg(
        long = "dashboard-certificate",
        env = "SLUICE_DASHBOARD_CERTIFICATE",
        value_name = "FILE",
        requires = "dashboard_key"
    )]
    pub dashboard_certificate: Option<PathBuf>,

    /// Its key, in PEM.
    #[arg(
        long = "dashboard-key",
        env = "SLUICE_DASHBOARD_KEY",
        value_name = "FILE",
        requires = "dashboard_certificate"
    )]
    pub dashboard_key: Option<PathBuf>,

    /// How users of the dashboard prove that they may look.
    #[arg(
        long = "dashboard-auth",
        env = "SLUICE_DASHBOARD_AUTH",
        value_enum,
        default_value = "token"
    )]
    pub dashboard_auth: DashboardAuth,

    /// Whether the dashboard shows requests as they end, with addresses of clients.
    #[arg(long = "dashboard-tail", env = "SLUICE_DASHBOARD_TAIL", value_name = "BOOL",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub dashboard_tail: bool,
}

/// How users of the dashboard prove that they may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DashboardAuth {
    /// By the URL that `sluice dashboard url` prints on the node, for root.
    Token,
    /// By a token of the Kubernetes API, whose user may get /sluice/dashboard; and /sluice/tail, to see
    /// requests.
    Kubernetes,
}

/// Why there can be no dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DashboardError {
    /// It would send sessions in clear text over a network.
    #[error(
        "--dashboard-address `{0}` is not a loopback address: give --dashboard-certificate and \
         --dashboard-key, or listen on 127.0.0.1 and use `kubectl port-forward` or SSH"
    )]
    ClearText(SocketAddr),
    /// There is no API server to review users.
    #[error("--dashboard-auth=kubernetes needs an API server: it cannot be used with --manifests")]
    NoApiServer,
}

impl Dashboard {
    /// Where the dashboard listens, and its certificate for TLS; `None` if it is off.
    ///
    /// # Errors
    ///
    /// An error if sessions would cross a network in clear text, or if nothing can review users.
    pub fn listener(&self, has_api_server: bool) -> Result<Option<Listener>, DashboardError> {
        let Some(address) = self.dashboard_address else {
            return Ok(None);
        };
        let files = self.dashboard_certificate.clone();
        let files = files.zip(self.dashboard_key.clone());
        let certificate = files.map(|(chain, key)| CertificateFiles { chain, key });
        if certificate.is_none() && !address.ip().is_loopback() {
            return Err(DashboardError::ClearText(address));
        }
        if self.dashboard_auth == DashboardAuth::Kubernetes && !has_api_server {
            return Err(DashboardError::NoApiServer);
        }
        Ok(Some((address, certificate)))
    }
}

/// An address, and the certificate where it is served by TLS.
type Listener = (SocketAddr, Option<CertificateFiles>);

/// Flags of `sluice dashboard`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DashboardVerb {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<DashboardCommand>,

    /// The view of several nodes.
    #[command(flatten)]
    pub view: DashboardView,
}

/// The dashboard of several nodes, served on this machine.
#[derive(Clone, Debug, Args)]
pub struct DashboardView {
    /// Daemons to show as one, by their admin sockets: a file of this machine, such as one that
    /// `ssh -L /tmp/edge-1.sock:/run/sluice/admin.sock root@edge-1` forwards, or a run directory. `kubectl
    /// sluice dashboard` finds the daemons of a cluster by itself.
    #[arg(
        long,
        value_name = "[NAME=]unix:PATH",
        value_delimiter = ',',
        value_parser = parse_endpoint
    )]
    pub endpoints: Vec<SocketEndpoint>,

    /// Port of 127.0.0.1 to serve the dashboard at [default: a free one].
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// A daemon, by its admin socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEndpoint {
    /// How the dashboard names its node.
    pub name: String,
    /// The socket, or the run directory that has it.
    pub socket: PathBuf,
}

fn parse_endpoint(text: &str) -> Result<SocketEndpoint, String> {
    let (name, place) = match text.split_once('=') {
        Some((name, place)) => (Some(name), place),
        None => (None, text),
    };
    let path = place.strip_prefix("unix:").filter(|path| !path.is_empty());
    let path = path.ok_or("expected unix:PATH or NAME=unix:PATH")?;
    Ok(SocketEndpoint {
        name: name
            .filter(|name| !name.is_empty())
            .unwrap_or(path)
            .to_owned(),
        socket: path.into(),
    })
}

/// Verbs of the dashboard.
#[derive(Debug, Subcommand)]
pub enum DashboardCommand {
    /// Print a URL that opens the running daemon's dashboard once, within a minute.
    Url {
        /// Port at which the browser reaches the dashboard, where that is another one than the daemon's:
        /// the local port of `kubectl port-forward` or SSH.
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,

        /// Directory of the daemon's admin socket.
        #[command(flatten)]
        run_dir: RunDir,
    },
    /// Tell a dashboard of several nodes about the running daemon, by standard input and output. `kubectl
    /// sluice dashboard` runs this in each pod.
    #[command(hide = true)]
    Feed {
        /// Directory of the daemon's admin socket.
        #[command(flatten)]
        run_dir: RunDir,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashboard(address: &str) -> Dashboard {
        Dashboard {
            dashboard_address: Some(address.parse().unwrap()),
            dashboard_hosts: Vec::new(),
            dashboard_certificate: None,
            dashboard_key: None,
            dashboard_auth: DashboardAuth::Token,
            dashboard_tail: true,
        }
    }

    #[test]
    fn clear_text_is_for_loopback_only() {
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(dashboard(loopback).listener(false).unwrap().is_some());
        }
        for other in ["0.0.0.0:1", "10.0.0.7:1", "[::]:1", "[::ffff:127.0.0.1]:1"] {
            let error = dashboard(other).listener(false).unwrap_err();
            assert!(error.to_string().contains(other), "{error}");
        }
        let with_tls = Dashboard {
            dashboard_certificate: Some("a".into()),
            dashboard_key: Some("b".into()),
            ..dashboard("10.0.0.7:1")
        };
        assert!(with_tls.listener(false).unwrap().is_some());
    }

    #[test]
    fn endpoints_have_the_name_of_their_path_unless_they_are_named() {
        let parsed = |text| parse_endpoint(text).map(|one| (one.name, one.socket));
        let path = || PathBuf::from("/run/a.sock");
        let own = ("/run/a.sock".to_owned(), path());
        assert_eq!(parsed("unix:/run/a.sock"), Ok(own));
        let named = ("edge-1".to_owned(), path());
        assert_eq!(parsed("edge-1=unix:/run/a.sock"), Ok(named));
        for text in ["", "unix:", "/run/a.sock", "http://edge-1"] {
            parsed(text).unwrap_err();
        }
    }

    #[test]
    fn users_are_reviewed_by_an_api_server_only() {
        let reviewed = Dashboard {
            dashboard_auth: DashboardAuth::Kubernetes,
            ..dashboard("127.0.0.1:1")
        };
        assert_eq!(
            reviewed.listener(false).unwrap_err(),
            DashboardError::NoApiServer
        );
        assert!(reviewed.listener(true).unwrap().is_some());
    }
}
