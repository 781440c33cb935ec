//! The table that workers serve from: routes, backends and certificates of one generation.
//!
//! Built on the control side from an `ir::Config`, published through a [`TableHandle`], read by
//! every request. A published table never changes, except that the endpoints of its backends do
//! when a later generation is published. What a configuration has in common with the previous one
//! (the same `Arc`) is taken over and costs nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ingress_core::ir::{
    Backend, BackendKey, Config, Host, HostPattern, HostRules, Rule, Target, TcpService,
};
use ingress_core::route::RouteTable;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::backend::{BackendSlot, Destination, Endpoints, Lane};
use super::certificate::{CertificateProblem, CertificateStore, DefaultCertificate, Facts};
use super::metrics::labels::{LabelKey, LabelSet};
use super::tls::{self, TlsOptions};

/// Everything that requests and handshakes are answered by, at one generation.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    config: Arc<Config>,
    routes: Arc<RouteTable<Lane>>,
    backends: Arc<Backends>,
    certificates: Arc<CertificateStore>,
    labels: Arc<LabelSet>,
    passthrough: HashMap<HostPattern, Arc<BackendSlot>>,
    changes: Changes,
}

/// What differs from the previous table in what both share. Applied when the table is published,
/// so that building one has no effect.
#[derive(Debug, Default)]
struct Changes {
    endpoints: Vec<(Arc<BackendSlot>, Arc<Endpoints>)>,
    retired: Vec<Arc<BackendSlot>>,
    /// Labels that no route has any more.
    unlabelled: HashSet<LabelKey>,
}

#[derive(Debug, Default)]
struct Backends {
    slots: BTreeMap<BackendKey, Arc<BackendSlot>>,
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
        let routes = build_routes(previous, &config, &backends, &labels);
        changes.unlabelled = previous.map_or_else(HashSet::new, |table| {
            labels_that_leave(&table.config, &config)
        });
        let passthrough = build_passthrough(&config, &backends);
        let problems = certificates.problems();
        let table = Self {
            generation,
            config,
            routes,
            backends,
            certificates,
            labels,
            passthrough,
            changes,
        };
        (table, problems)
    }

    /// The generation of the configuration that it was built from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// What the certificates that are served say about themselves, with their host patterns.
    pub(super) fn certificate_facts(&self) -> impl Iterator<Item = (&HostPattern, &Facts)> {
        self.certificates.facts()
    }

    /// Whether any TLS connection is passed through.
    pub(super) fn passes_through(&self) -> bool {
        !self.passthrough.is_empty()
    }

    /// The backend that TLS connections for a server name are passed through to. The most specific
    /// host has the say, also where it says no.
    pub(super) fn passthrough(&self, server_name: &str) -> Option<&Arc<BackendSlot>> {
        let host = Host::parse(server_name).ok()?;
        let (_, parent) = host.as_str().split_once('.').unwrap_or_default();
        let wildcard = Host::parse(parent).ok().map(HostPattern::Wildcard);
        let patterns = [Some(HostPattern::Exact(host)), wildcard];
        let mut patterns = patterns.into_iter().flatten();
        let pattern = patterns.find(|pattern| self.config.hosts.contains_key(pattern))?;
        self.passthrough.get(&pattern)
    }

    /// The TCP service of a port, and its backend.
    pub(super) fn tcp_service(&self, port: u16) -> Option<(Arc<BackendSlot>, TcpService)> {
        let service = self.config.tcp_services.get(&port)?;
        let slot = self.backends.slots.get(&service.backend)?;
        Some((Arc::clone(slot), service.clone()))
    }

    pub(super) fn routes(&self) -> &RouteTable<Lane> {
        &self.routes
    }
}

/// Hands the newest table from the control side to all workers.
#[derive(Clone, Debug)]
pub struct TableHandle {
    current: Arc<ArcSwap<Table>>,
    generation: watch::Sender<u64>,
    /// In seconds since 1970.
    published_at: Arc<AtomicU64>,
    /// One for all workers, so that a session that began on one is resumed on any.
    tls: Arc<ServerConfig>,
}

impl TableHandle {
    /// A handle on `table`, which is published by this.
    pub fn new(table: Table, options: &TlsOptions) -> Result<Self, rustls::Error> {
        table.apply_changes();
        let generation = watch::Sender::new(table.generation);
        let current = Arc::new(ArcSwap::from_pointee(table));
        let tls = tls::server_config(Arc::new(Resolver(Arc::clone(&current))), options)?;
        Ok(Self {
            current,
            generation,
            published_at: Arc::new(AtomicU64::new(now())),
            tls,
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
    pub(super) fn published_at(&self) -> u64 {
        self.published_at.load(Ordering::Relaxed)
    }

    pub(super) fn reader(&self) -> arc_swap::Cache<Arc<ArcSwap<Table>>, Arc<Table>> {
        arc_swap::Cache::new(Arc::clone(&self.current))
    }

    pub(super) fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    pub(super) fn tls(&self) -> &Arc<ServerConfig> {
        &self.tls
    }
}

/// Chooses by SNI from the table that is current at the handshake.
#[derive(Debug)]
struct Resolver(Arc<ArcSwap<Table>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.0.load();
        let schemes = hello.signature_schemes();
        Some(table.certificates.find(hello.server_name(), schemes))
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

fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}

fn build_certificates(
    previous: Option<&Table>,
    config: &Config,
    default: &DefaultCertificate,
) -> Arc<CertificateStore> {
    if let Some(table) = previous
        && table.config.certificates == config.certificates
    {
        return Arc::clone(&table.certificates);
    }
    let before = previous.map(|table| &*table.certificates);
    Arc::new(CertificateStore::build(
        before,
        &config.certificates,
        default,
    ))
}

/// Slots for the backends of `config`: those that stay keep their slot, those that leave retire.
fn build_backends(previous: Option<&Table>, config: &Config) -> (Arc<Backends>, Changes) {
    let empty = Backends::default();
    let before = previous.map_or(&empty, |table| &*table.backends);
    let mut changes = Changes::default();
    let mut slots = BTreeMap::new();
    let mut next_id = before.next_id;
    for (key, backend) in &config.backends {
        let slot = before.slots.get(key).cloned().unwrap_or_else(|| {
            next_id += 1;
            Arc::new(BackendSlot::new(next_id, key.policy.clone()))
        });
        let known = previous.and_then(|table| table.config.backends.get(key));
        if known.is_none_or(|known| !same_endpoints(known, backend)) {
            changes
                .endpoints
                .push((Arc::clone(&slot), Endpoints::of(backend)));
        }
        slots.insert(key.clone(), slot);
    }
    let leaving = before
        .slots
        .iter()
        .filter(|(key, _)| !slots.contains_key(*key));
    changes.retired = leaving.map(|(_, slot)| Arc::clone(slot)).collect();
    (Arc::new(Backends { slots, next_id }), changes)
}

fn same_endpoints(a: &Arc<Backend>, b: &Arc<Backend>) -> bool {
    Arc::ptr_eq(a, b)
        || (&a.endpoints, &a.draining, a.protocol) == (&b.endpoints, &b.draining, b.protocol)
}

/// The hosts whose root leads to a backend that TLS is passed through to.
fn build_passthrough(
    config: &Config,
    backends: &Backends,
) -> HashMap<HostPattern, Arc<BackendSlot>> {
    // Nearly always none: then no host is looked at.
    if !config.backends.keys().any(|key| key.policy.passthrough) {
        return HashMap::new();
    }
    let slot = |rules: &HostRules| {
        let mut rules = rules.rules.iter().chain(&rules.default);
        let root = rules.find(|rule| rule.path.matches("/"))?;
        match &root.target {
            Target::Backend(key) if key.policy.passthrough => backends.slots.get(key).cloned(),
            Target::Backend(_) | Target::Unavailable => None,
        }
    };
    let hosts = config.hosts.iter();
    hosts
        .filter_map(|(host, rules)| Some((host.clone(), slot(rules)?)))
        .collect()
}

fn build_routes(
    previous: Option<&Table>,
    config: &Config,
    backends: &Backends,
    labels: &LabelSet,
) -> Arc<RouteTable<Lane>> {
    let default = config.default_backend.as_ref();
    let resolve = |host: Option<&HostPattern>, rule: &Arc<Rule>| Lane {
        destination: destination(rule, backends),
        labels: labels.intern(LabelKey::of(host, rule)),
    };
    let Some(table) = previous else {
        return Arc::new(RouteTable::compile(&config.hosts, default, resolve));
    };
    let changes = changed_hosts(&table.config, config);
    if changes.is_empty() && table.config.default_backend == config.default_backend {
        return Arc::clone(&table.routes);
    }
    Arc::new(table.routes.with_changes(changes, default, resolve))
}

/// What routes were counted by that are no more.
fn labels_that_leave(before: &Config, after: &Config) -> HashSet<LabelKey> {
    let mut leaving = HashSet::new();
    for (host, rules) in changed_hosts(before, after) {
        let keys = |rules: &Arc<HostRules>| -> Vec<_> {
            let rules = rules.rules.iter().chain(&rules.default);
            rules.map(|rule| LabelKey::of(Some(host), rule)).collect()
        };
        leaving.extend(before.hosts.get(host).map(keys).unwrap_or_default());
        for key in rules.map(keys).unwrap_or_default() {
            leaving.remove(&key);
        }
    }
    let of_default = |config: &Config| {
        let rule = config.default_backend.as_ref();
        rule.map(|rule| LabelKey::of(None, rule))
    };
    if of_default(before) != of_default(after) {
        leaving.extend(of_default(before));
    }
    leaving
}

/// The hosts whose rules differ, with their new rules. Equal pointers are equal rules.
fn changed_hosts<'a>(
    before: &'a Config,
    after: &'a Config,
) -> Vec<(&'a HostPattern, Option<&'a Arc<HostRules>>)> {
    let changed = after
        .hosts
        .iter()
        .filter(|(host, rules)| before.hosts.get(*host) != Some(rules))
        .map(|(host, rules)| (host, Some(rules)));
    let gone = before
        .hosts
        .keys()
        .filter(|host| !after.hosts.contains_key(*host));
    changed.chain(gone.map(|host| (host, None))).collect()
}

fn destination(rule: &Rule, backends: &Backends) -> Destination {
    match &rule.target {
        Target::Backend(key) => {
            let slot = backends.slots.get(key);
            debug_assert!(
                slot.is_some(),
                "`Config::backends` has every backend that a rule names"
            );
            slot.cloned()
                .map_or(Destination::Unavailable, Destination::Backend)
        }
        Target::Unavailable => Destination::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ingress_core::ir::{
        BackendPolicy, Endpoint, ObjectRef, PathPattern, RuleOrigin, ServicePort, UpstreamProtocol,
    };

    use super::*;

    fn key(service: &str) -> BackendKey {
        BackendKey {
            namespace: "default".into(),
            service: service.into(),
            port: ServicePort::Number(80),
            policy: BackendPolicy::default(),
        }
    }

    /// One host for each service, and the last octet of each of its endpoints.
    fn config(services: &[(&str, &[u8])]) -> Arc<Config> {
        let mut config = Config::default();
        for (service, endpoints) in services {
            let address = |last: &u8| SocketAddr::from(([10, 0, 0, *last], 80));
            let endpoints = endpoints.iter().map(|last| Endpoint {
                address: address(last),
            });
            let backend = Backend {
                key: key(service),
                protocol: UpstreamProtocol::Http1,
                endpoints: endpoints.collect(),
                draining: Vec::new(),
            };
            config.backends.insert(key(service), Arc::new(backend));
            let ingress = ObjectRef {
                kind: "Ingress",
                namespace: "default".into(),
                name: "test".into(),
            };
            let rule = Rule {
                path: PathPattern::Prefix("".into()),
                target: Target::Backend(key(service)),
                origin: RuleOrigin {
                    ingress,
                    path: "/".into(),
                },
            };
            let rules = HostRules {
                rules: vec![Arc::new(rule)],
                default: None,
            };
            let host = HostPattern::parse(&format!("{service}.test")).unwrap();
            config.hosts.insert(host, Arc::new(rules));
        }
        Arc::new(config)
    }

    fn slot(table: &Table, service: &str) -> Arc<BackendSlot> {
        Arc::clone(&table.backends.slots[&key(service)])
    }

    fn handle(config: Arc<Config>) -> (TableHandle, DefaultCertificate) {
        let default = DefaultCertificate::generate().unwrap();
        let (table, _) = Table::build(None, config, 1, &default);
        (
            TableHandle::new(table, &TlsOptions::default()).unwrap(),
            default,
        )
    }

    #[test]
    fn endpoints_change_without_a_change_of_routes() {
        let (handle, default) = handle(config(&[("a", &[1]), ("b", &[2])]));
        let before = handle.current();
        let next = config(&[("a", &[1, 3]), ("b", &[2])]);
        let (table, _) = Table::build(Some(&before), next, 2, &default);
        assert!(Arc::ptr_eq(&before.routes, &table.routes));
        assert!(Arc::ptr_eq(&before.certificates, &table.certificates));
        assert_eq!(table.changes.endpoints.len(), 1);
        let slot = slot(&before, "a");
        let added = SocketAddr::from(([10, 0, 0, 3], 80));
        let has_added = || slot.endpoints().addresses.contains(&added);
        assert!(!has_added(), "building has no effect");
        handle.publish(table);
        assert!(has_added());
    }

    #[test]
    fn a_backend_that_leaves_retires_and_may_come_back() {
        let (handle, default) = handle(config(&[("a", &[1]), ("b", &[2])]));
        let before = handle.current();
        let (left, address) = (slot(&before, "b"), SocketAddr::from(([10, 0, 0, 2], 80)));
        let (table, _) = Table::build(Some(&before), config(&[("a", &[1])]), 2, &default);
        handle.publish(table);
        assert!(left.is_retired());
        let found_before = left.endpoints();
        assert_eq!(found_before.addresses, [address]);
        let without = handle.current();
        assert!(without.routes().find("b.test", "/").is_none());
        let again = config(&[("a", &[1]), ("b", &[2])]);
        let (table, _) = Table::build(Some(&without), again, 3, &default);
        handle.publish(table);
        let slot = slot(&handle.current(), "b");
        assert!(!slot.is_retired() && slot.id != left.id);
        assert_eq!(slot.endpoints().addresses, [address]);
    }
}
