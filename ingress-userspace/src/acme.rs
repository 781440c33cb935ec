//! Certificates by ACME (RFC 8555): orders what `ingress_core::acme` says is wanted, from the issuers that
//! the operator names.
//!
//! One node orders: the leader. Challenges and the state of orders travel through a Secret, certificates
//! through Secrets of type `kubernetes.io/tls`, so that every node answers and serves. With a directory
//! of manifests the Secrets are files of it.
//!
//! Invariant: a Secret without the mark of ACME is never written, and nothing here can make a request
//! fail: a certificate that is not renewed is served on.

mod account;
mod ari;
mod board;
mod engine;
mod held;
mod http;
mod issuer;
mod lock;
mod order;
mod store;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use ingress_core::acme::{Limits, Wanted};
use ingress_core::ir::{Acme, ObjectRef};
use ingress_core::list::List;
use ingress_core::shared::Shared;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use issuer::{Issuer, KeyType};
use store::Store;

/// The names of the Secrets of the daemon's namespace.
pub const STATE: &str = "sluice-acme-state";
const ACCOUNTS: &str = "sluice-acme-accounts";

/// The operator's settings of ACME.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuers that Ingresses may name.
    pub issuers: Vec<Issuer>,
    /// The Secret for challenges and the state of orders.
    pub state: ObjectRef,
    /// Bounds of orders.
    pub limits: Limits,
}

/// Where Secrets are written.
pub enum Place {
    /// To the API server, while this pod leads.
    Cluster(Client, watch::Receiver<bool>),
    /// To a directory of manifests, by the daemon that holds its lock.
    Directory(PathBuf),
}

/// The newest configuration, as far as orders depend on it.
#[derive(Clone)]
pub struct Input {
    /// Certificates that Ingresses request.
    pub wanted: Shared<Vec<Wanted>>,
    /// The Secrets that are known.
    pub secrets: List<Secret>,
    /// Challenges that this node answers.
    pub published: Option<Arc<Acme>>,
}

/// Orders certificates until it is dropped.
pub struct Orders {
    input: watch::Sender<Option<Input>>,
    task: JoinHandle<()>,
}

impl Orders {
    /// Starts to order.
    ///
    /// # Errors
    ///
    /// An error if a file that an issuer names cannot be used.
    pub fn start(settings: Settings, place: Place) -> Result<Self> {
        let (input, newest) = watch::channel(None);
        let (store, leading) = match place {
            Place::Cluster(client, leading) => (Store::Cluster(client), leading),
            Place::Directory(path) => {
                let leading = lock::lead(path.clone());
                (Store::Directory(path), leading)
            }
        };
        let engine = engine::Engine::new(settings, Arc::new(store), newest, leading)?;
        let task = tokio::spawn(engine.run());
        Ok(Self { input, task })
    }

    /// Gives the newest state. Most changes of a cluster concern endpoints, and no certificate.
    pub fn update(&self, input: Input) {
        self.input.send_if_modified(|current| {
            let is_same = current.as_ref().is_some_and(|current| {
                current.wanted.is(&input.wanted)
                    && current.secrets.is(&input.secrets)
                    && current.published == input.published
            });
            if !is_same {
                *current = Some(input);
            }
            !is_same
        });
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
