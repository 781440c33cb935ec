//! Tells when the files changed: inotify on a thread of its own.
//!
//! Directories are watched, not files, because editors and `ConfigMap` volumes replace
//! files instead of writing into them; those that symbolic links lead to are watched too. A file counts
//! as written when its writer closes it, and counts as it is when it stays so for a moment: a file
//! that is being written is not seen half. inotify rather than a portable watcher: Linux only, and
//! `rustix` is here already.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tracing::{error, warn};

use super::{Loaded, Manifests};

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(
        manifests: Manifests,
        on_change: impl FnMut(Loaded) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let watcher = Watcher {
            manifests,
            on_change,
            inotify,
            stop: Arc::clone(&stop),
            watched: BTreeMap::new(),
        };
        let thread = thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || watcher.run())?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).is_err() {
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread that watches manifests panicked");
        }
    }
}

struct Watcher<F> {
    manifests: Manifests,
    on_change: F,
    inotify: OwnedFd,
    stop: Arc<OwnedFd>,
    /// By inotify's number of the watch: the one name in the directory that counts, or all.
    watched: BTreeMap<i32, Option<OsString>>,
}

impl<F: FnMut(Loaded)> Watcher<F> {
    fn run(mut self) {
        loop {
            match self.round() {
                Ok(Next::Look) => {}
                Ok(Next::Stop) => return,
                Err(errno) => return error!(%errno, "cannot wait for changes of manifests"),
            }
        }
    }

    /// Looks, reports, and waits for the next reason to look.
    fn round(&mut self) -> Result<Next, Errno> {
        let Coverage { grew, complete } = self.watch_directories();
        let mut scan = self.manifests.scan();
        if self.manifests.differs(&scan) {
            let deadline = Instant::now() + SETTLE_MAX;
            loop {
                match self.quiet(deadline)? {
                    Next::Look => {}
                    Next::Stop => return Ok(Next::Stop),
                }
                let again = self.manifests.scan();
                let settled = again == scan || Instant::now() >= deadline;
                scan = again;
                if settled {
                    break;
                }
            }
            if self.manifests.differs(&scan) {
                self.manifests.apply(scan);
                (self.on_change)(self.manifests.assemble());
                // Links may lead elsewhere now.
                return Ok(Next::Look);
            }
        }
        // A directory may change between a look at it and its first watch.
        if grew {
            return Ok(Next::Look);
        }
        self.wait(complete)
    }

    /// Watches what has to be watched now, and nothing else.
    fn watch_directories(&mut self) -> Coverage {
        let flags = WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut watched = BTreeMap::new();
        let mut complete = true;
        for (directory, name) in directories(&self.manifests.path) {
            match inotify::add_watch(&self.inotify, &directory, flags) {
                Ok(watch) => {
                    let names = watched.entry(watch).or_insert_with(|| name.clone());
                    if *names != name {
                        *names = None;
                    }
                }
                Err(errno) => {
                    complete = false;
                    let directory = directory.display();
                    warn!(%directory, %errno, "cannot watch a directory of manifests, looking every second");
                }
            }
        }
        let grew = watched
            .keys()
            .any(|watch| !self.watched.contains_key(watch));
        for watch in self
            .watched
            .keys()
            .filter(|watch| !watched.contains_key(watch))
        {
            // Fails when the directory is gone and its watch with it.
            let _ = inotify::remove_watch(&self.inotify, *watch);
        }
        self.watched = watched;
        Coverage { grew, complete }
    }

    /// Waits for a change that counts.
    fn wait(&self, complete: bool) -> Result<Next, Errno> {
        loop {
            match self.poll((!complete).then_some(LOOK_EVERY))? {
                Event::Stop => return Ok(Next::Stop),
                Event::Nothing => return Ok(Next::Look),
                Event::Changes if self.drain()? => return Ok(Next::Look),
                Event::Changes => {}
            }
        }
    }

    /// Waits until nothing changes for a moment.
    fn quiet(&self, deadline: Instant) -> Result<Next, Errno> {
        loop {
            match self.poll(Some(SETTLE))? {
                Event::Stop => return Ok(Next::Stop),
                Event::Nothing => return Ok(Next::Look),
                Event::Changes => drop(self.drain()?),
            }
            if Instant::now() >= deadline {
                return Ok(Next::Look);
            }
        }
    }

    fn poll(&self, timeout: Option<Duration>) -> Result<Event, Errno> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = [
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.inotify, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let [stop, changes] = fds.map(|fd| !fd.revents().is_empty());
        Ok(match (stop, changes) {
            (true, _) => Event::Stop,
            (false, true) => Event::Changes,
            (false, false) => Event::Nothing,
        })
    }

    /// Reads all events that are there; whether one of them counts.
    fn drain(&self) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut counts = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    // An overflow belongs to no watch and counts.
                    let only = self.watched.get(&event.wd()).and_then(Option::as_ref);
                    counts |= only.is_none_or(|only| {
                        event
                            .file_name()
                            .is_none_or(|name| name.to_bytes() == only.as_encoded_bytes())
                    });
                }
                Err(Errno::AGAIN) => return Ok(counts),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// What a round of setting watches gave.
struct Coverage {
    /// There are new watches.
    grew: bool,
    /// Everything is watched that should be.
    complete: bool,
}

enum Next {
    Look,
    Stop,
}

enum Event {
    Changes,
    Nothing,
    Stop,
}

/// The directories whose changes may change what is read, and the one name in each that counts
/// (`None`: all).
fn directories(path: &Path) -> Vec<(PathBuf, Option<OsString>)> {
    let mut directories = Vec::new();
    let is_directory = path.is_dir();
    if is_directory {
        directories.push((path.to_owned(), None));
    }
    // The path itself may be replaced: a symbolic link, or a directory made anew.
    if let Some(name) = path.file_name() {
        let name = (is_directory || !path.exists()).then(|| name.to_owned());
        directories.push((parent(path), name));
    }
    for file in super::list(path).unwrap_or_default() {
        if file.is_symlink()
            && let Ok(target) = file.canonicalize()
        {
            directories.push((parent(&target), None));
        }
    }
    directories.sort_unstable();
    directories.dedup();
    directories
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Quiet that ends a burst of changes: an editor writes, renames and touches in one go.
const SETTLE: Duration = Duration::from_millis(10);
/// What never is quiet counts as it is after this time.
const SETTLE_MAX: Duration = Duration::from_millis(50);
/// Looks at the files without being told, while something cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events read at once; one takes at most 16 bytes and a name of 255.
const EVENT_BYTES: usize = 4096;
