//! The dashboard in the browser: read only, off unless asked for, on a thread of its own.
//!
//! `server` accepts connections; `gate` decides by host, method and path what a request asks for; `login`
//! opens sessions; `resources` are the data and `stream` their changes; `assets` are the files that
//! `build.rs` embeds. `sessions`, `hosts`, `policy`, `gate` and `topics` are pure.
//!
//! Invariant: nothing here changes the daemon, and nothing but the assets is answered without a session.

mod assets;
mod feed;
mod gate;
mod hosts;
mod kubernetes;
mod login;
mod policy;
mod resources;
mod server;
mod sessions;
mod stream;
mod topics;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::sync::Semaphore;

pub use self::assets::compressed_bytes;
use self::feed::Feed;
pub use self::hosts::AllowedHosts;
use self::kubernetes::Reviewer;
use self::sessions::{Secret, Sessions};
use self::stream::STREAMS_MAX;
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
    options: Options,
    certificate: Option<ServedCertificate>,
    doors: Doors,
    questions: Questions,
    tail: Tail,
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
            options,
            certificate,
            doors,
            questions,
            tail,
        })
    }

    /// Serves until it is dropped. The client, which reviews users, belongs to the runtime of this call.
    ///
    /// # Errors
    ///
    /// An error if the kernel gives no randomness.
    pub async fn serve(self, listener: TcpListener, client: Option<Client>) -> Result<()> {
        let instance = Secret::random().context("the kernel gives no random numbers")?;
        let instance = instance.text().chars().take(INSTANCE_CHARACTERS).collect();
        let feed = Feed::new(self.questions.clone());
        tokio::spawn(feed.clone().run());
        let state = State {
            hosts: self.options.hosts,
            is_secure: self.certificate.is_some(),
            reviewer: client.map(Reviewer::new),
            doors: self.doors,
            questions: self.questions,
            feed,
            tail: self.options.tail.then_some(self.tail),
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
    questions: Questions,
    feed: Feed,
    /// `None` where requests cannot be followed.
    tail: Option<Tail>,
    streams: Arc<Semaphore>,
    /// One explanation at a time: it takes the app's loop a while with many objects.
    explaining: Semaphore,
    /// Random name of this run of the daemon: browsers notice a restart by it.
    instance: String,
}

const INSTANCE_CHARACTERS: usize = 12;
