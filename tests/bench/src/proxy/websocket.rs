//! WebSockets whose messages come back: each of some connections sends one and waits for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use super::ask;
use crate::wrk::CONNECTIONS;
use ingress_tests::host::Host;

/// Echoes for `seconds`; gives the number of messages that came back.
pub(super) fn run(client: &Host, to: (&str, u16), host: &str, seconds: u32) -> Result<u64> {
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let threads = (0..CONNECTIONS).map(|_| {
        let (address, port, host) = (to.0.to_owned(), to.1, host.to_owned());
        let stream = ask::connect(client, (&address, port))?;
        client.spawn(move || echo(BufReader::new(stream), &host, end))
    });
    let threads: Vec<_> = threads.collect::<Result<_>>()?;
    let mut messages = 0;
    for thread in threads {
        messages += thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    Ok(messages)
}

fn echo(mut stream: BufReader<std::net::TcpStream>, host: &str, end: Instant) -> Result<u64> {
    // The key is RFC 6455's example.
    let request = format!(
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    ensure!(
        line.starts_with("HTTP/1.1 101"),
        "answered `{}`",
        line.trim()
    );
    while line != "\r\n" {
        line.clear();
        ensure!(stream.read_line(&mut line)? != 0, "the head has no end");
    }
    let mut messages = 0;
    let mut answer = [0; MESSAGE.len()];
    while Instant::now() < end {
        stream.get_mut().write_all(&MESSAGE)?;
        stream.read_exact(&mut answer)?;
        ensure!(answer == MESSAGE, "something else came back");
        messages += 1;
    }
    Ok(messages)
}

/// A masked text frame (RFC 6455 §5.2) of 64 bytes, with the mask 0.
const MESSAGE: [u8; 70] = {
    let mut frame = [b'x'; 70];
    frame[0] = 0x81;
    frame[1] = 0x80 | 64;
    let mut at = 2;
    while at < 6 {
        frame[at] = 0;
        at += 1;
    }
    frame
};
