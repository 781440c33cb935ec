//! A steady flow of requests, each on a connection of its own, and what became of each.
//!
//! When an address moves to another node, packets of connections that are open at that instant come to a
//! node that does not know them, which resets them. A client repeats such a request once if nothing of a
//! response has come (RFC 9110, section 9.2.2); everything else that fails is lost.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use ingress_tests::host::Host;

/// Requests that go on until they are told to stop.
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Outcome>>,
    began: Instant,
}

/// What became of the requests.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Answered with 200 and the whole body.
    pub(crate) answered: u64,
    /// Of these, answered after their first connection was reset.
    pub(crate) repeated: u64,
    /// When each request ended that was not answered, and why.
    pub(crate) lost: Vec<(Instant, String)>,
    /// Requests a second.
    pub(crate) rate: f64,
}

impl Flow {
    /// Starts it, from a client to each of these addresses in turn.
    pub(crate) fn start(client: &Host, to: &[&str]) -> Result<Self> {
        let to: Vec<IpAddr> = to
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        let (stop, answered) = (Arc::default(), Arc::default());
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (to, stop, answered) = (to.clone(), Arc::clone(&stop), Arc::clone(&answered));
            let start = Instant::now() + PERIOD * number / THREADS;
            threads.push(client.spawn(move || repeat(&to, start, &stop, &answered))?);
        }
        Ok(Self {
            stop,
            answered,
            threads,
            began: Instant::now(),
        })
    }

    /// Waits for this many more answers.
    pub(crate) fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        ingress_tests::rig::wait_until("requests to be answered", || {
            Ok(self.answered.load(Ordering::Relaxed) >= goal)
        })
    }

    /// Ends it.
    pub(crate) fn stop(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome::default();
        for thread in self.threads {
            let part = thread.join().map_err(|_| anyhow!("a thread panicked"))?;
            outcome.answered += part.answered;
            outcome.repeated += part.repeated;
            outcome.lost.extend(part.lost);
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let answered = outcome.answered as f64;
        outcome.rate = answered / self.began.elapsed().as_secs_f64();
        Ok(outcome)
    }
}

impl Outcome {
    /// How long after this instant requests were lost.
    pub(crate) fn outage_after(&self, instant: Instant) -> Duration {
        let ends = self.lost.iter().map(|(end, _)| *end);
        ends.max().map_or(Duration::ZERO, |last| {
            last.saturating_duration_since(instant)
        })
    }
}

fn repeat(to: &[IpAddr], start: Instant, stop: &AtomicBool, answered: &AtomicU64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut due = start;
    for ip in to.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What was late is not made up for: the rate is an upper bound.
        due = Instant::now().max(due) + PERIOD;
        let address = SocketAddr::new(*ip, 80);
        let mut result = request(address);
        let is_reset = matches!(&result, Err(Failure::Reset(_)));
        if is_reset {
            result = request(address);
        }
        match result {
            Ok(()) => {
                outcome.answered += 1;
                outcome.repeated += u64::from(is_reset);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(Failure::Reset(error) | Failure::Other(error)) => {
                outcome.lost.push((Instant::now(), error.to_string()));
            }
        }
    }
    outcome
}

enum Failure {
    /// The connection was open, and was reset before anything of a response came.
    Reset(io::Error),
    Other(io::Error),
}

fn request(address: SocketAddr) -> Result<(), Failure> {
    let connected = TcpStream::connect_timeout(&address, PATIENCE);
    let mut stream = connected.map_err(Failure::Other)?;
    let mut response = Vec::new();
    let mut exchange = || -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(HEAD)?;
        stream.read_to_end(&mut response)?;
        Ok(())
    };
    let outcome = exchange();
    // The response ends by its length, however the connection ends.
    if response.starts_with(b"HTTP/1.1 200 ") && body_of(&response) == BODY {
        return Ok(());
    }
    match outcome {
        Err(error) if response.is_empty() && is_reset(&error) => Err(Failure::Reset(error)),
        outcome => {
            let what = format!("{outcome:?} after {} bytes", response.len());
            Err(Failure::Other(io::Error::other(what)))
        }
    }
}

/// Bytes of the body of a response.
fn body_of(response: &[u8]) -> usize {
    let head = response.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    head.map_or(0, |end| response.len() - end - 4)
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

const THREADS: u32 = 8;
/// Of each thread: 2,000 requests a second in all.
const PERIOD: Duration = Duration::from_millis(4);
/// A client that waits longer has noticed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the body.
const BODY: usize = 1024;
const HEAD: &[u8] = b"GET /bytes/1024 HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";
