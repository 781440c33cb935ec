//! Makes the listening sockets, in both namespaces, and the workers that own them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use ingress_core::plan::ListenerPort;

use crate::datapath::{Connections, Datapath, IngressDial, Namespace, make_transparent};
use crate::proxy::{
    self, ConnectionGauge, Dial, HostDial, Listener, NoGauge, Peers, Scheme, TableHandle, Worker,
    WorkerHandle, WorkerOptions, WorkerSpec, listen, listen_datagrams,
};
use crate::settings::Run;

/// Starts workers with listeners in the host's netns and, with a datapath, in the ingress netns.
pub(super) fn start(
    flags: &Run,
    datapath: Option<&mut Datapath>,
    table: &TableHandle,
    options: WorkerOptions,
) -> Result<Vec<WorkerHandle>> {
    let count = flags.worker_count();
    let inside = match &datapath {
        Some(datapath) => inside_ports(flags, count, &datapath.ingress())?,
        None => Vec::new(),
    };
    let surroundings = Surroundings::new(datapath.as_deref(), options);
    let mut workers = Vec::new();
    for index in 0..count as usize {
        let mut listeners = host_listeners(flags)?;
        for port in &inside {
            listeners.push(port.listener_of(index)?);
        }
        let mut spec = surroundings.spec(index, listeners, table);
        spec.datagram_sockets = datagram_sockets(flags)?;
        workers.push(Worker::spawn(spec).context("failed to start a worker")?);
    }
    if let Some(datapath) = datapath {
        for port in &inside {
            let sockets: Vec<&TcpListener> = port.sockets.iter().collect();
            datapath.listen(port.port, &sockets)?;
        }
    }
    Ok(workers)
}

/// One port in the ingress netns, with a socket for each worker.
struct InsidePort {
    port: ListenerPort,
    scheme: Option<Scheme>,
    sockets: Vec<TcpListener>,
}

impl InsidePort {
    fn listener_of(&self, worker: usize) -> Result<Listener> {
        let socket = self.sockets[worker].try_clone();
        let socket = socket.context("failed to share a listening socket")?;
        Ok(Listener {
            socket,
            scheme: self.scheme,
            datapath: proxy::Datapath::Netns,
        })
    }
}

/// The ports that clients dial, and what they speak there.
fn ports(flags: &Run) -> Vec<(Option<Scheme>, u16)> {
    let http = (Some(Scheme::Http), flags.http_port);
    let https = (Some(Scheme::Https), flags.https_port);
    let services = flags.relay.tcp_services();
    let services = services.into_keys().map(|port| (None, port));
    [http, https].into_iter().chain(services).collect()
}

fn host_listeners(flags: &Run) -> Result<Vec<Listener>> {
    let listener = |(scheme, port)| {
        let socket = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        Ok(Listener {
            socket,
            scheme,
            datapath: proxy::Datapath::Host,
        })
    };
    ports(flags).into_iter().map(listener).collect()
}

/// Sockets of UDP services, which are the host's: their packets are not steered.
fn datagram_sockets(flags: &Run) -> Result<Vec<UdpSocket>> {
    let services = flags.relay.udp_services();
    let socket = |port| listen_datagrams(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let sockets = services.into_keys().map(socket);
    Ok(sockets.collect::<std::result::Result<_, _>>()?)
}

fn inside_ports(flags: &Run, count: u32, ingress: &Namespace) -> Result<Vec<InsidePort>> {
    let sockets = |port: u16| -> Result<Vec<TcpListener>> {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        (0..count)
            .map(|_| {
                let socket = listen(address)?;
                make_transparent(&socket).context("failed to make a socket transparent")?;
                Ok(socket)
            })
            .collect()
    };
    let made = ingress.run(|| {
        let numbered = (0..).zip(ports(flags));
        numbered
            .map(|(group, (scheme, port))| {
                let listener = ListenerPort {
                    protocol: TCP,
                    port,
                    group,
                };
                Ok(InsidePort {
                    port: listener,
                    scheme,
                    sockets: sockets(port)?,
                })
            })
            .collect()
    });
    made.context("failed to enter the ingress netns")?
}

/// What all workers have in common.
struct Surroundings {
    ingress: Option<Arc<Namespace>>,
    dial: Arc<dyn Dial>,
    gauge: Arc<dyn ConnectionGauge>,
    options: WorkerOptions,
    peers: Peers,
}

impl Surroundings {
    fn new(datapath: Option<&Datapath>, options: WorkerOptions) -> Self {
        match datapath {
            Some(datapath) => Self {
                ingress: Some(datapath.ingress()),
                dial: Arc::new(SteeredDial(datapath.dial())),
                gauge: Arc::new(KernelGauge(datapath.connections())),
                options,
                peers: Peers::default(),
            },
            None => Self {
                ingress: None,
                dial: Arc::new(HostDial),
                gauge: Arc::new(NoGauge),
                options,
                peers: Peers::default(),
            },
        }
    }

    fn spec(&self, index: usize, listeners: Vec<Listener>, table: &TableHandle) -> WorkerSpec {
        let ingress = self.ingress.clone();
        WorkerSpec {
            index,
            cpu: None,
            listeners,
            datagram_sockets: Vec::new(),
            table: table.clone(),
            peers: self.peers.clone(),
            dial: Arc::clone(&self.dial),
            gauge: Arc::clone(&self.gauge),
            options: self.options.clone(),
            prepare: ingress.map(|namespace| -> Box<dyn FnOnce() -> _ + Send> {
                Box::new(move || namespace.enter())
            }),
        }
    }
}

/// The datapath's sockets, as the proxy asks for them.
struct SteeredDial(IngressDial);

impl Dial for SteeredDial {
    fn socket(&self, endpoint: SocketAddr) -> io::Result<socket2::Socket> {
        self.0.socket(endpoint)
    }

    fn datagram_socket(&self, endpoint: SocketAddr) -> io::Result<socket2::Socket> {
        self.0.datagram_socket(endpoint)
    }
}

/// The proxy's connections, as the programs see them.
struct KernelGauge(Arc<Connections>);

impl KernelGauge {
    fn cell(&self, worker: usize, datapath: proxy::Datapath) -> &AtomicU64 {
        match datapath {
            proxy::Datapath::Netns => self.0.of_worker(u32::try_from(worker).unwrap_or(0)),
            proxy::Datapath::Host => self.0.of_host(),
        }
    }
}

impl ConnectionGauge for KernelGauge {
    fn opened(&self, worker: usize, datapath: proxy::Datapath) {
        self.cell(worker, datapath).fetch_add(1, Ordering::Relaxed);
    }

    fn closed(&self, worker: usize, datapath: proxy::Datapath) {
        self.cell(worker, datapath).fetch_sub(1, Ordering::Relaxed);
    }
}

/// IP protocol number.
const TCP: u8 = 6;
