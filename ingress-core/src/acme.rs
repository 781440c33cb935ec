//! Certificates by ACME (RFC 8555): which are wanted, when each is ordered and renewed, and the state
//! that nodes share. Pure; `ingress-userspace/src/acme` talks to issuers.
//!
//! The state is one Secret of the daemon's namespace. The node that orders writes it; every node reads
//! it as part of the snapshot, answers its challenges and reports its failures.

mod schedule;
mod state;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use crate::ir::{Host, ObjectRef};

pub use schedule::{
    Held, Limits, Step, decide, next_order, renewal_after, renewal_within, retry_pause,
};
pub use state::{Failure, Orders, STATE_KEY, State, StateError};

/// A certificate that Ingresses ask an issuer for: one for each Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The Secret that is to hold it.
    pub secret: ObjectRef,
    /// Name of the issuer.
    pub issuer: Arc<str>,
    /// The hosts that it is for, sorted; never empty.
    pub hosts: Box<[Host]>,
    /// The oldest Ingress that asks for it.
    pub ingress: ObjectRef,
    /// The field of the Ingress that names the Secret.
    pub field: String,
}

impl Wanted {
    /// The key of the Secret in [`State`]: `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.secret.namespace, self.secret.name)
    }

    /// A number that changes when the issuer or a host does: failures of another order don't count.
    pub fn fingerprint(&self) -> u64 {
        let hosts = self.hosts.iter().map(Host::as_str);
        let parts = [&*self.issuer].into_iter().chain(hosts);
        let bytes = parts.flat_map(|part| part.bytes().chain([0]));
        // FNV-1a: the number is kept in a Secret and has to be the same in every release.
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// A time as RFC 3339 has it, for people.
pub fn time_text(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Reads [`time_text`].
pub fn read_time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The value of one of the annotations below.
pub fn mark<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The annotation of Secrets that are ours to write: the name of the issuer.
pub const ISSUER_MARK: &str = "sluice.dev/acme-issuer";
/// The annotation of such Secrets that tells when the certificate is renewed, in RFC 3339.
pub const RENEWAL_MARK: &str = "sluice.dev/acme-renew-at";
/// The prefix of the two annotations, by which the watch of Secrets keeps them.
pub const MARKS: &str = "sluice.dev/acme-";
/// Names in one certificate, as Let's Encrypt allows.
pub const HOSTS_MAX: usize = 100;
