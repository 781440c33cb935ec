//! Backends (a port of a Service) and their endpoints (addresses of pods).

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{Affinity, Balance, HealthCheck, UpstreamTls};

/// Names a backend: a Service and one of its ports, as the Ingress spells the port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Namespace of the Ingress and the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// `service.port` of the Ingress backend.
    pub port: ServicePort,
    /// How it is spoken to: two Ingresses that ask for different ways have two backends.
    pub policy: BackendPolicy,
}

/// What makes two backends of one Service port: what its endpoints speak, and how they share
/// requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendPolicy {
    /// What its endpoints speak; `None`: what the Service port's `appProtocol` says.
    pub protocol: Option<UpstreamProtocol>,
    /// How its endpoints share its requests; `None`: as for all backends.
    pub balance: Option<Balance>,
    /// Whether sessions stay with an endpoint.
    pub affinity: Option<Arc<Affinity>>,
    /// TLS to its endpoints; `None`: without anything to show or to verify.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Whether requests go to the Service's own address, so that the cluster chooses endpoints.
    pub by_service_address: bool,
    /// How its endpoints are probed; `None`: they are not.
    pub health_check: Option<Arc<HealthCheck>>,
}

impl BackendKey {
    /// The transport protocol of its port, as Services name it.
    pub fn transport(&self) -> &'static str {
        self.policy.protocol.unwrap_or_default().transport()
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

impl FromStr for BackendKey {
    type Err = BackendKeyError;

    /// Reads `namespace/service:port`.
    fn from_str(text: &str) -> Result<Self, BackendKeyError> {
        let (namespace, rest) = text.split_once('/').ok_or(BackendKeyError)?;
        let (service, port) = rest.split_once(':').ok_or(BackendKeyError)?;
        let is_name = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
        if ![namespace, service, port].into_iter().all(is_name) {
            return Err(BackendKeyError);
        }
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port.parse() {
            Ok(0) => return Err(BackendKeyError),
            Ok(number) => ServicePort::Number(number),
            Err(_) if is_number => return Err(BackendKeyError),
            Err(_) => ServicePort::Name(port.into()),
        };
        Ok(Self {
            namespace: namespace.into(),
            service: service.into(),
            port,
            policy: BackendPolicy::default(),
        })
    }
}

/// A text names no backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("`namespace/service:port` is expected, with a port number or port name")]
pub struct BackendKeyError;

/// A Service port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServicePort {
    /// `port.number`: the Service's port, not the pod's.
    Number(u16),
    /// `port.name`.
    Name(Arc<str>),
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// The endpoints behind one backend key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub key: Arc<BackendKey>,
    /// What its endpoints speak.
    pub protocol: UpstreamProtocol,
    /// Sorted, without duplicates: those that are ready; where none is, those that still serve
    /// while they terminate.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that still serve while they terminate: existing sessions may stay there, new
    /// ones belong elsewhere. Sorted, without duplicates.
    pub draining: Vec<Endpoint>,
}

impl Backend {
    /// One that has no endpoint, as far as is known.
    pub fn without_endpoints(key: &Arc<BackendKey>) -> Self {
        Self {
            key: Arc::clone(key),
            protocol: key.policy.protocol.unwrap_or_default(),
            endpoints: Vec::new(),
            draining: Vec::new(),
        }
    }
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 without TLS.
    #[default]
    Http1,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    Http2,
    /// HTTP/2 over TLS, by ALPN (RFC 9113 §3.2).
    Http2Tls,
    /// Datagrams (UDP), as they are.
    Datagrams,
}

impl UpstreamProtocol {
    /// What the `appProtocol` of a Service port says. `None` for one that names no protocol that
    /// is carried in its own way: HTTP/1.1 is what such a port gets.
    ///
    /// Names with a prefix are those of KEP-3726, the others IANA's or in wide use.
    pub fn of_app_protocol(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "ws" | "kubernetes.io/ws" => Self::Http1,
            "https" | "wss" | "kubernetes.io/wss" => Self::Https,
            "h2c" | "http2" | "grpc" | "kubernetes.io/h2c" => Self::Http2,
            "h2" | "grpcs" => Self::Http2Tls,
            _ => return None,
        })
    }

    /// The transport protocol underneath, as Services name it.
    pub fn transport(self) -> &'static str {
        match self {
            Self::Http1 | Self::Https | Self::Http2 | Self::Http2Tls => "TCP",
            Self::Datagrams => "UDP",
        }
    }

    /// Whether one connection carries several requests at a time.
    pub fn is_multiplexed(self) -> bool {
        match self {
            Self::Http1 | Self::Https | Self::Datagrams => false,
            Self::Http2 | Self::Http2Tls => true,
        }
    }
}

/// One address that serves a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Pod address and target port.
    pub address: SocketAddr,
}
