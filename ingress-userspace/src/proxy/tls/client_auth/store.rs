//! The client certificates that the hosts of one generation ask for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderValue;
use ingress_core::ir::{self, Authorities, HostPattern, VerifyMode};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::handshake;
use super::trust::{Trust, Verdict};
use crate::proxy::tls::ServerTls;
use crate::proxy::tls::certificate::{CertificateProblem, describe};

/// What each host asks.
#[derive(Debug, Default)]
pub(crate) struct ClientAuthStore {
    policies: BTreeMap<HostPattern, Arc<Policy>>,
}

/// What one host asks of its clients.
#[derive(Debug)]
pub(crate) struct Policy {
    host: HostPattern,
    source: Arc<ir::ClientAuth>,
    /// `None`: nobody gets in.
    trust: Result<Option<Arc<Trust>>, Arc<str>>,
    error_page: Option<HeaderValue>,
}

impl ClientAuthStore {
    /// Reads what has changed since `previous` and takes the rest over.
    pub(crate) fn build(
        previous: Option<&Self>,
        wanted: &BTreeMap<HostPattern, Arc<ir::ClientAuth>>,
    ) -> Self {
        // One Secret often serves many hosts; it is read once.
        let mut read: HashMap<*const Authorities, Result<Arc<Trust>, Arc<str>>> = HashMap::new();
        let mut policy = |host: &HostPattern, source: &Arc<ir::ClientAuth>| {
            let known = previous.and_then(|store| store.policies.get(host));
            if let Some(known) = known.filter(|known| known.source == *source) {
                return Arc::clone(known);
            }
            let trust = source.authorities.as_ref().map(|authorities| {
                let trust = read.entry(Arc::as_ptr(authorities)).or_insert_with(|| {
                    let trust = Trust::read(authorities);
                    trust.map(Arc::new).map_err(|error| describe(&error).into())
                });
                trust.clone()
            });
            let page = source.error_page.as_deref();
            Arc::new(Policy {
                host: host.clone(),
                source: Arc::clone(source),
                trust: trust.transpose(),
                error_page: page.and_then(|page| HeaderValue::from_str(page).ok()),
            })
        };
        let policies = wanted.iter();
        Self {
            policies: policies
                .map(|(host, source)| (host.clone(), policy(host, source)))
                .collect(),
        }
    }

    /// Secrets that are no use, and the hosts that they close.
    pub(crate) fn problems(&self) -> Vec<CertificateProblem> {
        let problem = |policy: &Arc<Policy>| {
            let reason = policy.trust.as_ref().err()?;
            let authorities = policy.source.authorities.as_ref()?;
            Some(CertificateProblem {
                secret: authorities.secret.clone(),
                host: policy.host.clone(),
                message: format!("{reason}; the host refuses every request").into(),
            })
        };
        self.policies.values().filter_map(problem).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// What the rules of exactly this pattern ask.
    pub(crate) fn of(&self, host: &HostPattern) -> Option<&Arc<Policy>> {
        self.policies.get(host)
    }

    /// The patterns that one of two stores asks something for which the other doesn't.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = &'a HostPattern> {
        let differs = |this: &'a Self, that: &'a Self| {
            this.policies.iter().filter_map(move |(host, policy)| {
                let same = that.policies.get(host);
                let same = same.is_some_and(|other| Arc::ptr_eq(other, policy));
                (!same).then_some(host)
            })
        };
        differs(self, other).chain(differs(other, self))
    }
}

impl Policy {
    /// Whether anybody can get in.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self.trust, Ok(Some(_)))
    }

    pub(crate) fn mode(&self) -> VerifyMode {
        self.source.mode
    }

    pub(crate) fn passes_certificate(&self) -> bool {
        self.source.passes_certificate
    }

    pub(crate) fn error_page(&self) -> Option<HeaderValue> {
        self.error_page.clone()
    }

    /// Whether another host asks for what this one does.
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.source == other.source
    }

    /// Whether this is what the same host has asked before.
    pub(crate) fn is_succeeded_by(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// Whether a client that authorities vouch for may come in by its name.
    pub(crate) fn takes_name_of(&self, leaf: Option<&[u8]>) -> bool {
        let Some(wanted) = &self.source.common_name else {
            return true;
        };
        let parsed = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok());
        parsed.is_some_and(|(_, certificate)| {
            let mut names = certificate.subject().iter_common_name();
            names.any(|name| name.as_str().is_ok_and(|name| wanted.matches(name)))
        })
    }

    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>]) -> Verdict {
        match &self.trust {
            Ok(Some(trust)) => trust.judge(chain, self.source.depth),
            Ok(None) | Err(_) => Verdict::Bad("nobody is trusted"),
        }
    }

    /// The handshake that asks; `None` if there is no use in asking.
    pub(crate) fn config(&self, tls: &ServerTls) -> Option<Arc<ServerConfig>> {
        let trust = self.trust.as_ref().ok()?.as_ref()?;
        let config = trust.config.get_or_init(|| {
            let asking = handshake::Asking::new(trust.roots(), tls);
            tls.asking(Arc::new(asking)).ok()
        });
        config.clone()
    }
}
