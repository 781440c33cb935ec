//! One probe of one endpoint.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress_core::ir::{HttpProbe, Probe, UpstreamProtocol};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Target;
use crate::proxy::runtime::stream::UpstreamStream;
use crate::proxy::tls::upstream::UpstreamTls;

/// Why a probe has failed.
#[derive(Debug, Error)]
pub(super) enum ProbeError {
    #[error("no answer within {0} s")]
    TimedOut(u32),
    #[error("connection failed: {0}")]
    Connect(#[source] io::Error),
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
    #[error("request failed: {0}")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
}

/// Probes an endpoint.
///
/// # Errors
///
/// A [`ProbeError`] if the endpoint is not healthy.
pub(super) async fn run(target: &Target, tls: &UpstreamTls) -> Result<(), ProbeError> {
    let seconds = target.check.timeout.get();
    let probing = timeout(Duration::from_secs(seconds.into()), probe(target, tls));
    probing.await.unwrap_or(Err(ProbeError::TimedOut(seconds)))
}

async fn probe(target: &Target, tls: &UpstreamTls) -> Result<(), ProbeError> {
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.map_err(ProbeError::Connect)?;
    let Probe::Http(probe) = &target.check.probe else {
        return Ok(());
    };
    let stream = tls.connect(stream, target.protocol, target.address, target.tls.as_ref());
    let stream = stream.await.map_err(ProbeError::Tls)?;
    let response = ask(target, probe, stream).await;
    let status = response.map_err(ProbeError::Request)?.status();
    if probe.expects(status.as_u16()) {
        Ok(())
    } else {
        Err(ProbeError::Status(status))
    }
}

async fn ask(
    target: &Target,
    probe: &HttpProbe,
    stream: UpstreamStream,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let address = target.address.to_string();
    let host = probe.host.as_deref().unwrap_or(&address);
    let mut request = Request::new(Empty::<Bytes>::new());
    let fields = request.headers_mut();
    fields.insert(USER_AGENT, HeaderValue::from_static("sluice-health-check"));
    let stream = TokioIo::new(stream);
    if target.protocol.is_multiplexed() {
        let scheme = if target.protocol == UpstreamProtocol::Http2Tls {
            "https"
        } else {
            "http"
        };
        let uri = Uri::builder().scheme(scheme).authority(host);
        *request.uri_mut() = uri.path_and_query(&*probe.path).build()?;
        let handshake = http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await?;
        let _driven = Driven::new(connection);
        Ok(sender.send_request(request).await?)
    } else {
        fields.insert(HOST, HeaderValue::try_from(host)?);
        *request.uri_mut() = Uri::try_from(&*probe.path)?;
        let (mut sender, connection) = http1::handshake(stream).await?;
        let _driven = Driven::new(connection);
        Ok(sender.send_request(request).await?)
    }
}

/// A connection that is driven until this is dropped.
struct Driven(JoinHandle<()>);

impl Driven {
    fn new<E>(connection: impl Future<Output = Result<(), E>> + 'static) -> Self {
        Self(tokio::task::spawn_local(async move {
            // The request tells of an error.
            let _ = connection.await;
        }))
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}
