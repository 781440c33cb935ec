//! The table that workers serve from: routes, backends and certificates of one generation.
//!
//! Built on the control side from an `ir::Config`, published through a [`TableHandle`], read by
//! every request. A published table never changes, except that the endpoints of its backends do
//! when a later generation is published. What a configuration has in common with the previous one
//! (the same `Arc`) is taken over and costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ingress_core::ir::{Backend, BackendKey, Config, HostPattern, HostRules, Rule, Target};
use ingress_core::route::RouteTable;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::backend::{BackendSlot, Destination, Endpoints};
use super::certificate::{CertificateProblem, CertificateStore, DefaultCertificate};
use super::tls;

/// Everything that requests and handshakes are answered by, at one generation.
#[derive(Debug)]
pub struct Table {
    generation: u64,
    config: Arc<Config>,
    routes: Arc<RouteTable<Destination>>,
    backends: Arc<Backends>,
    certificates: Arc<CertificateStore>,
    changes: BackendChanges,
}

/// What differs from the previous table in the slots that both share. Applied when the table is
/// published, so that building one has no effect.
#[derive(Debug, Default)]
struct BackendChanges {
    endpoints: Vec<(Arc<BackendSlot>, Arc<Endpoints>)>,
    retired: Vec<Arc<BackendSlot>>,
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
        let (backends, changes) = build_backends(previous, &config);
        let routes = build_routes(previous, &config, &backends);
        let problems = certificates.problems();
        let table = Self {
            generation,
            config,
            routes,
            backends,
            certificates,
            changes,
        };
        (table, problems)
    }

    /// The generation of the configuration that it was built from.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn routes(&self) -> &RouteTable<Destination> {
        &self.routes
    }
}

/// Hands the newest table from the control side to all workers.
#[derive(Clone, Debug)]
pub struct TableHandle {
    current: Arc<ArcSwap<Table>>,
    generation: watch::Sender<u64>,
    /// One for all workers, so that a session that began on one is resumed on any.
    tls: Arc<ServerConfig>,
}

impl TableHandle {
    /// A handle on `table`, which is published by this.
    pub fn new(table: Table) -> Result<Self, rustls::Error> {
        table.changes.apply();
        let generation = watch::Sender::new(table.generation);
        let current = Arc::new(ArcSwap::from_pointee(table));
        let tls = tls::server_config(Arc::new(Resolver(Arc::clone(&current))))?;
        Ok(Self {
            current,
            generation,
            tls,
        })
    }

    /// Makes `table` the one that every request and handshake from now on is served by.
    pub fn publish(&self, table: Table) {
        let generation = table.generation;
        // Endpoints come first: no route of the new table finds a slot still empty.
        table.changes.apply();
        self.current.store(Arc::new(table));
        self.generation.send_replace(generation);
    }

    /// The table published last.
    pub fn current(&self) -> Arc<Table> {
        self.current.load_full()
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
        Some(self.0.load().certificates.find(hello.server_name()))
    }
}

impl BackendChanges {
    fn apply(&self) {
        for (slot, endpoints) in &self.endpoints {
            slot.set_endpoints(Arc::clone(endpoints));
        }
        for slot in &self.retired {
            slot.retire();
        }
    }
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
fn build_backends(previous: Option<&Table>, config: &Config) -> (Arc<Backends>, BackendChanges) {
    let empty = Backends::default();
    let before = previous.map_or(&empty, |table| &*table.backends);
    let mut changes = BackendChanges::default();
    let mut slots = BTreeMap::new();
    let mut next_id = before.next_id;
    for (key, backend) in &config.backends {
        let slot = before.slots.get(key).cloned().unwrap_or_else(|| {
            next_id += 1;
            Arc::new(BackendSlot::new(next_id))
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
    Arc::ptr_eq(a, b) || (&a.endpoints, a.protocol) == (&b.endpoints, b.protocol)
}

fn build_routes(
    previous: Option<&Table>,
    config: &Config,
    backends: &Backends,
) -> Arc<RouteTable<Destination>> {
    let default = config.default_backend.as_ref();
    let resolve = |rule: &Arc<Rule>| destination(rule, backends);
    let Some(table) = previous else {
        return Arc::new(RouteTable::compile(&config.hosts, default, resolve));
    };
    let changes = changed_hosts(&table.config, config);
    if changes.is_empty() && table.config.default_backend == config.default_backend {
        return Arc::clone(&table.routes);
    }
    Arc::new(table.routes.with_changes(changes, default, resolve))
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
        Endpoint, ObjectRef, PathPattern, RuleOrigin, ServicePort, UpstreamProtocol,
    };

    use super::*;

    fn key(service: &str) -> BackendKey {
        BackendKey {
            namespace: "default".into(),
            service: service.into(),
            port: ServicePort::Number(80),
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
        (TableHandle::new(table).unwrap(), default)
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
