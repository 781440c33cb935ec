//! Step 5c: the client certificates that annotations ask for.
//!
//! The setting is a host's: the Ingress that named the host first makes it. A Secret that cannot be
//! used shuts everybody out of the hosts that name it, and touches nothing else. An Ingress that asks
//! for certificates at a host of another one's has its own rules closed there.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::Secret;

use super::claim::{Claims, ClientAuthClaim};
use super::host::Owners;
use super::{name, namespace, reference};
use crate::annotation::client_auth::{self as annotation, Mode, SecretName};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Authorities, ClientAuth, HostPattern, HostRules, ObjectRef};
use crate::object::Ingress;
use crate::snapshot::Snapshot;

/// The client certificates that hosts require, and the rules that are closed.
#[derive(Default)]
pub(super) struct Resolution {
    pub(super) hosts: BTreeMap<HostPattern, Arc<ClientAuth>>,
    /// Hosts, and Ingresses that require certificates there but do not own the host: their rules
    /// refuse every request.
    pub(super) closed: Vec<(HostPattern, ObjectRef)>,
}

impl Resolution {
    /// Closes the rules of Ingresses that do not win the host's client certificate settings.
    pub(super) fn close(&self, hosts: &mut BTreeMap<HostPattern, HostRules>) {
        for (host, ingress) in &self.closed {
            if let Some(rules) = hosts.get_mut(host) {
                rules.close(ingress);
            }
        }
    }
}

/// Resolves every claim, given oldest Ingress first.
pub(super) fn resolve(
    snapshot: &Snapshot,
    claims: &[Arc<Claims>],
    owners: &Owners<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Resolution {
    let mut resolution = Resolution::default();
    if claims.iter().all(|claims| claims.client_auth.is_none()) {
        return resolution;
    }
    let mut secrets = Secrets::of(snapshot);
    for claims in claims {
        let Some(claim) = &claims.client_auth else {
            continue;
        };
        let auth = read(claims, claim, &mut secrets, diagnostics);
        for host in claims.own_hosts() {
            let owner = owners.owner(host).unwrap_or(&claims.ingress);
            if *owner == claims.ingress {
                resolution
                    .hosts
                    .extend(auth.clone().map(|auth| (host.clone(), auth)));
            } else if resolution.hosts.get(host) != auth.as_ref() {
                diagnostics.push(conflict(claims, claim, host, owner));
                if auth.is_some() {
                    let closed = (host.clone(), claims.ingress.clone());
                    resolution.closed.push(closed);
                }
            }
        }
    }
    resolution
}

/// The Secret of an Ingress that has to be read for this, which is one of its own namespace.
pub(super) fn secret_of(ingress: &Ingress) -> Option<Arc<str>> {
    match annotation::secret_of(&ingress.annotations)? {
        SecretName::Named(namespace, name) if namespace == ingress.meta.namespace => Some(name),
        SecretName::Named(..) | SecretName::Malformed => None,
    }
}

fn read(
    claims: &Claims,
    claim: &ClientAuthClaim,
    secrets: &mut Secrets<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Arc<ClientAuth>> {
    let settings = &claim.settings;
    let Mode::Verify(mode) = settings.mode else {
        return None;
    };
    let authorities = match &settings.secret {
        // What is malformed has been told by whoever read it.
        None | Some(SecretName::Malformed) => None,
        Some(SecretName::Named(namespace, name)) => {
            let found = secrets.authorities(&claims.ingress.namespace, namespace, name);
            found.unwrap_or_else(|(reason, message)| {
                diagnostics.push(Diagnostic {
                    object: claims.ingress.clone(),
                    field: claim.field.clone(),
                    reason,
                    message: format!(
                        "Secret `{namespace}/{name}` {message}; its hosts refuse every request"
                    ),
                });
                None
            })
        }
    };
    Some(Arc::new(ClientAuth {
        mode,
        depth: settings.depth(),
        authorities: authorities.filter(|_| !settings.is_unusable),
        common_name: settings.common_name.clone(),
        passes_certificate: settings.passes_certificate,
        error_page: settings.error_page.clone(),
    }))
}

fn conflict(
    claims: &Claims,
    claim: &ClientAuthClaim,
    host: &HostPattern,
    owner: &ObjectRef,
) -> Diagnostic {
    Diagnostic {
        object: claims.ingress.clone(),
        field: claim.field.clone(),
        reason: Reason::ClientAuthConflict,
        message: format!(
            "host `{host}` belongs to the older {owner}, which decides about client certificates; \
             rules of this Ingress that ask for others answer 403"
        ),
    }
}

/// The Secrets of a snapshot, each read once.
struct Secrets<'a> {
    by_name: HashMap<(&'a str, &'a str), &'a Secret>,
    read: HashMap<(Arc<str>, Arc<str>), Outcome>,
}

/// Found, with what is wrong with it.
type Outcome = Result<Option<Arc<Authorities>>, (Reason, String)>;

impl<'a> Secrets<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let by_name = |secret: &'a Arc<Secret>| {
            let meta = &secret.metadata;
            ((namespace(meta), name(meta)), &**secret)
        };
        Self {
            by_name: snapshot.secrets.iter().map(by_name).collect(),
            read: HashMap::new(),
        }
    }

    /// The authorities in a Secret, for an Ingress of namespace `own`.
    fn authorities(&mut self, own: &str, wanted: &Arc<str>, secret: &Arc<str>) -> Outcome {
        if **wanted != *own {
            let message = "is of another namespace than the Ingress".to_owned();
            return Err((Reason::InvalidSecret, message));
        }
        let key = (Arc::clone(wanted), Arc::clone(secret));
        let by_name = &self.by_name;
        let read = self.read.entry(key).or_insert_with(|| {
            let found = by_name.get(&(&**wanted, &**secret));
            let found = found.ok_or((Reason::SecretNotFound, "does not exist".to_owned()))?;
            read_secret(found).map(|authorities| Some(Arc::new(authorities)))
        });
        read.clone()
    }
}

fn read_secret(secret: &Secret) -> Result<Authorities, (Reason, String)> {
    let entry = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value.map(|value| value.0.clone())
    };
    let ca = entry("ca.crt").filter(|value| !value.is_empty());
    let missing = || (Reason::InvalidSecret, "has no `ca.crt`".to_owned());
    Ok(Authorities {
        secret: reference("Secret", &secret.metadata),
        ca_pem: ca.ok_or_else(missing)?,
        crl_pem: entry("ca.crl"),
    })
}
