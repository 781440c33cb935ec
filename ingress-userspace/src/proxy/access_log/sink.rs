//! Where lines go: a buffer on each worker, and one thread that writes them all.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::entry::{Entry, Outcome};
use super::line;
use super::template::Template;
use super::time::Clock;
use crate::proxy::counters::Counters;

/// Where lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// The end of this file, which may be moved away by whoever rotates it.
    File(PathBuf),
}

/// The access log, as each worker gets it. The writer ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct AccessLog {
    template: Arc<Template>,
    lines: SyncSender<Vec<u8>>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct LogWriter {
    ended: Receiver<()>,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    pub fn start(template: Template, target: Target) -> io::Result<(Self, LogWriter)> {
        let mut output = Output::open(target)?;
        let (lines, received) = sync_channel::<Vec<u8>>(BUFFERS_MAX);
        let (ending, ended) = sync_channel(1);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                for lines in received {
                    output.write(&lines);
                }
                let _ = ending.send(());
            })?;
        let log = Self {
            template: Arc::new(template),
            lines,
        };
        Ok((log, LogWriter { ended }))
    }
}

impl LogWriter {
    /// Waits until all is written, when no worker has the log any more. Not for ever: nobody may
    /// be reading what we write.
    pub fn finish(self, patience: Duration) {
        if self.ended.recv_timeout(patience).is_err() {
            tracing::warn!("the access log can't be written to its end");
        }
    }
}

/// What is written to.
struct Output {
    target: Target,
    file: Option<File>,
    looked_at: Instant,
    has_failed: bool,
}

impl Output {
    fn open(target: Target) -> io::Result<Self> {
        let file = match &target {
            Target::Stdout => None,
            Target::File(path) => Some(append(path)?),
        };
        Ok(Self {
            target,
            file,
            looked_at: Instant::now(),
            has_failed: false,
        })
    }

    fn write(&mut self, lines: &[u8]) {
        self.follow();
        let outcome = match &mut self.file {
            Some(file) => file.write_all(lines),
            None => io::stdout().lock().write_all(lines),
        };
        if let Err(error) = &outcome
            && !self.has_failed
        {
            tracing::warn!(%error, "the access log can't be written");
        }
        self.has_failed = outcome.is_err();
    }

    /// Opens the file anew where it has been moved away.
    fn follow(&mut self) {
        let (Target::File(path), Some(file)) = (&self.target, &self.file) else {
            return;
        };
        if self.looked_at.elapsed() < LOOK_INTERVAL {
            return;
        }
        self.looked_at = Instant::now();
        let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let is_same = file.metadata().map(identity).ok() == path.metadata().map(identity).ok();
        if !is_same && let Ok(opened) = append(path) {
            self.file = Some(opened);
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The lines of one worker that are not handed over yet.
pub(in super::super) struct LogBuffer {
    log: AccessLog,
    counters: Arc<Counters>,
    lines: RefCell<Vec<u8>>,
    count: Cell<u64>,
    clock: RefCell<Clock>,
    begun: Notify,
}

impl LogBuffer {
    pub(in super::super) fn new(log: AccessLog, counters: Arc<Counters>) -> Self {
        Self {
            log,
            counters,
            lines: RefCell::default(),
            count: Cell::new(0),
            clock: RefCell::default(),
            begun: Notify::new(),
        }
    }

    pub(super) fn template(&self) -> &Template {
        &self.log.template
    }

    /// Adds the line of a request that has just ended.
    pub(in super::super) fn push(&self, entry: &Entry, outcome: &Outcome<'_>, now: Instant) {
        let mut clock = self.clock.borrow_mut();
        let now = clock.follow(now);
        let mut lines = self.lines.borrow_mut();
        if lines.is_empty() {
            lines.reserve(BUFFER_BYTES);
            self.begun.notify_one();
        }
        line::push(self.template(), entry, outcome, &clock, now, &mut lines);
        self.count.set(self.count.get() + 1);
        let is_full = lines.len() >= BUFFER_BYTES - BUFFER_BYTES / 8;
        drop(lines);
        if is_full {
            self.flush();
        }
    }

    /// Hands over what there is, or drops it if the writer has too much.
    pub(in super::super) fn flush(&self) {
        let lines = self.lines.take();
        let count = self.count.take();
        if lines.is_empty() {
            return;
        }
        match self.log.lines.try_send(lines) {
            Ok(()) => self.counters.log_lines.add(count),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.log_lines_dropped.add(count);
            }
        }
    }

    /// Flushes a while after the first line, again and again.
    pub(in super::super) async fn run(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(FLUSH_DELAY).await;
            self.flush();
        }
    }
}

/// Bytes of lines that a worker collects.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that wait for the writer: 4 MiB.
const BUFFERS_MAX: usize = 64;

/// How late a line may be.
const FLUSH_DELAY: Duration = Duration::from_millis(100);

/// How often the writer looks whether its file is still the one of that name.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
