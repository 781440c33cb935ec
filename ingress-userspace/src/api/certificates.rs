//! The certificates of all hosts.

use std::collections::HashMap;

use ingress_core::acme::time_text;
use ingress_core::ir::{self, Config, ObjectRef, OrderedCertificate};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::Object;

/// One certificate of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// The host whose TLS section names it.
    pub host: String,
    /// The Secret that it comes from.
    pub secret: Object,
    /// The names that it is for; empty if it cannot be read.
    pub names: Vec<String>,
    /// Who has issued it.
    pub issuer: String,
    /// When it ends, in RFC 3339; `None` if it cannot be read, or if the Secret has none.
    pub not_after: Option<String>,
    /// Whole days until then, negative afterwards.
    pub days_left: Option<i64>,
    /// The state of its order at an ACME issuer, if an Ingress requests one.
    #[serde(default)]
    pub order: Option<CertificateOrder>,
}

/// The state of the order of a certificate at an ACME issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertificateOrder {
    /// The name of the issuer.
    pub issuer: String,
    /// When the certificate is renewed, in RFC 3339; `None` before it is issued.
    pub renews_at: Option<String>,
    /// How many orders in a row failed.
    pub failed_attempts: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// When the next attempt follows a failed one, in RFC 3339.
    pub retry_at: Option<String>,
}

impl From<&OrderedCertificate> for CertificateOrder {
    fn from(ordered: &OrderedCertificate) -> Self {
        let failure = ordered.failure.as_ref();
        Self {
            issuer: ordered.issuer.to_string(),
            renews_at: ordered.renews_at.map(time_text),
            failed_attempts: failure.map_or(0, |failure| failure.attempts),
            error: failure.map(|failure| failure.error.to_string()),
            retry_at: failure.map(|failure| time_text(failure.retry_at)),
        }
    }
}

/// Lists the certificates of a configuration, by host; those of a host with two algorithms follow each
/// other.
pub fn certificates(config: &Config, now: Timestamp) -> Vec<Certificate> {
    let orders = config.acme.iter().flat_map(|acme| &acme.certificates);
    let orders: HashMap<&ObjectRef, _> = orders.map(|order| (&order.secret, order)).collect();
    let mut all = Vec::new();
    for (host, first) in &*config.certificates {
        let mut next = Some(first);
        while let Some(certificate) = next {
            let order = orders.get(&certificate.secret).copied();
            all.push(Certificate {
                order: order.map(CertificateOrder::from),
                ..read(host.to_string(), certificate, now)
            });
            next = certificate.alternative.as_ref();
        }
    }
    all
}

fn read(host: String, certificate: &ir::Certificate, now: Timestamp) -> Certificate {
    let mut read = Certificate {
        host,
        secret: (&certificate.secret).into(),
        names: Vec::new(),
        issuer: String::new(),
        not_after: None,
        days_left: None,
        order: None,
    };
    let leaf = CertificateDer::pem_slice_iter(&certificate.chain_pem).next();
    let Some(Ok(leaf)) = leaf else { return read };
    let Ok((_, leaf)) = X509Certificate::from_der(&leaf) else {
        return read;
    };
    if let Ok(Some(names)) = leaf.subject_alternative_name() {
        for name in &names.value.general_names {
            if let GeneralName::DNSName(name) = name {
                read.names.push((*name).to_owned());
            }
        }
    }
    read.issuer = leaf.issuer().to_string();
    if let Ok(ends) = Timestamp::from_second(leaf.validity().not_after.timestamp()) {
        read.not_after = Some(ends.to_string());
        read.days_left = Some((ends.as_second() - now.as_second()).div_euclid(SECONDS_OF_DAY));
    }
    read
}

const SECONDS_OF_DAY: i64 = 86_400;
