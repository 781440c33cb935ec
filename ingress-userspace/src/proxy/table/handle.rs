//! The way of a table from the control side to the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::Table;
use super::health::{HealthState, ProbedBackend};
use crate::proxy::tls::{ServerTls, TlsOptions, is_validation};

/// Hands the newest table from the control side to all workers.
#[derive(Clone, Debug)]
pub struct TableHandle {
    current: Arc<ArcSwap<Table>>,
    generation: watch::Sender<u64>,
    /// In seconds since 1970.
    published_at: Arc<AtomicU64>,
    /// One for all workers, so that a session that began on one is resumed on any.
    tls: Arc<ServerTls>,
    health: Arc<HealthState>,
}

impl TableHandle {
    /// A handle on `table`, which is published by this.
    pub fn new(table: Table, options: &TlsOptions) -> Result<Self, rustls::Error> {
        table.apply_changes();
        let generation = watch::Sender::new(table.generation);
        let current = Arc::new(ArcSwap::from_pointee(table));
        let tls = ServerTls::new(Arc::new(Resolver(Arc::clone(&current))), options)?;
        Ok(Self {
            current,
            generation,
            published_at: Arc::new(AtomicU64::new(now())),
            tls: Arc::new(tls),
            health: Arc::default(),
        })
    }

    /// Makes `table` the one that every request and handshake from now on is served by.
    pub fn publish(&self, table: Table) {
        let generation = table.generation;
        // Endpoints come first: no route of the new table finds a slot still empty.
        table.apply_changes();
        self.current.store(Arc::new(table));
        self.published_at.store(now(), Ordering::Relaxed);
        self.generation.send_replace(generation);
    }

    /// The table published last.
    pub fn current(&self) -> Arc<Table> {
        self.current.load_full()
    }

    /// When the table was published, in seconds since 1970.
    pub(crate) fn published_at(&self) -> u64 {
        self.published_at.load(Ordering::Relaxed)
    }

    /// Has workers look at the endpoints of the current table again.
    pub(crate) fn tell_of_endpoints(&self) {
        self.generation.send_modify(|_| ());
    }

    /// The backends whose endpoints are probed, and the endpoints that fail.
    pub fn probed_backends(&self) -> Vec<ProbedBackend> {
        self.health.backends()
    }

    pub(crate) fn health(&self) -> &HealthState {
        &self.health
    }

    pub(crate) fn reader(&self) -> arc_swap::Cache<Arc<ArcSwap<Table>>, Arc<Table>> {
        arc_swap::Cache::new(Arc::clone(&self.current))
    }

    pub(crate) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(crate) fn tls(&self) -> &Arc<ServerTls> {
        &self.tls
    }
}

/// Chooses by SNI from the table that is current at the handshake.
#[derive(Debug)]
struct Resolver(Arc<ArcSwap<Table>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        if is_validation(&hello) {
            let challenge = table.challenges()?.certificate(hello.server_name()?);
            return challenge.cloned();
        }
        let schemes = hello.signature_schemes();
        Some(table.certificates.find(hello.server_name(), schemes))
    }
}

fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}
