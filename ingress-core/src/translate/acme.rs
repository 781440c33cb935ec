//! Step 5c: the certificates that Ingresses ask issuers for by the annotation `acme`.
//!
//! The operator names issuers, Ingresses choose one of them. A host's certificate is ordered for the
//! Ingress that owns the host alone. A Secret without the mark of Sluice is never written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Secret;

use super::claim::{CertificateClaim, Claims};
use super::host::Owners;
use super::{Options, name, namespace, reference};
use crate::acme::{
    HOSTS_MAX, ISSUER_MARK, RENEWAL_MARK, State, Wanted, mark, read_time, time_text,
};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{
    Acme, Host, HostPattern, ObjectRef, OrderFailure, OrderTotals, OrderedCertificate,
};
use crate::snapshot::Snapshot;

/// The certificates to order, and the state that every node serves and shows.
#[derive(Default)]
pub(super) struct Resolution {
    pub(super) wanted: Vec<Wanted>,
    /// `None` if the operator names no issuer.
    pub(super) acme: Option<Arc<Acme>>,
}

/// Finds the certificates to order, given oldest Ingress first.
pub(super) fn resolve(
    snapshot: &Snapshot,
    options: &Options,
    claims: &[Arc<Claims>],
    owners: &Owners<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Resolution {
    let mut reader = Reader {
        options,
        owners,
        drafts: BTreeMap::new(),
        refused: Vec::new(),
        diagnostics,
    };
    for claims in claims {
        if let Some(issuer) = &claims.acme {
            reader.read(claims, issuer);
        }
    }
    let wanted = reader.finish();
    if options.acme_issuers.is_empty() {
        return Resolution::default();
    }
    let secrets: HashMap<_, _> = (snapshot.secrets.iter())
        .map(|secret| {
            (
                (namespace(&secret.metadata), name(&secret.metadata)),
                &**secret,
            )
        })
        .collect();
    let state = read_state(options, &secrets, diagnostics);
    let mut certificates = Vec::new();
    for wanted in &wanted {
        let secret = secrets.get(&(&*wanted.secret.namespace, &*wanted.secret.name));
        if secret.is_some_and(|secret| mark(secret, ISSUER_MARK).is_none()) {
            diagnostics.push(foreign(wanted));
            continue;
        }
        let failure = state.failure(wanted).map(|failure| OrderFailure {
            attempts: failure.attempts,
            error: failure.error.as_str().into(),
            retry_at: failure.retry_at,
        });
        diagnostics.extend(failure.as_ref().map(|failure| failed(wanted, failure)));
        let renews_at = secret.and_then(|secret| mark(secret, RENEWAL_MARK));
        certificates.push(OrderedCertificate {
            secret: wanted.secret.clone(),
            issuer: Arc::clone(&wanted.issuer),
            renews_at: renews_at.and_then(read_time),
            failure,
        });
    }
    let totals = state.all_orders().map(|(issuer, orders)| OrderTotals {
        issuer: issuer.into(),
        issued: orders.issued,
        failed: orders.failed,
    });
    let acme = Acme {
        challenges: state.challenges().into(),
        certificates: certificates.into(),
        totals: totals.collect(),
    };
    Resolution {
        wanted,
        acme: Some(Arc::new(acme)),
    }
}

/// A certificate while the Ingresses that ask for it are read.
struct Draft {
    issuer: Arc<str>,
    hosts: BTreeSet<Host>,
    ingress: ObjectRef,
    field: String,
}

/// A host that an Ingress may not order for, unless its owner asks for the same.
struct Refused {
    key: Key,
    host: Host,
    diagnostic: Diagnostic,
}

/// Namespace and name of a Secret.
type Key = (Arc<str>, Arc<str>);

struct Reader<'a> {
    options: &'a Options,
    owners: &'a Owners<'a>,
    drafts: BTreeMap<Key, Draft>,
    refused: Vec<Refused>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn read(&mut self, claims: &Claims, issuer: &Arc<str>) {
        let issuers = &self.options.acme_issuers;
        if !issuers.contains(issuer) {
            let known = if issuers.is_empty() {
                "none is configured (--acme-issuer)".to_owned()
            } else {
                let known: Vec<_> = issuers.iter().map(|name| format!("`{name}`")).collect();
                format!("known are {}", known.join(", "))
            };
            let message =
                format!("ACME issuer `{issuer}` is not known, {known}; no certificate is ordered");
            return self.report(
                claims,
                ANNOTATION.to_owned(),
                Reason::UnknownIssuer,
                message,
            );
        }
        if claims.certificates.is_empty() {
            let message = "no TLS section names a Secret for the certificate; none is ordered";
            return self.report(
                claims,
                "spec.tls".to_owned(),
                Reason::CertificateNotOrdered,
                message.to_owned(),
            );
        }
        for claim in &claims.certificates {
            self.section(claims, claim, issuer);
        }
    }

    fn section(&mut self, claims: &Claims, claim: &CertificateClaim, issuer: &Arc<str>) {
        let key = (
            Arc::clone(&claims.ingress.namespace),
            Arc::clone(&claim.secret),
        );
        let field = format!("spec.tls[{}].secretName", claim.index);
        if let Some(draft) = self.drafts.get(&key)
            && draft.issuer != *issuer
        {
            let message = format!(
                "Secret `{}/{}` already gets a certificate of issuer `{}`, by the older {}",
                key.0, key.1, draft.issuer, draft.ingress
            );
            return self.report(claims, field, Reason::CertificateConflict, message);
        }
        for host in &claim.hosts {
            match self.allowed(claims, claim, host) {
                Ok(host) => {
                    let draft = self.drafts.entry(key.clone()).or_insert_with(|| Draft {
                        issuer: Arc::clone(issuer),
                        hosts: BTreeSet::new(),
                        ingress: claims.ingress.clone(),
                        field: field.clone(),
                    });
                    draft.hosts.insert(host);
                }
                Err((Some(host), diagnostic)) => self.refused.push(Refused {
                    key: key.clone(),
                    host,
                    diagnostic,
                }),
                Err((None, diagnostic)) => self.diagnostics.push(diagnostic),
            }
        }
    }

    /// The host, if this Ingress may order a certificate for it.
    fn allowed(
        &self,
        claims: &Claims,
        claim: &CertificateClaim,
        pattern: &HostPattern,
    ) -> Result<Host, (Option<Host>, Diagnostic)> {
        let refusal = |message: String| Diagnostic {
            object: claims.ingress.clone(),
            field: format!("spec.tls[{}].hosts", claim.index),
            reason: Reason::CertificateNotOrdered,
            message,
        };
        let HostPattern::Exact(host) = pattern else {
            let message = format!(
                "certificates for `{pattern}` need DNS-01, which is not supported (cert-manager has \
                 it); none is ordered for this host"
            );
            return Err((None, refusal(message)));
        };
        let message = match self.owners.owner(pattern) {
            Some(owner) if *owner == claims.ingress => return Ok(host.clone()),
            Some(owner) => format!("host `{host}` belongs to {owner}"),
            None if is_beside(claims, pattern) => return Ok(host.clone()),
            None => format!("no rule of an Ingress has the host `{host}`"),
        };
        let message = format!("{message}; no certificate is ordered for it");
        Err((Some(host.clone()), refusal(message)))
    }

    fn finish(self) -> Vec<Wanted> {
        let Self {
            drafts,
            refused,
            diagnostics,
            ..
        } = self;
        let is_ordered = |refused: &Refused| {
            let draft = drafts.get(&refused.key);
            draft.is_some_and(|draft| draft.hosts.contains(&refused.host))
        };
        let refused = refused.into_iter().filter(|refused| !is_ordered(refused));
        diagnostics.extend(refused.map(|refused| refused.diagnostic));
        let mut all = Vec::new();
        for ((namespace, name), draft) in drafts {
            if draft.hosts.len() > HOSTS_MAX {
                diagnostics.push(Diagnostic {
                    object: draft.ingress,
                    field: draft.field,
                    reason: Reason::CertificateNotOrdered,
                    message: format!(
                        "certificate would have {} hosts, at most {HOSTS_MAX} are allowed; none is \
                         ordered",
                        draft.hosts.len()
                    ),
                });
                continue;
            }
            all.push(Wanted {
                secret: ObjectRef {
                    kind: "Secret",
                    namespace,
                    name,
                },
                issuer: draft.issuer,
                hosts: draft.hosts.into_iter().collect(),
                ingress: draft.ingress,
                field: draft.field,
            });
        }
        all
    }

    fn report(&mut self, claims: &Claims, field: String, reason: Reason, message: String) {
        self.diagnostics.push(Diagnostic {
            object: claims.ingress.clone(),
            field,
            reason,
            message,
        });
    }
}

/// Whether a host without an owner is one that this Ingress serves beside those of its rules: an alias,
/// or the host with `www.` or without that it redirects.
fn is_beside(claims: &Claims, pattern: &HostPattern) -> bool {
    let is_alias = claims.alias_rules.iter().any(|rule| rule.host == *pattern);
    let is_www = claims.redirects_www.is_some()
        && claims.hosts.iter().any(|own| {
            let (own, other) = (own.to_string(), pattern.to_string());
            own.strip_prefix("www.") == Some(&*other) || other.strip_prefix("www.") == Some(&*own)
        });
    is_alias || is_www
}

fn read_state(
    options: &Options,
    secrets: &HashMap<(&str, &str), &Secret>,
    diagnostics: &mut Vec<Diagnostic>,
) -> State {
    let named = options.acme_state.as_ref();
    let secret = named.and_then(|named| secrets.get(&(&*named.namespace, &*named.name)));
    let Some(secret) = secret else {
        return State::default();
    };
    State::read(secret).unwrap_or_else(|error| {
        diagnostics.push(Diagnostic {
            object: reference("Secret", &secret.metadata),
            field: "data".to_owned(),
            reason: Reason::InvalidSecret,
            message: format!("{error}; orders start without a history"),
        });
        State::default()
    })
}

fn foreign(wanted: &Wanted) -> Diagnostic {
    let Wanted { secret, issuer, .. } = wanted;
    Diagnostic {
        object: wanted.ingress.clone(),
        field: wanted.field.clone(),
        reason: Reason::CertificateNotOrdered,
        message: format!(
            "{secret} exists and was not made by ACME, so it is left alone; delete it, or hand it \
             over by its annotation {ISSUER_MARK}: {issuer}"
        ),
    }
}

fn failed(wanted: &Wanted, failure: &OrderFailure) -> Diagnostic {
    let OrderFailure {
        attempts,
        error,
        retry_at,
    } = failure;
    Diagnostic {
        object: wanted.ingress.clone(),
        field: wanted.field.clone(),
        reason: Reason::CertificateOrderFailed,
        message: format!(
            "issuer `{}` issued no certificate: {error}; attempt {attempts} failed, the next follows \
             at {}",
            wanted.issuer,
            time_text(*retry_at)
        ),
    }
}

const ANNOTATION: &str = "metadata.annotations[sluice.dev/acme]";
