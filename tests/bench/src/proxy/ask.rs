//! Questions, to see who answers.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use ingress_tests::host::Host;
use ingress_tests::load::Reply;

/// Who answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The pod.
    pub(super) pod: String,
    /// When the request was there, by [`clock::now`](ingress_tests::clock::now).
    pub(super) at: u64,
}

/// What answers a request for `host`.
pub(super) fn pod(client: &Host, to: (&str, u16), host: &str) -> Result<Answer> {
    client.run(|| pod_here(to, host))?
}

/// Asks until this pod answers for `host`; gives when that request was there. It was routed before,
/// so that a change is live by then.
pub(super) fn until_answered_by(
    client: &Host,
    to: (&str, u16),
    host: &str,
    wanted: &str,
) -> Result<u64> {
    let is_it = |answer: &Answer| answer.pod == wanted;
    let found = || match repeatedly(|| pod_here(to, host).ok().filter(is_it)) {
        Some(answer) => Ok(answer.at),
        None => Err(pod_here(to, host).map_or_else(
            |error| error.context(format!("{host} is not served")),
            |answer| anyhow!("{host} is still served by {}", answer.pod),
        )),
    };
    client.run(found)?
}

/// Several clients that ask for one host all the time, whether it is there or not: a question is
/// on its way at any moment, so that the first which a pod gets tells when a host came, and not
/// when somebody had the time to ask.
pub(super) struct Questions {
    /// When each of those that a pod answered was there, by [`clock::now`](ingress_tests::clock::now).
    answered: Receiver<u64>,
    is_over: Arc<AtomicBool>,
}

impl Questions {
    /// Begins; the clients end when this is dropped.
    pub(super) fn begin(client: &Host, (address, port): (&str, u16), host: &str) -> Result<Self> {
        let (answers, answered) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..CLIENTS {
            let (answers, address, host) = (answers.clone(), address.to_owned(), host.to_owned());
            let is_over = Arc::clone(&is_over);
            client.spawn(move || {
                let mut client = Client::new((&address, port), &host);
                while !is_over.load(Ordering::Relaxed) {
                    match client.ask() {
                        // It is over if nobody hears of it.
                        Ok(Some(at)) => drop(answers.send(at)),
                        Ok(None) => {}
                        Err(_) => thread::sleep(BETWEEN_QUESTIONS),
                    }
                }
            })?;
        }
        Ok(Self { answered, is_over })
    }

    /// Waits until a pod gets one, and gives when it was there.
    pub(super) fn until_answered(&self) -> Result<u64> {
        let at = self.answered.recv_timeout(LIVE_MAX);
        at.context("the new host is not served")
    }

    /// Waits until no pod has got one for a while.
    pub(super) fn until_gone(&self) -> Result<()> {
        let end = Instant::now() + LIVE_MAX;
        while self.answered.recv_timeout(QUIET).is_ok() {
            ensure!(Instant::now() < end, "the old host is still served");
        }
        Ok(())
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// One who asks, on one connection as long as that goes on.
struct Client<'a> {
    to: (&'a str, u16),
    request: String,
    stream: Option<BufReader<TcpStream>>,
}

impl<'a> Client<'a> {
    fn new(to: (&'a str, u16), host: &str) -> Self {
        Self {
            to,
            request: format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            stream: None,
        }
    }

    /// When a pod got it, if one did.
    fn ask(&mut self) -> Result<Option<u64>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect_here(self.to)?),
        };
        stream.get_mut().write_all(self.request.as_bytes())?;
        let reply = Reply::read(&mut stream)?;
        if reply.may_go_on {
            self.stream = Some(stream);
        }
        let report = serde_json::from_slice::<Value>(&reply.body).ok();
        Ok(report.and_then(|report| report["at_ns"].as_u64()))
    }
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

/// Few beside the load, as it may not wait for them.
const CLIENTS: usize = 4;
const QUIET: Duration = Duration::from_millis(100);
const BETWEEN_QUESTIONS: Duration = Duration::from_micros(100);
const LIVE_MAX: Duration = Duration::from_mins(2);
const PATIENCE: Duration = Duration::from_secs(2);
