//! Sockets for upstream connections, made in the namespace from which the endpoint is reached
//! without the host's netfilter hooks.
//!
//! An endpoint is *direct* when the device that leads to it is steered: then the connection is
//! made in the ingress netns, from the node's own address and a port of the reserved range, and
//! its replies come back through steer. Any other endpoint is reached through the host netns.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process;
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::error;

use super::netns::Namespace;

/// Which endpoints are direct, and where connections to them leave from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Addresses of direct endpoints.
    pub direct: HashSet<IpAddr>,
    /// This node's IPv4 address.
    pub source_v4: Option<Ipv4Addr>,
    /// This node's IPv6 address.
    pub source_v6: Option<Ipv6Addr>,
}

/// Makes upstream sockets. Meant for threads that live in the ingress netns.
#[derive(Debug)]
pub struct IngressDial {
    /// The ingress netns.
    pub ingress: Arc<Namespace>,
    /// The host's netns.
    pub host: Arc<Namespace>,
    /// Replaced whenever endpoints, routes or addresses change.
    pub reach: Arc<ArcSwap<Reach>>,
}

impl IngressDial {
    /// A non-blocking TCP socket that is ready to be connected to `endpoint`.
    pub fn socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let reach = self.reach.load();
        let source = match endpoint.ip() {
            IpAddr::V4(_) => reach.source_v4.map(IpAddr::V4),
            IpAddr::V6(_) => reach.source_v6.map(IpAddr::V6),
        };
        match source {
            Some(source) if reach.direct.contains(&endpoint.ip()) => from_ingress(source),
            _ => self.step_out(|| tcp(Domain::for_address(endpoint))),
        }
    }

    /// A non-blocking UDP socket in the host netns: datagrams of endpoints are not steered.
    pub fn datagram_socket(&self, endpoint: SocketAddr) -> io::Result<Socket> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let domain = Domain::for_address(endpoint);
        self.step_out(|| Socket::new(domain, kind, Some(Protocol::UDP)))
    }

    fn step_out(&self, make: impl FnOnce() -> io::Result<Socket>) -> io::Result<Socket> {
        self.host.enter()?;
        let socket = make();
        // A thread that can't come back must not go on: all its sockets would be misplaced. A panic
        // would end one task of it.
        if let Err(error) = self.ingress.enter() {
            error!(%error, "failed to return to the ingress network namespace");
            process::abort();
        }
        socket
    }
}

fn from_ingress(source: IpAddr) -> io::Result<Socket> {
    let source = SocketAddr::new(source, 0);
    let socket = tcp(Domain::for_address(source))?;
    // The node's address is not configured in the ingress netns, so that pods on the host network
    // stay reachable through the host.
    if source.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    set_bind_address_no_port(&socket)?;
    socket.bind(&source.into())?;
    Ok(socket)
}

/// Lets the port be chosen at connect time, when the destination is known, so that each endpoint
/// has the whole range (ip(7), `IP_BIND_ADDRESS_NO_PORT`; for IPv6 sockets too).
fn set_bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option's value is an int of the size that is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            INT_BYTES,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn tcp(domain: Domain) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    // A request head must not wait for the acknowledgement of the last body.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Lets a listening socket in the ingress netns answer from addresses that are not configured
/// there; accepted connections inherit it.
pub fn make_transparent(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if listener.local_addr()?.is_ipv4() {
        socket.set_ip_transparent_v4(true)
    } else {
        // One bit of the socket for both families.
        socket.set_ip_transparent_v6(true)
    }
}

/// Size of a C `int`.
const INT_BYTES: libc::socklen_t = 4;

#[cfg(test)]
mod tests {
    use std::env;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    #[ignore = "needs root: network namespaces"]
    fn a_thread_that_cannot_come_back_ends_the_process() {
        const STRANDED: &str = "SLUICE_TEST_STRANDED";
        if env::var_os(STRANDED).is_none() {
            let itself = "datapath::dial::tests::a_thread_that_cannot_come_back_ends_the_process";
            let status = Command::new(env::current_exe().unwrap())
                .args(["--include-ignored", "--exact", itself])
                .env(STRANDED, "1")
                .status();
            assert_eq!(status.unwrap().signal(), Some(libc::SIGABRT));
            return;
        }
        // What joins a thread goes on after its panic, as the runtime does with tasks.
        let stranded = thread::spawn(|| {
            let dial = IngressDial {
                ingress: Arc::new(Namespace::of_no_network()),
                host: Arc::new(Namespace::current().unwrap()),
                reach: Arc::default(),
            };
            dial.socket(SocketAddr::from(([127, 0, 0, 1], 1)))
        });
        let _ = stranded.join();
    }

    #[test]
    fn a_bound_socket_has_no_port_before_it_connects() {
        let socket = tcp(Domain::IPV4).unwrap();
        set_bind_address_no_port(&socket).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(local.port(), 0);
    }
}
