//! Sockets for upstream connections, made in the namespace from which the endpoint is reached
//! without the host's netfilter hooks.
//!
//! An endpoint is *direct* when the device that leads to it is steered: then the connection is
//! made in the ingress netns, from the node's own address and a port of the reserved range, and
//! its replies come back through steer. Any other endpoint is reached through the host netns.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::process;
use std::sync::Arc;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::netns::Namespace;

/// Which endpoints are direct, and where connections to them leave from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Addresses of direct endpoints.
    pub direct: BTreeSet<IpAddr>,
    /// This node's IPv4 address.
    pub source_v4: Option<Ipv4Addr>,
    /// This node's IPv6 address.
    pub source_v6: Option<Ipv6Addr>,
}

impl Reach {
    /// The kind of socket that a connection to this endpoint needs.
    pub fn kind(&self, endpoint: SocketAddr) -> SocketKind {
        let is_direct = self.direct.contains(&endpoint.ip());
        match endpoint.ip() {
            IpAddr::V4(_) if is_direct && self.source_v4.is_some() => SocketKind::DirectV4,
            IpAddr::V6(_) if is_direct && self.source_v6.is_some() => SocketKind::DirectV6,
            IpAddr::V4(_) => SocketKind::HostV4,
            IpAddr::V6(_) => SocketKind::HostV6,
        }
    }

    /// The address from which sockets of this kind connect, where the node has to choose it.
    pub fn source(&self, kind: SocketKind) -> Option<IpAddr> {
        match kind {
            SocketKind::DirectV4 => self.source_v4.map(IpAddr::V4),
            SocketKind::DirectV6 => self.source_v6.map(IpAddr::V6),
            SocketKind::HostV4
            | SocketKind::HostV6
            | SocketKind::DatagramsV4
            | SocketKind::DatagramsV6 => None,
        }
    }
}

/// A kind of unconnected, non-blocking socket to reach endpoints with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// TCP over IPv4, in the ingress netns, from the node's address.
    DirectV4,
    /// TCP over IPv6, in the ingress netns, from the node's address.
    DirectV6,
    /// TCP over IPv4 in the host's netns.
    HostV4,
    /// TCP over IPv6 in the host's netns.
    HostV6,
    /// UDP over IPv4 in the host's netns: datagrams of endpoints are not steered.
    DatagramsV4,
    /// UDP over IPv6 in the host's netns.
    DatagramsV6,
}

impl SocketKind {
    /// All kinds; the position of each is its number.
    pub const ALL: [Self; 6] = [
        Self::DirectV4,
        Self::DirectV6,
        Self::HostV4,
        Self::HostV6,
        Self::DatagramsV4,
        Self::DatagramsV6,
    ];

    fn domain(self) -> Domain {
        match self {
            Self::DirectV4 | Self::HostV4 | Self::DatagramsV4 => Domain::IPV4,
            Self::DirectV6 | Self::HostV6 | Self::DatagramsV6 => Domain::IPV6,
        }
    }
}

/// Makes upstream sockets. Meant for threads that live in the ingress netns.
#[derive(Debug)]
pub struct SocketMaker {
    /// The ingress netns.
    pub ingress: Arc<Namespace>,
    /// The host's netns.
    pub host: Arc<Namespace>,
    /// Replaced whenever endpoints, routes or addresses change.
    pub reach: Arc<ArcSwap<Reach>>,
}

impl SocketMaker {
    /// Makes one socket.
    ///
    /// # Errors
    ///
    /// An I/O error if the kernel makes none, or if the node has no address of the family from which
    /// a direct connection could leave.
    pub fn make(&self, kind: SocketKind) -> io::Result<Socket> {
        match kind {
            SocketKind::DirectV4 | SocketKind::DirectV6 => {
                let source = self.reach.load().source(kind);
                from_ingress(source.ok_or(io::ErrorKind::AddrNotAvailable)?)
            }
            SocketKind::HostV4 | SocketKind::HostV6 => self.step_out(|| tcp(kind.domain())),
            SocketKind::DatagramsV4 | SocketKind::DatagramsV6 => {
                let udp = Type::DGRAM.nonblocking().cloexec();
                self.step_out(|| Socket::new(kind.domain(), udp, Some(Protocol::UDP)))
            }
        }
    }

    fn step_out(&self, make: impl FnOnce() -> io::Result<Socket>) -> io::Result<Socket> {
        self.host.enter()?;
        let socket = make();
        // A thread that can't come back must not go on: all its sockets would be misplaced. A panic
        // would end one task of it.
        if let Err(error) = self.ingress.enter() {
            // Past the log, whose thread would not get to write it.
            let _ = writeln!(
                io::stderr(),
                "sluice: failed to return to the ingress network namespace: {error}"
            );
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
            let maker = SocketMaker {
                ingress: Arc::new(Namespace::of_no_network()),
                host: Arc::new(Namespace::current().unwrap()),
                reach: Arc::default(),
            };
            maker.make(SocketKind::HostV4)
        });
        let _ = stranded.join();
    }

    #[test]
    fn direct_endpoints_are_reached_from_the_ingress_netns() {
        let reach = Reach {
            direct: BTreeSet::from([IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfd00_u16; 8])]),
            source_v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
            source_v6: None,
        };
        let kind = |address: IpAddr| reach.kind(SocketAddr::new(address, 80));
        assert_eq!(kind([10, 0, 0, 1].into()), SocketKind::DirectV4);
        assert_eq!(kind([10, 0, 0, 2].into()), SocketKind::HostV4);
        // The node has no IPv6 address that a direct connection could come from.
        assert_eq!(kind([0xfd00_u16; 8].into()), SocketKind::HostV6);
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
