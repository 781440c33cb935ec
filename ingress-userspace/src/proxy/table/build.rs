//! The parts of a table, made from a configuration and what the previous table had.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use http::StatusCode;
use ingress_core::filter::{Answer, in_order, redirects_to_https};
use ingress_core::ir::{
    Backend, Config, Filter, HostPattern, HostRules, RoutePolicy, Rule, Target, WeightedBackend,
};
use ingress_core::route::RouteTable;
use ingress_core::sorted::Difference;

use super::{Backends, Changes, Table};
use crate::proxy::observe::metrics::labels::{LabelKey, LabelSet};
use crate::proxy::table::slot::{
    BackendHandle, CanaryRoute, Destination, Endpoints, ErrorOrigin, ErrorRoute, RouteAction,
    RouteExtras, Split,
};
use crate::proxy::tls::certificate::{CertificateStore, DefaultCertificate};
use crate::proxy::tls::client_auth::ClientAuthStore;

/// A host whose rules are others now, or gone.
pub(crate) type HostChange<'a> = (&'a HostPattern, Option<&'a Arc<HostRules>>);

pub(crate) fn build_certificates(
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

pub(crate) fn build_client_auth(previous: Option<&Table>, config: &Config) -> Arc<ClientAuthStore> {
    if let Some(table) = previous
        && table.config.client_auth == config.client_auth
    {
        return Arc::clone(&table.client_auth);
    }
    let before = previous.map(|table| &*table.client_auth);
    Arc::new(ClientAuthStore::build(before, &config.client_auth))
}

/// Slots for the backends of `config`: those that stay keep their slot, those that leave retire.
pub(crate) fn build_backends(
    previous: Option<&Table>,
    config: &Config,
) -> (Arc<Backends>, Changes) {
    if let Some(table) = previous
        && let Some(changes) = changes_of_same_backends(table, config)
    {
        return (Arc::clone(&table.backends), changes);
    }
    let empty = Backends::default();
    let before = previous.map_or(&empty, |table| &*table.backends);
    let mut changes = Changes::default();
    let mut slots = BTreeMap::new();
    let mut next_id = before.next_id;
    let mut checked = Vec::new();
    for (key, backend) in config.backends.iter() {
        let slot = before.slots.get(key).cloned().unwrap_or_else(|| {
            next_id += 1;
            Arc::new(BackendHandle::new(next_id, key))
        });
        let known = previous.and_then(|table| table.config.backends.get(key));
        if known.is_none_or(|known| !same_endpoints(known, backend)) {
            changes
                .endpoints
                .push((Arc::clone(&slot), Endpoints::of(backend)));
        }
        if key.policy.health_check.is_some() {
            checked.push(Arc::clone(&slot));
        }
        slots.insert(Arc::clone(key), slot);
    }
    let leaving = before
        .slots
        .iter()
        .filter(|(key, _)| !slots.contains_key(*key));
    changes.retired = leaving.map(|(_, slot)| Arc::clone(slot)).collect();
    let backends = Backends {
        slots,
        checked,
        next_id,
    };
    (Arc::new(backends), changes)
}

/// What differs when no backend came or left, which is how it is nearly always: pods do.
fn changes_of_same_backends(table: &Table, config: &Config) -> Option<Changes> {
    let mut changes = Changes::default();
    for Difference { key, before, after } in table.config.backends.differences(&config.backends) {
        let (before, after) = (before?, after?);
        if !same_endpoints(before, after)
            && let Some(slot) = table.backends.slots.get(key)
        {
            let change = (Arc::clone(slot), Endpoints::of(after));
            changes.endpoints.push(change);
        }
    }
    Some(changes)
}

fn same_endpoints(a: &Arc<Backend>, b: &Arc<Backend>) -> bool {
    Arc::ptr_eq(a, b)
        || (&a.endpoints, &a.draining, a.protocol) == (&b.endpoints, &b.draining, b.protocol)
}

/// The hosts whose root leads to a backend that TLS is passed through to.
pub(crate) fn build_passthrough(
    previous: Option<&Table>,
    config: &Config,
    backends: &Arc<Backends>,
) -> Arc<HashMap<HostPattern, Arc<BackendHandle>>> {
    if let Some(table) = previous
        && table.config.hosts.is(&config.hosts)
        && Arc::ptr_eq(&table.backends, backends)
    {
        return Arc::clone(&table.passthrough);
    }
    let hosts = config.hosts.iter();
    let passed = hosts.filter_map(|(host, rules)| {
        let slot = backends.slots.get(rules.passthrough.as_ref()?)?;
        Some((host.clone(), Arc::clone(slot)))
    });
    Arc::new(passed.collect())
}

pub(crate) fn build_routes(
    previous: Option<&Table>,
    config: &Config,
    backends: &Backends,
    client_auth: &ClientAuthStore,
    labels: &LabelSet,
    hosts: &[HostChange<'_>],
) -> Arc<RouteTable<RouteAction>> {
    let default = config.default_backend.as_ref();
    let mut filters = FilterLists::default();
    let resolve = |host: Option<&HostPattern>, rule: &Arc<Rule>| {
        let labels = labels.intern(LabelKey::of(host, rule));
        RouteAction {
            destination: destination(rule, backends),
            client_auth: client_auth.of(host.unwrap_or(&HostPattern::Any)).cloned(),
            filters: filters.of(rule, host.is_some_and(|host| has_tls(config, host))),
            extras: extras(rule, default, backends),
            slot: labels.slot,
            labels,
        }
    };
    // The route of unknown hosts is kept with all that it has while its rule is the same.
    let unknown = |store: &ClientAuthStore| store.of(&HostPattern::Any).map(Arc::as_ptr);
    let previous = previous.filter(|table| unknown(&table.client_auth) == unknown(client_auth));
    let Some(table) = previous else {
        return Arc::new(RouteTable::compile(&config.hosts, default, resolve));
    };
    let mut changes = hosts.to_vec();
    for host in client_auth.differences(&table.client_auth) {
        if let Some((host, rules)) = config.hosts.get_key_value(host)
            && !changes.iter().any(|(changed, _)| *changed == host)
        {
            changes.push((host, Some(rules)));
        }
    }
    if changes.is_empty() && table.config.default_backend == config.default_backend {
        return Arc::clone(&table.routes);
    }
    Arc::new(table.routes.with_changes(changes, default, resolve))
}

/// What routes were counted by that are no more.
pub(crate) fn labels_that_leave(
    before: &Config,
    after: &Config,
    hosts: &[HostChange<'_>],
) -> HashSet<LabelKey> {
    let mut leaving = HashSet::new();
    for (host, rules) in hosts {
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

fn has_tls(config: &Config, host: &HostPattern) -> bool {
    config.hosts.get(host).is_some_and(|rules| rules.has_tls)
}

fn destination(rule: &Rule, backends: &Backends) -> Destination {
    let slot = |key| backends.slots.get(key).cloned();
    match &rule.target {
        Target::Backends(keys) => match &**keys {
            [only] => slot(&only.key).map_or(Destination::Unavailable, Destination::Backend),
            [main, canaries @ ..] if canaries.iter().any(|one| one.canary.is_some()) => {
                canary_route(main, canaries, backends)
            }
            several => {
                let slots = several.iter();
                let slots = slots.filter_map(|one| Some((one.weight, slot(&one.key)?)));
                Split::new(slots).map_or(Destination::Unavailable, |split| {
                    Destination::Split(Arc::new(split))
                })
            }
        },
        Target::Redirect(redirect) => Destination::Respond(Answer::redirect(
            redirect.code,
            redirect.location.as_bytes(),
        )),
        Target::Respond(status) => Destination::Respond(Answer::status(
            StatusCode::from_u16(*status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        )),
        Target::Unavailable => Destination::Unavailable,
    }
}

fn canary_route(
    main: &WeightedBackend,
    canaries: &[WeightedBackend],
    backends: &Backends,
) -> Destination {
    let slot = |one: &WeightedBackend| backends.slots.get(&one.key).cloned();
    let Some(main) = slot(main) else {
        return Destination::Unavailable;
    };
    let canaries = canaries.iter();
    let canaries = canaries.filter_map(|one| Some((one.canary.clone()?, slot(one)?)));
    Destination::Canaries(Arc::new(CanaryRoute {
        main,
        canaries: canaries.collect(),
    }))
}

/// The settings that few routes have.
fn extras(
    rule: &Rule,
    default: Option<&Arc<Rule>>,
    backends: &Backends,
) -> Option<Arc<RouteExtras>> {
    let policy = &rule.policy;
    let extras = RouteExtras {
        error_pages: error_pages(rule, default, backends),
        mirror: policy.mirror.clone(),
        compression: policy.compression.clone(),
        substitution: policy.substitution.clone(),
        bandwidth: policy.bandwidth,
        is_unlogged: policy.is_unlogged,
        has_canaries: (rule.target.backends().iter()).any(|backend| backend.canary.is_some()),
        cookie_path: cookie_path(rule),
    };
    let is_any = extras.error_pages.is_some()
        || extras.mirror.is_some()
        || extras.compression.is_some()
        || extras.substitution.is_some()
        || extras.bandwidth.is_some()
        || extras.is_unlogged
        || extras.has_canaries
        || extras.cookie_path.is_some();
    is_any.then(|| Arc::new(extras))
}

/// The Path of session cookies that do not have one of their own, unless it is the default.
fn cookie_path(rule: &Rule) -> Option<Arc<str>> {
    let affinities = rule.target.backends().iter();
    let mut affinities = affinities.filter_map(|one| one.key.policy.affinity.as_ref());
    let is_asked = affinities.any(|affinity| affinity.path.is_none());
    let path = is_asked.then(|| rule.cookie_path());
    path.filter(|path| **path != *"/")
}

/// The backend that answers in place of errors: the one that the Ingress names, else that of the
/// operator.
fn error_pages(
    rule: &Rule,
    default: Option<&Arc<Rule>>,
    backends: &Backends,
) -> Option<ErrorRoute> {
    let pages = rule.policy.error_pages.as_ref()?;
    let of_operator = default.filter(|default| default.origin.ingress.kind == "Service");
    let of_operator = of_operator.and_then(|default| default.target.primary());
    let key = pages.backend.as_ref().or(of_operator)?;
    let backend = backends.slots.get(key).cloned()?;
    let target = rule.target.primary();
    Some(ErrorRoute {
        statuses: pages.statuses.clone(),
        replaces_unavailable: pages.replaces_unavailable,
        backend,
        origin: ErrorOrigin {
            namespace: Arc::clone(&rule.origin.ingress.namespace),
            ingress: Arc::clone(&rule.origin.ingress.name),
            service: target.map_or_else(|| "".into(), |key| Arc::clone(&key.service)),
            port: target
                .map_or_else(String::new, |key| key.port.to_string())
                .into(),
        },
    })
}

/// The filters of routes; routes of one policy share them.
#[derive(Default)]
struct FilterLists {
    known: HashMap<FilterKey, Option<Arc<[Filter]>>>,
}

/// What the filters of a route depend on.
#[derive(PartialEq, Eq, Hash)]
struct FilterKey {
    /// Its address, which stays the policy's own while the configuration keeps it.
    policy: *const RoutePolicy,
    /// Whether clear text is redirected.
    redirects: bool,
    has_tls: bool,
}

impl FilterLists {
    fn of(&mut self, rule: &Rule, has_tls: bool) -> Option<Arc<[Filter]>> {
        let policy = &rule.policy;
        let redirects = redirects_to_https(rule, has_tls);
        if policy.filters.is_empty() && !redirects && !has_tls {
            return None;
        }
        let key = FilterKey {
            policy: Arc::as_ptr(policy),
            redirects,
            has_tls,
        };
        let known = self.known.entry(key);
        let known = known.or_insert_with(|| {
            let all = in_order(policy, redirects, has_tls);
            (!all.is_empty()).then(|| all.into())
        });
        known.clone()
    }
}
