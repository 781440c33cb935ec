//! Snapshot in, configuration and diagnostics out: what the Ingress objects mean.
//!
//! Second station of a change: source → **translate** → publish. Total (a broken object gives a
//! diagnostic, never an error), deterministic, and independent of the order of objects.
//!
//! It is a composition of steps that look at one thing each:
//!
//! 1. `class`: is this Ingress ours?
//! 2. `claim`: what does one Ingress ask for? Depends on that object alone, so that its result
//!    can be kept for as long as the object does not change.
//! 3. `references`: what do the Secrets, ConfigMaps and Services hold that annotations name?
//!    `conflict`: which claim wins a host and path that several make? `canary`, `www`: which backends
//!    and hosts join it?
//! 4. `stream`: which ports are TCP and UDP services?
//! 5. `backend`, `certificate`, `client_auth`: what do the Services and Secrets that all these name hold?
//!    `acme`: which certificates are to be ordered?
//!
//! # Meaning
//!
//! * **Age decides.** Wherever two Ingresses want the same thing, the older `creationTimestamp`
//!   wins, then the smaller namespace and name. An object without a timestamp counts as oldest.
//! * **Hosts are isolated.** A request is served by the most specific host that matches (exact,
//!   then wildcard, then none) and never by the rules of a less specific one, even when no path
//!   matches. ingress-nginx and Envoy do the same; the Kubernetes documentation leaves it open.
//! * **Default backends.** `spec.defaultBackend` of an Ingress with rules serves what no rule
//!   matches on exactly the hosts of that Ingress. That of an Ingress without rules serves the
//!   hosts that nobody names. Behind both stands the controller's own default backend.
//! * **Classes.** `spec.ingressClassName` first, then the annotation `kubernetes.io/ingress.class`
//!   (ingress-nginx has the same order), then the default IngressClass, then
//!   [`Options::unclassed`].

mod acme;
mod backend;
mod canary;
mod certificate;
mod claim;
mod class;
mod client_auth;
mod conflict;
mod endpoint;
mod external;
mod host;
mod memo;
mod memos;
mod name_shares;
mod references;
mod regex;
mod review;
mod slices;
mod stream;
mod www;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::acme::Wanted;
use crate::diagnostic::Diagnostic;
use crate::ir::{
    BackendKey, Config, HostPattern, HostRules, ObjectRef, ProcessSettings, Rule, TcpService,
    UdpService,
};
use crate::object::Ingress;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use memos::Memos;
pub(crate) use review::review;
use slices::Previous;
use stream::Services;

/// What the controller's operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `spec.controller` of the IngressClasses that are ours.
    pub controller_class: String,
    /// The value of the annotation `kubernetes.io/ingress.class` that is ours, and the class name
    /// that is ours when no IngressClass object of that name exists (plain manifests often have
    /// none).
    pub ingress_class: String,
    /// What to do with an Ingress that names no class while no IngressClass is the default.
    pub unclassed: Unclassed,
    /// The controller's own default backend.
    pub default_backend: Option<Arc<BackendKey>>,
    /// The ConfigMap of settings for all classes.
    pub config_map: Option<ObjectRef>,
    /// The Secret with the certificate of hosts that have none of their own.
    pub default_certificate: Option<ObjectRef>,
    /// The node whose zone topology hints are honoured for; `None` ignores hints.
    pub hints_for_node: Option<String>,
    /// Whether Services of type `ExternalName` are served.
    pub external_names: bool,
    /// TCP services by the port that clients dial.
    pub tcp_services: BTreeMap<u16, TcpService>,
    /// UDP services by the port that clients send to.
    pub udp_services: BTreeMap<u16, UdpService>,
    /// The ConfigMap that names further TCP services.
    pub tcp_services_from: Option<ObjectRef>,
    /// The ConfigMap that names further UDP services.
    pub udp_services_from: Option<ObjectRef>,
    /// Keys of annotations and class parameters, without a prefix, that are ignored even if they
    /// restrict access.
    pub ignored_annotations: BTreeSet<String>,
    /// Who may add rules to a host.
    pub host_ownership: HostOwnership,
    /// Where ingress-nginx and the Kubernetes specification differ, which of them counts.
    pub compat: Compat,
    /// TCP ports that are the daemon's own and can't be those of services.
    pub reserved_ports: BTreeSet<u16>,
    /// Where clients reach HTTPS.
    pub https_port: u16,
    /// Whether a flag names peers that are believed about clients.
    pub trusts_peers: bool,
    /// Names of the ACME issuers that Ingresses may choose from.
    pub acme_issuers: BTreeSet<Arc<str>>,
    /// The Secret through which nodes share challenges and the state of orders.
    pub acme_state: Option<ObjectRef>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_class: "sluice.dev/ingress-controller".to_owned(),
            ingress_class: "sluice".to_owned(),
            unclassed: Unclassed::Ignore,
            default_backend: None,
            config_map: None,
            default_certificate: None,
            hints_for_node: None,
            external_names: true,
            tcp_services: BTreeMap::new(),
            udp_services: BTreeMap::new(),
            tcp_services_from: None,
            udp_services_from: None,
            ignored_annotations: BTreeSet::new(),
            host_ownership: HostOwnership::Shared,
            compat: Compat::Strict,
            reserved_ports: BTreeSet::new(),
            https_port: 443,
            trusts_peers: false,
            acme_issuers: BTreeSet::new(),
            acme_state: None,
        }
    }
}

/// What to do with an Ingress that names no class (`--watch-ingress-without-class`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclassed {
    /// It is somebody else's.
    Ignore,
    /// It is ours.
    Accept,
}

/// Who may add rules to a host (`--host-ownership`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOwnership {
    /// Every Ingress.
    Shared,
    /// Ingresses of the namespace whose Ingress named the host first.
    Namespace,
}

/// Where ingress-nginx and the Kubernetes specification differ, which of them counts (`--compat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// The specification: `use-regex` and `rewrite-target` concern the paths of their own Ingress,
    /// and `Exact` paths stay exact.
    Strict,
    /// ingress-nginx: once one Ingress of a host has either annotation, every path of the host is
    /// a regular expression, without regard to case.
    IngressNginx,
}

/// What a snapshot means.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// Everything that can be served.
    pub config: Config,
    /// Everything that cannot, sorted, without duplicates.
    pub diagnostics: Shared<Vec<Diagnostic>>,
    /// The Ingresses that are ours, oldest first.
    pub accepted: Shared<Vec<Arc<Ingress>>>,
    /// External names of Services whose addresses are needed, in lower case; of more than 4,096, each
    /// namespace has an equal share.
    pub external_names: BTreeSet<Arc<str>>,
    /// The certificates that Ingresses ask ACME issuers for, by namespace and name of their Secrets.
    pub certificates_wanted: Shared<Vec<Wanted>>,
}

/// Reads a snapshot.
pub fn translate(snapshot: &Snapshot, options: &Options) -> Translation {
    translate_with(snapshot, options, &mut Memos::default())
}

/// Reads one snapshot after another, and what has not changed from one to the next only once.
pub struct Translator {
    options: Options,
    memos: Memos,
    last: Option<Previous>,
}

impl Translator {
    /// One that has read nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            memos: Memos::default(),
            last: None,
        }
    }

    /// What [`translate`] gives.
    pub fn translate(&mut self, snapshot: &Snapshot) -> Translation {
        let last = self.last.take();
        let followed =
            last.and_then(|last| slices::follow(&last, snapshot, &mut self.memos.backends));
        let translation =
            followed.unwrap_or_else(|| translate_with(snapshot, &self.options, &mut self.memos));
        self.last = Some(Previous {
            snapshot: snapshot.clone(),
            translation: translation.clone(),
        });
        translation
    }
}

fn translate_with(snapshot: &Snapshot, options: &Options, memos: &mut Memos) -> Translation {
    memos.begin(snapshot.ingresses.len());
    let mut diagnostics = Vec::new();
    let read = read_claims(snapshot, options, memos, &mut diagnostics);
    let claims = read.claims;
    diagnostics.extend(
        claims
            .iter()
            .flat_map(|claims| claims.diagnostics.iter().cloned()),
    );

    let default_backend = options
        .default_backend
        .as_ref()
        .map(claim::controller_default);
    let owners = host::Owners::of(&claims);
    let mut winners = conflict::resolve(
        &claims,
        &owners,
        options,
        default_backend.as_ref(),
        &mut diagnostics,
    );
    let services = Services::read(snapshot, options, &mut diagnostics);
    winners.uses.extend(services.uses());
    let backend::Resolution {
        backends,
        external_names,
    } = backend::resolve(
        snapshot,
        options,
        &winners,
        &mut memos.backends,
        &mut diagnostics,
    );
    let ordered = acme::resolve(snapshot, options, &claims, &owners, &mut diagnostics);
    let certificates = certificate::resolve(
        snapshot,
        options,
        &claims,
        &ordered.wanted,
        &mut memos.certificates,
        &mut diagnostics,
    );
    let client_auth = client_auth::resolve(snapshot, &claims, &owners, &mut diagnostics);

    memos.end();
    diagnostics.sort_unstable();
    diagnostics.dedup();
    client_auth.close(&mut winners.hosts);
    let hosts = winners.hosts.into_iter().map(shared).collect();
    let default_backend = winners.default_backend;
    let (tcp_services, udp_services) = services.into_parts();
    let config = Config {
        hosts,
        default_backend,
        backends: backends.into(),
        certificates: certificates.into(),
        client_auth: client_auth.hosts.into(),
        tcp_services,
        udp_services,
        process: read.process,
        acme: ordered.acme,
    };
    Translation {
        config,
        diagnostics: diagnostics.into(),
        accepted: read.ours.into(),
        external_names,
        certificates_wanted: ordered.wanted.into(),
    }
}

fn shared((host, mut rules): (HostPattern, HostRules)) -> (HostPattern, Arc<HostRules>) {
    rules.rules.shrink_to_fit();
    (host, Arc::new(rules))
}

/// What Ingresses and classes ask for.
struct Read {
    /// The Ingresses that are ours, oldest first.
    ours: Vec<Arc<Ingress>>,
    /// What each asks for.
    claims: Vec<Arc<claim::Claims>>,
    /// What the operator says about the process.
    process: Arc<ProcessSettings>,
}

fn read_claims(
    snapshot: &Snapshot,
    options: &Options,
    memos: &mut Memos,
    diagnostics: &mut Vec<Diagnostic>,
) -> Read {
    let classes = class::Classes::new(&snapshot.ingress_classes, options, diagnostics);
    let settings = class::ClassSettings::read(&classes, &snapshot.config_maps, diagnostics);

    let mut ours: Vec<_> = snapshot
        .ingresses
        .iter()
        .filter_map(|ingress| {
            let class = classes.of(ingress);
            if class.is_none() {
                diagnostics.extend(classes.complaint(ingress));
            }
            Some((ingress, class?))
        })
        .collect();
    ours.sort_unstable_by_key(|(ingress, _)| {
        let meta = &ingress.meta;
        (&meta.created, &meta.namespace, &meta.name)
    });
    let ignored = &options.ignored_annotations;
    let claims: Vec<_> = ours
        .iter()
        .map(|(ingress, class)| memos.claims(ingress, settings.of(*class), ignored))
        .collect();
    let mut claims = references::resolve(claims, snapshot, diagnostics);
    canary::share_sessions(&mut claims);
    let ours = ours.into_iter().map(|(ingress, _)| Arc::clone(ingress));
    Read {
        ours: ours.collect(),
        claims,
        process: Arc::clone(settings.process()),
    }
}

/// A rule that an Ingress of ours asks for, served or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The hosts that it is for.
    pub host: HostPattern,
    /// The rule.
    pub rule: Arc<Rule>,
    /// The field of the Ingress.
    pub field: String,
    /// Whether it is for what no rule matches.
    pub is_default: bool,
}

/// Everything that our Ingresses ask for, oldest Ingress first.
pub fn claimed(snapshot: &Snapshot, options: &Options) -> Vec<Claimed> {
    let memos = &mut Memos::default();
    let Read { claims, .. } = read_claims(snapshot, options, memos, &mut Vec::new());
    let mut all = Vec::new();
    for one in &claims {
        all.extend(one.rules.iter().map(|claim| Claimed {
            host: claim.host.clone(),
            rule: Arc::clone(&claim.rule),
            field: claim.field.to_string(),
            is_default: false,
        }));
        let Some(default) = &one.default else {
            continue;
        };
        all.extend(one.own_hosts().iter().map(|host| Claimed {
            host: host.clone(),
            rule: Arc::clone(default),
            field: claim::RuleField::DefaultBackend.to_string(),
            is_default: true,
        }));
    }
    all
}

/// The objects that have to be read for a translation besides those of kinds that are read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Secrets that TLS sections and annotations of our Ingresses name.
    pub secrets: BTreeSet<ObjectRef>,
    /// ConfigMaps that our IngressClasses name, and those of services.
    pub config_maps: BTreeSet<ObjectRef>,
}

/// What a snapshot names, whether it has it or not.
pub fn needs(snapshot: &Snapshot, options: &Options) -> Needs {
    let classes = class::Classes::new(&snapshot.ingress_classes, options, &mut Vec::new());
    let accepted = snapshot
        .ingresses
        .iter()
        .filter(|ingress| classes.of(ingress).is_some());
    let secrets = accepted.flat_map(|ingress| {
        let names = ingress
            .tls
            .iter()
            .filter_map(|tls| tls.secret_name.as_deref().filter(|name| !name.is_empty()));
        let authorities = client_auth::secret_of(ingress);
        let names = names.map(Arc::from).chain(authorities);
        names.map(|name| ObjectRef {
            kind: "Secret",
            namespace: Arc::clone(&ingress.meta.namespace),
            name,
        })
    });
    let accepted = snapshot.ingresses.iter();
    let accepted = accepted.filter(|ingress| classes.of(ingress).is_some());
    let of_annotations = accepted.flat_map(|ingress| references::of(ingress));
    let (of_annotations, config_maps): (BTreeSet<_>, BTreeSet<_>) =
        of_annotations.partition(|object| object.kind == "Secret");
    let services = [
        &options.config_map,
        &options.tcp_services_from,
        &options.udp_services_from,
    ];
    let services = services.into_iter().flatten().cloned();
    Needs {
        secrets: secrets
            .chain(of_annotations)
            .chain(options.default_certificate.clone())
            .chain(options.acme_state.clone())
            .collect(),
        config_maps: classes
            .parameters()
            .chain(services)
            .chain(class::referenced(&classes, &snapshot.config_maps))
            .chain(config_maps)
            .collect(),
    }
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("default")
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn reference(kind: &'static str, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: namespace(meta).into(),
        name: name(meta).into(),
    }
}
