//! Flags of what is carried as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use ingress_core::ir::{ObjectRef, TcpService, UdpService};

use crate::proxy::DatagramLimits;

/// Flags of TCP and UDP services.
#[derive(Debug, Args)]
pub struct Relay {
    /// TCP service by the port that clients dial, as in ingress-nginx's tcp-services: the first
    /// PROXY takes a header of the PROXY protocol from --proxy-real-ip-cidr, the second (or PROXY2)
    /// sends one; may be given more than once.
    #[arg(
        long = "tcp-service",
        env = "SLUICE_TCP_SERVICE",
        value_name = "PORT=NAMESPACE/NAME:PORT[:PROXY][:PROXY]",
        value_delimiter = ',',
        value_parser = parse_service
    )]
    services: Vec<(u16, TcpService)>,

    /// UDP service by the port that clients send to, as in ingress-nginx's udp-services; may be
    /// given more than once. Its datagrams come through the host's stack: they are not steered.
    #[arg(
        long = "udp-service",
        env = "SLUICE_UDP_SERVICE",
        value_name = "PORT=NAMESPACE/NAME:PORT",
        value_delimiter = ',',
        value_parser = parse_udp_service
    )]
    udp_services: Vec<(u16, UdpService)>,

    /// ConfigMap of TCP services, whose ports are opened and closed as it changes: data has them
    /// as PORT: NAMESPACE/NAME:PORT[:PROXY][:PROXY].
    #[arg(
        long = "tcp-services-configmap",
        env = "SLUICE_TCP_SERVICES_CONFIGMAP",
        value_name = "NAMESPACE/NAME",
        value_parser = parse_config_map
    )]
    tcp_services_from: Option<ObjectRef>,

    /// ConfigMap of UDP services, as that of TCP services.
    #[arg(
        long = "udp-services-configmap",
        env = "SLUICE_UDP_SERVICES_CONFIGMAP",
        value_name = "NAMESPACE/NAME",
        value_parser = parse_config_map
    )]
    udp_services_from: Option<ObjectRef>,

    /// Seconds without a datagram in either direction after which a client's session with an
    /// endpoint ends; at most 30 for a session that never had an answer.
    #[arg(long, env = "SLUICE_UDP_SESSION_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    udp_session_timeout: u32,

    /// UDP sessions of each worker, each of which costs a file descriptor. A client (an address, or
    /// of IPv6 a network of 64 bits) has a quarter of them at most. Beyond the bound, the session
    /// that was used longest ago among those without an answer ends; if all have had one, datagrams
    /// of further clients are dropped and counted.
    #[arg(
        long,
        env = "SLUICE_UDP_SESSIONS_MAX",
        value_name = "NUMBER",
        default_value_t = 10_000
    )]
    udp_sessions_max: u32,
}

impl Relay {
    /// The services by their ports.
    pub fn tcp_services(&self) -> BTreeMap<u16, TcpService> {
        self.services.iter().cloned().collect()
    }

    /// The UDP services by their ports.
    pub fn udp_services(&self) -> BTreeMap<u16, UdpService> {
        self.udp_services.iter().cloned().collect()
    }

    /// The ConfigMaps of further services: TCP, then UDP.
    pub fn config_maps(&self) -> [Option<ObjectRef>; 2] {
        [&self.tcp_services_from, &self.udp_services_from].map(Option::clone)
    }

    /// How many sessions, for how long.
    pub fn datagram_limits(&self) -> DatagramLimits {
        DatagramLimits {
            sessions_max: self.udp_sessions_max.into(),
            session_idle: Duration::from_secs(self.udp_session_timeout.into()),
            ..DatagramLimits::default()
        }
    }
}

fn parse_service(text: &str) -> Result<(u16, TcpService), String> {
    let (port, service) = parse_port(text)?;
    let service = service.parse::<TcpService>();
    Ok((port, service.map_err(|error| error.to_string())?))
}

fn parse_udp_service(text: &str) -> Result<(u16, UdpService), String> {
    let (port, service) = parse_port(text)?;
    let service = service.parse::<UdpService>();
    Ok((port, service.map_err(|error| error.to_string())?))
}

fn parse_port(text: &str) -> Result<(u16, &str), String> {
    let (port, service) = text
        .split_once('=')
        .ok_or("expected PORT=NAMESPACE/NAME:PORT")?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("the port before `=` is not one of 1 to 65535")?;
    Ok((port, service))
}

pub(super) fn parse_config_map(text: &str) -> Result<ObjectRef, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(ObjectRef {
            kind: "ConfigMap",
            namespace: namespace.into(),
            name: name.into(),
        }),
        _ => Err("expected NAMESPACE/NAME".into()),
    }
}
