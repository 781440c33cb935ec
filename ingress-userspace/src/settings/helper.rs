//! Flags of the verbs that nobody types: the helper process, and the intruder that tests play.

use std::path::PathBuf;

use clap::Args;

use super::LogFormat;

/// The verb of the helper process.
pub const HELPER_VERB: &str = "helper";

/// Flags of the helper process.
#[derive(Debug, Args)]
pub struct Logging {
    /// What to log.
    #[arg(long, default_value = "info")]
    pub log: String,

    /// Format of the log.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Flags of `sluice intruder`.
#[derive(Debug, Args)]
pub struct Intruder {
    /// A file that only root can read.
    #[arg(long, value_name = "PATH")]
    pub secret: PathBuf,

    /// The helper's log.
    #[command(flatten)]
    pub log: Logging,
}
