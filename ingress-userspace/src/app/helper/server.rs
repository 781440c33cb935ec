//! The helper's side: carries requests out, one after the other, until the daemon has gone.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::channel::Channel;
use super::claim::Claim;
use super::difference::Difference;
use super::protocol::{Request, Response};
use super::sockets;
use crate::datapath::{Datapath, FLOOD_POLL, Namespace, Report, Settings, make_transparent};
use crate::proxy::listen;

/// Serves the daemon that started this process, over the sockets that are its standard input and
/// output.
///
/// # Errors
///
/// An error if the standard input is no socket, because nobody but `sluice run` starts this verb.
pub(in crate::app) async fn serve() -> Result<()> {
    let requests = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::net::sockopt::socket_type(&requests)
        .context("only `sluice run` starts this verb, with sockets to speak over")?;
    let events = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    events.set_nonblocking(true)?;
    // The daemon ends this process when its requests have ended. A terminal and a service manager
    // signal both at once.
    let _ignored = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let channel = Channel::new(UnixStream::from(requests));
    let mut server = Server {
        responses: channel.try_clone()?,
        open: None,
    };
    let mut requests = read(channel)?;
    let mut flood_poll = tokio::time::interval(FLOOD_POLL);
    flood_poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changes = server.open.as_mut().map(|open| &mut open.changes);
        let mut nothing = stream::pending().boxed();
        tokio::select! {
            request = requests.recv() => match request {
                Some((request, descriptors)) => server.respond(request, descriptors).await?,
                None => return Ok(()),
            },
            Some(()) = changes.unwrap_or(&mut nothing).next() => {
                // A daemon that has not read the last one will see all changes when it does.
                let _ = (&events).write(&[0]);
            }
            _ = flood_poll.tick() => server.watch_flood(),
        }
    }
}

type Message = (Request, Vec<OwnedFd>);

/// Reads requests on a thread of their own.
fn read(mut channel: Channel) -> Result<mpsc::Receiver<Message>> {
    let (sender, requests) = mpsc::channel(1);
    let run = move || {
        loop {
            match channel.receive() {
                Ok(Some(message)) => {
                    if sender.blocking_send(message).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    error!(%error, "failed to read a request of the daemon");
                    return;
                }
            }
        }
    };
    let thread = thread::Builder::new().name("sluice-requests".to_owned());
    thread.spawn(run).context("failed to start a thread")?;
    Ok(requests)
}

struct Server {
    responses: Channel,
    open: Option<Open>,
}

/// The datapath, once it is open.
struct Open {
    datapath: Datapath,
    /// That nobody else has it.
    _claim: Claim,
    /// Yields when the node has changed.
    changes: BoxStream<'static, ()>,
    /// The daemon's endpoints.
    endpoints: BTreeSet<IpAddr>,
    /// Those of them that may take the shortcut.
    plain: BTreeSet<SocketAddr>,
    /// Destinations that Services have.
    adopted: BTreeSet<SocketAddr>,
    /// Those of the endpoints that the daemon knows to be direct.
    direct: BTreeSet<IpAddr>,
}

impl Server {
    async fn respond(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<()> {
        let outcome = match (request, &mut self.open) {
            (Request::Open(settings), _) => self.open(*settings).await,
            (Request::Close, _) => self.close().await.map(|()| done()),
            (request, Some(open)) => open.carry_out(request, descriptors).await,
            (_, None) => Err(anyhow::anyhow!("the datapath is not open")),
        };
        let (response, descriptors) = outcome.unwrap_or_else(|error| {
            let reason = format!("{error:#}");
            (Response::Failed(reason), Vec::new())
        });
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        self.responses
            .send(&response, &descriptors)
            .context("failed to respond to the daemon")
    }

    async fn open(&mut self, settings: Settings) -> Result<Answer> {
        if self.open.is_some() {
            bail!("the datapath is open already");
        }
        let report = Report::of_this_machine(&settings.bpffs, settings.upstream_ports);
        // Without bpffs there is nothing to lock; opening the datapath says what is missing.
        if let Some(obstacle) = report.obstacle() {
            info!("this machine:\n{report}");
            bail!("{}: {}", obstacle.subject, obstacle.detail);
        }
        let claim =
            Claim::take(&settings.bpffs).context("failed to claim the datapath of this node")?;
        let Some(claim) = claim else {
            return Ok((Response::Taken, Vec::new()));
        };
        info!("this machine:\n{report}");
        let (datapath, changes) = Datapath::open(settings, &report).await?;
        let has_shortcut = datapath.has_shortcut();
        let connections = datapath.connections().as_fd().try_clone_to_owned()?;
        self.open = Some(Open {
            datapath,
            _claim: claim,
            changes: changes.boxed(),
            endpoints: BTreeSet::new(),
            plain: BTreeSet::new(),
            adopted: BTreeSet::new(),
            direct: BTreeSet::new(),
        });
        Ok((Response::Opened { has_shortcut }, vec![connections]))
    }

    fn watch_flood(&mut self) {
        let outcome = (self.open.as_mut()).map_or(Ok(()), |open| open.datapath.watch_flood());
        if let Err(error) = outcome {
            warn!(%error, "failed to change whether the guard answers SYNs");
        }
    }

    async fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) => Ok(open.datapath.close().await?),
            None => Ok(()),
        }
    }
}

/// A response and the descriptors beside it.
type Answer = (Response, Vec<OwnedFd>);

fn done() -> Answer {
    (Response::Done, Vec::new())
}

impl Open {
    async fn carry_out(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<Answer> {
        Ok(match request {
            Request::Open(_) | Request::Close => {
                bail!("the daemon has to send this one first or last")
            }
            Request::MakeListeners { port, count } => {
                let sockets = listeners(&self.datapath.ingress(), port, count)?;
                let sockets = sockets.into_iter().map(OwnedFd::from).collect();
                (Response::Done, sockets)
            }
            Request::Listen(port) => {
                let sockets: Vec<_> = descriptors.into_iter().map(TcpListener::from).collect();
                self.datapath.listen(port, &sockets)?;
                self.draining()
            }
            Request::Unlisten(port) => {
                self.datapath.unlisten(port);
                self.draining()
            }
            Request::ForgetDrained => {
                self.datapath.forget_drained()?;
                self.draining()
            }
            Request::Reconcile {
                endpoints,
                plain,
                adopted,
            } => {
                endpoints.apply(&mut self.endpoints);
                if !plain.is_empty() {
                    plain.apply(&mut self.plain);
                    self.datapath.set_plain_endpoints(self.plain.clone());
                }
                if !adopted.is_empty() {
                    adopted.apply(&mut self.adopted);
                    self.datapath.set_adopted(self.adopted.clone());
                }
                self.datapath.reconcile(&self.endpoints).await?;
                self.reach()
            }
            Request::SetDenied(denied) => {
                let left = self.datapath.set_denied(&denied)?;
                (Response::Left(left), Vec::new())
            }
            Request::ServeSockets => {
                let (ours, theirs) = sockets::pair()?;
                sockets::start(self.datapath.socket_maker(), ours)?;
                (Response::Done, vec![theirs])
            }
            Request::StopAccepting => {
                self.datapath.stop_accepting();
                done()
            }
            Request::Status => (
                Response::Status(Box::new(self.datapath.status())),
                Vec::new(),
            ),
        })
    }

    fn draining(&self) -> Answer {
        (Response::Draining(self.datapath.is_draining()), Vec::new())
    }

    fn reach(&mut self) -> Answer {
        let reach = self.datapath.reach();
        let direct = Difference::between(&self.direct, &reach.direct);
        if !direct.is_empty() {
            self.direct.clone_from(&reach.direct);
        }
        let response = Response::Reconciled {
            direct,
            source_v4: reach.source_v4,
            source_v6: reach.source_v6,
        };
        (response, Vec::new())
    }
}

/// Sockets of one port in the ingress netns, one for each worker.
fn listeners(ingress: &Namespace, port: u16, count: usize) -> Result<Vec<TcpListener>> {
    let socket = |_| -> Result<TcpListener> {
        let socket = listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
        make_transparent(&socket).context("failed to make a socket transparent")?;
        Ok(socket)
    };
    let made = ingress.run(|| (0..count).map(socket).collect());
    made.context("failed to enter the ingress netns")?
}
