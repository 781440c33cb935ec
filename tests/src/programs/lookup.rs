//! Test runs of `sk_lookup` programs (kernel 5.13+), which aya has no call for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use super::{Ran, TCP_PORT};

/// A packet that looks for a socket.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    /// Who sent it.
    pub remote: SocketAddr,
    /// To which port.
    pub local_port: u16,
    /// TCP or UDP, by protocol number.
    pub protocol: u8,
}

impl Lookup {
    /// A TCP packet to [`TCP_PORT`].
    pub fn tcp(remote: impl Into<SocketAddr>) -> Self {
        Self {
            remote: remote.into(),
            local_port: TCP_PORT,
            protocol: 6,
        }
    }

    /// Runs a program on it so many times.
    pub(super) fn run(&self, program: impl AsFd, repeat: u32) -> io::Result<Ran> {
        let mut context = self.context();
        let mut run = TestRun {
            program: program.as_fd().as_raw_fd().cast_unsigned(),
            repeat,
            context_in_bytes: CONTEXT_BYTES,
            context_out_bytes: CONTEXT_BYTES,
            context_in: context.as_ptr() as u64,
            context_out: context.as_mut_ptr() as u64,
            ..TestRun::default()
        };
        // SAFETY: the attributes are of the size that is told, and both context pointers are to
        // a live buffer of the size that is told; the kernel reads it before it writes it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                &raw mut run,
                size_of_val(&run),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Ran {
            action: run.action,
            packet: Vec::new(),
            cookie: context[0],
            nanoseconds: run.nanoseconds.into(),
        })
    }

    /// `struct bpf_sk_lookup`, in words of 8 bytes; the first is where the cookie comes back.
    fn context(&self) -> [u64; CONTEXT_WORDS] {
        let mut bytes = vec![0_u8; 8];
        let (family, v4, v6) = match self.remote {
            SocketAddr::V4(remote) => (libc::AF_INET, remote.ip().octets(), [0; 16]),
            SocketAddr::V6(remote) => (libc::AF_INET6, [0; 4], remote.ip().octets()),
        };
        bytes.extend(family.to_ne_bytes());
        bytes.extend(u32::from(self.protocol).to_ne_bytes());
        bytes.extend(v4);
        bytes.extend(v6);
        bytes.extend(self.remote.port().to_be_bytes());
        bytes.extend([0; 2]);
        // Local addresses: any, as no program looks at them.
        bytes.extend([0; 20]);
        bytes.extend(u32::from(self.local_port).to_ne_bytes());
        bytes.resize(CONTEXT_WORDS * 8, 0);
        let mut words = [0; CONTEXT_WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        words
    }
}

/// `union bpf_attr`, its member `test`.
#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    action: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    nanoseconds: u32,
    context_in_bytes: u32,
    context_out_bytes: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

const BPF_PROG_TEST_RUN: libc::c_int = 10;
const CONTEXT_WORDS: usize = 9;
const CONTEXT_BYTES: u32 = 72;
