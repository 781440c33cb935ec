//! `sluice dashboard feed`: one node's part of a dashboard of several nodes. It reads requests from
//! standard input and writes lines to standard output ([`NodeRequest`], [`NodeLine`]).
//!
//! Invariant: it opens no listener, only reads from the daemon, and ends when its input ends, or when no
//! request came for [`LEASE`]: a lost connection leaves no process behind.

use std::collections::HashMap;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::Request;
use ingress_core::tail::TailFilter;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::look::looks;
use crate::admin::{CERTIFICATES, ENDPOINTS, ROUTES, TAIL, TAIL_FILTER};
use crate::api::{NodeLine, NodeRequest, TailEvent};
use crate::cli::explain;
use crate::cli::socket::{self, Lines};
use crate::dashboard::question;

/// Serves standard input and output.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub(super) async fn run(run_dir: &Path) -> Result<()> {
    let (requests, asked) = mpsc::channel(LINES_WAITING_MAX);
    let (lines, mut told) = mpsc::channel::<NodeLine>(LINES_WAITING_MAX);
    // Threads, because pipes may block: the lease ends the process then.
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let read = (&mut input)
                .take(REQUEST_BYTES_MAX)
                .read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) || requests.blocking_send(line).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut output = io::stdout().lock();
        while let Some(line) = told.blocking_recv() {
            let written = text(&line).and_then(|text| output.write_all(&text));
            if written.and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    serve(run_dir, asked, lines).await
}

/// A line as it is written.
pub(super) fn text(line: &NodeLine) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

/// Answers requests until the input ends.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub(super) async fn serve(
    run_dir: &Path,
    requests: mpsc::Receiver<Vec<u8>>,
    lines: mpsc::Sender<NodeLine>,
) -> Result<()> {
    let (pace, paced) = watch::channel(None);
    tokio::select! {
        outcome = looks(run_dir, paced, lines.clone()) => outcome,
        () = answer(run_dir, requests, pace, &lines) => Ok(()),
        () = lines.closed() => Ok(()),
    }
}

async fn answer(
    run_dir: &Path,
    mut requests: mpsc::Receiver<Vec<u8>>,
    pace: watch::Sender<Option<Duration>>,
    lines: &mpsc::Sender<NodeLine>,
) {
    let mut questions = JoinSet::new();
    let mut tails = JoinSet::new();
    let mut followed = HashMap::new();
    while let Ok(Some(request)) = timeout(LEASE, requests.recv()).await {
        while questions.try_join_next().is_some() {}
        while tails.try_join_next().is_some() {}
        // A later version may ask for what this one does not know.
        let Ok(request) = serde_json::from_slice(&request) else {
            continue;
        };
        let lines = lines.clone();
        let run_dir = run_dir.to_owned();
        match request {
            NodeRequest::Pace { seconds } => {
                let interval = Duration::from_secs(seconds.clamp(1, PACE_SECONDS_MAX));
                pace.send_replace(Some(interval));
            }
            NodeRequest::Ask {
                number,
                resource,
                query,
            } if questions.len() < QUESTIONS_MAX => {
                questions.spawn(async move {
                    let line = match ask(&run_dir, &resource, &query).await {
                        Ok(value) => NodeLine::Answer { number, value },
                        Err(error) => refusal(number, &error),
                    };
                    // The view has left if this fails.
                    let _ = lines.send(line).await;
                });
            }
            NodeRequest::Tail { number, filter } if tails.len() < TAILS_MAX => {
                let tail = tails.spawn(async move {
                    if let Err(error) = follow(&run_dir, number, &filter, &lines).await {
                        let _ = lines.send(refusal(number, &error)).await;
                    }
                });
                followed.insert(number, tail);
            }
            NodeRequest::Untail { number } => {
                if let Some(tail) = followed.remove(&number) {
                    tail.abort();
                }
            }
            NodeRequest::Ask { number, .. } | NodeRequest::Tail { number, .. } => {
                let reason = "too many questions at once".to_owned();
                let _ = lines.send(NodeLine::Refusal { number, reason }).await;
            }
        }
    }
}

fn refusal(number: u64, error: &anyhow::Error) -> NodeLine {
    let reason = format!("{error:#}");
    NodeLine::Refusal { number, reason }
}

async fn ask(run_dir: &Path, resource: &str, query: &str) -> Result<Value> {
    let path = match resource {
        "routes" => ROUTES,
        "endpoints" => ENDPOINTS,
        "certificates" => CERTIFICATES,
        "explain" => {
            let question = question(query).map_err(anyhow::Error::msg)?;
            let explanation = explain::of_daemon(run_dir, &question).await?;
            return Ok(serde_json::to_value(explanation)?);
        }
        _ => bail!("this version does not know the resource `{resource}`"),
    };
    let json = socket::fetch(run_dir, Request::get(path)).await?;
    serde_json::from_slice(&json).context("the daemon returned invalid JSON")
}

/// Sends requests as they end, at most [`TAIL_LINES_MAX`] each [`TAIL_INTERVAL`].
async fn follow(
    run_dir: &Path,
    number: u64,
    filter: &TailFilter,
    lines: &mpsc::Sender<NodeLine>,
) -> Result<()> {
    let question = Request::get(TAIL).header(TAIL_FILTER, serde_json::to_vec(filter)?);
    let mut answer = Lines::of(socket::open(run_dir, question).await?);
    let mut ended = Vec::new();
    let mut dropped = 0;
    let mut ticks = interval(TAIL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            text = answer.next() => {
                let text = text?.context("the daemon ended")?;
                for line in text.split(|byte| *byte == b'\n') {
                    match serde_json::from_slice(line) {
                        Ok(TailEvent::Request(line)) if ended.len() < TAIL_LINES_MAX => {
                            ended.push(*line);
                        }
                        Ok(TailEvent::Request(_)) => dropped += 1,
                        Ok(TailEvent::Dropped { requests }) => dropped += requests,
                        Err(_) => {}
                    }
                }
            }
            _ = ticks.tick(), if !ended.is_empty() || dropped > 0 => {
                let lines_now = std::mem::take(&mut ended);
                let line = NodeLine::Requests { number, lines: lines_now, dropped };
                dropped = 0;
                lines.send(line).await?;
            }
        }
    }
}

/// Without a request for so long, the view is gone.
const LEASE: Duration = Duration::from_secs(20);
/// Bytes of a request: a question with its header fields.
pub(super) const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Lines that wait to be read or written.
const LINES_WAITING_MAX: usize = 8;
/// The longest time between two looks, in seconds.
const PACE_SECONDS_MAX: u64 = 60;
/// Questions at the same time.
const QUESTIONS_MAX: usize = 16;
/// Tails at the same time; the daemon allows fewer.
const TAILS_MAX: usize = 16;
/// Between two lines of requests.
const TAIL_INTERVAL: Duration = Duration::from_millis(250);
/// Requests of one line: 200 a second, as many as a page shows.
const TAIL_LINES_MAX: usize = 50;
