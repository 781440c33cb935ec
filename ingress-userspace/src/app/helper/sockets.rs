//! Sockets to connect to endpoints with: the helper makes them, and each worker has a connection of its
//! own to a thread there.
//!
//! A worker gets several sockets of a kind at a time and keeps the rest for its next connections, so
//! that it waits for the helper once for every [`BATCH`] new connections.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use arc_swap::ArcSwap;
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use socket2::Socket;
use tracing::error;

use crate::datapath::{Reach, SocketKind, SocketMaker};
use crate::proxy::Dial;

/// Two connected ends, one for a worker and one for [`start`].
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socketpair(AddressFamily::UNIX, kind, flags, None)?)
}

/// Serves one worker from a thread of its own, until the worker's end is closed.
///
/// # Errors
///
/// An I/O error if there can be no thread.
pub(super) fn start(maker: SocketMaker, requests: OwnedFd) -> io::Result<()> {
    let run = move || {
        // The worker sees the end of its connection.
        if let Err(error) = maker
            .ingress
            .enter()
            .and_then(|()| serve(&maker, &requests))
        {
            error!(%error, "no more sockets are made for a worker");
        }
    };
    let thread = thread::Builder::new().name("sluice-sockets".to_owned());
    thread.spawn(run).map(drop)
}

fn serve(maker: &SocketMaker, requests: &OwnedFd) -> io::Result<()> {
    let mut number = [0];
    loop {
        let received = || rustix::net::recv(requests, &mut number[..], RecvFlags::empty());
        let (length, _) = retry_on_intr(received)?;
        if length == 0 {
            return Ok(());
        }
        let kind = SocketKind::ALL.get(usize::from(number[0]));
        let kind = *kind.ok_or_else(|| io::Error::other("no such kind of socket"))?;
        let (status, sockets) = match make(maker, kind) {
            Ok(sockets) => (0, sockets),
            Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), Vec::new()),
        };
        let sockets: Vec<_> = sockets.iter().map(Socket::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&sockets));
        }
        let status = status.to_le_bytes();
        let body = [IoSlice::new(&status)];
        retry_on_intr(|| sendmsg(requests, &body, &mut control, SendFlags::NOSIGNAL))?;
    }
}

/// As many as the kernel gives, at least one.
fn make(maker: &SocketMaker, kind: SocketKind) -> io::Result<Vec<Socket>> {
    let mut sockets = vec![maker.make(kind)?];
    let further = (1..batch(kind)).map_while(|_| maker.make(kind).ok());
    sockets.extend(further);
    Ok(sockets)
}

/// Sessions of datagrams are rare, and some nodes have none.
fn batch(kind: SocketKind) -> usize {
    match kind {
        SocketKind::DatagramsV4 | SocketKind::DatagramsV6 => 1,
        SocketKind::DirectV4 | SocketKind::DirectV6 | SocketKind::HostV4 | SocketKind::HostV6 => {
            BATCH
        }
    }
}

/// A worker's way to sockets.
pub(crate) struct WorkerDial {
    helper: OwnedFd,
    reach: Arc<ArcSwap<Reach>>,
    /// Only its worker uses it, so nobody waits for the lock.
    spare: Mutex<HashMap<u8, Spare>>,
}

/// Sockets of one kind that no connection uses yet.
#[derive(Default)]
struct Spare {
    /// The address that they are bound to.
    source: Option<IpAddr>,
    sockets: Vec<Socket>,
}

impl WorkerDial {
    /// Requests sockets over this end of a [`pair`].
    pub(super) fn new(helper: OwnedFd, reach: Arc<ArcSwap<Reach>>) -> Self {
        Self {
            helper,
            reach,
            spare: Mutex::default(),
        }
    }

    fn take(&self, kind: SocketKind, source: Option<IpAddr>) -> io::Result<Socket> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = spare.entry(number(kind)).or_default();
        if spare.source != source {
            spare.sockets.clear();
        }
        if spare.sockets.is_empty() {
            spare.source = source;
            spare.sockets = self.request(kind)?;
        }
        spare.sockets.pop().ok_or_else(|| {
            // The kernel drops descriptors that the process has no room for.
            io::Error::from_raw_os_error(libc::EMFILE)
        })
    }

    fn request(&self, kind: SocketKind) -> io::Result<Vec<Socket>> {
        let request = [number(kind)];
        retry_on_intr(|| rustix::net::send(&self.helper, &request, SendFlags::NOSIGNAL))?;
        let mut status = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut body = [IoSliceMut::new(&mut status)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = retry_on_intr(|| recvmsg(&self.helper, &mut body, &mut control, flags))?;
        if received.bytes == 0 {
            return Err(io::Error::other("the helper process has ended"));
        }
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights.map(Socket::from));
            }
        }
        match i32::from_le_bytes(status) {
            0 => Ok(sockets),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Dial for WorkerDial {
    fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let reach = self.reach.load();
        let kind = reach.kind(endpoint);
        self.take(kind, reach.source(kind))
    }

    fn datagram_socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let kind = if endpoint.is_ipv4() {
            SocketKind::DatagramsV4
        } else {
            SocketKind::DatagramsV6
        };
        self.take(kind, None)
    }
}

fn number(kind: SocketKind) -> u8 {
    let position = SocketKind::ALL.iter().position(|known| *known == kind);
    position
        .and_then(|position| u8::try_from(position).ok())
        .unwrap_or(u8::MAX)
}

/// Sockets that a worker gets at a time.
const BATCH: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;
    use crate::datapath::Namespace;

    /// A worker's end, and its helper's thread in this netns.
    fn dial(reach: Reach) -> (WorkerDial, Arc<ArcSwap<Reach>>) {
        let here = || Arc::new(Namespace::current().unwrap());
        let reach = Arc::new(ArcSwap::from_pointee(reach));
        let maker = SocketMaker {
            ingress: here(),
            host: here(),
            reach: Arc::clone(&reach),
        };
        let (ours, theirs) = pair().unwrap();
        start(maker, theirs).unwrap();
        (WorkerDial::new(ours, Arc::clone(&reach)), reach)
    }

    #[test]
    #[ignore = "needs root: network namespaces"]
    fn sockets_come_in_batches_and_connect() {
        let (dial, _) = dial(Reach::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..=2 * BATCH {
            let socket = dial.socket(address).unwrap();
            socket.set_nonblocking(false).unwrap();
            socket.connect(&address.into()).unwrap();
            listener.accept().unwrap();
        }
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = dial
            .datagram_socket(receiver.local_addr().unwrap())
            .unwrap();
        socket
            .connect(&receiver.local_addr().unwrap().into())
            .unwrap();
        socket.send(b"datagram").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 8);
    }

    #[test]
    #[ignore = "needs root: network namespaces"]
    fn direct_sockets_follow_the_address_of_the_node() {
        let endpoint = SocketAddr::from(([10, 0, 0, 1], 80));
        let direct = |source: [u8; 4]| Reach {
            direct: [endpoint.ip()].into(),
            source_v4: Some(Ipv4Addr::from(source)),
            source_v6: None,
        };
        let (dial, reach) = dial(direct([192, 0, 2, 1]));
        let bound = |socket: Socket| socket.local_addr().unwrap().as_socket().unwrap().ip();
        assert_eq!(
            bound(dial.socket(endpoint).unwrap()),
            IpAddr::from([192, 0, 2, 1])
        );
        reach.store(Arc::new(direct([192, 0, 2, 2])));
        assert_eq!(
            bound(dial.socket(endpoint).unwrap()),
            IpAddr::from([192, 0, 2, 2])
        );
    }

    #[test]
    fn a_helper_that_has_ended_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        let dial = WorkerDial::new(ours, Arc::default());
        assert!(dial.socket(SocketAddr::from(([127, 0, 0, 1], 1))).is_err());
    }
}
