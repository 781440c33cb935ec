//! The memos of a translation: one for each step whose results are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::backend::BackendMemo;
use super::certificate::CertificateMemo;
use super::claim::{self, Claims};
use super::memo::Memo;
use crate::annotation::Settings;
use crate::object::Ingress;

/// Results of earlier translations.
#[derive(Default)]
pub(super) struct Memos {
    claims: ClaimsMemo,
    pub(super) certificates: CertificateMemo,
    pub(super) backends: BackendMemo,
}

/// By the address of the Ingress, which is kept so that no other can have it; with the settings of
/// its class.
type ClaimsMemo = Memo<usize, (Arc<Ingress>, Arc<Settings>), Arc<Claims>>;

impl Memos {
    /// Begins a translation of at most `ingresses` Ingresses.
    pub(super) fn begin(&mut self, ingresses: usize) {
        self.claims.begin(ingresses);
        self.certificates.begin(0);
        self.backends.begin(0);
    }

    /// Ends it: what it did not ask for is forgotten.
    pub(super) fn end(&mut self) {
        self.claims.end();
        self.certificates.end();
        self.backends.end();
    }

    /// The claims of an Ingress whose class has these settings.
    pub(super) fn claims(
        &mut self,
        ingress: &Arc<Ingress>,
        class: &Arc<Settings>,
        ignored: &BTreeSet<String>,
    ) -> Arc<Claims> {
        let address = Arc::as_ptr(ingress) as usize;
        let is_same = |(_, known): &mut (Arc<Ingress>, Arc<Settings>)| {
            if Arc::ptr_eq(known, class) {
                return true;
            }
            let is_equal = *known == *class;
            if is_equal {
                *known = Arc::clone(class);
            }
            is_equal
        };
        if let Some(known) = self.claims.get(&address, is_same) {
            return Arc::clone(known);
        }
        let claims = Arc::new(claim::read(ingress, class, ignored));
        let sources = (Arc::clone(ingress), Arc::clone(class));
        self.claims.keep(address, sources, Arc::clone(&claims));
        claims
    }
}
