//! The shortcut: bytes between the proxy and pods of this node go from socket to socket
//! (`ingress-ebpf/src/shortcut.rs`).
//!
//! It is an improvement and never a condition: whatever it lacks, connections are served by TCP, and
//! `sluice status` says why. Its programs and maps are not pinned. They end with the daemon, whose
//! sockets end then too.

mod self_test;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, MapData, MapError, SockHash};
use aya::programs::ProgramError;
use ingress_common::shortcut::{Flow, LocalEndpoint, ShortcutSettings};
use ingress_common::steering::mapped;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{info, warn};

use super::attach::with_sources;
use super::btf::{Btf, BtfError};
use super::netns::Namespace;
use super::object::{Object, ObjectError};
use self_test::{Demand, Failure};

/// Whether bytes to and from pods of this node take the shortcut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ShortcutMode {
    /// Where the self-test at start finds that no program of a pod can tell. Today's kernels hide
    /// bytes of the shortcut from splice(2), so that it stays off there.
    Auto,
    /// Where the rest of the self-test passes: for nodes whose pods read HTTP requests by read(2) and
    /// recv(2), not by splice(2).
    On,
    /// Not at all.
    Off,
}

/// The state of the shortcut, for `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShortcutStatus {
    /// Whether new connections to pods of this node are enrolled.
    pub is_on: bool,
    /// Why it is off, where it is.
    pub reason: Option<String>,
    /// Endpoints whose connections are enrolled.
    pub endpoints: usize,
}

/// Why there is no shortcut.
#[derive(Debug, Error)]
enum ShortcutError {
    #[error("switched off by --shortcut off")]
    SwitchedOff,
    #[error(
        "no root of the cgroup v2 hierarchy is mounted here, at which programs see the connections of \
         all pods"
    )]
    NoCgroupRoot,
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("failed to attach to `{place}`")]
    Attach {
        place: String,
        #[source]
        source: ProgramError,
    },
    #[error("failed to write a map of the shortcut")]
    Map(#[from] MapError),
    #[error("failed to {attempt}")]
    Io {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("self-test: {0}")]
    SelfTest(#[from] Failure),
}

/// The shortcut of this node, or the reason why there is none.
pub(super) struct Shortcut {
    /// Endpoints of HTTP without TLS, of which those of this node are enrolled.
    pub(super) plain_endpoints: BTreeSet<SocketAddr>,
    /// Boxed: the futures that hold a datapath stay small.
    active: Option<Box<Active>>,
    reason: Option<String>,
}

/// What keeps the shortcut going. The programs go with the object that they are loaded from.
struct Active {
    endpoints: HashMap<MapData, LocalEndpoint, u32>,
    /// What the map of endpoints holds.
    enrolled: BTreeSet<SocketAddr>,
    /// Programs are attached to these maps for as long as they are open.
    sockets: [SockHash<MapData, Flow>; 2],
}

impl Shortcut {
    /// Attaches the programs and tries them, where the mode asks for it. `ingress` is where the proxy's
    /// connections are made.
    pub(super) fn open(mode: ShortcutMode, object: &mut Object, ingress: &Namespace) -> Self {
        match Active::open(mode, object, ingress) {
            Ok(active) => {
                info!("the shortcut is on: it passed its self-test");
                Self {
                    active: Some(Box::new(active)),
                    reason: None,
                    plain_endpoints: BTreeSet::new(),
                }
            }
            Err(error) => {
                let reason = with_sources(&error);
                match mode {
                    ShortcutMode::Off => {}
                    ShortcutMode::Auto => info!(reason, "the shortcut is off"),
                    ShortcutMode::On => warn!(reason, "the shortcut is off"),
                }
                object.detach_shortcut();
                Self {
                    active: None,
                    reason: Some(reason),
                    plain_endpoints: BTreeSet::new(),
                }
            }
        }
    }

    /// Whether it wants to know of endpoints.
    pub(super) fn is_on(&self) -> bool {
        self.active.is_some()
    }

    /// Enrols new connections to plain endpoints at these addresses, and to no others. What is enrolled
    /// goes on.
    pub(super) fn follow(&mut self, local: &BTreeSet<IpAddr>) {
        let Some(active) = &mut self.active else {
            return;
        };
        let wanted = self.plain_endpoints.iter().copied();
        let wanted = wanted.filter(|endpoint| local.contains(&endpoint.ip()));
        let wanted: BTreeSet<_> = wanted.collect();
        for endpoint in active.enrolled.difference(&wanted) {
            // One that is not there is what is wanted.
            let _ = active.endpoints.remove(&key(*endpoint));
        }
        for endpoint in wanted.difference(&active.enrolled) {
            if let Err(error) = active.endpoints.insert(key(*endpoint), 1, 0) {
                warn!(%endpoint, %error, "an endpoint has no place in the shortcut; TCP serves it");
            }
        }
        active.enrolled = wanted;
    }

    /// What it does.
    pub(super) fn status(&self) -> ShortcutStatus {
        let endpoints = self.active.as_ref().map(|active| active.enrolled.len());
        ShortcutStatus {
            is_on: self.is_on(),
            reason: self.reason.clone(),
            endpoints: endpoints.unwrap_or(0),
        }
    }
}

impl Active {
    fn open(
        mode: ShortcutMode,
        object: &mut Object,
        ingress: &Namespace,
    ) -> Result<Self, ShortcutError> {
        if mode == ShortcutMode::Off {
            return Err(ShortcutError::SwitchedOff);
        }
        let root = cgroup_root().ok_or(ShortcutError::NoCgroupRoot)?;
        let known = known_of_kernel(ingress)?;
        let mut active = Self {
            endpoints: object.take_map("SHORTCUT_ENDPOINTS")?,
            enrolled: BTreeSet::new(),
            sockets: [
                object.take_map("PROXY_SOCKETS")?,
                object.take_map("POD_SOCKETS")?,
            ],
        };
        let mut settings: Array<_, ShortcutSettings> = object.take_map("SHORTCUT_SETTINGS")?;
        settings.set(0, known, 0)?;
        object.load_shortcut()?;
        let attached = |place: String| move |source| ShortcutError::Attach { place, source };
        let [proxy, pod] = &active.sockets;
        object
            .attach_to_sockets("send_to_pod", proxy.fd())?
            .map_err(attached("the proxy's sockets".to_owned()))?;
        object
            .attach_to_sockets("send_to_proxy", pod.fd())?
            .map_err(attached("pods' sockets".to_owned()))?;
        let directory = File::open(&root).map_err(io("open the root of the cgroups"))?;
        object
            .attach_to_cgroup("enrol", &directory)?
            .map_err(attached(root.display().to_string()))?;
        active.try_out(mode, ingress)?;
        Ok(active)
    }

    /// Moves bytes between two sockets of the ingress netns in all the ways that matter.
    fn try_out(&mut self, mode: ShortcutMode, ingress: &Namespace) -> Result<(), ShortcutError> {
        let listener = ingress.run(self_test::listen);
        let listener = listener.map_err(io("enter the ingress netns"))??;
        let address = listener.local_addr().map_err(io("read an address"))?;
        self.endpoints.insert(key(address), 1, 0)?;
        let demand = match mode {
            ShortcutMode::Auto | ShortcutMode::Off => Demand::AnyReader,
            ShortcutMode::On => Demand::PollingReader,
        };
        let tried = ingress.run(|| self_test::run(&listener, demand));
        self.endpoints.remove(&key(address))?;
        Ok(tried.map_err(io("enter the ingress netns"))??)
    }
}

/// What the programs have to know of this kernel.
fn known_of_kernel(ingress: &Namespace) -> Result<ShortcutSettings, ShortcutError> {
    let btf = Btf::of_kernel()?;
    let cookie = ingress.run(netns_cookie);
    Ok(ShortcutSettings {
        proxy_netns: cookie
            .and_then(|cookie| cookie)
            .map_err(io("read the cookie of the ingress netns"))?,
        state_offset: btf.offset("sock", &["__sk_common", "skc_state"])?,
        written_offset: btf.offset("tcp_sock", &["write_seq"])?,
        read_offset: btf.offset("tcp_sock", &["copied_seq"])?,
        unread_offset: btf.offset("sock", &["sk_backlog", "rmem_alloc"])?,
        redirects: 1,
        reserved: 0,
    })
}

/// The cookie of the network namespace that the calling thread is in.
fn netns_cookie() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let mut cookie = 0_u64;
    let mut length = COOKIE_BYTES;
    // SAFETY: the descriptor is open, and the kernel writes a cookie of the size that is told.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Where the root of the cgroup v2 hierarchy is mounted. In a container of its own cgroup namespace it
/// is not, unless the host's directory is.
fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut places = mounts.lines().filter_map(cgroup2_mount);
    places.find(|place| fs::metadata(place).is_ok_and(|found| found.ino() == CGROUP_ROOT))
}

/// The mount point of a line of `/proc/self/mountinfo` (proc(5)), if it is a cgroup v2 file system.
fn cgroup2_mount(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let is_cgroup2 = kind.split(' ').next() == Some("cgroup2");
    let place = mount.split(' ').nth(4).filter(|_| is_cgroup2)?;
    Some(Path::new(place).to_path_buf())
}

fn key(endpoint: SocketAddr) -> LocalEndpoint {
    LocalEndpoint {
        address: match endpoint.ip() {
            IpAddr::V4(address) => mapped(address.octets()),
            IpAddr::V6(address) => address.octets(),
        },
        port: endpoint.port().to_be_bytes(),
        reserved: [0; 2],
    }
}

fn io(attempt: &'static str) -> impl FnOnce(io::Error) -> ShortcutError {
    move |source| ShortcutError::Io { attempt, source }
}

/// `kernfs`: the inode of the root of a hierarchy.
const CGROUP_ROOT: u64 = 1;
/// `asm-generic/socket.h`.
const SO_NETNS_COOKIE: libc::c_int = 71;
const COOKIE_BYTES: libc::socklen_t = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_v2_is_found_among_mounts() {
        let line = "42 32 0:39 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let place = cgroup2_mount(line).unwrap();
        assert_eq!(place, Path::new("/sys/fs/cgroup/unified"));
        let other = "33 32 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(cgroup2_mount(other), None);
        assert_eq!(cgroup2_mount("nothing"), None);
    }

    #[test]
    fn ipv4_endpoint_has_the_key_of_its_mapped_address() {
        let v4: SocketAddr = "10.2.1.1:8080".parse().unwrap();
        let v6: SocketAddr = "[::ffff:10.2.1.1]:8080".parse().unwrap();
        assert_eq!(key(v4), key(v6));
    }
}
