//! What an endpoint is told about a client's certificate, in the fields of ingress-nginx.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::name;
use super::trust::Verdict;

/// The fields of one client's requests.
pub(crate) struct Fields {
    verify: HeaderValue,
    subject: Option<HeaderValue>,
    issuer: Option<HeaderValue>,
    certificate: Option<HeaderValue>,
}

impl Fields {
    pub(crate) fn new(verdict: &Verdict, leaf: Option<&[u8]>, passes_certificate: bool) -> Self {
        let parsed = leaf.and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let parsed = parsed.map(|(_, certificate)| certificate);
        let subject = parsed.as_ref().map(|one| name::rfc2253(one.subject()));
        let issuer = parsed.as_ref().map(|one| name::rfc2253(one.issuer()));
        let certificate = leaf.filter(|_| passes_certificate).map(escaped_pem);
        Self {
            verify: match verdict {
                Verdict::None => HeaderValue::from_static("NONE"),
                Verdict::Good => HeaderValue::from_static("SUCCESS"),
                Verdict::Unknown(reason) | Verdict::Bad(reason) => {
                    value(format!("FAILED:{reason}")).unwrap_or(FAILED)
                }
            },
            subject: subject.and_then(value),
            issuer: issuer.and_then(value),
            certificate: certificate.and_then(value),
        }
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(VERIFY, self.verify.clone());
        let optional = [
            (SUBJECT, &self.subject),
            (ISSUER, &self.issuer),
            (CERTIFICATE, &self.certificate),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// Whether a field of this name is for us alone to say.
pub(crate) fn is_claim(name: &str) -> bool {
    let names = [VERIFY, SUBJECT, ISSUER, CERTIFICATE];
    name.starts_with("ssl-client-") && names.iter().any(|own| own.as_str() == name)
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// PEM with everything escaped but the unreserved characters of RFC 3986:
/// `$ssl_client_escaped_cert` of nginx.
fn escaped_pem(der: &[u8]) -> String {
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let base64 = STANDARD.encode(der);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = next;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut escaped = String::with_capacity(pem.len() * 5 / 4);
    for byte in pem.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                escaped.push('%');
                name::push_hex(&mut escaped, other);
            }
        }
    }
    escaped
}

const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
const FAILED: HeaderValue = HeaderValue::from_static("FAILED");
