//! Mutual TLS: what hosts ask of their clients, what a client has shown, and who gets in.
//!
//! As with nginx, a handshake takes any certificate whose key the client has, and each request is
//! judged: it gets an answer that says what is wrong, and hosts may let it in all the same. A
//! request for a host that asks for something else than the connection's server name did is
//! misdirected (RFC 9110 §15.5.20): its client has to make another connection.
//!
//! Invariant: a host whose authorities can't be read refuses every request, whatever way it came.

mod fields;
mod handshake;
mod name;
mod store;
mod trust;
mod version1;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use ingress_core::ir::VerifyMode;
use rustls::pki_types::CertificateDer;

use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::transport::Scheme;
use fields::Fields;
pub(crate) use fields::is_claim;
pub(crate) use handshake::accept;
pub(crate) use store::{ClientAuthStore, Policy};
use trust::Verdict;

/// What a client has shown in its handshake, because it was asked.
pub(crate) struct PeerCertificate {
    /// Leaf first; empty if it has none.
    chain: Vec<CertificateDer<'static>>,
    judgement: RefCell<Rc<ClientCertVerdict>>,
}

/// What a host makes of it.
pub(crate) struct ClientCertVerdict {
    policy: Arc<Policy>,
    verdict: Verdict,
    /// Whether its name is one of those that get in.
    is_named: bool,
    fields: Fields,
}

impl PeerCertificate {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, policy: &Arc<Policy>) -> Self {
        let judgement = RefCell::new(ClientCertVerdict::of(&chain, policy));
        Self { chain, judgement }
    }

    /// What a host makes of it; `None` if it asks for something else than the client was asked.
    fn judge(&self, policy: &Arc<Policy>) -> Option<Rc<ClientCertVerdict>> {
        let mut judgement = self.judgement.borrow_mut();
        if !judgement.policy.asks_the_same(policy) {
            if !judgement.policy.is_succeeded_by(policy) {
                return None;
            }
            *judgement = ClientCertVerdict::of(&self.chain, policy);
        }
        Some(Rc::clone(&judgement))
    }
}

impl ClientCertVerdict {
    fn of(chain: &[CertificateDer<'static>], policy: &Arc<Policy>) -> Rc<Self> {
        let verdict = policy.judge(chain);
        let leaf = chain.first().map(|leaf| &**leaf);
        let fields = Fields::new(&verdict, leaf, policy.passes_certificate());
        Rc::new(Self {
            policy: Arc::clone(policy),
            verdict,
            is_named: policy.takes_name_of(leaf),
            fields,
        })
    }

    /// Tells the endpoint who the client is.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        self.fields.write(headers);
    }
}

/// Why a request may not enter a host that is about client certificates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The authorities of the host can't be read.
    NobodyTrusted,
    /// The connection was made for a host that asks for something else.
    Misdirected,
    /// The host wants a certificate and there is none.
    NoCertificate,
    /// The host does not take the client's certificate.
    BadCertificate,
    /// The host does not take clients of this name.
    OtherClient,
    /// One of the two about certificates, for a host that has a page about it.
    ErrorPage(HeaderValue),
}

/// Lets a request in, or says why not. `presented` is what its client has shown, if it was asked.
pub(crate) fn admit(
    scheme: Scheme,
    presented: Option<&PeerCertificate>,
    policy: &Arc<Policy>,
    counters: &Counters,
) -> Result<Rc<ClientCertVerdict>, Refusal> {
    let outcome = judge(scheme, presented, policy);
    match &outcome {
        Ok(_) => {}
        Err(Refusal::Misdirected) => counters.misdirected.increment(),
        Err(_) => counters.client_certificate_refusals.increment(),
    }
    outcome
}

fn judge(
    scheme: Scheme,
    presented: Option<&PeerCertificate>,
    policy: &Arc<Policy>,
) -> Result<Rc<ClientCertVerdict>, Refusal> {
    if !policy.is_usable() {
        return Err(Refusal::NobodyTrusted);
    }
    let judgement = match (scheme, presented) {
        // Without TLS nobody can show anything.
        (Scheme::Http, _) => ClientCertVerdict::of(&[], policy),
        (Scheme::Https, None) => return Err(Refusal::Misdirected),
        (Scheme::Https, Some(presented)) => presented.judge(policy).ok_or(Refusal::Misdirected)?,
    };
    let failure = match (&judgement.verdict, policy.mode()) {
        (Verdict::Good, _)
        | (Verdict::None, VerifyMode::Optional | VerifyMode::OptionalNoCa)
        | (Verdict::Unknown(_), VerifyMode::OptionalNoCa) => {
            // Without a certificate there is no name, as with ingress-nginx.
            return judgement
                .is_named
                .then_some(judgement)
                .ok_or(Refusal::OtherClient);
        }
        (Verdict::None, VerifyMode::Required) => Refusal::NoCertificate,
        (Verdict::Bad(_) | Verdict::Unknown(_), _) => Refusal::BadCertificate,
    };
    Err(policy.error_page().map_or(failure, Refusal::ErrorPage))
}
