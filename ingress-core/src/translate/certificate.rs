//! Step 4b: the certificates that TLS sections name.
//!
//! A host gets the certificate of the oldest Ingress whose Secret is usable: a missing Secret
//! takes nothing away from others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use super::claim::{CertificateClaim, Claims};
use super::{name, namespace, reference};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Certificate, HostPattern};
use crate::snapshot::Snapshot;

/// Resolves every TLS section, given oldest Ingress first.
pub(super) fn resolve(
    snapshot: &Snapshot,
    claims: &[Claims],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<HostPattern, Arc<Certificate>> {
    let secrets: HashMap<_, _> = (snapshot.secrets.iter())
        .map(|secret| {
            (
                (namespace(&secret.metadata), name(&secret.metadata)),
                &**secret,
            )
        })
        .collect();
    let mut read: HashMap<(&str, &str), Result<Arc<Certificate>, Problem>> = HashMap::new();
    let mut certificates = BTreeMap::new();
    for claims in claims {
        for claim in &claims.certificates {
            let key = (&*claims.ingress.namespace, &*claim.secret);
            let certificate = read.entry(key).or_insert_with(|| match secrets.get(&key) {
                Some(secret) => read_secret(secret).map(Arc::new),
                None => Err((Reason::SecretNotFound, "does not exist".to_owned())),
            });
            match certificate {
                Ok(certificate) => {
                    take(&mut certificates, certificate, claims, claim, diagnostics);
                }
                Err((reason, message)) => diagnostics.push(Diagnostic {
                    object: claims.ingress.clone(),
                    field: format!("spec.tls[{}].secretName", claim.index),
                    reason: *reason,
                    message: format!("Secret `{}/{}` {message}", key.0, key.1),
                }),
            }
        }
    }
    certificates
}

type Problem = (Reason, String);

fn take(
    certificates: &mut BTreeMap<HostPattern, Arc<Certificate>>,
    certificate: &Arc<Certificate>,
    claims: &Claims,
    claim: &CertificateClaim,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for host in &claim.hosts {
        let winner = certificates
            .entry(host.clone())
            .or_insert_with(|| Arc::clone(certificate));
        if winner.secret != certificate.secret {
            diagnostics.push(Diagnostic {
                object: claims.ingress.clone(),
                field: format!("spec.tls[{}].secretName", claim.index),
                reason: Reason::CertificateConflict,
                message: format!(
                    "host `{host}` already has the certificate of the older claim on {}",
                    winner.secret,
                ),
            });
        }
    }
}

fn read_secret(secret: &Secret) -> Result<Certificate, Problem> {
    let invalid = |message: String| (Reason::InvalidSecret, message);
    if secret.type_.as_deref() != Some(TLS_TYPE) {
        let found = secret.type_.as_deref().unwrap_or("Opaque");
        return Err(invalid(format!(
            "is of type `{found}`, `{TLS_TYPE}` is expected"
        )));
    }
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
    })
}

const TLS_TYPE: &str = "kubernetes.io/tls";
