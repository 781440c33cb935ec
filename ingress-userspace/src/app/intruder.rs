//! Plays an intruder: starts a helper and gives up privileges as `sluice run` does, then tries, from a
//! confined thread and from an ordinary one, what an attacker would try who runs code in either.
//!
//! It is a verb of the executable, so that a test judges what the release does.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketType, socket};

use super::helper::Helper;
use crate::confine;
use crate::settings::Intruder;

/// Tries everything and returns, for each kind of thread, what became of each attempt: `allowed`, or
/// the kernel's reason, as JSON.
///
/// # Errors
///
/// An error if the helper cannot be started or privileges cannot be given up.
pub fn run(flags: &Intruder) -> Result<String> {
    confine::keep_privileges_from_growing()?;
    let (helper, _events) = Helper::start(&flags.log.log, flags.log.log_format)?;
    confine::give_up_privileges(true)?;
    let outside = attempts(flags.secret.clone(), helper.pid(), Kind::Process);
    let inside = attempts(flags.secret.clone(), helper.pid(), Kind::Worker);
    let worker = thread::spawn(move || -> io::Result<Outcomes> {
        confine::confine_thread()?;
        Ok(inside.into_iter().map(outcome).collect())
    });
    let worker = worker.join().ok().context("the confined thread died")??;
    let process: Outcomes = outside.into_iter().map(outcome).collect();
    let outcomes = BTreeMap::from([("process", process), ("worker", worker)]);
    Ok(serde_json::to_string_pretty(&outcomes)?)
}

type Outcomes = BTreeMap<&'static str, String>;
type Attempt = (&'static str, Box<dyn FnOnce() -> io::Result<()> + Send>);

fn outcome((name, attempt): Attempt) -> (&'static str, String) {
    let outcome = match attempt() {
        Ok(()) => "allowed".to_owned(),
        Err(error) => error.to_string(),
    };
    (name, outcome)
}

/// The thread that an intruder has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Worker,
    Process,
}

fn attempts(secret: PathBuf, helper: u32, kind: Kind) -> Vec<Attempt> {
    let memory = format!("/proc/{helper}/mem");
    let mut attempts: Vec<Attempt> = vec![
        (
            "load a program",
            Box::new(|| call(libc::SYS_bpf, [5, 0, 0, 0])),
        ),
        ("open a raw socket", Box::new(|| raw(AddressFamily::INET))),
        (
            "open a packet socket",
            Box::new(|| raw(AddressFamily::PACKET)),
        ),
        (
            "write the helper's memory",
            Box::new(move || write(Path::new(&memory))),
        ),
        ("trace the helper", Box::new(move || trace(helper))),
        ("mount", Box::new(|| call(libc::SYS_mount, [0; 4]))),
        (
            "make a user namespace",
            Box::new(|| namespace(libc::CLONE_NEWUSER)),
        ),
        (
            "make a network namespace",
            Box::new(|| namespace(libc::CLONE_NEWNET)),
        ),
        ("enter another namespace", Box::new(enter)),
        (
            "load a module",
            Box::new(|| call(libc::SYS_init_module, [0; 4])),
        ),
        (
            "open a file by its handle",
            Box::new(|| call(libc::SYS_open_by_handle_at, [0; 4])),
        ),
    ];
    if kind == Kind::Worker {
        let settings = Path::new("/proc/sys/net/ipv4/ip_forward");
        let own: [Attempt; 3] = [
            (
                "read a Secret",
                Box::new(move || fs::read(&secret).map(drop)),
            ),
            ("write /proc/sys", Box::new(move || write(settings))),
            (
                "start a program",
                Box::new(|| Command::new("/proc/self/exe").spawn().map(drop)),
            ),
        ];
        attempts.extend(own);
    }
    attempts
}

fn raw(family: AddressFamily) -> io::Result<()> {
    Ok(socket(family, SocketType::RAW, Some(rustix::net::ipproto::ICMP)).map(drop)?)
}

fn write(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.flush()
}

fn trace(process: u32) -> io::Result<()> {
    call(libc::SYS_ptrace, [PTRACE_ATTACH, process as usize, 0, 0])
}

fn namespace(flag: libc::c_int) -> io::Result<()> {
    call(libc::SYS_unshare, [flag.cast_unsigned() as usize, 0, 0, 0])
}

fn enter() -> io::Result<()> {
    let own = fs::File::open("/proc/self/ns/net")?;
    let file = std::os::fd::AsRawFd::as_raw_fd(&own);
    call(libc::SYS_setns, [file.cast_unsigned() as usize, 0, 0, 0])
}

/// Makes a system call whose arguments are no pointers but null.
fn call(number: libc::c_long, arguments: [usize; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: none of the arguments is the address of anything in this process.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

const PTRACE_ATTACH: usize = 16;
