//! Certificates by host: parsed once when a Secret changes, chosen by SNI at each handshake.
//!
//! Invariant: a Secret that cannot be used never takes a working certificate away. The last one
//! of the same host pattern is served on, and a [`CertificateProblem`] says what is wrong.

mod facts;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ingress_core::diagnostic::{Diagnostic, Reason};
use ingress_core::ir::{self, HostPattern, ObjectRef};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{self, CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use thiserror::Error;

pub(crate) use facts::Facts;

/// What is wrong with a Secret that a TLS section names, for an Event on that Secret's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The Secret.
    pub secret: ObjectRef,
    /// The host pattern that it does not serve.
    pub host: HostPattern,
    /// Why, in words for its owner.
    pub message: Arc<str>,
}

impl From<CertificateProblem> for Diagnostic {
    fn from(problem: CertificateProblem) -> Self {
        let CertificateProblem {
            secret,
            host,
            message,
        } = problem;
        Self {
            object: secret,
            field: "data".to_owned(),
            reason: Reason::InvalidSecret,
            message: format!("{message} (for host {host})"),
        }
    }
}

/// The certificate for hosts that have none of their own: self-signed and made at start, so that
/// a handshake never fails for want of a Secret.
#[derive(Clone, Debug)]
pub struct DefaultCertificate(Arc<CertifiedKey>);

impl DefaultCertificate {
    /// Makes a key and a certificate for no host in particular.
    pub fn generate() -> Result<Self, CertificateError> {
        let mut parameters = rcgen::CertificateParams::new(vec!["ingress.local".to_owned()])?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let name = "Kubernetes Ingress default certificate";
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate()?;
        let chain = vec![parameters.self_signed(&key)?.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| CertificateError::DefaultKey)?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
        Ok(Self(Arc::new(certified)))
    }
}

/// Why a certificate cannot be served.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// `tls.crt` is no PEM.
    #[error("`tls.crt` cannot be read as PEM")]
    Chain(#[source] pki_types::pem::Error),
    /// `tls.crt` has no certificate in it.
    #[error("`tls.crt` has no certificate")]
    NoCertificate,
    /// `tls.key` is no PEM or has no private key in it.
    #[error("`tls.key` has no private key in PEM (PKCS#8, PKCS#1 or SEC1)")]
    Key(#[source] pki_types::pem::Error),
    /// The key is of an unsupported kind, or is not that of the leaf certificate.
    #[error("certificate and key cannot be used together")]
    Pair(#[from] rustls::Error),
    /// The certificate is for other hosts.
    #[error("certificate does not cover the host `{pattern}`")]
    Host {
        /// The host.
        pattern: HostPattern,
        /// What is wrong with its names.
        source: rustls::Error,
    },
    /// The default certificate could not be made.
    #[error("default certificate cannot be made")]
    Generate(#[from] rcgen::Error),
    /// The default certificate's key could not be read back.
    #[error("default certificate's key cannot be read back")]
    DefaultKey,
}

/// The certificates of one generation.
#[derive(Debug)]
pub(crate) struct CertificateStore {
    entries: BTreeMap<HostPattern, Entry>,
    default: DefaultCertificate,
}

#[derive(Clone, Debug)]
struct Entry {
    source: Arc<ir::Certificate>,
    /// The newest that could be parsed; `None` if this pattern never had one.
    certified: Option<Served>,
    /// Why `source` is not what is served.
    problem: Option<Arc<str>>,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
struct Served {
    /// In order of preference; each of another algorithm.
    keys: Vec<Arc<CertifiedKey>>,
    facts: Vec<Arc<Facts>>,
}

impl Served {
    /// The key that a client can verify: the first, if it can do none.
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let can_verify = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        self.keys
            .iter()
            .find(can_verify)
            .or_else(|| self.keys.first())
    }
}

impl CertificateStore {
    /// Parses what has changed since `previous` and takes the rest over.
    pub(crate) fn build(
        previous: Option<&Self>,
        certificates: &BTreeMap<HostPattern, Arc<ir::Certificate>>,
        default: &DefaultCertificate,
    ) -> Self {
        // One Secret often serves many hosts; it is parsed once.
        let mut parsed: HashMap<*const ir::Certificate, Parsed> = HashMap::new();
        let entry = |(pattern, source): (&HostPattern, &Arc<ir::Certificate>)| {
            let before = previous.and_then(|store| store.entries.get(pattern));
            if let Some(entry) = before.filter(|entry| same(&entry.source, source)) {
                return (pattern.clone(), entry.clone());
            }
            let outcome = parsed
                .entry(Arc::as_ptr(source))
                .or_insert_with(|| parse(source));
            let outcome = outcome.as_ref().map_err(Arc::clone).and_then(|certified| {
                let mut keys = certified.keys.iter();
                keys.try_for_each(|key| check_coverage(key, pattern))
                    .map_err(|error| describe(&error).into())
                    .map(|()| certified)
            });
            let (certified, problem) = match outcome {
                Ok(certified) => (Some(certified.clone()), None),
                Err(message) => {
                    let kept = before.and_then(|entry| entry.certified.clone());
                    // That a Secret is missing, its users have been told.
                    let message = (!source.is_absent()).then_some(message);
                    (kept, message)
                }
            };
            (
                pattern.clone(),
                Entry {
                    source: Arc::clone(source),
                    certified,
                    problem,
                },
            )
        };
        let entries = certificates.iter().map(entry).collect();
        Self {
            entries,
            default: default.clone(),
        }
    }

    /// The certificates that are not served as their Secrets have them.
    pub(crate) fn problems(&self) -> Vec<CertificateProblem> {
        let problem = |(pattern, entry): (&HostPattern, &Entry)| {
            let message = Arc::clone(entry.problem.as_ref()?);
            let secret = entry.source.secret.clone();
            Some(CertificateProblem {
                secret,
                host: pattern.clone(),
                message,
            })
        };
        self.entries.iter().filter_map(problem).collect()
    }

    /// What the certificates that are served say about themselves, with their host patterns.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&HostPattern, &Facts)> {
        self.entries.iter().flat_map(|(pattern, entry)| {
            let facts = entry.certified.iter().flat_map(|served| &served.facts);
            facts.map(move |facts| (pattern, &**facts))
        })
    }

    /// The certificate for a server name: of the host itself, else of the wildcard one label up,
    /// else of every host, else the default.
    pub(crate) fn find(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Arc<CertifiedKey> {
        let host = server_name.and_then(|name| ir::Host::parse(name).ok());
        let wildcard = host.as_ref().and_then(|host| {
            let (_, parent) = host.as_str().split_once('.')?;
            ir::Host::parse(parent).ok().map(HostPattern::Wildcard)
        });
        let patterns = [
            host.map(HostPattern::Exact),
            wildcard,
            Some(HostPattern::Any),
        ];
        let found = patterns.iter().flatten().find_map(|pattern| {
            let served = self.entries.get(pattern)?.certified.as_ref()?;
            served.choose(schemes).cloned()
        });
        found.unwrap_or_else(|| Arc::clone(&self.default.0))
    }
}

type Parsed = Result<Served, Arc<str>>;

/// Equal observations may come in different allocations; only then are the bytes compared.
fn same(a: &Arc<ir::Certificate>, b: &Arc<ir::Certificate>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn parse(certificate: &Arc<ir::Certificate>) -> Parsed {
    let mut served = Served {
        keys: Vec::new(),
        facts: Vec::new(),
    };
    let alternative = certificate.alternative.as_ref();
    for certificate in [Some(certificate), alternative].into_iter().flatten() {
        let key = certified_key(certificate).map_err(|error| describe(&error))?;
        let leaf = key.cert.first();
        let facts = leaf.and_then(|leaf| Facts::read(&certificate.secret, leaf));
        served.facts.extend(facts.map(Arc::new));
        served.keys.push(Arc::new(key));
    }
    // A signature by ECDSA costs a fifth of one by RSA.
    let is_rsa = |key: &Arc<CertifiedKey>| key.key.algorithm() == SignatureAlgorithm::RSA;
    served.keys.sort_by_key(is_rsa);
    Ok(served)
}

fn certified_key(certificate: &ir::Certificate) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&certificate.chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Chain)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(&certificate.key_pem).map_err(CertificateError::Key)?;
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    let matches = (chain.first().zip(key.public_key()))
        .is_none_or(|(leaf, public)| names::has_public_key(leaf, &public));
    if !matches {
        return Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch).into());
    }
    Ok(CertifiedKey::new(chain, key))
}

/// Whether the names of a certificate include a host: its subject alternative names (RFC 6125), or
/// its common name where it has none, as ingress-nginx takes it.
fn check_coverage(certified: &CertifiedKey, pattern: &HostPattern) -> Result<(), CertificateError> {
    let name = match pattern {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("{ANY_LABEL}.{parent}"),
        HostPattern::Any => return Ok(()),
    };
    let leaf = certified.end_entity_cert()?;
    if let Some(common_names) = names::common_names_alone(leaf) {
        let covers = common_names.iter().any(|one| names::covers(one, &name));
        let error = rustls::CertificateError::NotValidForName;
        return covers.then_some(()).ok_or_else(|| CertificateError::Host {
            pattern: pattern.clone(),
            source: error.into(),
        });
    }
    let parsed = ParsedCertificate::try_from(leaf)?;
    // A host with an underscore is no name that a certificate could have.
    let Ok(name) = ServerName::try_from(name) else {
        return Ok(());
    };
    verify_server_name(&parsed, &name).map_err(|source| CertificateError::Host {
        pattern: pattern.clone(),
        source,
    })
}

/// Stands for the one label of a wildcard.
const ANY_LABEL: &str = "any";

/// An error with its sources in one line, for people who see no source chain.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", describe(source)),
        None => error.to_string(),
    }
}
