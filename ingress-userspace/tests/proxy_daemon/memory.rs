//! All ways at once in which clients make the daemon hold memory, under a limit that the kernel enforces.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_rig::trusting;
use socket2::{Domain, Socket, Type};

use crate::daemon::{PATIENCE, Place};
use crate::stalled::{large_origin, stall, stall_over_tls};

/// The limit of the daemon's cgroup.
const LIMIT_BYTES: usize = 256 << 20;

/// Connections that carry 128 stalled streams each.
const STALLED_HTTP2: usize = 40;
/// Connections with one stalled response each, over TLS and in clear text.
const STALLED_TLS: usize = 400;
const STALLED_HTTP1: usize = 400;
/// Clients that ask for metrics and do not read them.
const SCRAPERS: usize = 40;
/// Addresses with idle connections, and the connections of each.
const IDLE_ADDRESSES: u8 = 20;
const IDLE_EACH: usize = 100;
/// Requests of the ordinary client.
const REQUESTS: usize = 100;

/// A cgroup of its own with a memory limit; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn with_limit(bytes: usize) -> io::Result<Self> {
        let name = format!("sluice-test-{}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers");
        let (directory, file) = if unified.exists() {
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        } else {
            let memory = Path::new("/sys/fs/cgroup/memory");
            (memory.join(name), "memory.limit_in_bytes")
        };
        fs::create_dir_all(&directory)?;
        let cgroup = Self(directory);
        fs::write(cgroup.0.join(file), bytes.to_string())?;
        Ok(cgroup)
    }

    fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// How often the kernel has killed a process of it for want of memory.
    fn kills(&self) -> usize {
        let events = ["memory.events", "memory.oom_control"].map(|file| self.0.join(file));
        let events = events.iter().find_map(|file| fs::read_to_string(file).ok());
        let events = events.expect("one of the two versions of cgroups");
        let line = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("a count of kills").trim().parse().unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Sends a request for a large response, and reads its first bytes only.
fn stall_in_clear(address: SocketAddr, path: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: one.test\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = [0; 1024];
    assert!(stream.read(&mut some).unwrap() > 0);
    stream
}

fn idle_from(number: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, number), 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
#[ignore = "needs root: a cgroup"]
fn everything_that_holds_memory_at_once_stays_below_the_limit() {
    let mut place = Place::new(large_origin());
    let hosts: Vec<_> = (0..500).map(|number| format!("h{number}.test")).collect();
    place.add_hosts(&hosts);
    let cgroup = Cgroup::with_limit(LIMIT_BYTES).unwrap();
    place.cgroup = Some(cgroup.processes());
    // The limit is the cgroup's: no flag says it.
    let daemon = place.start("a", &["--client-connections-max=0"]);
    let https = SocketAddr::from((Ipv4Addr::LOCALHOST, place.https));
    // Each host has series, so that the metrics are more than the kernel buffers.
    for host in &hosts {
        assert_eq!(daemon.get_host(daemon.http, host, "/ok").status, 200);
    }
    let config = Arc::new(trusting::client());
    let mut slowest = Duration::ZERO;
    let mut ordinary = || {
        let begun = Instant::now();
        assert_eq!(daemon.get(daemon.http, "/ok").status, 200);
        slowest = slowest.max(begun.elapsed());
    };
    let streams: Vec<_> = (0..STALLED_HTTP2).map(|_| stall(daemon.http)).collect();
    ordinary();
    let mut held: Vec<TcpStream> = Vec::new();
    held.extend((0..STALLED_TLS).map(|_| stall_over_tls(https, &config)));
    ordinary();
    held.extend((0..STALLED_HTTP1).map(|_| stall_in_clear(daemon.http, "/large")));
    ordinary();
    held.extend((0..SCRAPERS).map(|_| stall_in_clear(daemon.admin, "/metrics")));
    ordinary();
    let addresses = 1..=IDLE_ADDRESSES;
    held.extend(
        addresses
            .flat_map(|number| (0..IDLE_EACH).map(move |_| number))
            .map(|number| idle_from(number, daemon.http)),
    );
    for _ in 0..REQUESTS {
        ordinary();
    }
    let peak = daemon.resident_kib("VmHWM:");
    println!("{peak} KiB at the most, slowest ordinary request {slowest:?}");
    assert_eq!(cgroup.kills(), 0, "{}", daemon.log());
    assert!(peak * 1024 < LIMIT_BYTES, "{peak} KiB");
    drop((streams, held));
    drop(daemon);
}
