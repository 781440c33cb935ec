//! The dashboard in the browser: read only. A daemon serves its own on a thread of its own, off unless asked
//! for; `kubectl sluice dashboard` serves that of several nodes on the machine of its user.
//!
//! `server` accepts connections; `gate` decides by host, method and path what a request asks for; `login`
//! opens sessions; `resources` are the data and `stream` their changes; `assets` are the files that
//! `build.rs` embeds; `nodes` joins the daemons of several nodes. `sessions`, `hosts`, `policy`, `gate`,
//! `topics` and `sample` are pure.
//!
//! Invariant: nothing here changes the daemon, and nothing but the assets is answered without a session.

mod assets;
mod feed;
mod gate;
mod hosts;
mod kubernetes;
mod login;
mod nodes;
mod policy;
mod resources;
mod sample;
mod server;
mod sessions;
mod stream;
mod topics;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::sync::Semaphore;

pub use self::assets::compressed_bytes;
use self::feed::{Feed, Source};
pub use self::hosts::AllowedHosts;
use self::kubernetes::Reviewer;
pub use self::nodes::{Connection, Dial, Nodes, Target};
pub(crate) use self::sample::sample;
use self::sessions::{Secret, Sessions};
use self::stream::STREAMS_MAX;
pub(crate) use self::topics::question;
use crate::admin::{CertificateFiles, Questions, ServedCertificate};
use crate::proxy::Tail;

/// How the dashboard is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// The names under which browsers reach it.
    pub hosts: AllowedHosts,
    /// The certificate; `None` for clear text, on loopback only.
    pub certificate: Option<CertificateFiles>,
    /// Whether requests can be followed.
    pub tail: bool,
}

/// One-time tokens and sessions, shared by the admin socket, which mints, and the dashboard.
#[derive(Clone, Default)]
pub struct Doors(Arc<Mutex<Sessions>>);

impl Doors {
    /// The part of a new URL behind scheme and host, with a token that opens one session; `None` if the
    /// kernel gives no randomness.
    pub fn url(&self) -> Option<String> {
        let token = Secret::random()?;
        self.lock().mint(&token, Instant::now());
        Some(format!("/#t={}", token.text()))
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The dashboard, before it is served.
pub struct Dashboard {
    hosts: AllowedHosts,
    certificate: Option<ServedCertificate>,
    doors: Doors,
    source: Source,
    /// `None` where a daemon's requests cannot be followed.
    tail: Option<Tail>,
}

impl Dashboard {
    /// A dashboard of a daemon that answers these questions.
    ///
    /// # Errors
    ///
    /// An error if the certificate cannot be read.
    pub fn new(options: Options, doors: Doors, questions: Questions, tail: Tail) -> Result<Self> {
        let certificate = options.certificate.clone().map(ServedCertificate::read);
        let certificate = certificate
            .transpose()
            .context("failed to read --dashboard-certificate and --dashboard-key")?;
        Ok(Self {
            hosts: options.hosts,
            certificate,
            doors,
            source: Source::Daemon(questions),
            tail: options.tail.then_some(tail),
        })
    }

    /// A dashboard of several nodes, on a loopback address.
    pub fn of_nodes(address: SocketAddr, doors: Doors, nodes: Arc<Nodes>) -> Self {
        Self {
            hosts: AllowedHosts::new(address, &[]),
            certificate: None,
            doors,
            source: Source::Nodes(nodes),
            tail: None,
        }
    }

    /// Serves until it is dropped. The client, which reviews users, belongs to the runtime of this call.
    ///
    /// # Errors
    ///
    /// An error if the kernel gives no randomness.
    pub async fn serve(self, listener: TcpListener, client: Option<Client>) -> Result<()> {
        let instance = Secret::random().context("the kernel gives no random numbers")?;
        let instance = instance.text().chars().take(INSTANCE_CHARACTERS).collect();
        let feed = Feed::new(self.source);
        tokio::spawn(feed.clone().run());
        let state = State {
            hosts: self.hosts,
            is_secure: self.certificate.is_some(),
            reviewer: client.map(Reviewer::new),
            doors: self.doors,
            feed,
            tail: self.tail,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            explaining: Semaphore::new(1),
            instance,
        };
        server::serve(listener, self.certificate, Arc::new(state)).await
    }
}

/// The state that all connections share.
struct State {
    hosts: AllowedHosts,
    /// Whether browsers come by TLS.
    is_secure: bool,
    /// Reviews users; `None` where tokens of the admin socket are taken.
    reviewer: Option<Reviewer>,
    doors: Doors,
    feed: Feed,
    /// `None` where a daemon's requests cannot be followed.
    tail: Option<Tail>,
    streams: Arc<Semaphore>,
    /// One explanation at a time: it takes the app's loop a while with many objects.
    explaining: Semaphore,
    /// Random name of this run of the daemon: browsers notice a restart by it.
    instance: String,
}

const INSTANCE_CHARACTERS: usize = 12;
