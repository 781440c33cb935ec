//! Confines the daemon once its helper process (`app/helper.rs`) has been started: the process keeps
//! two capabilities and gives up the system calls of `confine/process.rs`; the threads that read network
//! input keep no capability and only the system calls of `confine/filter.rs`.
//!
//! Workers share an address space with the threads that hold the API token and the Secrets, so the
//! stricter filter does not stop an attacker who runs code in a worker and writes into the memory of
//! another thread; what the process has given up stays out of reach then, too. The stricter filter stops
//! every fault that makes a worker call the kernel, to open a file for instance.

mod filter;
mod process;

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// Keeps this thread, and all that it starts from now on, from gaining privileges by `execve(2)`.
///
/// # Errors
///
/// An I/O error if the kernel does not know how.
pub fn keep_privileges_from_growing() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Takes from this thread, and all that it starts from now on, the capabilities that the daemon does not
/// need; and, if `restricts_calls`, the system calls that it does not make. There is no way back.
///
/// It keeps those to bind ports below 1024, and to read files of other users: manifests in a home
/// directory for instance. In a container it has only the first.
///
/// # Errors
///
/// An I/O error if the kernel refuses.
pub fn give_up_privileges(restricts_calls: bool) -> io::Result<()> {
    let kept = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::DAC_READ_SEARCH;
    let kept = capabilities(None)?.permitted & kept;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    if restricts_calls {
        filter::install_for_process()?;
    }
    Ok(())
}

/// Takes all capabilities from this thread, and all that it starts from now on.
///
/// # Errors
///
/// An I/O error if the kernel refuses.
pub fn give_up_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}

/// Takes all capabilities from this thread, and all system calls but those that serve clients. There
/// is no way back.
///
/// # Errors
///
/// An I/O error if the kernel refuses; the thread may have lost some of them then.
pub fn confine_thread() -> io::Result<()> {
    keep_privileges_from_growing()?;
    give_up_capabilities()?;
    filter::install_for_worker()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::thread;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    /// Runs `act` in a confined thread and returns its result.
    fn confined<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let confine_and_act = || {
            confine_thread().unwrap();
            act()
        };
        thread::spawn(confine_and_act).join().unwrap()
    }

    /// The error number of a system call with these arguments.
    fn refused(number: libc::c_long, arguments: [usize; 4]) -> i32 {
        let [a, b, c, d] = arguments;
        // SAFETY: the calls that tests make here get no pointers, or such as the kernel refuses.
        let result = unsafe { libc::syscall(number, a, b, c, d) };
        assert_eq!(result, -1, "call {number} is refused");
        io::Error::last_os_error().raw_os_error().unwrap()
    }

    #[test]
    fn a_compromised_worker_gets_nothing_from_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("token");
        fs::write(&secret, "secret").unwrap();
        confined(move || {
            let denied = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
            let eperm = Some(libc::EPERM);
            assert_eq!(denied(fs::read(&secret).map(drop)), eperm, "no Secret");
            assert_eq!(denied(fs::write("/proc/sys/kernel/hostname", "x")), eperm);
            assert_eq!(
                denied(std::process::Command::new("/bin/true").status().map(drop)),
                eperm
            );
            let raw = socket(AddressFamily::INET, SocketType::RAW, None).unwrap_err();
            assert!(
                matches!(raw, Errno::PERM | Errno::PROTONOSUPPORT),
                "{raw:?}"
            );
            let packet = socket(AddressFamily::PACKET, SocketType::RAW, None);
            assert_eq!(packet.unwrap_err(), Errno::PERM);
            let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None);
            assert_eq!(netlink.unwrap_err(), Errno::PERM);
            for call in [
                libc::SYS_bpf,
                libc::SYS_ptrace,
                libc::SYS_mount,
                libc::SYS_setns,
                libc::SYS_unshare,
                libc::SYS_process_vm_readv,
                libc::SYS_perf_event_open,
                libc::SYS_init_module,
                libc::SYS_keyctl,
                libc::SYS_io_uring_setup,
                libc::SYS_userfaultfd,
                libc::SYS_pidfd_getfd,
                libc::SYS_capset,
            ] {
                assert_eq!(refused(call, [0; 4]), libc::EPERM, "call {call}");
            }
            assert_eq!(refused(libc::SYS_prctl, [38, 0, 0, 0]), libc::EPERM);
        });
    }

    #[test]
    fn a_worker_that_is_confined_still_serves() {
        let served = confined(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"hello").unwrap();
            });
            let mut text = String::new();
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_to_string(&mut text).unwrap();
            client.join().unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let hashed = tokio::task::spawn_blocking(|| vec![7_u8; 1 << 20].len());
                assert_eq!(hashed.await.unwrap(), 1 << 20);
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            });
            text
        });
        assert_eq!(served, "hello");
    }
}
