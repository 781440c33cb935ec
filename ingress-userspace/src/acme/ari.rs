//! When an issuer suggests to renew (RFC 9773): asked now and then, kept as a mark of the Secret.

use anyhow::{Result, ensure};
use ingress_core::acme::{ISSUER_MARK, RENEWAL_MARK, Wanted, mark, renewal_within, time_text};
use instant_acme::{Account, CertificateIdentifier, Error};

use super::held::{self, Certificate};
use super::now;
use super::store::Store;

/// An issuer's suggestion for one certificate.
pub(super) struct Suggestion {
    pub(super) identifier: CertificateIdentifier<'static>,
    /// When it is asked again, in seconds since 1970.
    pub(super) next: i64,
}

/// Asks for the time to renew a certificate, and writes it to the Secret if it changed. Returns how many
/// seconds the answer is good for.
pub(super) async fn follow(
    account: &Account,
    store: &Store,
    wanted: &Wanted,
    certificate: &Certificate,
    identifier: &CertificateIdentifier<'static>,
) -> Result<i64> {
    let (info, patience) = match account.renewal_info(identifier).await {
        Ok(answer) => answer,
        Err(Error::Unsupported(_)) => return Ok(PAUSE_MAX),
        Err(error) => return Err(error.into()),
    };
    let start = info.suggested_window.start.unix_timestamp();
    let end = info.suggested_window.end.unix_timestamp();
    ensure!(
        start < end,
        "issuer suggests to renew within no time (RFC 9773 §4.2)"
    );
    let at = renewal_within(start, end, wanted.fingerprint());
    // However late the issuer wants it, there is time left for failures.
    let latest = certificate.not_after.saturating_sub(RESERVE);
    let at = at.min(latest.max(certificate.held.renews_at));
    if (at - certificate.held.renews_at).abs() > TOLERANCE {
        note(store, wanted, certificate, at).await?;
    }
    let patience = i64::try_from(patience.as_secs()).unwrap_or(PAUSE_MAX);
    Ok(patience.clamp(PAUSE_MIN, PAUSE_MAX))
}

async fn note(store: &Store, wanted: &Wanted, certificate: &Certificate, at: i64) -> Result<()> {
    let (namespace, name) = (&wanted.secret.namespace, &wanted.secret.name);
    let Some(mut secret) = store.get(namespace, name).await? else {
        return Ok(());
    };
    // It may have been renewed, or taken over, meanwhile.
    let is_same = held::read(&secret).is_some_and(|now| now.identifier == certificate.identifier);
    if mark(&secret, ISSUER_MARK).is_none() || !is_same {
        return Ok(());
    }
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(RENEWAL_MARK.to_owned(), time_text(at));
    store.put(secret).await.map(drop)
}

/// When to ask again after an error.
pub(super) fn after_error() -> i64 {
    now().saturating_add(PAUSE_MIN)
}

/// Differences below this, in seconds, are not worth a write.
const TOLERANCE: i64 = 60;
/// Pauses between two questions about one certificate, in seconds.
const PAUSE_MIN: i64 = 3600;
const PAUSE_MAX: i64 = 24 * 3600;
/// The remaining life of a certificate at its latest renewal, in seconds.
const RESERVE: i64 = 24 * 3600;
