//! The thread that makes sockets for workers, which have no privileges: transparent ones in the
//! ingress netns, others in the host's.
//!
//! A worker waits for its socket: some ten microseconds, once for each new connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use socket2::Socket;

use crate::datapath::IngressDial;
use crate::proxy::Dial;

/// Asks the thread for sockets. The thread ends with it.
pub(super) struct Dialer(Sender<Order>);

/// The purpose of a socket.
#[derive(Clone, Copy)]
enum Kind {
    Connection,
    Datagrams,
}

struct Order {
    endpoint: SocketAddr,
    kind: Kind,
    answer: SyncSender<io::Result<Socket>>,
}

impl Dialer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// An I/O error if there can be no thread, or it cannot enter the ingress netns.
    pub(super) fn start(dial: IngressDial) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (started, starting) = sync_channel(1);
        let run = move || {
            let entered = dial.ingress.enter();
            let is_inside = entered.is_ok();
            let _ = started.send(entered);
            if is_inside {
                serve(&dial, &ordered);
            }
        };
        thread::Builder::new()
            .name("sluice-dialer".to_owned())
            .spawn(run)?;
        starting.recv().map_err(io::Error::other)??;
        Ok(Self(orders))
    }

    fn order(&self, endpoint: SocketAddr, kind: Kind) -> io::Result<Socket> {
        let (answer, answered) = sync_channel(1);
        let order = Order {
            endpoint,
            kind,
            answer,
        };
        self.0.send(order).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that makes sockets has ended")
}

fn serve(dial: &IngressDial, ordered: &Receiver<Order>) {
    for order in ordered {
        let socket = match order.kind {
            Kind::Connection => dial.socket(order.endpoint),
            Kind::Datagrams => dial.datagram_socket(order.endpoint),
        };
        // The requester may have stopped waiting.
        let _ = order.answer.send(socket);
    }
}

impl Dial for Dialer {
    fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        self.order(endpoint, Kind::Connection)
    }

    fn datagram_socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        self.order(endpoint, Kind::Datagrams)
    }
}
