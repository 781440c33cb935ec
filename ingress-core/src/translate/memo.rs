//! What was found out about objects that have not changed since.
//!
//! Some steps are functions of a few objects each: what an Ingress claims, what certificate a
//! Secret holds, and what a Service and its slices give for a backend. Their results are kept for
//! as long as those objects are the very same allocations, which a source sees to for objects that
//! did not change. A result that was not asked for in a round is forgotten.
//!
//! Architecture invariant: a memo changes how long a translation takes and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Secret;

use super::backend::Resolved;
use super::certificate::{self, Problem};
use super::claim::{self, Claims};
use crate::annotation::Settings;
use crate::ir::{BackendKey, Certificate};
use crate::object::{EndpointSlice, Ingress, Service};

/// Results of earlier rounds.
#[derive(Default)]
pub(super) struct Memo {
    round: u64,
    /// By address: the object is kept, so that no other can have it.
    claims: HashMap<usize, KnownClaims>,
    certificates: HashMap<usize, KnownCertificate>,
    backends: HashMap<Arc<BackendKey>, KnownBackend>,
}

struct KnownCertificate {
    _secret: Arc<Secret>,
    certificate: Result<Arc<Certificate>, Problem>,
    round: u64,
}

struct KnownClaims {
    _ingress: Arc<Ingress>,
    class: Arc<Settings>,
    claims: Arc<Claims>,
    round: u64,
}

struct KnownBackend {
    sources: Sources,
    resolved: Arc<Resolved>,
    round: u64,
}

/// Everything that a backend of pods is made from.
pub(super) struct Sources {
    pub(super) service: Arc<Service>,
    pub(super) slices: Box<[Arc<EndpointSlice>]>,
    /// The zone whose hints are honoured.
    pub(super) zone: Option<Box<str>>,
}

impl Sources {
    fn are(
        &self,
        service: &Arc<Service>,
        slices: &[&Arc<EndpointSlice>],
        zone: Option<&str>,
    ) -> bool {
        Arc::ptr_eq(&self.service, service)
            && self.zone.as_deref() == zone
            && self.slices.len() == slices.len()
            && self
                .slices
                .iter()
                .zip(slices)
                .all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl Memo {
    /// Begins a translation of so many Ingresses at most.
    pub(super) fn begin(&mut self, ingresses: usize) {
        self.round += 1;
        // A table that grows by doubling leaves as much behind as it holds.
        let missing = ingresses.saturating_sub(self.claims.len());
        self.claims.reserve(missing);
    }

    /// Ends it: what it did not ask for is forgotten.
    pub(super) fn end(&mut self) {
        let round = self.round;
        self.claims.retain(|_, known| known.round == round);
        self.certificates.retain(|_, known| known.round == round);
        self.backends.retain(|_, known| known.round == round);
    }

    /// What an Ingress of a class with these settings claims.
    pub(super) fn claims(
        &mut self,
        ingress: &Arc<Ingress>,
        class: &Arc<Settings>,
        ignored: &BTreeSet<String>,
    ) -> Arc<Claims> {
        let address = Arc::as_ptr(ingress) as usize;
        if let Some(known) = self.claims.get_mut(&address)
            && (Arc::ptr_eq(&known.class, class) || known.class == *class)
        {
            known.round = self.round;
            known.class = Arc::clone(class);
            return Arc::clone(&known.claims);
        }
        let claims = Arc::new(claim::read(ingress, class, ignored));
        let known = KnownClaims {
            _ingress: Arc::clone(ingress),
            class: Arc::clone(class),
            claims: Arc::clone(&claims),
            round: self.round,
        };
        self.claims.insert(address, known);
        claims
    }

    /// The certificate in a Secret.
    pub(super) fn certificate(
        &mut self,
        secret: &Arc<Secret>,
    ) -> Result<Arc<Certificate>, Problem> {
        let round = self.round;
        let address = Arc::as_ptr(secret) as usize;
        let known = self.certificates.entry(address);
        let known = known.or_insert_with(|| KnownCertificate {
            _secret: Arc::clone(secret),
            certificate: certificate::read_secret(secret).map(Arc::new),
            round,
        });
        known.round = round;
        known.certificate.clone()
    }

    /// What is known of a backend that is made from exactly these objects.
    pub(super) fn backend(
        &mut self,
        key: &BackendKey,
        service: &Arc<Service>,
        slices: &[&Arc<EndpointSlice>],
        zone: Option<&str>,
    ) -> Option<Arc<Resolved>> {
        let known = self.backends.get_mut(key)?;
        if !known.sources.are(service, slices, zone) {
            return None;
        }
        known.round = self.round;
        Some(Arc::clone(&known.resolved))
    }

    /// What a backend was made from last, and what came of it.
    pub(super) fn backend_of_pods(&self, key: &BackendKey) -> Option<(&Sources, &Resolved)> {
        let known = self.backends.get(key)?;
        Some((&known.sources, &known.resolved))
    }

    /// Keeps what was found out about a backend.
    pub(super) fn keep_backend(
        &mut self,
        key: &Arc<BackendKey>,
        sources: Sources,
        resolved: Arc<Resolved>,
    ) {
        let known = KnownBackend {
            sources,
            resolved,
            round: self.round,
        };
        self.backends.insert(Arc::clone(key), known);
    }
}
