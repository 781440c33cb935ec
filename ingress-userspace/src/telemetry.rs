//! The log: tracing, with a filter and a format.
//!
//! A thread of its own writes the lines. While nobody reads standard error, lines beyond
//! `WAITING_LINES_MAX` are dropped and counted: whoever logs never blocks.

mod recent;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::{fmt, reload};

use self::recent::Keeping;
pub use self::recent::recent_lines;
use crate::settings::LogFormat;

/// Reads a filter without using it.
///
/// # Errors
///
/// A message that names the filter if it can't be read.
pub fn check(filter: &str) -> Result<(), String> {
    read(filter).map(drop)
}

/// Starts logging to standard error by a thread of its own, until the guard is dropped, which writes the
/// lines that wait.
///
/// # Errors
///
/// A message that names the filter if it can't be read.
pub fn init(filter: &str, format: LogFormat) -> Result<WorkerGuard, String> {
    let parsed = read(filter)?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("log")
        .finish(Keeping(std::io::stderr()));
    // A process starts logging once.
    let _ = DROPPED.set(writer.error_counter());
    let builder = fmt()
        .with_env_filter(parsed)
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match format {
        LogFormat::Text => {
            let builder = builder.with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter)));
            builder.try_init()
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter)));
            builder.try_init()
        }
    };
    outcome.map_err(|error| format!("failed to start logging: {error}"))?;
    Ok(guard)
}

/// Logs by another filter from now on.
///
/// # Errors
///
/// A message that names the filter if it can't be read, and nothing changes.
pub fn set_filter(filter: &str) -> Result<(), String> {
    let parsed = read(filter)?;
    let reload = RELOAD.get().ok_or("logging has not started")?;
    reload(parsed).map_err(|error| format!("failed to change the log filter: {error}"))
}

fn read(filter: &str) -> Result<EnvFilter, String> {
    let mut directives = filter.to_owned();
    for (library, level) in QUIET {
        if !filter.contains(library) {
            directives = format!("{directives},{library}={level}");
        }
    }
    EnvFilter::try_new(directives)
        .map_err(|error| format!("failed to read the log filter `{filter}`: {error}"))
}

/// Lines that were dropped because nobody has read standard error.
pub fn dropped_lines() -> usize {
    DROPPED.get().map_or(0, ErrorCounter::dropped_lines)
}

/// Puts another filter in place of the one that logging began with.
type Reload = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static RELOAD: OnceLock<Reload> = OnceLock::new();

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that wait to be written: some 2 MiB.
const WAITING_LINES_MAX: usize = 8192;

/// Libraries that log what they also return, or what is no news; unless the filter names them.
const QUIET: [(&str, &str); 2] = [("kube_client", "off"), ("netlink_proto", "error")];
