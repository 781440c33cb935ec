//! One question at a time, to see who answers.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use crate::host::Host;

/// Who answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The pod.
    pub(super) pod: String,
    /// When the request was there, by [`clock::now`](crate::clock::now).
    pub(super) at: u64,
}

/// What answers a request for `host`.
pub(super) fn pod(client: &Host, to: (&str, u16), host: &str) -> Result<Answer> {
    client.run(|| pod_here(to, host))?
}

/// Asks until this pod, or any, answers for `host`; gives when that request was there. It was
/// routed before, so that a change is live by then.
pub(super) fn until_answered_by(
    client: &Host,
    to: (&str, u16),
    host: &str,
    wanted: Option<&str>,
) -> Result<u64> {
    let is_it = |answer: &Answer| wanted.is_none_or(|wanted| answer.pod == wanted);
    let found = || match repeatedly(|| pod_here(to, host).ok().filter(is_it)) {
        Some(answer) => Ok(answer.at),
        None => Err(pod_here(to, host).map_or_else(
            |error| error.context(format!("{host} is not served")),
            |answer| anyhow!("{host} is still served by {}", answer.pod),
        )),
    };
    client.run(found)?
}

/// Asks until no pod answers for `host`.
pub(super) fn until_gone(client: &Host, to: (&str, u16), host: &str) -> Result<()> {
    let gone = client.run(|| repeatedly(|| pod_here(to, host).err()))?;
    gone.map(drop)
        .with_context(|| format!("{host} is still served"))
}

/// What comes of a question at last.
fn repeatedly<T>(ask: impl Fn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LIVE_MAX;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        // Who makes the change has the same core.
        thread::sleep(BETWEEN_QUESTIONS);
    }
}

/// What answers where this thread is.
fn pod_here(to: (&str, u16), host: &str) -> Result<Answer> {
    let mut stream = connect_here(to)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    // Chunked or not: a report is one line in braces.
    let report = answer.find('{').zip(answer.rfind('}'));
    let (first, last) = report.context("no report was answered")?;
    let report: Value = serde_json::from_str(&answer[first..=last])?;
    let pod = report["pod"].as_str().context("no pod answered")?;
    let at = report["at_ns"].as_u64().context("no time was told")?;
    let pod = pod.to_owned();
    Ok(Answer { pod, at })
}

/// Whether somebody listens.
pub(super) fn connects(client: &Host, to: (&str, u16)) -> bool {
    connect(client, to).is_ok()
}

/// A connection from `client`.
pub(super) fn connect(client: &Host, to: (&str, u16)) -> Result<TcpStream> {
    client.run(|| connect_here(to))?
}

fn connect_here((address, port): (&str, u16)) -> Result<TcpStream> {
    let to = SocketAddr::new(address.parse::<IpAddr>()?, port);
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

const BETWEEN_QUESTIONS: Duration = Duration::from_micros(100);
const LIVE_MAX: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_secs(2);
