//! `sluice tail`: the requests of the running daemon as they end.

use std::fmt::Write as _;
use std::io;

use anyhow::{Result, bail};
use http::Request;

use super::socket::{self, Lines};
use crate::admin::{TAIL, TAIL_FILTER};
use crate::api::{TailEvent, TailLine};
use crate::settings::{Output, Tail};

/// Writes the lines of requests that fit, until the daemon ends or `output` is closed.
///
/// # Errors
///
/// An error if the daemon cannot be reached, refuses another watcher, or ends.
pub async fn run(flags: &Tail, output: &mut impl io::Write) -> Result<()> {
    let filter = serde_json::to_vec(&flags.filter())?;
    let question = Request::get(TAIL).header(TAIL_FILTER, filter);
    let body = socket::open(&flags.run_dir.path(), question).await?;
    let mut answer = Lines::of(body);
    while let Some(lines) = answer.next().await? {
        match write(flags.output, &lines, output) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
    }
    bail!("the daemon ended")
}

fn write(format: Output, lines: &[u8], output: &mut impl io::Write) -> io::Result<()> {
    match format {
        Output::Json => output.write_all(lines)?,
        Output::Text => {
            for line in lines.split(|byte| *byte == b'\n') {
                if let Ok(event) = serde_json::from_slice(line) {
                    output.write_all(render(&event).as_bytes())?;
                }
            }
        }
    }
    output.flush()
}

fn render(event: &TailEvent) -> String {
    let line = match event {
        TailEvent::Dropped { requests } => {
            return format!(
                "-- {requests} more are not shown: they came faster than they were read\n"
            );
        }
        TailEvent::Request(line) => line,
    };
    let TailLine {
        time,
        client,
        scheme,
        method,
        host,
        path,
        status,
        seconds,
        service,
        endpoint,
        attempts,
        ..
    } = &**line;
    // The time of an RFC 3339 timestamp, in milliseconds.
    let time = time.split_once('T').map_or(&**time, |(_, time)| time);
    let time = time.get(..12).unwrap_or(time).trim_end_matches('Z');
    let milliseconds = seconds * 1_000.0;
    let url = printable(&format!("{scheme}://{host}{path}"));
    let mut text = format!(
        "{time:<12} {status} {milliseconds:>8.1} ms  {method} {url}  from {}",
        printable(client)
    );
    if let Some(endpoint) = endpoint {
        let _ = write!(text, " to {endpoint}");
    }
    if let Some(service) = service {
        let _ = write!(text, " ({service})");
    }
    if *attempts > 1 {
        let _ = write!(text, ", {attempts} attempts");
    }
    text + "\n"
}

/// What clients send, without the characters that a terminal obeys.
fn printable(text: &str) -> String {
    let escape = |character: char| -> String {
        if character.is_control() {
            character.escape_unicode().collect()
        } else {
            character.into()
        }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: TailLine) -> TailEvent {
        TailEvent::Request(Box::new(line))
    }

    fn line() -> TailLine {
        TailLine {
            time: "2026-01-02T03:04:05.678901234Z".to_owned(),
            client: "192.0.2.1".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/2.0".to_owned(),
            method: "GET".to_owned(),
            host: "one.test".to_owned(),
            path: "/a".to_owned(),
            status: 502,
            seconds: 0.0123,
            received: 1,
            sent: 2,
            ingress: None,
            service: Some("web/cart".to_owned()),
            endpoint: Some("10.0.0.1:80".parse().unwrap()),
            attempts: 2,
            node: None,
        }
    }

    #[test]
    fn a_line_names_request_client_and_endpoint() {
        assert_eq!(
            render(&request(line())),
            "03:04:05.678 502     12.3 ms  GET https://one.test/a  from 192.0.2.1 to 10.0.0.1:80 \
             (web/cart), 2 attempts\n"
        );
    }

    #[test]
    fn clients_cannot_write_to_the_terminal() {
        let path = "/\u{1b}[2J\u{9b}x\n".to_owned();
        let text = render(&request(TailLine { path, ..line() }));
        assert!(text.contains("/\\u{1b}[2J\\u{9b}x\\u{a}"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
