//! Load with a judgement: every request has to be answered with 200 and its whole body.
//!
//! Blocking sockets, a thread for each connection: slow, simple, and honest about each failure.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::host::Host;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Value of the Host header.
    pub host: String,
    /// Path.
    pub path: String,
    /// Connections at once.
    pub connections: usize,
    /// Whether a connection carries more than one request.
    pub reuse: Reuse,
    /// Requests a second of all connections together; none is as many as there can be.
    pub rate: Option<u32>,
}

/// How many requests a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As many as it can.
    KeepAlive,
    /// One.
    NewConnection,
}

/// Load that runs until it is told to stop.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Outcome>>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered as they should be.
    pub answered: u64,
    /// What went wrong with the others.
    pub failures: Vec<String>,
    /// How long the one took that took longest, whatever came of it.
    pub slowest: Duration,
}

impl Plan {
    /// GETs of `/bytes/1024` over kept-alive connections.
    pub fn kept_alive(address: &str, host: &str) -> Result<Self> {
        Ok(Self {
            address: SocketAddr::new(address.parse::<IpAddr>()?, 80),
            host: host.to_owned(),
            path: "/bytes/1024".to_owned(),
            connections: 4,
            reuse: Reuse::KeepAlive,
            rate: None,
        })
    }

    /// Starts it from `client`.
    pub fn start(&self, client: &Host) -> Result<Running> {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = (0..self.connections)
            .map(|_| {
                let (plan, stop, answered) =
                    (self.clone(), Arc::clone(&stop), Arc::clone(&answered));
                client.spawn(move || plan.repeat(&stop, &answered))
            })
            .collect::<Result<_>>()?;
        Ok(Running {
            stop,
            answered,
            threads,
        })
    }

    fn repeat(&self, stop: &AtomicBool, answered: &AtomicU64) -> Outcome {
        let mut outcome = Outcome::default();
        let mut connection = None;
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) && outcome.failures.len() < FAILURES_MAX {
            if let Some(rate) = self.rate {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due += Duration::from_secs(1) * u32::try_from(self.connections).unwrap_or(1) / rate;
            }
            let begun = Instant::now();
            match self.request(&mut connection) {
                Ok(()) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                    outcome.answered += 1;
                }
                Err(error) => {
                    outcome.failures.push(error.to_string());
                    connection = None;
                }
            }
            outcome.slowest = outcome.slowest.max(begun.elapsed());
        }
        outcome
    }

    fn request(&self, connection: &mut Option<BufReader<TcpStream>>) -> io::Result<()> {
        let mut stream = match connection.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        let close = match self.reuse {
            Reuse::KeepAlive => "",
            Reuse::NewConnection => "Connection: close\r\n",
        };
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n{close}\r\n",
            self.path, self.host
        );
        stream.get_mut().write_all(head.as_bytes())?;
        let may_go_on = read_response(&mut stream)?;
        if self.reuse == Reuse::KeepAlive && may_go_on {
            *connection = Some(stream);
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

impl Running {
    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome::default();
        for thread in self.threads {
            let part = thread.join();
            outcome.add(part.map_err(|_| anyhow!("a load thread panicked"))?);
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Counts what came of other load at the same time.
    pub fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Reads one response, and returns whether the connection may carry another; an error for any status but 200.
pub fn read_response(stream: &mut BufReader<TcpStream>) -> io::Result<bool> {
    let reply = Reply::read(stream)?;
    if !reply.status_line.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(format!(
            "answered `{}`",
            reply.status_line
        )));
    }
    Ok(reply.may_go_on)
}

/// A response of HTTP/1.1 with a `Content-Length`.
pub struct Reply {
    /// The status line without its end.
    pub status_line: String,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the connection may carry another.
    pub may_go_on: bool,
}

impl Reply {
    /// Reads one; an error if it has no length, or ends before it is whole.
    pub fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Self> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status_line = line.trim().to_owned();
        let mut length = None;
        let mut may_go_on = true;
        loop {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            may_go_on &= header != "connection: close";
        }
        let length: usize = length.ok_or_else(|| io::Error::other("no content-length"))?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(Self {
            status_line,
            body,
            may_go_on,
        })
    }
}

/// Longer than a request may take that goes from an endpoint that has gone to another one.
const PATIENCE: Duration = Duration::from_secs(20);
const FAILURES_MAX: usize = 20;
