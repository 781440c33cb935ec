//! One question at a time, to see who answers.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
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
    let mut stream = connect(client, to)?;
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
pub(super) fn connect(client: &Host, (address, port): (&str, u16)) -> Result<TcpStream> {
    let to = SocketAddr::new(address.parse::<IpAddr>()?, port);
    let stream = client.run(|| TcpStream::connect_timeout(&to, PATIENCE))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

const PATIENCE: Duration = Duration::from_secs(2);
