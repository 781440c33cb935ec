//! The daemon's side: starts the helper, and calls what the helper does as if it were done here.
//!
//! A call blocks the control thread until the helper has responded, some milliseconds at most once the
//! programs are loaded; no request of a client waits for it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use clap::ValueEnum as _;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tracing::warn;

use super::channel::Channel;
use super::difference::Difference;
use super::protocol::{Request, Response};
use super::sockets::WorkerDial;
use crate::datapath::{Connections, Denied, Reach, Settings, Status};
use crate::settings::{HELPER_VERB, LogFormat};

/// What the helper tells of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Devices, addresses or routes have changed: the datapath has to be reconciled.
    NodeChanged,
    /// The helper has ended.
    Ended,
}

/// The helper process. It ends with this.
pub(crate) struct Helper {
    calls: Calls,
    process: Child,
}

/// What came of opening the datapath.
pub(crate) enum Opened {
    /// It is open, and steers nothing yet.
    Datapath(Datapath),
    /// Another daemon of this node has it.
    Taken,
}

impl Helper {
    /// Starts the process, which has the privileges of this one.
    ///
    /// # Errors
    ///
    /// An error if this executable cannot be started again. Has to be called on a tokio runtime.
    pub(crate) fn start(log: &str, format: LogFormat) -> Result<(Self, BoxStream<'static, Event>)> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_timeout(PATIENCE)?;
        let (events, told) = std::os::unix::net::UnixStream::pair()?;
        events.set_nonblocking(true)?;
        let events = UnixStream::from_std(events)?;
        let format = format.to_possible_value();
        let format = format.as_ref().map_or("text", |format| format.get_name());
        let executable = env::current_exe().context("failed to find this executable")?;
        let process = Command::new(executable)
            .arg(HELPER_VERB)
            .args(["--log", log, "--log-format", format])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(told)))
            .spawn()
            .context("failed to start this executable once more")?;
        let calls = Calls(Rc::new(RefCell::new(ours)));
        Ok((Self { calls, process }, stream_of(events)))
    }

    /// Claims the datapath of this node and opens it.
    ///
    /// # Errors
    ///
    /// An error that says what the machine lacks.
    pub(crate) fn open(&self, settings: Settings) -> Result<Opened> {
        let (response, descriptors) = self.calls.make(&Request::Open(Box::new(settings)), &[])?;
        let Response::Opened { has_shortcut } = response else {
            return Ok(Opened::Taken);
        };
        let connections = descriptors.into_iter().next().context("no map came")?;
        let connections = Connections::map(connections);
        Ok(Opened::Datapath(Datapath {
            calls: self.calls.clone(),
            connections: Arc::new(connections.context("failed to map `CONNECTIONS` into memory")?),
            reach: Arc::default(),
            endpoints: BTreeSet::new(),
            has_shortcut,
            plain: BTreeSet::new(),
            adopted: BTreeSet::new(),
            is_draining: false,
        }))
    }

    /// The helper's process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.calls.0.borrow().shut_down();
        let begun = Instant::now();
        while begun.elapsed() < END_PATIENCE {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            sleep(END_PAUSE);
        }
        warn!("the helper process does not end: killing it");
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn stream_of(events: UnixStream) -> BoxStream<'static, Event> {
    let next = |events: Option<UnixStream>| async {
        let mut events = events?;
        let mut bytes = [0; 64];
        match events.read(&mut bytes).await {
            Ok(0) | Err(_) => Some((Event::Ended, None)),
            Ok(_) => Some((Event::NodeChanged, Some(events))),
        }
    };
    stream::unfold(Some(events), next).boxed()
}

/// Requests to the helper, one at a time.
#[derive(Clone)]
struct Calls(Rc<RefCell<Channel>>);

impl Calls {
    fn make(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Response, Vec<OwnedFd>)> {
        let mut channel = self.0.borrow_mut();
        let outcome = (channel.send(request, descriptors)).and_then(|()| channel.receive());
        match outcome {
            Ok(Some((Response::Failed(reason), _))) => bail!("{reason}"),
            Ok(Some(response)) => Ok(response),
            Ok(None) => bail!("the helper process has ended"),
            Err(error) => {
                // A late response must not be taken for that to a later request.
                channel.shut_down();
                Err(error).context("failed to reach the helper process")
            }
        }
    }
}

/// The running datapath, which the helper has. Dropping this leaves it as it is.
pub(crate) struct Datapath {
    calls: Calls,
    connections: Arc<Connections>,
    reach: Arc<ArcSwap<Reach>>,
    /// Those that the helper knows.
    endpoints: BTreeSet<IpAddr>,
    has_shortcut: bool,
    /// Those of them that may take the shortcut.
    plain: BTreeSet<SocketAddr>,
    /// Destinations that Services have, as the helper knows them.
    adopted: BTreeSet<SocketAddr>,
    is_draining: bool,
}

impl Datapath {
    /// Makes listening sockets of one port in the ingress netns, one for each worker.
    pub(crate) fn listeners(&self, port: u16, count: usize) -> Result<Vec<TcpListener>> {
        let request = Request::MakeListeners { port, count };
        let (_, sockets) = self.calls.make(&request, &[])?;
        Ok(sockets.into_iter().map(TcpListener::from).collect())
    }

    /// Gives new connections on a TCP port to workers' listening sockets, the first to worker 0.
    pub(crate) fn listen(&mut self, port: u16, sockets: &[TcpListener]) -> Result<()> {
        let sockets: Vec<_> = sockets.iter().map(TcpListener::as_fd).collect();
        self.drain(&Request::Listen(port), &sockets)
    }

    /// Leaves new connections on a port to the host; those that are there stay steered.
    pub(crate) fn unlisten(&mut self, port: u16) -> Result<()> {
        self.drain(&Request::Unlisten(port), &[])
    }

    /// Forgets ports that nobody listens on and that have no connection left; the next
    /// reconciliation steers them no more.
    pub(crate) fn forget_drained(&mut self) -> Result<()> {
        self.drain(&Request::ForgetDrained, &[])
    }

    fn drain(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let (response, _) = self.calls.make(request, descriptors)?;
        if let Response::Draining(is_draining) = response {
            self.is_draining = is_draining;
        }
        Ok(())
    }

    /// Whether ports are steered that nobody listens on.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Whether some endpoints may take a shortcut, so that [`Datapath::reconcile`] has to know which.
    pub(crate) fn has_shortcut(&self) -> bool {
        self.has_shortcut
    }

    /// Brings programs and maps in step with the devices and addresses of the node and with
    /// `endpoints`; what can't be brought in step is served through the host. Connections to those of
    /// `plain` may take the shortcut; packets to `adopted` destinations are steered.
    pub(crate) fn reconcile(
        &mut self,
        endpoints: BTreeSet<IpAddr>,
        plain: BTreeSet<SocketAddr>,
        adopted: BTreeSet<SocketAddr>,
    ) -> Result<()> {
        let request = Request::Reconcile {
            endpoints: Difference::between(&self.endpoints, &endpoints),
            plain: Difference::between(&self.plain, &plain),
            adopted: Difference::between(&self.adopted, &adopted),
        };
        // The helper has made the changes even where it then fails.
        self.endpoints = endpoints;
        self.plain = plain;
        self.adopted = adopted;
        let (response, _) = self.calls.make(&request, &[])?;
        if let Response::Reconciled {
            direct,
            source_v4,
            source_v6,
        } = response
        {
            let known = self.reach.load();
            let sources = (known.source_v4, known.source_v6);
            if !direct.is_empty() || sources != (source_v4, source_v6) {
                let mut reach = Reach {
                    direct: known.direct.clone(),
                    source_v4,
                    source_v6,
                };
                direct.apply(&mut reach.direct);
                self.reach.store(Arc::new(reach));
            }
        }
        Ok(())
    }

    /// Drops what comes from these networks, and from no others, to frontends. Gives how many networks
    /// found no room.
    pub(crate) fn set_denied(&self, denied: &[Denied]) -> Result<usize> {
        match self.calls.make(&Request::SetDenied(denied.to_vec()), &[])? {
            (Response::Left(left), _) => Ok(left),
            _ => bail!("the helper process sent another response"),
        }
    }

    /// Which endpoints are direct.
    pub(crate) fn reach(&self) -> Arc<Reach> {
        self.reach.load_full()
    }

    /// A worker's way to sockets for connections to endpoints.
    pub(crate) fn worker_dial(&self) -> Result<WorkerDial> {
        let (_, descriptors) = self.calls.make(&Request::ServeSockets, &[])?;
        let socket = descriptors.into_iter().next().context("no socket came")?;
        Ok(WorkerDial::new(socket, Arc::clone(&self.reach)))
    }

    /// Counts connections where the programs see them.
    pub(crate) fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// Steers no more new connections; those of the ingress netns go on.
    pub(crate) fn stop_accepting(&mut self) -> Result<()> {
        self.calls.make(&Request::StopAccepting, &[]).map(drop)
    }

    /// What is attached, and what the programs counted.
    pub(crate) fn status(&self) -> Result<Status> {
        match self.calls.make(&Request::Status, &[])? {
            (Response::Status(status), _) => Ok(*status),
            _ => bail!("the helper process sent another response"),
        }
    }

    /// Detaches everything and removes maps, gate and ingress netns.
    pub(crate) fn close(self) -> Result<()> {
        self.calls.make(&Request::Close, &[]).map(drop)
    }
}

/// How long the helper may take: loading the programs is the longest, minutes on an emulated machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long the helper may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);
const END_PAUSE: Duration = Duration::from_millis(5);
