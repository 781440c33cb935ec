//! An open loop: requests at a rate, whether or not the last ones were answered in time.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::ask;
use ingress_tests::host::Host;
use ingress_tests::load::read_response;

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Requests that were answered.
    pub(super) answered: u64,
    /// Median microseconds from when a request was due to the end of its answer.
    pub(super) latency: f64,
}

/// Sends [`RATE`] GETs a second for so many seconds.
pub(super) fn run(client: &Host, to: (&str, u16), host: &str, seconds: u32) -> Result<Outcome> {
    let begin = Instant::now() + SETTLE;
    let threads = (0..CONNECTIONS).map(|number| {
        let stream = BufReader::new(ask::connect(client, to)?);
        let request = format!("GET /bytes/1024 HTTP/1.1\r\nHost: {host}\r\n\r\n");
        // Their turns are spread evenly, as those of many clients would be.
        let first = begin + Duration::from_secs(1) / RATE * number;
        client.spawn(move || repeat(stream, &request, first, RATE / CONNECTIONS * seconds))
    });
    let threads: Vec<_> = threads.collect::<Result<_>>()?;
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
    }
    times.sort();
    Ok(Outcome {
        answered: times.len() as u64,
        latency: times[times.len() / 2].as_secs_f64() * 1e6,
    })
}

fn repeat(
    mut stream: BufReader<TcpStream>,
    request: &str,
    first: Instant,
    count: u32,
) -> Result<Vec<Duration>> {
    let interval = Duration::from_secs(1) * CONNECTIONS / RATE;
    let mut times = Vec::with_capacity(count as usize);
    for number in 0..count {
        let due = first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.get_mut().write_all(request.as_bytes())?;
        read_response(&mut stream)?;
        times.push(due.elapsed());
    }
    Ok(times)
}

/// Requests a second.
const RATE: u32 = 5_000;
const CONNECTIONS: u32 = 20;
/// For all threads to be there when the first turn comes.
const SETTLE: Duration = Duration::from_millis(20);
