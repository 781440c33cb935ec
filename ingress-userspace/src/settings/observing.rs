//! Flags of the verbs that follow what the daemon does.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ingress_core::tail::{HostGlob, StatusRange, TailFilter, parse_slower};

use super::{Output, RunDir};

/// Flags of `sluice tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Statuses, such as 404, 5xx or 500-503; may be given more than once.
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',')]
    pub statuses: Vec<StatusRange>,

    /// Host that clients ask for, where `*` stands for any characters, such as '*.shop.example'.
    #[arg(long, value_name = "GLOB")]
    pub host: Option<HostGlob>,

    /// Beginning of the path.
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,

    /// Method, such as POST.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,

    /// Only requests that took at least this long, such as 500ms or 2s.
    #[arg(long, value_name = "TIME", value_parser = parse_slower)]
    pub slower: Option<Duration>,

    /// Format of the lines.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

impl Tail {
    /// Which requests are wanted.
    pub fn filter(&self) -> TailFilter {
        TailFilter {
            statuses: self.statuses.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            method: self.method.clone(),
            slower: self.slower,
        }
    }
}

/// Flags of `sluice report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Replace hosts, addresses and names of objects by hashes: the same ones in all files of the
    /// archive, and others in every archive. Paths of rules stay.
    #[arg(long)]
    pub redact: bool,

    /// The archive [default: sluice-report-TIME.tar.gz].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Flags of `sluice top`.
#[derive(Debug, Args)]
pub struct Top {
    /// The kind of rows; all kinds but devices sum requests.
    #[arg(value_enum, default_value = "hosts")]
    pub table: TopTable,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// What `sluice top` sums requests by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopTable {
    /// Host patterns of rules.
    Hosts,
    /// Services and their ports.
    Backends,
    /// Addresses of endpoints, from the requests that `sluice tail` would show.
    Endpoints,
    /// Addresses of clients, likewise.
    Clients,
    /// Devices that the datapath is attached to, with the packets that the kernel counts.
    Devices,
}
