//! Command line and environment → validated settings: the only reader of either.

use std::env;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ingress_core::ir::{BackendKey, ServicePort};
use ingress_core::translate::{Options, Unclassed};

use crate::datapath::{GuardMode, PortRange, Settings as DatapathSettings, TcMode};

/// A node-local Kubernetes ingress: two hops from client to pod.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the Ingress rules of this node.
    Run(Box<Run>),
    /// Show what the running daemon serves and how its packets travel.
    Status(Status),
    /// Look at kernel, capabilities and bpffs, and say what is missing.
    Probe(Probe),
}

/// How packets reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DatapathMode {
    /// `netns` where this machine can, else `host`, with the reason in log and status.
    Auto,
    /// eBPF steers packets into a network namespace without netfilter; an error where it can't.
    Netns,
    /// Ordinary sockets: needs no privilege but for ports below 1024.
    Host,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `sluice run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Directory (or file) of manifests to serve; watched, a saved file is live at once.
    #[arg(long, env = "SLUICE_MANIFESTS", value_name = "PATH")]
    pub manifests: PathBuf,

    /// How packets reach the workers.
    #[arg(long, env = "SLUICE_DATAPATH", value_enum, default_value = "auto")]
    pub datapath: DatapathMode,

    /// Port for HTTP.
    #[arg(long, env = "SLUICE_HTTP_PORT", default_value_t = 80)]
    pub http_port: u16,

    /// Port for HTTPS.
    #[arg(long, env = "SLUICE_HTTPS_PORT", default_value_t = 443)]
    pub https_port: u16,

    /// Workers, one thread each [default: one for each core, at most 64].
    #[arg(long, env = "SLUICE_WORKERS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: Option<u32>,

    /// Device through which clients come; may be given more than once [default: the devices of
    /// the default routes].
    #[arg(
        long = "uplink",
        env = "SLUICE_UPLINK",
        value_name = "DEVICE",
        value_delimiter = ','
    )]
    pub uplinks: Vec<String>,

    /// Further address at which clients reach this node, such as a virtual IP that no device has.
    #[arg(
        long = "frontend-address",
        env = "SLUICE_FRONTEND_ADDRESS",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub frontend_addresses: Vec<IpAddr>,

    /// How to attach the XDP program to uplinks.
    #[arg(long, env = "SLUICE_XDP", value_enum, default_value = "auto")]
    pub xdp: GuardMode,

    /// How to attach the TC programs.
    #[arg(long, env = "SLUICE_TC", value_enum, default_value = "auto")]
    pub tc: TcMode,

    /// Local ports of connections to endpoints; must not be in the host's ip_local_port_range.
    #[arg(long, env = "SLUICE_UPSTREAM_PORTS", value_name = "MIN-MAX", default_value = "61000-65535",
          value_parser = parse_port_range)]
    pub upstream_ports: PortRange,

    /// Value of the annotation kubernetes.io/ingress.class that is ours, and the class name that
    /// is ours where no IngressClass object has it.
    #[arg(
        long,
        env = "SLUICE_INGRESS_CLASS",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub ingress_class: String,

    /// spec.controller of the IngressClasses that are ours.
    #[arg(
        long,
        env = "SLUICE_CONTROLLER_CLASS",
        value_name = "NAME",
        default_value = "sluice.dev/ingress-controller"
    )]
    pub controller_class: String,

    /// Whether to serve Ingresses that name no class.
    #[arg(long, env = "SLUICE_WATCH_INGRESS_WITHOUT_CLASS", value_name = "BOOL",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub watch_ingress_without_class: bool,

    /// Service for requests that no rule matches.
    #[arg(long, env = "SLUICE_DEFAULT_BACKEND_SERVICE", value_name = "NAMESPACE/NAME:PORT",
          value_parser = parse_backend)]
    pub default_backend_service: Option<BackendKey>,

    /// Seconds that requests in flight get to end after SIGTERM.
    #[arg(
        long,
        env = "SLUICE_SHUTDOWN_GRACE_PERIOD",
        value_name = "SECONDS",
        default_value_t = 30
    )]
    pub shutdown_grace_period: u64,

    /// What to log: a level, or levels by module as in RUST_LOG.
    #[arg(
        long,
        env = "SLUICE_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// Format of the log.
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// Where things are kept.
    #[command(flatten)]
    pub places: Places,
}

/// Names of what a daemon keeps outside its process; another daemon on the same machine needs
/// others.
#[derive(Clone, Debug, Args)]
pub struct Places {
    /// Directory for the lock and the admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// Directory in bpffs for maps and links.
    #[arg(
        long,
        env = "SLUICE_BPFFS",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/sluice"
    )]
    pub bpffs: PathBuf,

    /// Name of the ingress network namespace.
    #[arg(
        long,
        env = "SLUICE_INGRESS_NETNS",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub ingress_netns: String,

    /// Name of the device that leads into it.
    #[arg(
        long,
        env = "SLUICE_GATE",
        value_name = "DEVICE",
        default_value = "sluice0"
    )]
    pub gate: String,
}

/// Flags of `sluice status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Where a daemon keeps its lock and its admin socket.
#[derive(Clone, Debug, Args)]
pub struct RunDir {
    /// Directory for the lock and the admin socket [default: /run/sluice; without root
    /// `$XDG_RUNTIME_DIR/sluice`, else /tmp/sluice-UID].
    #[arg(long = "run-dir", env = "SLUICE_RUN_DIR", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl RunDir {
    /// The directory.
    pub fn path(&self) -> PathBuf {
        let user = rustix::process::getuid();
        match (&self.directory, env::var_os("XDG_RUNTIME_DIR")) {
            (Some(directory), _) => directory.clone(),
            (None, _) if user.is_root() => PathBuf::from("/run/sluice"),
            (None, Some(runtime)) => PathBuf::from(runtime).join("sluice"),
            (None, None) => PathBuf::from(format!("/tmp/sluice-{}", user.as_raw())),
        }
    }
}

/// Flags of `sluice probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// Directory in bpffs for maps and links.
    #[arg(
        long,
        env = "SLUICE_BPFFS",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/sluice"
    )]
    pub bpffs: PathBuf,

    /// Local ports of connections to endpoints.
    #[arg(long, env = "SLUICE_UPSTREAM_PORTS", value_name = "MIN-MAX", default_value = "61000-65535",
          value_parser = parse_port_range)]
    pub upstream_ports: PortRange,
}

/// Format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Run {
    /// Number of workers.
    pub fn worker_count(&self) -> u32 {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers
            .unwrap_or_else(|| u32::try_from(cores).unwrap_or(u32::MAX).min(WORKERS_MAX))
    }

    /// How long requests in flight get to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_period)
    }

    /// What the translation has to know.
    pub fn translation(&self) -> Options {
        Options {
            controller_class: self.controller_class.clone(),
            ingress_class: self.ingress_class.clone(),
            unclassed: if self.watch_ingress_without_class {
                Unclassed::Accept
            } else {
                Unclassed::Ignore
            },
            default_backend: self.default_backend_service.clone(),
        }
    }

    /// What the datapath has to know.
    pub fn datapath(&self) -> DatapathSettings {
        DatapathSettings {
            bpffs: self.places.bpffs.clone(),
            netns: self.places.ingress_netns.clone(),
            gate: self.places.gate.clone(),
            uplinks: self.uplinks.clone(),
            addresses: self.frontend_addresses.clone(),
            guard: self.xdp,
            tc: self.tc,
            upstream_ports: self.upstream_ports,
            workers: self.worker_count(),
        }
    }
}

fn parse_port_range(text: &str) -> Result<PortRange, String> {
    let parsed = text.split_once('-').and_then(|(min, max)| {
        Some(PortRange {
            min: min.parse().ok()?,
            max: max.parse().ok()?,
        })
    });
    match parsed {
        Some(range) if range.min >= 1024 && range.min < range.max => Ok(range),
        _ => Err("expected MIN-MAX, both from 1024 to 65535".into()),
    }
}

fn parse_backend(text: &str) -> Result<BackendKey, String> {
    let parts = text
        .split_once('/')
        .and_then(|(namespace, rest)| Some((namespace, rest.split_once(':')?)))
        .filter(|(namespace, (name, port))| ![namespace, name, port].iter().any(|s| s.is_empty()));
    let Some((namespace, (service, port))) = parts else {
        return Err("expected NAMESPACE/NAME:PORT".into());
    };
    let port = match port.parse() {
        Ok(number) => ServicePort::Number(number),
        Err(_) => ServicePort::Name(port.into()),
    };
    Ok(BackendKey {
        namespace: namespace.into(),
        service: service.into(),
        port,
    })
}

const WORKERS_MAX: u32 = ingress_common::socket::WORKERS_MAX;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn port_ranges_are_checked() {
        assert_eq!(
            parse_port_range("61000-65535"),
            Ok(PortRange {
                min: 61_000,
                max: 65_535
            })
        );
        for wrong in ["", "80-90", "5000", "6000-5000", "6000-70000", "a-b"] {
            assert!(parse_port_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_default_backend_has_a_port_by_number_or_name() {
        let by_number = parse_backend("web/shop:8080").unwrap();
        assert_eq!(by_number.port, ServicePort::Number(8080));
        let by_name = parse_backend("web/shop:http").unwrap();
        assert_eq!(by_name.port, ServicePort::Name("http".into()));
        for wrong in ["shop", "web/shop", "web/:80", "/shop:80"] {
            assert!(parse_backend(wrong).is_err(), "{wrong}");
        }
    }
}
