//! Opens and closes the ports of TCP and UDP services as configurations come and go.
//!
//! A port has a socket for each worker in the host's netns, and for TCP another one in the ingress
//! netns where there is one. A port that can't be opened affects itself only and is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use ingress_core::diagnostic::{Diagnostic, Reason};
use ingress_core::ir::Config;
use ingress_core::translate::Options;
use tracing::{info, warn};

use super::helper::Datapath;
use super::workers::listener;
use crate::proxy::{self, Transport, WorkerHandle, listen, listen_datagrams};

/// The ports of services, as they are open.
#[derive(Default)]
pub(super) struct Ports {
    open: BTreeSet<(Transport, u16)>,
    failures: BTreeMap<(Transport, u16), String>,
}

impl Ports {
    /// Opens and closes what it takes to have the ports of `config`.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        workers: &[WorkerHandle],
        mut datapath: Option<&mut Datapath>,
    ) {
        let tcp = config.tcp_services.keys();
        let udp = config.udp_services.keys();
        let tcp = tcp.map(|port| (Transport::Tcp, *port));
        let wanted: BTreeSet<_> = tcp.chain(udp.map(|port| (Transport::Udp, *port))).collect();
        self.failures.retain(|port, _| wanted.contains(port));
        for (transport, port) in self.open.difference(&wanted) {
            if let (Transport::Tcp, Some(datapath)) = (transport, &mut datapath)
                && let Err(error) = datapath.unlisten(*port)
            {
                let error = format!("{error:#}");
                warn!(
                    port,
                    error, "new connections to a closed port are still steered"
                );
            }
            for worker in workers {
                worker.close(*transport, *port);
            }
            info!(?transport, port, "port closed");
        }
        self.open.retain(|port| wanted.contains(port));
        for (transport, port) in wanted {
            if self.open.contains(&(transport, port)) {
                continue;
            }
            let opened = match transport {
                Transport::Tcp => open_tcp(port, workers, datapath.as_deref_mut()),
                Transport::Udp => open_udp(port, workers),
            };
            match opened {
                Ok(()) => {
                    info!(?transport, port, "port opened");
                    self.failures.remove(&(transport, port));
                    self.open.insert((transport, port));
                }
                Err(error) => {
                    self.failures
                        .insert((transport, port), format!("{error:#}"));
                }
            }
        }
    }

    /// Whether any port could not be opened.
    pub(super) fn are_missing(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Why a port that a flag names could not be opened.
    pub(super) fn failure_of_flags(&self, options: &Options) -> Option<&str> {
        let is_flag = |(transport, port): &(Transport, u16)| match transport {
            Transport::Tcp => options.tcp_services.contains_key(port),
            Transport::Udp => options.udp_services.contains_key(port),
        };
        let mut failures = self.failures.iter();
        failures.find_map(|(port, message)| is_flag(port).then_some(&**message))
    }

    /// What ports that could not be opened are to those who asked for them.
    pub(super) fn diagnostics(&self, options: &Options) -> Vec<Diagnostic> {
        let diagnostic = |((transport, port), message): (&(Transport, u16), &String)| {
            let config_map = match transport {
                Transport::Tcp => &options.tcp_services_from,
                Transport::Udp => &options.udp_services_from,
            };
            Some(Diagnostic {
                object: config_map.clone()?,
                field: format!("data[{port}]"),
                reason: Reason::PortUnavailable,
                message: format!("{message}; not served on this node, tried again"),
            })
        };
        self.failures.iter().filter_map(diagnostic).collect()
    }
}

fn open_tcp(port: u16, workers: &[WorkerHandle], datapath: Option<&mut Datapath>) -> Result<()> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let outside: Vec<TcpListener> = workers
        .iter()
        .map(|_| listen(address))
        .collect::<Result<_, _>>()?;
    let mut steered = Vec::new();
    if let Some(datapath) = datapath {
        let made = datapath.listeners(port, workers.len());
        let made = made.and_then(|sockets| {
            datapath.listen(port, &sockets).context("no steering")?;
            Ok(sockets)
        });
        match made {
            Ok(sockets) => steered = sockets,
            Err(error) => {
                let error = format!("{error:#}");
                warn!(
                    port,
                    error, "port is not steered by eBPF; serving from a host socket"
                );
            }
        }
    }
    let mut steered = steered.into_iter();
    for (worker, socket) in workers.iter().zip(outside) {
        let mut listeners = vec![listener(socket, None, proxy::Datapath::Host)];
        let steered = steered.next();
        listeners.extend(steered.map(|socket| listener(socket, None, proxy::Datapath::Netns)));
        worker.open(listeners, Vec::new());
    }
    Ok(())
}

fn open_udp(port: u16, workers: &[WorkerHandle]) -> Result<()> {
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let sockets = workers.iter().map(|_| listen_datagrams(address));
    let sockets: Vec<_> = sockets.collect::<Result<_, _>>()?;
    for (worker, socket) in workers.iter().zip(sockets) {
        worker.open(Vec::new(), vec![socket]);
    }
    Ok(())
}
