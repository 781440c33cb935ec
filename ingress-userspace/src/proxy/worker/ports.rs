//! The ports of a worker: those that it begins with, and those that come and go while it runs.
//!
//! A port that is closed takes no more connections; those that it has given go on. Its UDP sessions
//! end with it: their endpoints' answers would leave from a port that is no longer ours.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::proxy::downstream::listen::{Acceptor, Listener};
use crate::proxy::l4::udp::DatagramListener;
use crate::proxy::runtime::transport::Transport;
use crate::proxy::worker::contexts::Contexts;

/// What a worker is to do about its ports.
pub(crate) enum Order {
    /// Serve these too.
    Open(Vec<Listener>, Vec<UdpSocket>),
    /// Take nothing more on this one.
    Close(Transport, u16),
}

/// Sockets that the runtime knows and nobody reads from yet.
pub(crate) struct Sockets {
    acceptors: Vec<Acceptor>,
    datagrams: Vec<Rc<DatagramListener>>,
}

impl Sockets {
    /// Registers sockets with the runtime.
    pub(crate) fn new(
        listeners: Vec<Listener>,
        datagrams: Vec<UdpSocket>,
        contexts: &Contexts,
    ) -> io::Result<Self> {
        Ok(Self {
            acceptors: Acceptor::all(listeners, &contexts.accepting)?,
            datagrams: DatagramListener::all(datagrams, &contexts.datagrams)?,
        })
    }
}

/// The open ports.
pub(crate) struct Ports {
    contexts: Rc<Contexts>,
    running: JoinSet<()>,
    acceptors: HashMap<u16, Vec<AbortHandle>>,
    datagrams: HashMap<u16, (AbortHandle, Rc<DatagramListener>)>,
}

impl Ports {
    /// Serves `sockets` and what is ordered, until the worker is to end and every connection that
    /// the kernel had accepted is taken.
    pub(crate) async fn run(
        contexts: Rc<Contexts>,
        sockets: Sockets,
        mut orders: mpsc::UnboundedReceiver<Order>,
    ) {
        let runtime = Rc::clone(&contexts.runtime);
        let mut ports = Self {
            contexts,
            running: JoinSet::new(),
            acceptors: HashMap::new(),
            datagrams: HashMap::new(),
        };
        ports.open(sockets);
        let mut ending = std::pin::pin!(runtime.drain.begun());
        loop {
            tokio::select! {
                biased;
                () = &mut ending => break,
                Some(order) = orders.recv() => ports.obey(order),
                Some(_) = ports.running.join_next() => {}
                else => ending.as_mut().await,
            }
        }
        // A panic of an acceptor is no reason to cut off its connections.
        while ports.running.join_next().await.is_some() {}
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(listeners, datagrams) => {
                match Sockets::new(listeners, datagrams, &self.contexts) {
                    Ok(sockets) => self.open(sockets),
                    Err(error) => tracing::error!(%error, "failed to serve a port"),
                }
            }
            Order::Close(Transport::Tcp, port) => {
                for acceptor in self.acceptors.remove(&port).into_iter().flatten() {
                    acceptor.abort();
                }
            }
            Order::Close(Transport::Udp, port) => {
                if let Some((task, listener)) = self.datagrams.remove(&port) {
                    task.abort();
                    listener.end_all();
                }
            }
        }
    }

    fn open(&mut self, sockets: Sockets) {
        for acceptor in sockets.acceptors {
            let port = acceptor.port();
            let task = self.running.spawn_local(acceptor.run());
            self.acceptors.entry(port).or_default().push(task);
        }
        for listener in sockets.datagrams {
            let task = self.running.spawn_local(Rc::clone(&listener).run());
            self.datagrams.insert(listener.port(), (task, listener));
        }
    }
}
