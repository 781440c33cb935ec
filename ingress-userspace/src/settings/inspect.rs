//! Flags of the verbs that look at objects without serving them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::Uri;

use super::{ApiServer, IngressSelection, Output, RunDir};

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

/// Flags of `sluice ready`.
#[derive(Debug, Args)]
pub struct Ready {
    /// Only whether the daemon lives: a restart would not mend that it has nothing to serve yet.
    #[arg(long)]
    pub live: bool,

    /// Directory of the daemon's admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,
}

/// Flags of `sluice explain`.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// Host of the request, or its whole URL; a port is ignored.
    pub host: String,

    /// Path of the request.
    #[arg(default_value = "/")]
    pub path: String,

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
