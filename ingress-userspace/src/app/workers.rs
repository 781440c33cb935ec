//! Makes the listening sockets, in both namespaces, and the workers that own them.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::helper::Datapath;
use crate::confine::confine_thread;
use crate::datapath::Connections;
use crate::proxy::{
    self, ConnectionGauge, Dial, HostDial, Listener, NoGauge, Peers, Scheme, TableHandle, Worker,
    WorkerHandle, WorkerOptions, WorkerSpec, listen, start_health_checks,
};
use crate::settings::Run;

/// Starts workers with listeners for HTTP and HTTPS in the host's netns and, with a datapath, in
/// the ingress netns.
pub(super) fn start(
    flags: &Run,
    datapath: Option<&mut Datapath>,
    table: &TableHandle,
    options: WorkerOptions,
) -> Result<Vec<WorkerHandle>> {
    let started = options.checks.start();
    started.context("failed to start requests to services")?;
    let started = start_health_checks(table.clone());
    started.context("failed to start health checks")?;
    let count = flags.worker_count() as usize;
    let ports = [
        (Scheme::Http, flags.http_port),
        (Scheme::Https, flags.https_port),
    ];
    let mut steered = Vec::new();
    if let Some(datapath) = &datapath {
        for (scheme, port) in ports {
            steered.push((scheme, port, datapath.listeners(port, count)?));
        }
    }
    let template = WorkerTemplate::new(datapath.as_deref(), options, flags.confine_workers);
    let mut workers = Vec::new();
    for index in 0..count {
        let mut listeners = Vec::new();
        for (scheme, port) in ports {
            let socket = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
            listeners.push(listener(socket, Some(scheme), proxy::Datapath::Host));
        }
        for (scheme, _, sockets) in &steered {
            let socket = sockets[index].try_clone();
            let socket = socket.context("failed to share a listening socket")?;
            listeners.push(listener(socket, Some(*scheme), proxy::Datapath::Netns));
        }
        let spec = template.spec(index, listeners, table);
        let spec = spec.context("failed to give a worker its way to sockets")?;
        workers.push(Worker::spawn(spec).context("failed to start a worker")?);
    }
    if let Some(datapath) = datapath {
        for (_, port, sockets) in &steered {
            datapath.listen(*port, sockets)?;
        }
    }
    Ok(workers)
}

/// A listener by a socket.
pub(super) fn listener(
    socket: TcpListener,
    scheme: Option<Scheme>,
    datapath: proxy::Datapath,
) -> Listener {
    Listener {
        socket,
        scheme,
        datapath,
    }
}

/// What all workers have in common.
struct WorkerTemplate<'a> {
    datapath: Option<&'a Datapath>,
    gauge: Arc<dyn ConnectionGauge>,
    options: WorkerOptions,
    peers: Peers,
    /// Whether workers give up what serves no client.
    is_confined: bool,
}

impl<'a> WorkerTemplate<'a> {
    fn new(datapath: Option<&'a Datapath>, options: WorkerOptions, is_confined: bool) -> Self {
        let gauge: Arc<dyn ConnectionGauge> = match datapath {
            Some(datapath) => Arc::new(KernelGauge(datapath.connections())),
            None => Arc::new(NoGauge),
        };
        Self {
            datapath,
            gauge,
            options,
            peers: Peers::default(),
            is_confined,
        }
    }

    fn spec(
        &self,
        index: usize,
        listeners: Vec<Listener>,
        table: &TableHandle,
    ) -> Result<WorkerSpec> {
        let dial: Arc<dyn Dial> = match self.datapath {
            Some(datapath) => Arc::new(datapath.worker_dial()?),
            None => Arc::new(HostDial),
        };
        let is_confined = self.is_confined;
        Ok(WorkerSpec {
            index,
            cpu: None,
            listeners,
            datagram_sockets: Vec::new(),
            table: table.clone(),
            peers: self.peers.clone(),
            dial,
            gauge: Arc::clone(&self.gauge),
            options: self.options.clone(),
            prepare: is_confined.then(|| Box::new(confine_thread) as _),
        })
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
