//! What a proxy is to serve: hosts, their endpoints, and TLS.

use ingress_tests::rig::{POD_GRPC_PORT, POD_PORT, POD3_V4};

/// What every subject serves in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scene {
    /// Host names.
    pub(super) hosts: usize,
    /// What is behind them.
    pub(super) backends: Backends,
    /// Key of the certificate, which is for all hosts.
    pub(super) key: Key,
    /// Whether TLS sessions may be resumed.
    pub(super) tickets: bool,
    /// What endpoints speak.
    pub(super) protocol: Protocol,
    /// Whether requests are counted by route; of Sluice alone.
    pub(super) metrics: bool,
    /// Whether requests are logged; of Sluice alone.
    pub(super) access_log: bool,
    /// How requests reach the proxy; of Sluice alone.
    pub(super) datapath: Datapath,
    /// Annotations of every Ingress without their prefix, and their values; of Sluice alone.
    pub(super) annotations: &'static [(&'static str, &'static str)],
}

/// How requests reach Sluice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Datapath {
    /// By ordinary sockets.
    Host,
    /// By the ingress netns.
    Netns,
    /// The same without the guard.
    Unguarded,
}

/// What is behind hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backends {
    /// The same endpoints behind all.
    Shared {
        /// How many.
        endpoints: usize,
    },
    /// One endpoint behind each.
    Own,
    /// One endpoint, on the other node, behind all.
    OtherNode,
}

/// Key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// ECDSA on P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// gRPC in cleartext.
    Grpc,
}

impl Scene {
    /// One host with two endpoints.
    pub(super) const PLAIN: Self = Self {
        hosts: 1,
        backends: Backends::Shared { endpoints: 2 },
        key: Key::P256,
        tickets: false,
        protocol: Protocol::Http1,
        metrics: true,
        access_log: false,
        datapath: Datapath::Host,
        annotations: &[],
    };

    /// Backends, each with the addresses of its endpoints.
    pub(super) fn backends(&self) -> Vec<Vec<String>> {
        match self.backends {
            Backends::Shared { endpoints } => vec![(0..endpoints).map(address).collect()],
            Backends::Own => (0..self.hosts)
                .map(|host| vec![address(2 * host)])
                .collect(),
            Backends::OtherNode => vec![vec![POD3_V4.to_owned()]],
        }
    }

    /// The backend of a host.
    pub(super) fn backend_of(&self, host: usize) -> usize {
        match self.backends {
            Backends::Shared { .. } | Backends::OtherNode => 0,
            Backends::Own => host,
        }
    }

    /// Port of endpoints.
    pub(super) fn port(&self) -> u16 {
        match self.protocol {
            Protocol::Http1 => POD_PORT,
            Protocol::Grpc => POD_GRPC_PORT,
        }
    }
}

/// Name of a host.
pub(super) fn host(number: usize) -> String {
    format!("h{number}.bench.test")
}

/// Address of an endpoint: even ones are on one pod, odd ones on another.
pub(super) fn address(number: usize) -> String {
    let (of, number) = (NETWORKS[number % 2], number / 2);
    format!("{of}.{}.{}", number / 250, number % 250 + 1)
}

/// The first two bytes of the addresses that pods answer at, one for each of two pods.
pub(super) const NETWORKS: [&str; 2] = ["10.5", "10.6"];

impl Key {
    /// Name of the certificate's files.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Rsa2048 => "rsa2048",
        }
    }
}
