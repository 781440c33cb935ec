//! `sluice report`: an archive with what a bug report needs, listed before it is written.
//!
//! Everything in it comes from the admin socket, which serves no Secret, and from `/proc`. `redact`
//! replaces what names an installation.

mod archive;
mod redact;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::archive::Content;
use self::redact::{Redactor, without_user};
use super::{Unreachable, socket};
use crate::admin::{CERTIFICATES, ENDPOINTS, LOG, ROUTES};
use crate::settings::Report;

/// Lists the contents to `output` and writes the archive.
///
/// # Errors
///
/// An error if the daemon cannot be reached, or the archive cannot be written.
pub async fn run(flags: &Report, output: &mut impl Write) -> Result<()> {
    let now = Timestamp::now();
    let run_dir = flags.run_dir.path();
    let lists = LISTS.map(|(path, _, _)| fetch_json(&run_dir, path));
    let texts = TEXTS.map(|(path, _, _)| fetch(&run_dir, path));
    let status = fetch_json(&run_dir, "/status");
    let (status, lists, texts) = tokio::join!(status, join_all(lists), join_all(texts));
    let status = status?;
    let lists: Vec<Value> = lists.into_iter().collect::<Result<_>>()?;
    let mut contents = of_process(&status);
    for (list, (_, name, subject)) in lists.iter().zip(LISTS) {
        contents.push(Content::json(name, subject, list));
    }
    for (text, (_, name, subject)) in texts.into_iter().zip(TEXTS) {
        let text = text?.unwrap_or_else(|problem| format!("{problem}\n"));
        contents.push(Content::text(name, subject, text));
    }
    for content in &mut contents {
        content.text = without_user(&content.text);
    }
    if flags.redact {
        let mut redactor = Redactor::new(archive::salt()?);
        redactor.learn(&status);
        for list in &lists {
            redactor.learn(list);
        }
        for content in &mut contents {
            content.text = redactor.redact(&content.name, &content.text);
        }
    }
    contents.insert(0, index(&contents, flags.redact, now));
    let path = flags.output.clone().unwrap_or_else(|| default_path(now));
    output.write_all(listing(&path, &contents).as_bytes())?;
    output.flush()?;
    archive::write(&path, &contents, now)
        .with_context(|| format!("failed to write {}", path.display()))
}

/// Lists of the daemon: path, name of the file, subject.
const LISTS: [(&str, &str, &str); 4] = [
    (ROUTES, "routes.json", "routes of all hosts, in their order"),
    (ENDPOINTS, "endpoints.json", "endpoints of all backends"),
    (
        CERTIFICATES,
        "certificates.json",
        "names and dates of certificates, without certificates and keys",
    ),
    ("/deny", "denied.json", "denied networks"),
];

/// Texts of the daemon.
const TEXTS: [(&str, &str, &str); 2] = [
    ("/metrics", "metrics.txt", "all metrics"),
    (
        LOG,
        "log.txt",
        "last lines of the daemon's log, at most 256 KiB",
    ),
];

/// A text of the daemon, or why it gives none: a report is made when something does not work.
///
/// # Errors
///
/// An error if no daemon listens.
async fn fetch(run_dir: &Path, path: &str) -> Result<Result<String, String>> {
    let fetching = socket::fetch(run_dir, Request::get(path));
    let problem = match tokio::time::timeout(ANSWER_MAX, fetching).await {
        Ok(Ok(text)) => return Ok(Ok(String::from_utf8_lossy(&text).into_owned())),
        Ok(Err(error)) if error.is::<Unreachable>() => return Err(error),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => format!("no answer in {} s", ANSWER_MAX.as_secs()),
    };
    Ok(Err(format!("failed to read {path}: {problem}")))
}

async fn fetch_json(run_dir: &Path, path: &str) -> Result<Value> {
    let read = |text: String| serde_json::from_str(&text).map_err(|error| error.to_string());
    let value = fetch(run_dir, path).await?.and_then(read);
    Ok(value.unwrap_or_else(|problem| json!({ "problem": problem })))
}

/// How long the daemon's loop may take for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Facts about the daemon's process and its machine.
fn of_process(status: &Value) -> Vec<Content> {
    let kernel = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let version = json!({
        "daemon": status["version"],
        "command": env!("CARGO_PKG_VERSION"),
        "kernel": text(kernel.release()),
        "kernel_version": text(kernel.version()),
        "machine": text(kernel.machine()),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
    });
    let pid = status["pid"].as_u64().unwrap_or(0);
    vec![
        Content::json("version.json", "versions of daemon and kernel", &version),
        Content::text(
            "flags.txt",
            "flags of the daemon and its SLUICE_ variables",
            flags_of(pid),
        ),
        Content::text(
            "limits.txt",
            "resource limits of the daemon",
            read(pid, "limits"),
        ),
        Content::json("status.json", "what `sluice status` shows", status),
        Content::json(
            "problems.json",
            "problems with objects",
            &status["problems"],
        ),
        Content::json(
            "datapath.json",
            "devices, programs, counters",
            &status["datapath"],
        ),
    ]
}

/// The arguments of the daemon, and the variables that stand for arguments, one a line.
fn flags_of(pid: u64) -> String {
    let arguments = read(pid, "cmdline");
    let variables = read(pid, "environ");
    let ours = |variable: &&str| {
        let prefixes = ["SLUICE_", "OTEL_", PROBLEM];
        prefixes.iter().any(|prefix| variable.starts_with(prefix))
    };
    let is_read = usize::from(!arguments.starts_with(PROBLEM));
    let arguments = arguments.split_terminator('\0').skip(is_read);
    let variables = variables.split_terminator('\0').filter(ours);
    let mut joined: Vec<String> = Vec::new();
    for argument in arguments {
        match joined.last_mut() {
            // `--flag VALUE` is `--flag=VALUE`.
            Some(flag)
                if flag.starts_with("--") && !flag.contains('=') && !argument.starts_with('-') =>
            {
                *flag = format!("{flag}={argument}");
            }
            _ => joined.push(argument.to_owned()),
        }
    }
    let mut text = String::new();
    for line in joined.iter().map(|line| &**line).chain(variables) {
        // `OTEL_EXPORTER_OTLP_HEADERS` holds tokens.
        let is_header = line.starts_with("OTEL_") && line.contains("HEADERS=");
        let line = if is_header {
            line.split_once('=').map_or(line, |(name, _)| name)
        } else {
            line
        };
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A file of the daemon in `/proc`, or why it cannot be read: the process may have more rights.
fn read(pid: u64, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("{PROBLEM} {path}: {error}\n"),
    }
}

const PROBLEM: &str = "failed to read";

/// The file that names all others.
fn index(contents: &[Content], redacted: bool, now: Timestamp) -> Content {
    let files: BTreeSet<_> = contents.iter().map(|one| &*one.name).collect();
    debug_assert_eq!(files.len(), contents.len(), "names are unique");
    let file =
        |one: &Content| json!({"name": one.name, "subject": one.subject, "bytes": one.text.len()});
    let files: Vec<_> = contents.iter().map(file).collect();
    let index = json!({
        "made": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "redacted": redacted,
        "files": files,
    });
    Content::json("index.json", "this list", &index)
}

fn listing(path: &Path, contents: &[Content]) -> String {
    let mut text = String::new();
    for one in contents {
        let _ = writeln!(
            text,
            "{:>10}  {:<18} {}",
            one.text.len(),
            one.name,
            one.subject
        );
    }
    let _ = writeln!(text, "writing {}", path.display());
    text
}

fn default_path(now: Timestamp) -> PathBuf {
    format!("sluice-report-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ")).into()
}
