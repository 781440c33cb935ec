//! Requests to an issuer: verified TLS, bounded in time and size.
//!
//! `Retry-After` is bounded before any code reads it, and kept where the issuer refuses orders by it.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use super::now;

/// A client of one issuer; clones share its connections.
#[derive(Clone)]
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// No order before this time, in seconds since 1970.
    not_before: Arc<AtomicI64>,
}

impl Http {
    /// A client that trusts the authorities in a file, or those of the system.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            not_before: Arc::default(),
        })
    }

    /// When the issuer, which asked for patience, may be asked again, in seconds since 1970.
    pub(super) fn not_before(&self) -> i64 {
        self.not_before.load(Ordering::Relaxed)
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        request.headers_mut().insert(USER_AGENT, AGENT);
        let sent = self.client.request(request);
        let not_before = Arc::clone(&self.not_before);
        Box::pin(async move {
            let whole = async {
                let (mut head, body) = sent.await.map_err(other)?.into_parts();
                bound_patience(&mut head.headers);
                let asks_patience = [
                    StatusCode::TOO_MANY_REQUESTS,
                    StatusCode::SERVICE_UNAVAILABLE,
                ];
                if asks_patience.contains(&head.status)
                    && let Some(seconds) = patience(&head.headers)
                {
                    not_before.fetch_max(now().saturating_add(seconds), Ordering::Relaxed);
                }
                let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
                let body = body.map_err(Error::Other)?.to_bytes();
                let response = Response::from_parts(head, Full::new(body));
                Ok(BytesResponse::from(response))
            };
            let answered = timeout(REQUEST_TIME_MAX, whole).await;
            answered.unwrap_or_else(|_| Err(Error::Other("issuer did not answer in time".into())))
        })
    }
}

fn other(error: hyper_util::client::legacy::Error) -> Error {
    // The source of the error names the cause.
    Error::Other(format!("{:#}", anyhow::Error::from(error)).into())
}

/// Replaces `Retry-After` by a bounded number of seconds, so that no computation overflows and no sleep
/// takes years.
fn bound_patience(headers: &mut HeaderMap) {
    if !headers.contains_key(RETRY_AFTER) {
        return;
    }
    match patience(headers) {
        Some(seconds) => drop(headers.insert(RETRY_AFTER, HeaderValue::from(seconds))),
        None => drop(headers.remove(RETRY_AFTER)),
    }
}

/// Seconds of `Retry-After` (RFC 9110 §10.2.3).
fn patience(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if is_number {
        text.parse().unwrap_or(i64::MAX)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let left = date.duration_since(SystemTime::now()).unwrap_or_default();
        i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
    };
    Some(seconds.min(PATIENCE_MAX))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(file) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return Ok(roots);
    };
    let name = file.display();
    let text = fs::read(file).with_context(|| format!("failed to read `{name}`"))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| anyhow::anyhow!("{error}"));
        let certificate = certificate.with_context(|| format!("`{name}` is not PEM"))?;
        let added = roots.add(certificate);
        added.with_context(|| format!("`{name}` has a certificate that is no authority's"))?;
    }
    ensure!(!roots.is_empty(), "`{name}` has no certificate");
    Ok(roots)
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!(
    "sluice/",
    env!("CARGO_PKG_VERSION"),
    " instant-acme"
));
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Of an answer; a chain of certificates has some kilobytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest that an issuer may have us wait, in seconds.
const PATIENCE_MAX: i64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(text: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        bound_patience(&mut headers);
        let value = headers.get(RETRY_AFTER)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn retry_after_is_a_bounded_number_of_seconds() {
        assert_eq!(bounded("30").as_deref(), Some("30"));
        assert_eq!(bounded("18446744073709551615").as_deref(), Some("86400"));
        assert_eq!(bounded(&"9".repeat(80)).as_deref(), Some("86400"));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(bounded(past).as_deref(), Some("0"));
        let future = "Fri, 31 Dec 9999 23:59:59 GMT";
        assert_eq!(bounded(future).as_deref(), Some("86400"));
        assert_eq!(bounded("soon"), None);
        assert_eq!(bounded("-1"), None);
    }
}
