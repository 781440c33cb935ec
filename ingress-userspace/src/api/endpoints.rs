//! The endpoints of all backends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use ingress_core::ir::{Config, UpstreamProtocol};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One endpoint of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// `namespace/service:port`.
    pub backend: String,
    /// What it speaks: `http1`, `https`, `h2c`, `h2` or `udp`.
    pub protocol: String,
    /// IP address and port.
    pub address: SocketAddr,
    /// Whether it gets new requests.
    pub state: EndpointState,
    /// How the proxy reaches it.
    pub path: EndpointPath,
}

/// Whether an endpoint gets new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// It does.
    Ready,
    /// It terminates and serves its sessions only.
    Draining,
}

/// How the proxy reaches an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointPath {
    /// From the ingress netns, past the host's netfilter hooks.
    Direct,
    /// Through the host.
    Host,
}

/// Lists the endpoints of a configuration, by backend. `direct` has the addresses of those that the
/// datapath reaches directly.
pub fn endpoints(config: &Config, direct: &BTreeSet<IpAddr>) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for backend in config.backends.values() {
        let ready = backend
            .endpoints
            .iter()
            .map(|endpoint| (endpoint, EndpointState::Ready));
        let draining = backend.draining.iter();
        // Where none is ready, those that terminate get new requests too.
        let draining = draining.filter(|endpoint| !backend.endpoints.contains(endpoint));
        let draining = draining.map(|endpoint| (endpoint, EndpointState::Draining));
        all.extend(ready.chain(draining).map(|(endpoint, state)| Endpoint {
            backend: backend.key.to_string(),
            protocol: protocol(backend.protocol).to_owned(),
            address: endpoint.address,
            state,
            path: if direct.contains(&endpoint.address.ip()) {
                EndpointPath::Direct
            } else {
                EndpointPath::Host
            },
        }));
    }
    all
}

fn protocol(protocol: UpstreamProtocol) -> &'static str {
    match protocol {
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::Https => "https",
        UpstreamProtocol::Http2 => "h2c",
        UpstreamProtocol::Http2Tls => "h2",
        UpstreamProtocol::Datagrams => "udp",
    }
}
