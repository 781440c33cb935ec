//! Connections that are not HTTP, or no longer: TLS passthrough, TCP services, tunnels and UDP.

pub(crate) mod relay;
pub(crate) mod tunnel;
pub(crate) mod udp;
