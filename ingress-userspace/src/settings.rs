//! Command line and environment → validated settings: the only reader of either.

mod acme;
pub mod clients;
mod dashboard;
mod deny;
pub mod help;
mod helper;
mod inspect;
mod kubernetes;
mod meaning;
mod memory;
pub mod observe;
mod observing;
mod places;
pub mod plugin;
pub mod relay;
mod steering;
pub mod tls;
mod uplinks;
pub mod upstream;
mod webhook;

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub use dashboard::{
    Dashboard, DashboardAuth, DashboardCommand, DashboardError, DashboardVerb, DashboardView,
    SocketEndpoint,
};
pub use deny::Deny;
pub use helper::{HELPER_VERB, Intruder, Logging};
use ingress_core::translate::Options;
pub use inspect::{
    Check, Drain, Explain, ListFormat, Listing, LogLevel, Probe, Ready, ReportFormat, Status,
};
pub use kubernetes::{ApiServer, Kubernetes};
pub use meaning::IngressSelection;
pub use memory::Machine;
pub use observing::{Report, Tail, Top, TopTable};
pub use places::{Paths, RunDir};

use self::acme::Acme;
use self::clients::Clients;
use self::deny::Budgets;
use self::memory::Memory;
use self::observe::{METRICS_ADDRESS, Observe};
use self::relay::Relay;
use self::steering::Steering;
use self::tls::Tls;
use self::uplinks::Uplinks;
use self::upstream::Upstream;
use self::webhook::Webhook;
use crate::datapath::{GuardMode, PortRange, Settings as DatapathSettings, ShortcutMode, TcMode};
use crate::proxy::{AccessLog, ClientPolicy, Tracer, WorkerOptions};

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
    /// Tell by the exit status whether the running daemon serves.
    Ready(Ready),
    /// Tell which Ingress, rule, Service and endpoints serve a request, and why no others do.
    Explain(Box<Explain>),
    /// List the routes of the running daemon; exit status 1 if one has no endpoint.
    Routes(Listing),
    /// List the endpoints of the running daemon.
    Endpoints(Listing),
    /// List the certificates of the running daemon; exit status 1 if one ends within two weeks.
    Certificates(Listing),
    /// List what the kernel's programs did with packets.
    Datapath(Listing),
    /// Show requests as they end, until Ctrl-C.
    Tail(Tail),
    /// Show the busiest hosts, backends, endpoints, clients or devices, live.
    Top(Top),
    /// Open the dashboard of the running daemon, or one of several nodes, in a browser.
    Dashboard(DashboardVerb),
    /// Write an archive with what a bug report needs, without Secrets.
    Report(Report),
    /// Have load balancers send clients elsewhere, while everything goes on.
    Drain(Drain),
    /// Change what the running daemon logs.
    LogLevel(LogLevel),
    /// Check manifests, or the objects of a cluster: exit status 1 if something can't be served.
    Check(Box<Check>),
    /// Drop what comes from a network, for a time, or show what is dropped.
    Deny(Box<Deny>),
    /// Remove programs, maps, gate and ingress netns that a killed daemon has left in the kernel.
    Detach(Paths),
    /// Look at kernel, capabilities and bpffs, and say what is missing.
    Probe(Probe),
    /// Make sockets, programs and maps for `sluice run`, which starts this.
    #[command(name = HELPER_VERB, hide = true)]
    Helper(Logging),
    /// Try what an intruder would, after privileges were given up, and print what the kernel said.
    #[command(hide = true)]
    Intruder(Intruder),
    /// Print completions for a shell, to be sourced by it.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the command, or of one verb.
    Man {
        /// The verb.
        verb: Option<String>,
    },
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
    /// Directory (or file) of manifests to serve; watched, a saved file is live at once
    /// [default: the objects of the Kubernetes API server].
    #[arg(long, env = "SLUICE_MANIFESTS", value_name = "PATH")]
    pub manifests: Option<PathBuf>,

    /// The API server and what to do there.
    #[command(flatten)]
    pub kubernetes: Kubernetes,

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

    /// Whether workers give up the system calls that serve no client, and the process those that no
    /// daemon makes. Tools that work from inside the process, such as valgrind, need false.
    #[arg(long, env = "SLUICE_CONFINE_WORKERS", value_name = "BOOL",
          default_value_t = true, action = clap::ArgAction::Set)]
    pub confine_workers: bool,

    /// The devices through which clients come.
    #[command(flatten)]
    pub uplinks: Uplinks,

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

    /// Whether bytes to and from pods of this node go from socket to socket, past TCP and devices
    /// (docs/shortcut.md). `sluice status` says why it is off.
    #[arg(long, env = "SLUICE_SHORTCUT", value_enum, default_value = "auto")]
    pub shortcut: ShortcutMode,

    /// Local ports of connections to endpoints; must not be in the host's ip_local_port_range.
    #[arg(long, env = "SLUICE_UPSTREAM_PORTS", value_name = "MIN-MAX", default_value = "61000-65535",
          value_parser = parse_port_range)]
    pub upstream_ports: PortRange,

    /// Whose packets are steered.
    #[command(flatten)]
    pub steering: Steering,

    /// What is dropped at frontends.
    #[command(flatten)]
    pub budgets: Budgets,

    /// Which Ingresses are ours.
    #[command(flatten)]
    pub meaning: IngressSelection,

    /// Seconds after SIGTERM in which all goes on but /readyz says no, so that load balancers can
    /// take notice; a second SIGTERM cuts them short [default: 0, or 10 with --adopt-service].
    #[arg(long, env = "SLUICE_SHUTDOWN_DELAY", value_name = "SECONDS")]
    pub shutdown_delay: Option<u64>,

    /// Seconds that requests in flight get to end after that. Idle HTTP/1.1 connections stay open for up
    /// to half of it, at most 10 seconds, so that the next response tells their clients to leave.
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

    /// Who is believed about clients.
    #[command(flatten)]
    pub clients: Clients,

    /// How much memory clients may hold.
    #[command(flatten)]
    pub memory: Memory,

    /// What is carried as it is.
    #[command(flatten)]
    pub relay: Relay,

    /// The validating webhook.
    #[command(flatten)]
    pub webhook: Webhook,

    /// The dashboard in the browser.
    #[command(flatten)]
    pub dashboard: Dashboard,

    /// Certificates by ACME.
    #[command(flatten)]
    pub acme: Acme,

    /// TLS towards clients.
    #[command(flatten)]
    pub tls: Tls,

    /// How endpoints share requests.
    #[command(flatten)]
    pub upstream: Upstream,

    /// What can be seen.
    #[command(flatten)]
    pub observe: Observe,

    /// Where things are kept.
    #[command(flatten)]
    pub places: Paths,
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

    /// How long all goes on after SIGTERM, so that load balancers can take notice.
    pub fn shutdown_delay(&self) -> Duration {
        let default = if self.kubernetes.adopted_services.is_empty() {
            Duration::ZERO
        } else {
            WITHDRAWAL
        };
        self.shutdown_delay.map_or(default, Duration::from_secs)
    }

    /// How long requests in flight get to end.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_period)
    }

    /// What workers have to know.
    pub fn worker_options(
        &self,
        machine: Machine,
        access_log: Option<AccessLog>,
        tracer: Option<Tracer>,
    ) -> WorkerOptions {
        WorkerOptions {
            timeouts: self.clients.timeouts(self.upstream.timeouts()),
            clients: ClientPolicy {
                sources: self.steering.frontend_source_cidr.clone(),
                ..self.clients.policy()
            },
            client_limits: self
                .clients
                .limits(self.worker_count(), machine.descriptors),
            memory: self.memory.limits(self.worker_count(), machine),
            datagrams: self.relay.datagram_limits(),
            balancing: self.upstream.balancing(),
            request_metrics: self.observe.request_metrics(),
            access_log,
            tracer,
            ..WorkerOptions::default()
        }
    }

    /// What the translation has to know.
    pub fn translation(&self) -> Options {
        let is_unclassed_ours = self
            .meaning
            .watch_ingress_without_class
            .unwrap_or(self.manifests.is_some());
        let hints_for_node = self
            .kubernetes
            .topology_hints
            .then_some(&self.kubernetes.node_name);
        let hints_for_node = hints_for_node.cloned().flatten();
        let [tcp_services_from, udp_services_from] = self.relay.config_maps();
        let metrics = self.observe.metrics_address.unwrap_or(METRICS_ADDRESS);
        Options {
            acme_state: self.acme_state(),
            tcp_services: self.relay.tcp_services(),
            udp_services: self.relay.udp_services(),
            tcp_services_from,
            udp_services_from,
            https_port: self.https_port,
            trusts_peers: !self.clients.proxy_real_ip_cidr.is_empty(),
            reserved_ports: [self.http_port, self.https_port, metrics.port()].into(),
            ..self.meaning.options(is_unclassed_ours, hints_for_node)
        }
    }

    /// What the datapath has to know.
    pub fn datapath(&self) -> DatapathSettings {
        DatapathSettings {
            bpffs: self.places.bpffs.clone(),
            netns: self.places.ingress_netns.clone(),
            gate: self.places.gate.clone(),
            uplinks: self.uplinks.devices.clone(),
            uplink_in_netns: self.uplinks.uplink_in_netns.clone(),
            node_addresses: self.uplinks.node_addresses(self.observe.metrics_address),
            addresses: self.frontend_addresses.clone(),
            guard: self.xdp,
            tc: self.tc,
            pod_clients: self.steering.pod_clients(),
            sources: self.steering.frontend_source_cidr.clone(),
            upstream_ports: self.upstream_ports,
            workers: self.worker_count(),
            shortcut: self.shortcut,
            source_budget: self.budgets.source_budget(),
            flood_threshold: self.budgets.syn_flood_threshold,
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

/// Longer than kubelet, API server and speaker take together to withdraw an address.
const WITHDRAWAL: Duration = Duration::from_secs(10);
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
    fn adopted_services_give_announcers_ten_seconds_at_the_end() {
        for (flags, seconds) in [
            (&[][..], 0),
            (&["--adopt-service=edge/web"], 10),
            (&["--adopt-service=edge/web", "--shutdown-delay=3"], 3),
            (&["--shutdown-delay=3"], 3),
        ] {
            let arguments = [&["sluice", "run"], flags].concat();
            let parsed = CommandLine::try_parse_from(arguments).unwrap();
            let Command::Run(run) = parsed.command else {
                panic!("another verb");
            };
            assert_eq!(run.shutdown_delay().as_secs(), seconds, "{flags:?}");
        }
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
}
