//! Whether an endpoint is still there, by what the kernel knows of a connection.
//!
//! The pods of a node that has gone send nothing, not even that they are gone, and a connection to
//! one looks like one to an endpoint that takes its time. Except to the kernel: whoever is there
//! acknowledges what is sent to it within milliseconds, whatever its process does, and who is not
//! is sent the same again and again.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use http::Method;

/// How often the kernel has to have tried in vain before an endpoint counts as gone.
///
/// What is not acknowledged it sends again after 0.2, 0.6, 1.4, 3 and 6.2 seconds (RFC 6298 §5, with
/// Linux's least RTO). Where all is acknowledged it asks, as it was told by keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threshold {
    /// For a request that may be sent to another endpoint (RFC 9110 §9.2.2): a guess that is wrong
    /// costs little.
    Retryable,
    /// For one that may not, and fails.
    Final,
}

impl Threshold {
    /// With a request of this method.
    pub(crate) fn with(method: &Method, has_body: bool) -> Self {
        if method.is_idempotent() && !has_body {
            Self::Retryable
        } else {
            Self::Final
        }
    }

    /// Of what was sent again, and of questions.
    fn tries_max(self) -> (u8, u8) {
        match self {
            Self::Retryable => (3, 2),
            // The kernel itself ends it after so many questions.
            Self::Final => (5, u8::MAX),
        }
    }
}

/// Whether the peer of a TCP connection no longer answers at all.
pub(crate) fn is_gone(socket: BorrowedFd<'_>, threshold: Threshold) -> bool {
    let (retransmits_max, probes_max) = threshold.tries_max();
    info(socket).is_some_and(|info| {
        let is_awaited = info.tcpi_unacked > 0 && info.tcpi_retransmits >= retransmits_max;
        is_awaited || info.tcpi_probes >= probes_max
    })
}

/// `None` if it is no TCP socket.
fn info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is as large, and the
    // descriptor is open as long as it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: all its fields are numbers, for which zeros are fine where the kernel knows fewer.
    (result == 0).then(|| unsafe { info.assume_init() })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd as _;
    use std::thread;
    use std::time::{Duration, Instant};

    use socket2::{SockFilter, SockRef};

    use super::*;

    /// `BPF_RET | BPF_K` of `linux/bpf_common.h`.
    const BPF_RETURN: u16 = 6;
    const PATIENCE: Duration = Duration::from_mins(1);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (here, listener.accept().unwrap().0)
    }

    #[test]
    fn acknowledging_peer_is_alive_whatever_its_process_does() {
        let (mut here, _there) = pair();
        here.set_nonblocking(true).unwrap();
        // Until its window is closed.
        while here.write(&[0; 1 << 14]).is_ok() {}
        thread::sleep(Duration::from_secs(3));
        assert!(!is_gone(here.as_fd(), Threshold::Retryable));
    }

    #[test]
    fn silent_peer_is_gone_after_retransmits_and_recovers() {
        let (mut here, mut there) = pair();
        // A filter that takes nothing of any packet.
        let nothing = SockFilter::new(BPF_RETURN, 0, 0, 0);
        SockRef::from(&there).attach_filter(&[nothing]).unwrap();
        here.write_all(b"x").unwrap();
        let begun = Instant::now();
        for threshold in [Threshold::Retryable, Threshold::Final] {
            while !is_gone(here.as_fd(), threshold) {
                assert!(begun.elapsed() < PATIENCE);
                thread::sleep(Duration::from_millis(10));
            }
            let least = match threshold {
                Threshold::Retryable => Duration::from_secs(1),
                Threshold::Final => Duration::from_secs(5),
            };
            assert!(begun.elapsed() >= least, "{threshold:?}");
        }
        SockRef::from(&there).detach_filter().unwrap();
        there.read_exact(&mut [0]).unwrap();
        while is_gone(here.as_fd(), Threshold::Retryable) {
            assert!(begun.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn sockets_other_than_tcp_are_never_gone() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(info(socket.as_fd()).is_none());
        assert!(!is_gone(socket.as_fd(), Threshold::Retryable));
    }
}
