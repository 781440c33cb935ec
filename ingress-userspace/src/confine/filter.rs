//! Seccomp filters (seccomp(2)) of a thread and those that it starts: a worker may make the calls of
//! [`CALLS`] only; the process may not make those of `process.rs`. A refused call fails with `EPERM`.
//!
//! The kernel keeps for each thread which calls pass all its filters whatever their arguments are, so
//! the second filter costs a worker nothing (Linux 5.11).

use std::io;

/// Has the kernel refuse all calls of this thread but those that serve clients.
pub(super) fn install_for_worker() -> io::Result<()> {
    install(worker_program())
}

/// Has the kernel refuse what the daemon does not do itself, from this thread and those it starts.
pub(super) fn install_for_process() -> io::Result<()> {
    install(super::process::program())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn install(mut program: Vec<libc::sock_filter>) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live until the call returns, which copies them.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Numbers of system calls are another architecture's: capabilities are all that is taken there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn install(_program: Vec<libc::sock_filter>) -> io::Result<()> {
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `offsetof(struct seccomp_data, …)`, of the lower halves of arguments (both are little-endian).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
pub(super) const FIRST_ARGUMENT_AT: u32 = 16;

/// The start of a filter: it leaves the number of the call loaded.
pub(super) fn prologue() -> Vec<libc::sock_filter> {
    vec![
        load(ARCHITECTURE_AT),
        skip_if(ARCHITECTURE, 1),
        fail(libc::EPERM),
        load(NUMBER_AT),
        // Its arguments are in memory, which a filter cannot read; glibc then uses clone(2).
        skip_unless(number(libc::SYS_clone3), 1),
        fail(libc::ENOSYS),
    ]
}

fn worker_program() -> Vec<libc::sock_filter> {
    let mut program = prologue();
    for call in CALLS {
        program.extend([skip_unless(number(*call), 1), allow()]);
    }
    for (call, firsts) in CALLS_BY_FIRST_ARGUMENT {
        let length = u8::try_from(2 * firsts.len() + 2).unwrap_or(u8::MAX);
        program.extend([skip_unless(number(*call), length), load(FIRST_ARGUMENT_AT)]);
        for first in *firsts {
            program.extend([skip_unless(*first, 1), allow()]);
        }
        program.push(fail(libc::EPERM));
    }
    program.push(fail(libc::EPERM));
    program
}

pub(super) fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k: value,
    }
}

pub(super) fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

pub(super) fn allow() -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW)
}

pub(super) fn fail(errno: i32) -> libc::sock_filter {
    let errno = errno.unsigned_abs() & libc::SECCOMP_RET_DATA;
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno)
}

/// Skips so many instructions if what was loaded is this value.
fn skip_if(value: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter {
        jt: count,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    }
}

/// The same if it is another.
pub(super) fn skip_unless(value: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter {
        jf: count,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    }
}

/// Skips so many instructions if none of these bits are set in what was loaded.
pub(super) fn skip_without(bits: u32, count: u8) -> libc::sock_filter {
    libc::sock_filter {
        jf: count,
        ..statement(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits)
    }
}

/// By how often they are made.
const CALLS: &[libc::c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_readv,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_futex,
    libc::SYS_splice,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_epoll_ctl,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_socketpair,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrusage,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    // Threads begin and end.
    libc::SYS_clone,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Those of which the first argument is one of these.
const CALLS_BY_FIRST_ARGUMENT: &[(libc::c_long, &[u32])] = &[
    (libc::SYS_socket, &[2, 10]),
    (libc::SYS_prctl, &[15, 0x5356_4d41]),
];
