//! The load generator: wrk, one thread, on a host of the rig.

use anyhow::{Context as _, Result, bail};

use crate::host::Host;

/// Connections of one run.
const CONNECTIONS: u32 = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// 1 KiB answers over kept-alive connections.
    KeptAlive,
    /// 1 KiB answers, a connection each.
    NewConnection,
}

impl Workload {
    pub(super) const ALL: [Self; 2] = [Self::KeptAlive, Self::NewConnection];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeptAlive => "1 KiB kept alive",
            Self::NewConnection => "new connection a request",
        }
    }
}

/// Asks `url` for `seconds`; gives the number of requests answered. Any failure is an error.
pub(super) fn run(
    client: &Host,
    url: &str,
    host: &str,
    workload: Workload,
    seconds: u32,
) -> Result<u64> {
    let mut wrk = client.command("wrk");
    wrk.args(["--threads=1", &format!("--connections={CONNECTIONS}")]);
    wrk.args([
        &format!("--duration={seconds}s"),
        "--header",
        &format!("Host: {host}"),
    ]);
    if workload == Workload::NewConnection {
        wrk.args(["--header", "Connection: close"]);
    }
    let output = wrk.arg(url).output().context("failed to start wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Non-2xx") {
        bail!(
            "wrk {url}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // Of socket errors, wrk counts a close that it asked for as one of reading.
    let mut lines = text.lines();
    let requests = lines.find_map(|line| line.trim().split_once(" requests in "));
    let (count, _) = requests.with_context(|| format!("wrk said nothing of requests: {text}"))?;
    let count: u64 = count.trim().parse()?;
    if count == 0 {
        bail!("no request was answered: {text}");
    }
    Ok(count)
}
