//! Metrics of certificates that are ordered from ACME issuers: the same on every node.

use ingress_core::ir::{Acme, Config, OrderedCertificate};
use prometheus::proto::MetricFamily;

use crate::proxy::observe::metrics::family::{LabelPairs, counter, float, gauge, labels};

/// The metrics of orders; without samples where there is no issuer.
pub(super) fn families(config: &Config) -> [MetricFamily; 3] {
    let empty = Acme::default();
    let acme = config.acme.as_deref().unwrap_or(&empty);
    let totals = acme.totals.iter().flat_map(|totals| {
        let of = |result, count: u64| {
            let pairs = labels([("issuer", &*totals.issuer), ("result", result)]);
            (pairs, float(count))
        };
        [of("issued", totals.issued), of("failed", totals.failed)]
    });
    let certificates = acme.certificates.iter();
    let failures = certificates.clone().map(|one| {
        let attempts = one.failure.as_ref().map_or(0, |failure| failure.attempts);
        (named(one), f64::from(attempts))
    });
    let renewals = certificates.filter_map(|one| {
        let at = u64::try_from(one.renews_at?).ok()?;
        Some((named(one), float(at)))
    });
    [
        counter(
            "sluice_acme_orders_total",
            "Completed orders at ACME issuers by result (issued, failed); the same on all nodes",
            totals,
        ),
        gauge(
            "sluice_acme_failed_attempts",
            "Orders of a certificate that failed since the last one that was issued",
            failures,
        ),
        gauge(
            "sluice_acme_renewal_time_seconds",
            "When a certificate is renewed, in seconds since 1970",
            renewals,
        ),
    ]
}

fn named(certificate: &OrderedCertificate) -> LabelPairs {
    labels([
        ("issuer", &*certificate.issuer),
        ("namespace", &*certificate.secret.namespace),
        ("secret_name", &*certificate.secret.name),
    ])
}
