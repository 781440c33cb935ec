//! A validating webhook: tells the API server which Ingresses would not be served.
//!
//! In process and pure (`ingress_core::admission`): it reads no file but its own certificate, makes no
//! call and renders nothing. What a stranger can hold of it is bounded in number, bytes and time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingress_core::admission::review;
use ingress_core::ir::Config;
use ingress_core::object::Ingress;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::Options;
use k8s_openapi::api::networking::v1;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::certificate_files::ServedCertificate;

/// The configuration that objects are reviewed against; `None` before the first one.
pub type Served = Option<Arc<(Snapshot, Arc<Config>, Options)>>;

/// The certificate of the webhook.
pub enum Certificate {
    /// In files, which are read again when they change.
    Files(ServedCertificate),
    /// In a Secret (`control::webhook`); `None` before the first one is known.
    Kept(watch::Receiver<Option<Arc<ServerConfig>>>),
}

impl Certificate {
    fn newest(&mut self) -> Option<Arc<ServerConfig>> {
        match self {
            Self::Files(files) => {
                files.renew();
                Some(files.config())
            }
            Self::Kept(kept) => kept.borrow().clone(),
        }
    }
}

/// Answers reviews at an address until it is dropped. Closes connections while there is no
/// certificate.
///
/// # Errors
///
/// An error if the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    mut certificate: Certificate,
    served: watch::Receiver<Served>,
) -> Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("failed to listen on {address}"))?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    Ok(async move {
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Some(config) = certificate.newest() else {
                continue;
            };
            let acceptor = TlsAcceptor::from(config);
            let served = served.clone();
            tokio::spawn(async move {
                let _place = place;
                let answering = async {
                    let stream = acceptor.accept(stream).await?;
                    let service = service_fn(|request| answer(request, served.borrow().clone()));
                    let connection = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                    connection.map_err(io::Error::other)
                };
                match tokio::time::timeout(CONNECTION_TIME_MAX, answering).await {
                    Ok(Ok(())) | Err(_) => {}
                    Ok(Err(error)) => debug!(%error, "webhook connection failed"),
                }
            });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
    served: Served,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::POST {
        return Ok(text(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST an AdmissionReview\n",
        ));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    let Ok(body) = body else {
        return Ok(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the review is too large\n",
        ));
    };
    let review: Result<Value, _> = serde_json::from_slice(&body.to_bytes());
    let answer = review
        .ok()
        .and_then(|review| judge(&review, served.as_deref()));
    let Some(answer) = answer else {
        return Ok(text(
            StatusCode::BAD_REQUEST,
            "not an AdmissionReview of v1\n",
        ));
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

/// The answer to a review; `None` for something else.
fn judge(review_of: &Value, served: Option<&(Snapshot, Arc<Config>, Options)>) -> Option<Value> {
    let request = review_of.get("request")?;
    let uid = request.get("uid")?.as_str()?;
    let kind = request.get("kind")?.get("kind")?.as_str()?;
    let is_judged = kind == "Ingress" && request["operation"] != "DELETE";
    let (refusals, warnings) = match served.filter(|_| is_judged) {
        None => (Vec::new(), Vec::new()),
        Some((snapshot, config, options)) => {
            let object = serde_json::from_value::<v1::Ingress>(request.get("object")?.clone());
            match object {
                Ok(object) => {
                    let found = review(&Ingress::from(object), snapshot, config, options);
                    (lines(&found.refusals), lines(&found.warnings))
                }
                Err(error) => (
                    vec![format!("the Ingress cannot be read: {error}")],
                    Vec::new(),
                ),
            }
        }
    };
    let mut response = json!({"uid": uid, "allowed": refusals.is_empty()});
    if !refusals.is_empty() {
        response["status"] = json!({"code": 422, "message": refusals.join("; ")});
    }
    if !warnings.is_empty() {
        response["warnings"] = json!(warnings);
    }
    Some(json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": response,
    }))
}

fn lines(found: &[ingress_core::diagnostic::Diagnostic]) -> Vec<String> {
    let line = |one: &ingress_core::diagnostic::Diagnostic| {
        let mut line = format!("{}: {}", one.field, one.message);
        // The API server cuts warnings at 256 characters.
        if let Some((end, _)) = line.char_indices().nth(LINE_CHARACTERS_MAX) {
            line.truncate(end);
        }
        line
    };
    found.iter().take(LINES_MAX).map(line).collect()
}

const CONNECTIONS_MAX: usize = 64;
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// An object has at most 1.5 MiB, and an update carries two.
const BODY_BYTES_MAX: usize = 4 << 20;
const LINES_MAX: usize = 16;
const LINE_CHARACTERS_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use ingress_core::translate::translate;
    use rustls::crypto::aws_lc_rs;

    use super::*;
    use crate::admin::CertificateFiles;

    fn ingress(name: &str, annotations: &Value) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"namespace": "test", "name": name, "annotations": annotations},
            "spec": {
                "ingressClassName": "sluice",
                "rules": [{"host": "a.test", "http": {"paths": [{
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}},
                }]}}],
            },
        })
    }

    fn judged(object: &Value) -> Value {
        let mut snapshot = Snapshot::default();
        let taken: v1::Ingress = serde_json::from_value(ingress("taken", &json!({}))).unwrap();
        snapshot.ingresses.push(Arc::new(taken.into()));
        let options = Options::default();
        let config = translate(&snapshot, &options).config;
        let review = json!({"request": {
            "uid": "1",
            "kind": {"kind": "Ingress"},
            "operation": "CREATE",
            "object": object,
        }});
        let served = (snapshot, Arc::new(config), options);
        judge(&review, Some(&served)).unwrap()["response"].clone()
    }

    #[test]
    fn rules_that_another_ingress_has_are_refused_canaries_apart() {
        let response = judged(&ingress("new", &json!({})));
        assert_eq!(response["allowed"], false);
        let message = response["status"]["message"].as_str().unwrap();
        assert!(
            message.contains("spec.rules[0].http.paths[0].path"),
            "{message}"
        );
        assert!(message.contains("Ingress test/taken"), "{message}");
        assert_eq!(judged(&ingress("taken", &json!({})))["allowed"], true);
        let canary = json!({"nginx.ingress.kubernetes.io/canary": "true"});
        assert_eq!(judged(&ingress("new", &canary))["allowed"], true);
    }

    #[test]
    fn restrictions_that_cannot_be_honoured_are_refused_and_others_are_warnings() {
        let closed = json!({"nginx.ingress.kubernetes.io/limit-rps": "many"});
        let response = judged(&ingress("taken", &closed));
        assert_eq!(response["allowed"], false, "{response}");
        let typo = json!({"nginx.ingress.kubernetes.io/proxy-body-szie": "1m"});
        let response = judged(&ingress("taken", &typo));
        assert_eq!(response["allowed"], true);
        let warnings = response["warnings"].as_array().unwrap();
        assert!(
            warnings[0].as_str().unwrap().contains("proxy-body-szie"),
            "{warnings:?}"
        );
    }

    #[test]
    fn objects_of_other_classes_and_other_kinds_are_let_through() {
        let mut other = ingress("new", &json!({}));
        other["spec"]["ingressClassName"] = "other".into();
        assert_eq!(judged(&other)["allowed"], true);
        let review = json!({"request": {"uid": "1", "kind": {"kind": "Pod"}, "object": {}}});
        assert_eq!(judge(&review, None).unwrap()["response"]["allowed"], true);
        for wrong in [json!({}), json!({"request": {"uid": 1}}), json!([])] {
            assert_eq!(judge(&wrong, None), None);
        }
        let broken = judged(&json!({"spec": 1}));
        assert_eq!(broken["allowed"], false);
    }

    /// A certificate for `localhost`, in files of a directory and as the root of a client.
    fn certificate(directory: &std::path::Path) -> (CertificateFiles, rustls::RootCertStore) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = CertificateFiles {
            chain: directory.join("tls.crt"),
            key: directory.join("tls.key"),
        };
        fs::write(&files.chain, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        (files, roots)
    }

    async fn post(address: SocketAddr, roots: rustls::RootCertStore, body: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn webhook_answers_over_tls_and_takes_a_renewed_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let (files, roots) = certificate(directory.path());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (_served, receiver) = watch::channel(None);
        let files = Certificate::Files(ServedCertificate::read(files).unwrap());
        let serving = serve(address, files, receiver).await.unwrap();
        tokio::spawn(serving);
        let review = json!({"request": {"uid": "7", "kind": {"kind": "Ingress"}}}).to_string();
        let answer = post(address, roots, &review).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("\"uid\":\"7\"") && answer.contains("\"allowed\":true"),
            "{answer}"
        );
        let (renewed, roots) = certificate(directory.path());
        let later = SystemTime::now() + Duration::from_secs(2);
        let file = fs::File::open(&renewed.chain).unwrap();
        file.set_modified(later).unwrap();
        let answer = post(address, roots, "not JSON").await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    }
}
