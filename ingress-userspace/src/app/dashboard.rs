//! Starts the dashboard, on a thread and a runtime of its own: while control is busy, the page says so.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::api_server;
use crate::admin::Questions;
use crate::confine;
use crate::dashboard::{AllowedHosts, Dashboard, Doors, Options};
use crate::proxy::Tail;
use crate::settings::{ApiServer, DashboardAuth, Run};

/// What the app keeps of the dashboard.
pub(super) struct Entrance {
    doors: Doors,
    auth: DashboardAuth,
    /// Scheme, address and port for a browser on the node.
    origin: String,
}

impl Entrance {
    /// A URL that opens the dashboard once; `None` if users are reviewed in another way.
    pub(super) fn url(&self) -> Option<String> {
        if self.auth != DashboardAuth::Token {
            return None;
        }
        Some(format!("{}{}", self.origin, self.doors.url()?))
    }
}

/// Starts the dashboard if the flags ask for one.
///
/// # Errors
///
/// An error if its address or its certificate cannot be used.
pub(super) fn start(flags: &Run, questions: Questions, tail: Tail) -> Result<Option<Entrance>> {
    let has_api_server = flags.manifests.is_none();
    let Some((address, certificate)) = flags.dashboard.listener(has_api_server)? else {
        return Ok(None);
    };
    let auth = flags.dashboard.dashboard_auth;
    let scheme = if certificate.is_some() {
        "https"
    } else {
        "http"
    };
    let options = Options {
        hosts: AllowedHosts::new(address, &flags.dashboard.dashboard_hosts),
        certificate,
        tail: flags.dashboard.dashboard_tail,
    };
    let doors = Doors::default();
    let listener = match TcpListener::bind(address) {
        Ok(listener) => Some(listener),
        // Another daemon has it, as while one pod replaces another on the host network.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(error) => {
            return Err(error)
                .with_context(|| format!("failed to listen on `{address}` (--dashboard-address)"));
        }
    };
    let dashboard = Dashboard::new(options, doors.clone(), questions, tail)?;
    let api_server = flags.kubernetes.api_server.clone();
    thread::Builder::new()
        .name("dashboard".to_owned())
        .spawn(move || {
            if let Err(error) = run(dashboard, (address, auth), &api_server, listener) {
                error!(error = format!("{error:#}"), "the dashboard has ended");
            }
        })
        .context("failed to start the thread of the dashboard")?;
    let shown = SocketAddr::new(reachable(address), address.port());
    Ok(Some(Entrance {
        doors,
        auth,
        origin: format!("{scheme}://{shown}"),
    }))
}

/// The address by which a browser on the node reaches a listener.
fn reachable(address: SocketAddr) -> std::net::IpAddr {
    if address.ip().is_unspecified() {
        std::net::Ipv4Addr::LOCALHOST.into()
    } else {
        address.ip()
    }
}

fn run(
    dashboard: Dashboard,
    (address, auth): (SocketAddr, DashboardAuth),
    api_server: &ApiServer,
    listener: Option<TcpListener>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start a runtime")?;
    runtime.block_on(async {
        // Its connections belong to the runtime that makes it.
        let client: Option<Client> = match auth {
            DashboardAuth::Token => None,
            DashboardAuth::Kubernetes => Some(api_server::client(api_server).await?),
        };
        let listener = match listener {
            Some(listener) => listener,
            None => bind_later(address).await,
        };
        // Only binding a port below 1024 needs any.
        confine::give_up_capabilities().context("failed to give up capabilities")?;
        info!(%address, "the dashboard is served");
        dashboard.serve(listener, client).await
    })
}

async fn bind_later(address: SocketAddr) -> TcpListener {
    warn!(%address, "--dashboard-address is in use: the dashboard is served once it is free");
    loop {
        sleep(BIND_PAUSE).await;
        if let Ok(listener) = TcpListener::bind(address) {
            return listener;
        }
    }
}

const BIND_PAUSE: Duration = Duration::from_secs(1);
