//! TCP and UDP services: ports whose connections or datagrams are carried to a backend as they are.

use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{BackendKey, BackendKeyError, UpstreamProtocol};

/// What becomes of the connections to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpService {
    /// Where they go.
    pub backend: Arc<BackendKey>,
    /// Whether those from trusted networks begin with a header of the PROXY protocol.
    pub takes_proxy_header: bool,
    /// Whether endpoints get one.
    pub sends_proxy_header: Option<ProxyVersion>,
}

/// What becomes of the datagrams to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpService {
    /// Where they go.
    pub backend: Arc<BackendKey>,
}

impl FromStr for UdpService {
    type Err = BackendKeyError;

    /// Reads `namespace/service:port` as ingress-nginx's `udp-services` ConfigMap has it: a
    /// `:PROXY` after it, which is for TCP, means nothing.
    fn from_str(text: &str) -> Result<Self, BackendKeyError> {
        let end = text.match_indices(':').nth(1);
        let text = end.map_or(text, |(end, _)| &text[..end]);
        let mut backend: BackendKey = text.parse()?;
        backend.policy.protocol = Some(UpstreamProtocol::Datagrams);
        Ok(Self {
            backend: Arc::new(backend),
        })
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Why a text is no TCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TcpServiceError {
    /// Not the name of a backend.
    #[error(transparent)]
    Backend(#[from] BackendKeyError),
    /// Something else than `PROXY` after it.
    #[error("after `namespace/service:port`, `:PROXY` may follow twice: to take, and to send it")]
    Proxy,
}

impl FromStr for TcpService {
    type Err = TcpServiceError;

    /// Reads `namespace/service:port[:PROXY][:PROXY]` as ingress-nginx's `tcp-services` ConfigMap
    /// has it, in any case; `PROXY2` is version 2, for sending.
    fn from_str(text: &str) -> Result<Self, TcpServiceError> {
        let mut parts = text.splitn(3, ':');
        let (service, port) = (parts.next(), parts.next());
        let (service, port) = (service.unwrap_or_default(), port.unwrap_or_default());
        let backend = format!("{service}:{port}").parse::<BackendKey>()?;
        let (takes, sends) = match parts.next() {
            None => ("", ""),
            Some(rest) => rest.split_once(':').unwrap_or((rest, "")),
        };
        Ok(Self {
            backend: Arc::new(backend),
            takes_proxy_header: match &*takes.to_ascii_uppercase() {
                "" => false,
                "PROXY" => true,
                _ => return Err(TcpServiceError::Proxy),
            },
            sends_proxy_header: match &*sends.to_ascii_uppercase() {
                "" => None,
                "PROXY" => Some(ProxyVersion::V1),
                "PROXY2" => Some(ProxyVersion::V2),
                _ => return Err(TcpServiceError::Proxy),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_ingress_nginx_reads_them() {
        for (text, takes, sends) in [
            ("db/mysql:3306", false, None),
            ("db/mysql:3306:PROXY", true, None),
            ("db/mysql:3306::PROXY", false, Some(ProxyVersion::V1)),
            ("db/mysql:3306:proxy:Proxy", true, Some(ProxyVersion::V1)),
            ("db/mysql:3306:PROXY:PROXY2", true, Some(ProxyVersion::V2)),
        ] {
            let service: TcpService = text.parse().unwrap();
            assert_eq!(service.backend.to_string(), "db/mysql:3306");
            assert_eq!(service.takes_proxy_header, takes, "{text}");
            assert_eq!(service.sends_proxy_header, sends, "{text}");
        }
        for wrong in [
            "",
            "mysql:3306",
            "db/mysql",
            "db/mysql:3306:proxied",
            "db/mysql:1:PROXY:x",
        ] {
            assert!(wrong.parse::<TcpService>().is_err(), "{wrong}");
        }
        for text in ["db/dns:53", "db/dns:53:PROXY", "db/dns:53::"] {
            let service: UdpService = text.parse().unwrap();
            assert_eq!(service.backend.to_string(), "db/dns:53");
        }
    }
}
