//! Frames on a real device, for what a test run can't show.

use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_add_clsact;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::{Programs, ifindex};

/// The far end of the uplink, while steer is attached to the uplink.
#[derive(Debug)]
pub struct Wire {
    socket: Socket,
    address: SockAddr,
}

impl Wire {
    /// Attaches steer to the uplink for as long as `programs` lives.
    pub fn attach(programs: &mut Programs) -> Result<Self> {
        let address = link_address(ifindex(&programs.host, "lan")?)?;
        let Programs { host, object, .. } = programs;
        host.run(|| -> Result<Self> {
            make_clsact("uplink");
            let steer = object.steer()?;
            steer.attach("uplink", TcAttachType::Ingress)?;
            // Protocol 0: this socket sends only.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))
                .context("failed to open a packet socket")?;
            Ok(Self { socket, address })
        })?
    }

    /// Sends a frame to the uplink.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.address).map(drop)
    }
}

impl Programs {
    /// Attaches `return_path` to the gate for as long as this lives.
    pub fn attach_return_path(&mut self) -> Result<()> {
        let Self { host, object, .. } = self;
        host.run(|| -> Result<()> {
            make_clsact("gate");
            object
                .return_path()?
                .attach("gate", TcAttachType::Ingress)?;
            Ok(())
        })?
    }
}

/// Kernels without TCX attach to this queueing discipline; where there is TCX, nobody uses it.
fn make_clsact(device: &str) {
    // It may be there already.
    let _ = qdisc_add_clsact(device);
}

/// Lets a socket send many datagrams in one buffer, each of so many bytes (kernel 4.18+).
pub fn set_udp_segment(socket: &UdpSocket, bytes: u16) -> io::Result<()> {
    let bytes = libc::c_int::from(bytes);
    // SAFETY: the descriptor is open, and the option is an integer that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const bytes).cast(),
            INT_BYTES,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A device as an address of packet sockets.
fn link_address(ifindex: u32) -> Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: all zeros is a value of this struct of integers.
    let mut link: libc::sockaddr_ll = unsafe { zeroed() };
    link.sll_family = u16::try_from(libc::AF_PACKET)?;
    link.sll_ifindex = i32::try_from(ifindex)?;
    // SAFETY: the storage is large enough for every kind of socket address, this one included.
    *unsafe { storage.view_as() } = link;
    // SAFETY: the storage holds an address of this length and of the family that it tells.
    Ok(unsafe { SockAddr::new(storage, libc::socklen_t::try_from(size_of_val(&link))?) })
}

const INT_BYTES: libc::socklen_t = 4;
