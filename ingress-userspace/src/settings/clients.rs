//! Flags of who is believed about clients, and of how much one of them may have.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use http::HeaderName;
use ingress_core::annotation::read_size;
use ipnet::IpNet;

use crate::proxy::{ClientLimits, ClientPolicy, ForwardedFor, SharedDenyList, Timeouts};

/// Flags of who is believed about clients, and of how much one of them may have.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Clients {
    /// Networks of proxies and load balancers that are believed about clients; nobody else is.
    #[arg(
        long,
        env = "SLUICE_PROXY_REAL_IP_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub proxy_real_ip_cidr: Vec<IpNet>,

    /// Believe them what X-Forwarded-For, -Host, -Port and -Proto say.
    #[arg(
        long,
        env = "SLUICE_USE_FORWARDED_HEADERS",
        requires = "proxy_real_ip_cidr"
    )]
    pub use_forwarded_headers: bool,

    /// Field in which they list addresses.
    #[arg(
        long,
        env = "SLUICE_FORWARDED_FOR_HEADER",
        value_name = "FIELD",
        default_value = "X-Forwarded-For"
    )]
    pub forwarded_for_header: HeaderName,

    /// Send endpoints the whole list of addresses rather than the client's alone.
    #[arg(long, env = "SLUICE_COMPUTE_FULL_FORWARDED_FOR")]
    pub compute_full_forwarded_for: bool,

    /// Send endpoints Forwarded (RFC 7239) too.
    #[arg(long, env = "SLUICE_ADD_FORWARDED_HEADER")]
    pub add_forwarded_header: bool,

    /// Take the header of the PROXY protocol (1 or 2), which their connections then must have.
    #[arg(
        long,
        env = "SLUICE_USE_PROXY_PROTOCOL",
        requires = "proxy_real_ip_cidr"
    )]
    pub use_proxy_protocol: bool,

    /// Seconds for that header.
    #[arg(
        long,
        env = "SLUICE_PROXY_PROTOCOL_HEADER_TIMEOUT",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub proxy_protocol_header_timeout: u64,

    /// Connections that one client (an address, or of IPv6 a network of 64 bits) may have open on
    /// one worker; more are reset. 0: any number. Unless given, the workers' shares of a quarter of
    /// the file descriptors that the process may have. Networks of --proxy-real-ip-cidr speak for
    /// many clients and are not counted.
    #[arg(
        long,
        env = "SLUICE_CLIENT_CONNECTIONS_MAX",
        value_name = "CONNECTIONS"
    )]
    pub client_connections_max: Option<u32>,

    /// Bytes of a request body, as in 512k, 8m or 1g; 0: any number. Larger ones are answered with
    /// 413. The annotation proxy-body-size counts before it.
    #[arg(
        long,
        env = "SLUICE_PROXY_BODY_SIZE",
        value_name = "SIZE",
        default_value = "1m",
        value_parser = read_size
    )]
    pub proxy_body_size: u64,

    /// Bytes of a request body that have to come in a second, on average and after its first five
    /// seconds; slower ones are answered with 408. 0: any number.
    #[arg(
        long,
        env = "SLUICE_CLIENT_BODY_MIN_RATE",
        value_name = "BYTES",
        default_value_t = 0
    )]
    pub client_body_min_rate: u32,

    /// Bytes of a request's head, as in 16k or 64k; 8k to 64k. Larger ones, and those of more than
    /// 100 fields, are answered with 431. Endpoints have bounds of their own.
    #[arg(
        long,
        env = "SLUICE_REQUEST_HEAD_SIZE",
        value_name = "SIZE",
        default_value = "32k",
        value_parser = parse_head_size
    )]
    pub request_head_size: u32,

    /// Requests that one HTTP/2 connection may have at a time.
    #[arg(long, env = "SLUICE_HTTP2_MAX_CONCURRENT_STREAMS", value_name = "STREAMS",
          default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub http2_max_concurrent_streams: u32,

    /// Seconds that a client has from connecting, or from the end of a response, to the end of its
    /// next request's head; then its connection is closed.
    #[arg(long, env = "SLUICE_KEEP_ALIVE", value_name = "SECONDS", default_value_t = 75,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_alive: u32,
}

impl Clients {
    /// What the proxy has to know.
    pub fn policy(&self) -> ClientPolicy {
        ClientPolicy {
            denied: SharedDenyList::default(),
            trusted: self.proxy_real_ip_cidr.clone(),
            use_forwarded_headers: self.use_forwarded_headers,
            forwarded_for: self.forwarded_for_header.clone(),
            passed_on: if self.compute_full_forwarded_for {
                ForwardedFor::All
            } else {
                ForwardedFor::Client
            },
            add_forwarded: self.add_forwarded_header,
            use_proxy_protocol: self.use_proxy_protocol,
            sources: Vec::new(),
        }
    }

    /// How long clients are waited for; `others` for everything else.
    pub fn timeouts(&self, others: Timeouts) -> Timeouts {
        Timeouts {
            proxy_header: Duration::from_secs(self.proxy_protocol_header_timeout),
            request_head: Duration::from_secs(self.keep_alive.into()),
            ..others
        }
    }

    /// How much a client may have of one of so many workers, of a process that may have so many
    /// descriptors.
    pub fn limits(&self, workers: u32, descriptors: u32) -> ClientLimits {
        let share = || (descriptors / CLIENT_PART / workers.max(1)).max(1);
        let connections = self.client_connections_max.unwrap_or_else(share);
        ClientLimits {
            connections_max: NonZeroU32::new(connections),
            body_bytes_max: self.proxy_body_size,
            body_rate_min: self.client_body_min_rate,
            head_bytes_max: self.request_head_size,
            http2_streams_max: self.http2_max_concurrent_streams,
        }
    }
}

/// The part of descriptors that one client may have: a request that goes round in circles has two
/// for each connection.
const CLIENT_PART: u32 = 4;

/// Bytes of a head that fits into a connection's buffer.
fn parse_head_size(text: &str) -> Result<u32, String> {
    let size = read_size(text)?;
    let size = u32::try_from(size).ok();
    let size = size.filter(|size| HEAD_BYTES.contains(size));
    size.ok_or_else(|| "expected 8k to 64k".to_owned())
}

const HEAD_BYTES: RangeInclusive<u32> = 8 * 1024..=64 * 1024;

/// A network, or one address.
pub(super) fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "expected a network such as 10.0.0.0/8, or an address".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        clients: Clients,
    }

    #[test]
    fn a_client_may_have_a_quarter_of_the_descriptors_or_what_is_said() {
        let max = |flags: &[&str], workers, descriptors| {
            let flags = ["sluice"].iter().chain(flags);
            let flags = Flags::try_parse_from(flags).unwrap();
            let limits = flags.clients.limits(workers, descriptors);
            limits.connections_max.map(NonZeroU32::get)
        };
        assert_eq!(max(&[], 2, 20_000), Some(2_500));
        assert_eq!(max(&[], 64, 100), Some(1));
        assert_eq!(max(&["--client-connections-max=7"], 2, 20_000), Some(7));
        assert_eq!(max(&["--client-connections-max=0"], 2, 20_000), None);
    }

    #[test]
    fn heads_and_streams_are_bounded_as_is_said() {
        let limits = |flags: &[&str]| {
            let flags = ["sluice"].iter().chain(flags);
            let limits = Flags::try_parse_from(flags).ok()?.clients.limits(1, 1);
            Some((limits.head_bytes_max, limits.http2_streams_max))
        };
        assert_eq!(limits(&[]), Some((32_768, 128)));
        let said = [
            "--request-head-size=64k",
            "--http2-max-concurrent-streams=7",
        ];
        assert_eq!(limits(&said), Some((65_536, 7)));
        for wrong in [
            "--request-head-size=65537",
            "--request-head-size=4k",
            "--request-head-size=much",
            "--http2-max-concurrent-streams=0",
        ] {
            assert_eq!(limits(&[wrong]), None, "{wrong}");
        }
    }
}
