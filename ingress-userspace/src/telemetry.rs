//! The log: tracing, with a filter and a format.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::settings::LogFormat;

/// Starts logging to standard error. A filter that can't be read is an error that names it.
pub fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let mut directives = filter.to_owned();
    for (library, level) in QUIET {
        if !filter.contains(library) {
            directives = format!("{directives},{library}={level}");
        }
    }
    let parsed = EnvFilter::try_new(directives)
        .map_err(|error| format!("failed to read the log filter `{filter}`: {error}"))?;
    let builder = fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    outcome.map_err(|error| format!("failed to start logging: {error}"))
}

/// Libraries that log what they also return, or what is no news; unless the filter names them.
const QUIET: [(&str, &str); 2] = [("kube_client", "off"), ("netlink_proto", "error")];
