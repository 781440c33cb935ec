//! An edge node with clients and pods around it.
//!
//! ```text
//!   client ─┐                    ┌─ edge ──┬─ pod1
//!  client6 ─┼─ switch (router) ──┤         ├─ pod2
//!      far ─┘   smaller MTU      │         └─ proxy   (for the NodePort path)
//!                                └─ node2 ──── pod3
//! ```
//!
//! The edge node has kube-proxy's NAT rules, so that connection tracking is on, and drops what it
//! calls invalid, as kube-proxy does.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail};

use crate::host::{self, Host, Process};
use crate::{services, wiring};

/// What a rig is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Services in kube-proxy's rules on the edge node.
    pub services: usize,
    /// Whether the edge node has any firewall rule at all.
    pub has_rules: bool,
    /// The program that pods run.
    pub origin: PathBuf,
    /// The daemon.
    pub sluice: PathBuf,
}

impl Options {
    /// Binaries from the environment, as `cargo xtask test` sets it.
    pub fn from_env() -> Result<Self> {
        let binary = |name| {
            env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("{name} is not set: run tests by `cargo xtask test`"))
        };
        Ok(Self {
            services: 20,
            has_rules: true,
            origin: binary("SLUICE_ORIGIN")?,
            sluice: binary("SLUICE_BINARY")?,
        })
    }
}

/// The whole rig. Dropping it removes everything.
#[derive(Debug)]
pub struct Rig {
    /// Starts every name that this rig makes.
    pub prefix: String,
    /// What it was made from.
    pub options: Options,
    /// A client with IPv4 and IPv6.
    pub client: Host,
    /// A client with IPv6 only.
    pub client6: Host,
    /// A client behind a link with a smaller MTU.
    pub far: Host,
    /// Switch of the LAN, and router to `far`.
    pub switch: Host,
    /// The node that Sluice runs on.
    pub edge: Host,
    /// Another node.
    pub node2: Host,
    /// Pods on the edge node.
    pub pod1: Host,
    /// Pods on the edge node.
    pub pod2: Host,
    /// Where the NodePort path has its proxy.
    pub proxy: Host,
    /// Pod on the other node.
    pub pod3: Host,
    processes: Vec<Process>,
}

impl Rig {
    /// Builds the rig and waits until its pods answer.
    pub fn build(options: Options) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("sl{}x{number}", std::process::id());
        Self::build_with_prefix(options, &prefix)
    }

    /// Builds a rig whose names all start with `prefix`.
    pub fn build_with_prefix(options: Options, prefix: &str) -> Result<Self> {
        fs::create_dir_all(host::run_directory(prefix))?;
        let make = |name: &str| Host::create(&format!("{prefix}-{name}"));
        let mut rig = Self {
            prefix: prefix.to_owned(),
            client: make("client")?,
            client6: make("client6")?,
            far: make("far")?,
            switch: make("switch")?,
            edge: make("edge")?,
            node2: make("node2")?,
            pod1: make("pod1")?,
            pod2: make("pod2")?,
            proxy: make("proxy")?,
            pod3: make("pod3")?,
            options,
            processes: Vec::new(),
        };
        rig.wire()?;
        rig.route()?;
        if rig.options.has_rules {
            services::install(&rig.edge, rig.options.services)?;
        }
        rig.start_pods()?;
        Ok(rig)
    }

    /// A file or directory of this rig.
    pub fn path(&self, name: &str) -> PathBuf {
        host::run_directory(&self.prefix).join(name)
    }

    /// Starts a program on a host for as long as the rig lives.
    pub fn spawn(&mut self, command: std::process::Command, log: &str) -> Result<()> {
        let process = Process::spawn(command, &self.path(log))?;
        self.processes.push(process);
        Ok(())
    }

    /// Keeps from deciding a measurement what is no subject's: closed connections that pile up, and
    /// the congestion control that this machine has chosen. BBR paces, and where no queueing
    /// discipline does that for it, by a timer for each burst; a virtual machine that sets one
    /// leaves itself, which takes longer than the bytes. CUBIC is the kernel's default.
    pub fn calm(&self) -> Result<()> {
        for host in [
            &self.client,
            &self.edge,
            &self.proxy,
            &self.pod1,
            &self.pod2,
        ] {
            host.sysctl("net/ipv4/tcp_max_tw_buckets", "64")?;
            // By route, as a namespace may not choose what its machine does not allow.
            host.sh("ip route show | while read -r route; do \
                 ip route replace $route congctl cubic || exit 1; done")?;
        }
        Ok(())
    }

    fn wire(&self) -> Result<()> {
        wiring::make_switch(&self.switch)?;
        for host in [&self.edge, &self.node2] {
            wiring::forward_packets(host)?;
        }
        for (host, port, v4, v6) in [
            (&self.client, "client", Some(CLIENT_V4), CLIENT_V6),
            (&self.client6, "client6", None, CLIENT6_V6),
            (&self.edge, "edge", Some(EDGE_V4), EDGE_V6),
            (&self.node2, "node2", Some(NODE2_V4), NODE2_V6),
        ] {
            wiring::join(&self.switch, host, port, v4, v6)?;
        }
        self.wire_far()?;
        for (node, pod, device, v4, v6) in [
            (&self.edge, &self.pod1, "pod1", POD1_V4, POD1_V6),
            (&self.edge, &self.pod2, "pod2", POD2_V4, POD2_V6),
            (&self.edge, &self.proxy, "proxy", PROXY_V4, PROXY_V6),
            (&self.node2, &self.pod3, "pod3", POD3_V4, POD3_V6),
        ] {
            wiring::attach_pod(node, pod, device, v4, v6)?;
        }
        Ok(())
    }

    fn wire_far(&self) -> Result<()> {
        let switch = self.switch.name();
        self.far.ip(&format!(
            "link add eth0 type veth peer name far netns {switch}"
        ))?;
        for (host, device, v4, v6) in [
            (&self.far, "eth0", FAR_V4, FAR_V6),
            (&self.switch, "far", FAR_ROUTER_V4, FAR_ROUTER_V6),
        ] {
            host.ip(&format!("link set {device} mtu {FAR_MTU} up"))?;
            host.ip(&format!("addr add {v4}/24 dev {device}"))?;
            host.ip(&format!("addr add {v6}/64 dev {device} nodad"))?;
        }
        // The client itself sees no small MTU: what is too big is refused on the way.
        self.far.ip("link set eth0 mtu 1500")?;
        self.far
            .ip(&format!("route add default via {FAR_ROUTER_V4}"))?;
        self.far
            .ip(&format!("-6 route add default via {FAR_ROUTER_V6}"))
    }

    fn route(&self) -> Result<()> {
        self.edge
            .ip(&format!("route add {NODE2_PODS_V4} via {NODE2_V4}"))?;
        self.edge
            .ip(&format!("-6 route add {NODE2_PODS_V6} via {NODE2_V6}"))?;
        self.node2
            .ip(&format!("route add {EDGE_PODS_V4} via {EDGE_V4}"))?;
        self.node2
            .ip(&format!("-6 route add {EDGE_PODS_V6} via {EDGE_V6}"))
    }

    fn start_pods(&mut self) -> Result<()> {
        let mut waiting = Vec::new();
        for (host, name, address) in [
            (&self.pod1, "pod1", POD1_V4),
            (&self.pod2, "pod2", POD2_V4),
            (&self.pod3, "pod3", POD3_V4),
        ] {
            let mut origin = host.command(&self.options.origin);
            origin.args(["--name", name, "--listen", &format!("[::]:{POD_PORT}")]);
            origin.args(["--listen-grpc", &format!("[::]:{POD_GRPC_PORT}")]);
            let log = self.path(&format!("{name}.log"));
            waiting.push((Process::spawn(origin, &log)?, address));
        }
        for (process, address) in waiting {
            self.wait_for_port(&self.edge, address, POD_PORT)?;
            self.processes.push(process);
        }
        Ok(())
    }

    /// Waits until a TCP port answers, as seen from `host`.
    pub fn wait_for_port(&self, host: &Host, address: &str, port: u16) -> Result<()> {
        let address = address.parse::<std::net::IpAddr>()?;
        wait_until(&format!("{address} port {port}"), || {
            let connect = || std::net::TcpStream::connect_timeout(&(address, port).into(), CONNECT);
            Ok(host.run(connect)?.is_ok())
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.processes.clear();
        host::remove_all(&self.prefix);
    }
}

/// Asks again and again until `is_so`; an error names what did not happen.
pub fn wait_until(what: &str, is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_within(PATIENCE, what, is_so)
}

/// Asks again and again until `is_so`, for so long; an error names what did not happen.
pub fn wait_within(
    patience: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !is_so()? {
        if Instant::now() > deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Router of the LAN.
pub const ROUTER_V4: &str = "10.1.0.254";
/// Router of the LAN.
pub const ROUTER_V6: &str = "fd01::fe";
/// The edge node.
pub const EDGE_V4: &str = "10.1.0.1";
/// The edge node.
pub const EDGE_V6: &str = "fd01::1";
/// The client.
pub const CLIENT_V4: &str = "10.1.0.2";
/// The client.
pub const CLIENT_V6: &str = "fd01::2";
/// The client that has IPv6 only.
pub const CLIENT6_V6: &str = "fd01::6";
/// The other node.
pub const NODE2_V4: &str = "10.1.0.3";
/// The other node.
pub const NODE2_V6: &str = "fd01::3";
/// The client behind a smaller MTU.
pub const FAR_V4: &str = "10.9.0.2";
/// The client behind a smaller MTU.
pub const FAR_V6: &str = "fd09::2";
/// MTU of the link to it, in bytes.
pub const FAR_MTU: u32 = 1300;
/// Pods on the edge node.
pub const POD1_V4: &str = "10.2.1.1";
/// Pods on the edge node.
pub const POD1_V6: &str = "fd02:1::1";
/// Pods on the edge node.
pub const POD2_V4: &str = "10.2.1.2";
/// Pods on the edge node.
pub const POD2_V6: &str = "fd02:1::2";
/// The proxy pod of the NodePort path.
pub const PROXY_V4: &str = "10.2.1.3";
/// The proxy pod of the NodePort path.
pub const PROXY_V6: &str = "fd02:1::3";
/// Pod on the other node.
pub const POD3_V4: &str = "10.2.2.1";
/// Pod on the other node.
pub const POD3_V6: &str = "fd02:2::1";
/// Port that pods listen on.
pub const POD_PORT: u16 = 8080;
/// Port at which they answer gRPC calls.
pub const POD_GRPC_PORT: u16 = 8081;

const FAR_ROUTER_V4: &str = "10.9.0.1";
const FAR_ROUTER_V6: &str = "fd09::1";
const EDGE_PODS_V4: &str = "10.2.1.0/24";
const EDGE_PODS_V6: &str = "fd02:1::/64";
const NODE2_PODS_V4: &str = "10.2.2.0/24";
const NODE2_PODS_V6: &str = "fd02:2::/64";
/// In an emulator, the verifier alone takes ten seconds for our programs.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(10);
const CONNECT: Duration = Duration::from_millis(500);
