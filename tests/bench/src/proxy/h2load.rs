//! The load generator for HTTP/2 and gRPC: h2load, one thread, on a host of the rig.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::wrk::{CONNECTIONS, GRACE_SECONDS};
use ingress_tests::host::Host;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// GETs over HTTP/2, many at a time on each connection.
    Http2,
    /// gRPC calls with a small message, many at a time on each connection.
    Grpc,
}

/// Asks `host` for a path for `seconds`; gives the number of requests answered. Any failure is an error.
pub(super) fn run(
    client: &Host,
    kind: Kind,
    (address, path): (SocketAddr, &str),
    host: &str,
    files: &Path,
    seconds: u32,
) -> Result<u64> {
    let mut command = client.command("timeout");
    command.args([
        &(seconds + GRACE_SECONDS).to_string(),
        "h2load",
        "--threads=1",
    ]);
    command.arg(format!("--duration={seconds}"));
    command.arg(format!("--clients={CONNECTIONS}"));
    command.arg(format!("--max-concurrent-streams={STREAMS}"));
    if kind == Kind::Grpc {
        let message = files.join("message");
        fs::write(&message, MESSAGE)?;
        command.arg("--data").arg(message);
        command.args(["--header", "content-type: application/grpc"]);
        command.args(["--header", "te: trailers"]);
    }
    let url = format!("http://{host}/{path}");
    command.arg(format!("--connect-to={address}")).arg(&url);
    let output = command.output().context("failed to start h2load")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answered = answered(&text)?;
    if !output.status.success() || answered == 0 {
        bail!(
            "h2load {url}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(answered)
}

/// Requests that h2load counts as answered by a status of 2xx; an error if there was any other.
fn answered(text: &str) -> Result<u64> {
    let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let numbers = |line: &str| -> Vec<u64> {
        let words = line.split([' ', ',']);
        words.filter_map(|word| word.parse().ok()).collect()
    };
    // total, started, done, succeeded, failed, errored, timed out
    let requests = find("requests:").map(numbers).unwrap_or_default();
    // 2xx, 3xx, 4xx, 5xx: each with its name
    let codes = find("status codes:").map(numbers).unwrap_or_default();
    match (&requests[..], &codes[..]) {
        ([_, _, done, succeeded, ..], [good, ..]) if done == succeeded && good >= done => Ok(*done),
        _ => bail!("h2load: {text}"),
    }
}

/// Not compressed, 16 bytes: a field with 14 bytes of text.
const MESSAGE: &[u8] = b"\0\0\0\0\x10\x0a\x0efourteen bytes";
const STREAMS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2load_output_is_parsed() -> Result<()> {
        let text = |failed| {
            format!(
                "requests: 90 total, 95 started, 90 done, {} succeeded, {failed} failed, 0 errored, \
                 0 timeout\nstatus codes: 90 2xx, 0 3xx, 0 4xx, 0 5xx\n",
                90 - failed
            )
        };
        assert_eq!(answered(&text(0))?, 90);
        assert!(answered(&text(1)).is_err());
        assert!(answered("").is_err());
        Ok(())
    }
}
