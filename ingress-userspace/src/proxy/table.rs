//! The table that workers serve from: routes, backends and certificates of one generation.
//!
//! Built on the control side from an `ir::Config`, published through a [`TableHandle`], read by
//! every request. A published table never changes, except that the endpoints of its backends do
//! when a later generation is published. What a configuration has in common with the previous one
//! (the same `Arc`) is taken over and costs nothing.

mod build;
mod handle;
pub(crate) mod health;
pub(crate) mod slot;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ingress_core::ir::{BackendKey, Config, Host, HostPattern, TcpService};
use ingress_core::route::{Recent, RouteTable};

use crate::proxy::observe::metrics::labels::{LabelKey, LabelSet};
use crate::proxy::table::slot::{BackendHandle, Endpoints, RouteAction};
use crate::proxy::tls::certificate::{
    CertificateProblem, CertificateStore, DefaultCertificate, Facts,
};
use crate::proxy::tls::challenge::Challenges;
use crate::proxy::tls::client_auth::{ClientAuthStore, Policy};
use build::{
    build_backends, build_certificates, build_client_auth, build_passthrough, build_routes,
    labels_that_leave,
};
pub use handle::TableHandle;

/// Everything that requests and handshakes are answered by, at one generation.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    config: Arc<Config>,
    routes: Arc<RouteTable<RouteAction>>,
    backends: Arc<Backends>,
    certificates: Arc<CertificateStore>,
    client_auth: Arc<ClientAuthStore>,
    labels: Arc<LabelSet>,
    labels_left: u64,
    passthrough: Arc<HashMap<HostPattern, Arc<BackendHandle>>>,
    /// Challenges of ACME servers, while there are any.
    challenges: Option<Arc<Challenges>>,
    changes: Changes,
}

/// The routes that one worker needs all the time.
pub(crate) type RecentRoutes = Recent<RouteAction>;

/// The tables as one worker reads them.
pub(crate) struct Tables {
    /// The table published last.
    pub(crate) current: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    pub(crate) recent_routes: RefCell<RecentRoutes>,
}

impl Tables {
    pub(crate) fn new(handle: &TableHandle) -> Rc<Self> {
        Rc::new(Self {
            current: RefCell::new(handle.reader()),
            recent_routes: RefCell::default(),
        })
    }

    /// Lets go of routes that have left with the last table. Returns how many labels have left.
    pub(crate) fn adopt(&self) -> u64 {
        let mut current = self.current.borrow_mut();
        let table = current.load();
        table.routes().adopt(&mut self.recent_routes.borrow_mut());
        table.labels_left()
    }
}

/// What differs from the previous table in what both share. Applied when the table is published,
/// so that building one has no effect.
#[derive(Debug, Default)]
struct Changes {
    endpoints: Vec<(Arc<BackendHandle>, Arc<Endpoints>)>,
    retired: Vec<Arc<BackendHandle>>,
    /// Labels that no route has any more.
    unlabelled: HashSet<LabelKey>,
}

#[derive(Debug, Default)]
struct Backends {
    slots: BTreeMap<Arc<BackendKey>, Arc<BackendHandle>>,
    /// Those whose endpoints are probed.
    checked: Vec<Arc<BackendHandle>>,
    /// The id of the next new slot; ids are never used again.
    next_id: u64,
}

impl Table {
    /// A table without routes, for the time before the first configuration: generation 0.
    pub fn empty(default_certificate: &DefaultCertificate) -> Self {
        Self::build(None, Arc::default(), 0, default_certificate).0
    }

    /// Builds the table of `config`, taking from `previous` what has not changed, and tells which
    /// certificates cannot be served.
    ///
    /// `previous` has to be the table published last: what it served is what keeps being served
    /// in place of a broken Secret.
    pub fn build(
        previous: Option<&Self>,
        config: Arc<Config>,
        generation: u64,
        default_certificate: &DefaultCertificate,
    ) -> (Self, Vec<CertificateProblem>) {
        let certificates = build_certificates(previous, &config, default_certificate);
        let (backends, mut changes) = build_backends(previous, &config);
        let labels = previous.map_or_else(Arc::default, |table| Arc::clone(&table.labels));
        let client_auth = build_client_auth(previous, &config);
        let hosts = previous.map(|table| config.host_changes(&table.config));
        let hosts = hosts.unwrap_or_default();
        let routes = build_routes(previous, &config, &backends, &client_auth, &labels, &hosts);
        changes.unlabelled = previous.map_or_else(HashSet::new, |table| {
            labels_that_leave(&table.config, &config, &hosts)
        });
        let labels_left = previous.map_or(0, |table| table.labels_left);
        let labels_left = labels_left + changes.unlabelled.len() as u64;
        let passthrough = build_passthrough(previous, &config, &backends);
        let challenges = previous.and_then(|table| table.challenges.as_ref());
        let challenges = Challenges::build(challenges, config.acme.as_ref());
        let mut problems = certificates.problems();
        problems.extend(client_auth.problems());
        let table = Self {
            generation,
            config,
            routes,
            backends,
            certificates,
            client_auth,
            labels,
            labels_left,
            passthrough,
            challenges,
            changes,
        };
        (table, problems)
    }

    /// The generation of the configuration that it was built from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What the certificates that are served say about themselves, with their host patterns.
    pub(crate) fn certificate_facts(&self) -> impl Iterator<Item = (&HostPattern, &Facts)> {
        self.certificates.facts()
    }

    /// Labels that have left until now, in this generation and all before it.
    pub(crate) fn labels_left(&self) -> u64 {
        self.labels_left
    }

    /// The labels of all routes, of this table and of those before and after it.
    pub(crate) fn labels(&self) -> &Arc<LabelSet> {
        &self.labels
    }

    /// The challenges of ACME servers, if there are any.
    pub(crate) fn challenges(&self) -> Option<&Challenges> {
        self.challenges.as_deref()
    }

    /// Whether any TLS connection is passed through.
    pub(crate) fn passes_through(&self) -> bool {
        !self.passthrough.is_empty()
    }

    /// The backend that TLS connections for a server name are passed through to. The most specific
    /// host has the say, also where it says no.
    pub(crate) fn passthrough(&self, server_name: &str) -> Option<&Arc<BackendHandle>> {
        let mut patterns = patterns(server_name);
        let pattern = patterns.find(|pattern| self.config.hosts.contains_key(pattern))?;
        self.passthrough.get(&pattern)
    }

    /// Whether any host asks for client certificates.
    pub(crate) fn asks_clients(&self) -> bool {
        !self.client_auth.is_empty()
    }

    /// What the host of a server name asks of clients. The most specific host has the say, also
    /// where it asks for nothing.
    pub(crate) fn client_auth(&self, server_name: Option<&str>) -> Option<&Arc<Policy>> {
        let mut named = server_name.into_iter().flat_map(patterns);
        let pattern = named.find(|pattern| self.config.hosts.contains_key(pattern));
        self.client_auth.of(&pattern.unwrap_or(HostPattern::Any))
    }

    /// The TCP service of a port, and its backend.
    pub(crate) fn tcp_service(&self, port: u16) -> Option<(Arc<BackendHandle>, TcpService)> {
        let service = self.config.tcp_services.get(&port)?;
        let slot = self.backends.slots.get(&service.backend)?;
        Some((Arc::clone(slot), service.clone()))
    }

    /// The backend of the UDP service of a port.
    pub(crate) fn udp_service(&self, port: u16) -> Option<&Arc<BackendHandle>> {
        let service = self.config.udp_services.get(&port)?;
        self.backends.slots.get(&service.backend)
    }

    /// The backends whose endpoints are probed.
    pub(crate) fn checked_backends(&self) -> &[Arc<BackendHandle>] {
        &self.backends.checked
    }

    pub(crate) fn routes(&self) -> &RouteTable<RouteAction> {
        &self.routes
    }
}

impl Table {
    fn apply_changes(&self) {
        let Changes {
            endpoints,
            retired,
            unlabelled,
        } = &self.changes;
        for (slot, endpoints) in endpoints {
            slot.set_endpoints(Arc::clone(endpoints));
        }
        for slot in retired {
            slot.retire();
        }
        self.labels.retire(unlabelled);
    }
}

/// The host patterns of a server name, the most specific first.
fn patterns(server_name: &str) -> impl Iterator<Item = HostPattern> {
    let host = Host::parse(server_name).ok();
    let wildcard = host.as_ref().and_then(|host| {
        let (_, parent) = host.as_str().split_once('.')?;
        Host::parse(parent).ok().map(HostPattern::Wildcard)
    });
    [host.map(HostPattern::Exact), wildcard]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
