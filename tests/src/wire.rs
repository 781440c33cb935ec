//! Puts a frame on the wire as it is, past the sender's own stack.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Socket, Type};

/// Sends one Ethernet frame out of a device of the calling thread's network namespace.
pub fn send_frame(device: &str, frame: &[u8]) -> io::Result<()> {
    FrameSender::open(device)?.send(frame)
}

/// Sends Ethernet frames out of one device.
#[derive(Debug)]
pub struct FrameSender {
    socket: Socket,
    index: i32,
}

impl FrameSender {
    /// For a device of the calling thread's network namespace.
    pub fn open(device: &str) -> io::Result<Self> {
        let name = CString::new(device)?;
        // SAFETY: the name is a C string for as long as the call lasts.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            socket: Socket::new(Domain::PACKET, Type::RAW, None)?,
            index: i32::try_from(index).map_err(io::Error::other)?,
        })
    }

    /// Sends one.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros is a value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = AF_PACKET;
        address.sll_ifindex = self.index;
        // SAFETY: frame and address are valid for the lengths that are told.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                ADDRESS_BYTES,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

const AF_PACKET: u16 = 17;
/// Size of `struct sockaddr_ll` (packet(7)).
const ADDRESS_BYTES: libc::socklen_t = 20;
