//! Keeps a connection to one node: opens it, carries lines both ways, and opens it again when it ended.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::Nodes;
use super::lines::{Broken, Lines};
use crate::api::NodeRequest;

/// Opens a connection to a node.
pub type Dial = Box<dyn Fn() -> io::Result<Connection> + Send + Sync>;

/// A connection to a node. The command behind it ends when it is dropped.
pub struct Connection {
    /// Takes requests.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Gives lines.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Gives the words of a command that fails.
    pub complaints: Box<dyn AsyncRead + Send + Unpin>,
    /// The command, if there is one; it has `kill_on_drop`.
    pub process: Option<Child>,
}

/// Keeps a connection until it is aborted.
pub(super) async fn keep(nodes: Arc<Nodes>, name: String, dial: Dial) {
    let mut pause = PAUSE_MIN;
    loop {
        let begun = Instant::now();
        let reason = match dial() {
            Ok(connection) => carry(&nodes, &name, connection).await,
            Err(error) => Ended::Lost(format!("failed to start the command: {error}")),
        };
        if begun.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        let (reason, pause_now) = match reason {
            Ended::Lost(reason) => (reason, pause),
            Ended::CutOff(reason) => (reason, PAUSE_AFTER_FLOOD),
        };
        nodes.lose(&name, reason);
        sleep(pause_now).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How a connection ended.
enum Ended {
    Lost(String),
    /// The node sent a line that no daemon sends.
    CutOff(String),
}

async fn carry(nodes: &Nodes, name: &str, connection: Connection) -> Ended {
    let Connection {
        input,
        output,
        complaints,
        process: _process,
    } = connection;
    let words = Arc::new(Mutex::new(Vec::new()));
    let mut collecting = JoinSet::new();
    collecting.spawn(collect(complaints, Arc::clone(&words)));
    let (sender, requests) = mpsc::channel(REQUESTS_MAX);
    let mut sender = Some(sender);
    let reading = async {
        let mut lines = Lines::new(output);
        let mut patience = FIRST_LINE_TIME_MAX;
        loop {
            let line = match timeout(patience, lines.next()).await {
                Ok(Ok(line)) => line,
                Ok(Err(Broken::Flood(text))) => {
                    return Ended::CutOff(Broken::Flood(text).to_string());
                }
                Ok(Err(broken)) => return Ended::Lost(broken.to_string()),
                Err(_) => return Ended::Lost(format!("no answer in {} s", patience.as_secs())),
            };
            if line.is_empty() {
                continue;
            }
            let Ok(line) = serde_json::from_slice(&line) else {
                return Ended::CutOff("cut off, because its answer is not understood".to_owned());
            };
            if let Some(sender) = sender.take() {
                nodes.open(name, sender);
                patience = LINE_TIME_MAX;
            }
            if let Err(reason) = nodes.take(name, line) {
                return Ended::CutOff(reason);
            }
        }
    };
    let ended = tokio::select! {
        ended = reading => ended,
        error = write(input, nodes.pace.subscribe(), requests) => {
            Ended::Lost(format!("lost the connection: {error}"))
        }
    };
    match ended {
        Ended::Lost(reason) => {
            // The command has ended, and its last words may still be on their way.
            let _ = timeout(WORDS_TIME_MAX, collecting.join_next()).await;
            Ended::Lost(last_words(&words).unwrap_or(reason))
        }
        ended @ Ended::CutOff(_) => ended,
    }
}

/// Writes requests, and the pace every few seconds. Returns why it could not.
async fn write(
    mut input: Box<dyn AsyncWrite + Send + Unpin>,
    mut pace: watch::Receiver<u64>,
    mut requests: mpsc::Receiver<NodeRequest>,
) -> io::Error {
    let mut repeats = interval(PACE_INTERVAL);
    loop {
        let request = tokio::select! {
            Some(request) = requests.recv() => request,
            _ = repeats.tick() => NodeRequest::Pace { seconds: *pace.borrow_and_update() },
            Ok(()) = pace.changed() => NodeRequest::Pace { seconds: *pace.borrow_and_update() },
        };
        let Ok(mut line) = serde_json::to_vec(&request) else {
            continue;
        };
        line.push(b'\n');
        let written = async {
            input.write_all(&line).await?;
            input.flush().await
        };
        if let Err(error) = written.await {
            return error;
        }
    }
}

/// Keeps the last words of a command.
async fn collect(mut complaints: Box<dyn AsyncRead + Send + Unpin>, words: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; WORDS_BYTES_MAX];
    while let Ok(read @ 1..) = complaints.read(&mut buffer).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&buffer[..read]);
        let surplus = words.len().saturating_sub(WORDS_BYTES_MAX);
        words.drain(..surplus);
    }
}

/// The last line that a command wrote, without characters that a terminal obeys.
fn last_words(words: &Mutex<Vec<u8>>) -> Option<String> {
    let words = words.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&words);
    let lines = text.lines().map(str::trim);
    // kubectl adds this line to the words of the command itself.
    let mut lines =
        lines.filter(|line| !line.is_empty() && !line.starts_with("command terminated"));
    let line = lines.next_back()?;
    let text = line.chars().filter(|character| !character.is_control());
    Some(text.take(REASON_CHARACTERS_MAX).collect())
}

/// Requests that wait for a node.
const REQUESTS_MAX: usize = 64;
/// How long the first line may take: a connection through the API server is opened meanwhile.
const FIRST_LINE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a line may take: nodes send one a second.
const LINE_TIME_MAX: Duration = Duration::from_secs(15);
/// Interval between lines to a node. The node ends its command after three intervals without a line.
const PACE_INTERVAL: Duration = Duration::from_secs(5);
/// Pauses before a connection is opened again.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
const PAUSE_AFTER_FLOOD: Duration = Duration::from_mins(1);
/// How long the last words of a command are waited for.
const WORDS_TIME_MAX: Duration = Duration::from_millis(500);
const WORDS_BYTES_MAX: usize = 4 << 10;
const REASON_CHARACTERS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_is_the_last_line_that_says_something() {
        let words = |text: &str| last_words(&Mutex::new(text.as_bytes().to_vec()));
        assert_eq!(words(""), None);
        let text = "warning: x\nerror: unrecognized\u{1b}[2J subcommand\n\ncommand terminated with exit code 2\n";
        assert_eq!(words(text).unwrap(), "error: unrecognized[2J subcommand");
        assert_eq!(
            words(&"x".repeat(9_000)).unwrap().len(),
            REASON_CHARACTERS_MAX
        );
    }
}
