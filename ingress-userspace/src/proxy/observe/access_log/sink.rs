//! Where the lines of all workers go: one thread that writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::template::Template;

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
    lines: SyncSender<Lines>,
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
        let (lines, received) = sync_channel::<Lines>(BLOCKS_MAX);
        let (ending, ended) = sync_channel(1);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                for lines in received {
                    output.write(&lines.block[..lines.length]);
                    if lines.block.len() == BLOCK_BYTES {
                        // A worker whose channel is full has enough spare blocks.
                        let _ = lines.returns.try_send(lines.block);
                    }
                }
                let _ = ending.send(());
            })?;
        let log = Self {
            template: Arc::new(template),
            lines,
        };
        Ok((log, LogWriter { ended }))
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn send(&self, lines: Lines) -> Result<(), TrySendError<Lines>> {
        self.lines.try_send(lines)
    }
}

impl LogWriter {
    /// Waits until all is written, when no worker has the log any more. Not for ever: nobody may
    /// be reading what we write.
    pub fn finish(self, timeout: Duration) {
        if self.ended.recv_timeout(timeout).is_err() {
            tracing::warn!("failed to write the last lines of the access log");
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
            Target::Stdout => {
                widen(io::stdout().as_fd());
                None
            }
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
            tracing::warn!(%error, "failed to write the access log");
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
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    widen(file.as_fd());
    Ok(file)
}

/// Has a pipe hold two blocks, so that a block is written at once while the one before is read.
/// Whatever is no pipe stays as it is, and so does one whose size we may not change (pipe(7),
/// `/proc/sys/fs/pipe-max-size`).
fn widen(output: BorrowedFd<'_>) {
    if fcntl_getpipe_size(output).is_ok_and(|bytes| bytes < PIPE_BYTES) {
        let _ = fcntl_setpipe_size(output, PIPE_BYTES);
    }
}

/// Lines at the beginning of a block, on their way to the writer.
pub(crate) struct Lines {
    pub(crate) block: Box<[u8]>,
    /// Bytes of lines.
    pub(crate) length: usize,
    /// Where the block is used again.
    pub(crate) returns: SyncSender<Box<[u8]>>,
}

/// Bytes of lines that a worker collects; a block is larger for a line that is longer.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;

/// Blocks that wait for the writer: 4 MiB, unless lines are longer than a block.
const BLOCKS_MAX: usize = 32;

/// Of a pipe that we write to.
const PIPE_BYTES: usize = 2 * BLOCK_BYTES;

/// How often the writer looks whether its file is still the one of that name.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
