//! Step 5b: the certificates that TLS sections name.
//!
//! A host gets the certificate of the oldest Ingress whose Secret is usable: a missing Secret
//! takes nothing away from others. That Ingress may name a second Secret for a host, with a
//! certificate of another algorithm. A host whose Secrets are all unusable gets an absent one, so
//! that it keeps what it was served with.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Secret;

use super::claim::{CertificateClaim, Claims};
use super::memo::Memo;
use super::{Options, name, namespace, reference};
use crate::acme::Wanted;
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Certificate, HostPattern, ObjectRef};
use crate::snapshot::Snapshot;

/// Certificates that earlier translations have read, by the address of their Secret, which is kept
/// so that no other can have it.
pub(super) type CertificateMemo = Memo<usize, Arc<Secret>, Result<Arc<Certificate>, Problem>>;

/// The certificate in a Secret.
fn certificate(
    secret: &Arc<Secret>,
    memo: &mut CertificateMemo,
) -> Result<Arc<Certificate>, Problem> {
    let address = Arc::as_ptr(secret) as usize;
    if let Some(known) = memo.get(&address, |_| true) {
        return known.clone();
    }
    let certificate = read_secret(secret).map(Arc::new);
    memo.keep(address, Arc::clone(secret), certificate.clone());
    certificate
}

/// Resolves every TLS section, given oldest Ingress first.
pub(super) fn resolve(
    snapshot: &Snapshot,
    options: &Options,
    claims: &[Arc<Claims>],
    ordered: &[Wanted],
    memo: &mut CertificateMemo,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<HostPattern, Arc<Certificate>> {
    let secrets: Secrets<'_> = (snapshot.secrets.iter())
        .map(|secret| {
            (
                (namespace(&secret.metadata), name(&secret.metadata)),
                secret,
            )
        })
        .collect();
    let mut read: HashMap<(&str, &str), Result<Arc<Certificate>, Problem>> = HashMap::new();
    let mut winners = BTreeMap::new();
    let mut unusable = Vec::new();
    for claims in claims {
        for claim in &claims.certificates {
            let key = (&*claims.ingress.namespace, &*claim.secret);
            let certificate = read.entry(key).or_insert_with(|| match secrets.get(&key) {
                Some(secret) => certificate(secret, memo),
                None => Err((Reason::SecretNotFound, "does not exist".to_owned())),
            });
            match certificate {
                Ok(certificate) => {
                    take(&mut winners, certificate, claims, claim, diagnostics);
                }
                Err((reason, message)) => {
                    unusable.push((key, claim));
                    if *reason == Reason::SecretNotFound && is_ordered(ordered, key) {
                        continue;
                    }
                    diagnostics.push(Diagnostic {
                        object: claims.ingress.clone(),
                        field: format!("spec.tls[{}].secretName", claim.index),
                        reason: *reason,
                        message: format!("Secret `{}/{}` {message}", key.0, key.1),
                    });
                }
            }
        }
    }
    let winners = winners.into_iter();
    let mut certificates: BTreeMap<_, _> = winners
        .map(|(host, winner)| (host, winner.certificate()))
        .collect();
    for ((namespace, name), claim) in unusable {
        let absent = Arc::new(Certificate::absent(ObjectRef {
            kind: "Secret",
            namespace: namespace.into(),
            name: name.into(),
        }));
        for host in &claim.hosts {
            certificates
                .entry(host.clone())
                .or_insert_with(|| Arc::clone(&absent));
        }
    }
    if let Some(wanted) = &options.default_certificate {
        add_default(wanted, &secrets, memo, &mut certificates, diagnostics);
    }
    certificates
}

/// Whether an order will fill this Secret. Until then, its absence is not a problem to report.
fn is_ordered(ordered: &[Wanted], (namespace, name): (&str, &str)) -> bool {
    let key = |wanted: &Wanted| {
        let by_namespace = (*wanted.secret.namespace).cmp(namespace);
        by_namespace.then_with(|| (*wanted.secret.name).cmp(name))
    };
    ordered.binary_search_by(key).is_ok()
}

/// Adds the certificate of hosts that have none of their own.
fn add_default(
    wanted: &ObjectRef,
    secrets: &Secrets<'_>,
    memo: &mut CertificateMemo,
    certificates: &mut BTreeMap<HostPattern, Arc<Certificate>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let found = match secrets.get(&(&*wanted.namespace, &*wanted.name)) {
        Some(secret) => certificate(secret, memo),
        None => Err((Reason::SecretNotFound, "does not exist".to_owned())),
    };
    match found {
        Ok(found) => drop(certificates.entry(HostPattern::Any).or_insert(found)),
        Err((reason, message)) => diagnostics.push(Diagnostic {
            object: wanted.clone(),
            field: "data".to_owned(),
            reason,
            message: format!("{message}; hosts without a certificate get a self-signed one"),
        }),
    }
}

/// Secrets by namespace and name.
type Secrets<'a> = HashMap<(&'a str, &'a str), &'a Arc<Secret>>;

/// Why a Secret is no certificate.
pub(super) type Problem = (Reason, String);

fn take(
    certificates: &mut BTreeMap<HostPattern, Winner>,
    certificate: &Arc<Certificate>,
    claims: &Claims,
    claim: &CertificateClaim,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for host in &claim.hosts {
        let Winner { first, second } = match certificates.entry(host.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Winner {
                    first: (claims.ingress.clone(), Arc::clone(certificate)),
                    second: None,
                });
                continue;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        let is_known = |known: &Arc<Certificate>| known.secret == certificate.secret;
        if is_known(&first.1) || second.as_ref().is_some_and(is_known) {
            continue;
        }
        if first.0 == claims.ingress && second.is_none() {
            *second = Some(Arc::clone(certificate));
            continue;
        }
        diagnostics.push(Diagnostic {
            object: claims.ingress.clone(),
            field: format!("spec.tls[{}].secretName", claim.index),
            reason: Reason::CertificateConflict,
            message: format!(
                "host `{host}` already has the certificate of the older claim on {}",
                first.1.secret,
            ),
        });
    }
}

/// The certificates of a host: of the oldest Ingress, which may name a second one of another
/// algorithm in a TLS section of its own.
struct Winner {
    first: (ObjectRef, Arc<Certificate>),
    second: Option<Arc<Certificate>>,
}

impl Winner {
    fn certificate(self) -> Arc<Certificate> {
        let (_, first) = self.first;
        match self.second {
            None => first,
            Some(second) => Arc::new(Certificate {
                alternative: Some(second),
                ..(*first).clone()
            }),
        }
    }
}

/// The certificate in a Secret of any type, as ingress-nginx looks at its keys alone.
pub(super) fn read_secret(secret: &Secret) -> Result<Certificate, Problem> {
    let invalid = |message: String| (Reason::InvalidSecret, message);
    let entry = |key: &str| {
        (secret.data.as_ref())
            .and_then(|data| data.get(key))
            .filter(|value| !value.0.is_empty())
            .map(|value| value.0.clone())
            .ok_or_else(|| invalid(format!("has no `{key}`")))
    };
    Ok(Certificate {
        secret: reference("Secret", &secret.metadata),
        chain_pem: entry("tls.crt")?,
        key_pem: entry("tls.key")?,
        alternative: None,
    })
}
