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
//! 3. `conflict`: which claim wins a host and path that several make?
//! 4. `backend`, `certificate`: what do the Services and Secrets that the winners name hold?
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

mod backend;
mod certificate;
mod claim;
mod class;
mod conflict;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::diagnostic::Diagnostic;
use crate::ir::{BackendKey, Config, ObjectRef};
use crate::snapshot::Snapshot;

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
    pub default_backend: Option<BackendKey>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_class: "sluice.dev/ingress-controller".to_owned(),
            ingress_class: "sluice".to_owned(),
            unclassed: Unclassed::Ignore,
            default_backend: None,
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

/// What a snapshot means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Everything that can be served.
    pub config: Config,
    /// Everything that cannot, sorted, without duplicates.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a snapshot.
pub fn translate(snapshot: &Snapshot, options: &Options) -> Translation {
    let mut diagnostics = Vec::new();
    let classes = class::Classes::new(&snapshot.ingress_classes, options, &mut diagnostics);

    let mut ours: Vec<_> = snapshot
        .ingresses
        .iter()
        .filter(|ingress| classes.accepts(ingress))
        .collect();
    ours.sort_unstable_by_key(|ingress| {
        let meta = &ingress.metadata;
        (&meta.creation_timestamp, namespace(meta), &meta.name)
    });
    let claims: Vec<_> = ours
        .into_iter()
        .map(|ingress| claim::read(ingress))
        .collect();
    diagnostics.extend(
        claims
            .iter()
            .flat_map(|claims| claims.diagnostics.iter().cloned()),
    );

    let default_backend = options
        .default_backend
        .as_ref()
        .map(claim::controller_default);
    let winners = conflict::resolve(&claims, default_backend, &mut diagnostics);
    let backends = backend::resolve(snapshot, &winners.uses, &mut diagnostics);
    let certificates = certificate::resolve(snapshot, &claims, &mut diagnostics);

    diagnostics.sort_unstable();
    diagnostics.dedup();
    let config = Config {
        hosts: winners
            .hosts
            .into_iter()
            .map(|(host, rules)| (host, Arc::new(rules)))
            .collect(),
        default_backend: winners.default_backend,
        backends,
        certificates,
    };
    Translation {
        config,
        diagnostics,
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
