//! Flags of what is carried as it is.

use std::collections::BTreeMap;

use clap::Args;
use ingress_core::ir::TcpService;

/// Flags of TCP services.
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
}

impl Relay {
    /// The services by their ports.
    pub fn tcp_services(&self) -> BTreeMap<u16, TcpService> {
        self.services.iter().cloned().collect()
    }
}

fn parse_service(text: &str) -> Result<(u16, TcpService), String> {
    let (port, service) = text
        .split_once('=')
        .ok_or("expected PORT=NAMESPACE/NAME:PORT")?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("the port before `=` is not one of 1 to 65535")?;
    let service = service.parse::<TcpService>();
    Ok((port, service.map_err(|error| error.to_string())?))
}
