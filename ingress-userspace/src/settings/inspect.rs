//! Flags of the verbs that look at objects without serving them.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Uri};

use super::{ApiServer, IngressSelection, Output, RunDir, parse_port_range};
use crate::datapath::PortRange;

/// Where the objects come from.
#[derive(Debug, Args)]
#[group(id = "objects", multiple = false)]
pub struct Objects {
    /// Files or directories of manifests; each is read like `sluice run --manifests`.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The objects of the Kubernetes API server.
    #[arg(long)]
    pub cluster: bool,
}

/// Flags of `sluice check`.
#[derive(Debug, Args)]
pub struct Check {
    /// What to check.
    #[command(flatten)]
    pub objects: Objects,

    /// Which Ingresses are ours.
    #[command(flatten)]
    pub meaning: IngressSelection,

    /// How to reach the API server.
    #[command(flatten)]
    pub api_server: ApiServer,

    /// Send requests made from the rules to the controller at this URL and to the one of --with, and
    /// tell the differences.
    #[arg(long, value_name = "URL", requires = "compare_with")]
    pub compare: Option<Uri>,

    /// URL of the other controller.
    #[arg(long = "with", value_name = "URL", requires = "compare")]
    pub compare_with: Option<Uri>,

    /// Format of the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: ReportFormat,
}

/// Format of what `sluice check` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A line for each finding.
    Text,
    /// A line for each Ingress: supported, differs or refused.
    Table,
    /// The same as a report to hand on.
    Markdown,
    /// Findings and Ingresses for programs.
    Json,
}

/// Flags of the verbs that list something of the running daemon.
#[derive(Debug, Args)]
pub struct Listing {
    /// Show only lines that contain this text.
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,

    /// Format of the list.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: ListFormat,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Flags of `sluice drain`.
#[derive(Debug, Args)]
pub struct Drain {
    /// Have load balancers send clients here again.
    #[arg(long)]
    pub undo: bool,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Flags of `sluice log-level`.
#[derive(Debug, Args)]
pub struct LogLevel {
    /// A level, or levels by module as in RUST_LOG.
    #[arg(value_name = "FILTER")]
    pub filter: String,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns in 80 characters; long cells are cut.
    Table,
    /// Columns, nothing cut.
    Wide,
    /// For programs; docs/schema has the schema.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Flags of `sluice status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Format of the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,

    /// Show it again every second, until Ctrl-C.
    #[arg(long, short)]
    pub watch: bool,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Flags of `sluice ready`.
#[derive(Debug, Args)]
pub struct Ready {
    /// Only whether the daemon lives: a restart would not mend that it has nothing to serve yet.
    #[arg(long)]
    pub live: bool,

    /// Whether this node should be announced: exit status 0 or 1 and one sentence, within 1 s. For
    /// keepalived, BIRD, FRR and the like (docs/one-address.md).
    #[arg(long, conflicts_with = "live")]
    pub serving: bool,

    /// Say no while packets take the host's sockets rather than the eBPF datapath.
    #[arg(long, requires = "serving")]
    pub require_datapath: bool,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
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

/// Flags of `sluice explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// Host of the request, or its whole URL; a port is ignored.
    pub host: String,

    /// Path of the request, and maybe its query.
    #[arg(default_value = "/")]
    pub path: String,

    /// Method of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,

    /// Field of the request, such as 'X-Canary: always'; may be given more than once.
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = parse_field)]
    pub headers: Vec<(HeaderName, HeaderValue)>,

    /// Server name of the client's TLS handshake [default: the host].
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,

    /// Address of the client; without it, source ranges are only named.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,

    /// Look at this file or directory of manifests rather than ask the running daemon.
    #[arg(long, value_name = "PATH", conflicts_with = "cluster")]
    pub manifests: Option<PathBuf>,

    /// Look at the objects of the Kubernetes API server rather than ask the running daemon.
    #[arg(long)]
    pub cluster: bool,

    /// Which Ingresses are ours, for objects that no daemon serves.
    #[command(flatten)]
    pub meaning: IngressSelection,

    /// How to reach the API server.
    #[command(flatten)]
    pub api_server: ApiServer,

    /// Format of the answer.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

fn parse_field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("expected NAME:VALUE, such as 'X-Canary: always'")?;
    let name = name.trim().parse().map_err(|_| "invalid field name")?;
    let value = value.trim().parse().map_err(|_| "invalid field value")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_a_name_and_a_value() {
        let (name, value) = parse_field("X-Canary: a:b ").unwrap();
        assert_eq!(
            (name.as_str(), value.to_str().unwrap()),
            ("x-canary", "a:b")
        );
        for text in ["", "x", ": y", "a b: c", "x: a\nb"] {
            parse_field(text).unwrap_err();
        }
    }
}
