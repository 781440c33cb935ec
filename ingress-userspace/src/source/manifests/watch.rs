//! Tells when the files changed: inotify on a thread of its own.
//!
//! Directories are watched, not files, because editors and `ConfigMap` volumes replace
//! files instead of writing into them; those that symbolic links lead to are watched too.
//!
//! A file counts as written when its writer closes it or it takes the name of another. As long as
//! that is all that happens, only those files are read again, at once. After anything else (files
//! come and go, links lead elsewhere) everything is looked at, and counts when it stays as it is
//! for a moment: a file that is being written is not seen half. inotify rather than a portable
//! watcher: Linux only, and `rustix` is here already.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tracing::{error, warn};

use super::{Loaded, Manifests, ManifestsError};

/// Manifests whose changes are noted from now on.
///
/// What is written while they are [read](Self::load) for the first time, or before they are
/// [followed](Self::follow), is read again by itself, as later changes are.
#[derive(Debug)]
pub struct Watched {
    watcher: Watcher,
    /// What comes next after the first reading.
    first: Coverage,
}

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    pub(super) fn new(manifests: Manifests) -> io::Result<Self> {
        let mut watcher = Watcher {
            manifests,
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            stop: Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?),
            watched: BTreeMap::new(),
            plain: None,
        };
        watcher.watch_directories();
        // Links may have led elsewhere before their targets were watched.
        let first = watcher.watch_directories();
        Ok(Self { watcher, first })
    }

    /// Reads what changed since the last reading and gives everything.
    pub fn load(&mut self) -> Loaded {
        self.watcher.manifests.load()
    }

    /// Calls `on_change` from a thread of its own with each new state that differs from what was
    /// [read](Self::load) last, until the returned guard is dropped.
    ///
    /// The files are read on that thread: a slow disk stalls nobody.
    pub fn follow(
        self,
        on_change: impl FnMut(Loaded) + Send + 'static,
    ) -> Result<Watch, ManifestsError> {
        let Self { watcher, first } = self;
        let path = watcher.manifests.path.clone();
        let stop = Arc::clone(&watcher.stop);
        let thread = thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || watcher.run(first, on_change))
            .map_err(|source| ManifestsError::Watch { path, source })?;
        Ok(Watch {
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

#[derive(Debug)]
struct Watcher {
    manifests: Manifests,
    inotify: OwnedFd,
    stop: Arc<OwnedFd>,
    /// By inotify's number of the watch: the one name in the directory that counts, or all.
    watched: BTreeMap<i32, Option<OsString>>,
    /// The watch of the directory of manifests, if all of them are files in it.
    plain: Option<i32>,
}

impl Watcher {
    fn run(mut self, first: Coverage, mut on_change: impl FnMut(Loaded)) {
        self.manifests.rehearse();
        let mut next = if first.grew {
            Ok(Next::Look)
        } else {
            self.wait(first.complete, &mut on_change)
        };
        loop {
            match next {
                Ok(Next::Look) => next = self.round(&mut on_change),
                Ok(Next::Stop) => return,
                Err(errno) => return error!(%errno, "cannot wait for changes of manifests"),
            }
        }
    }

    /// Looks, reports, and waits for the next reason to look.
    fn round(&mut self, on_change: &mut impl FnMut(Loaded)) -> Result<Next, Errno> {
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
                on_change(self.manifests.assemble());
                // Links may lead elsewhere now.
                return Ok(Next::Look);
            }
        }
        // A directory may change between a look at it and its first watch.
        if grew {
            return Ok(Next::Look);
        }
        self.wait(complete, on_change)
    }

    /// Watches what has to be watched now, and nothing else.
    fn watch_directories(&mut self) -> Coverage {
        // Of a directory that is watched twice, what either asks for is told.
        let names = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MASK_ADD
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let contents = names | WatchFlags::ATTRIB | WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY;
        let is_directory = self.manifests.path.is_dir();
        let mut watched = BTreeMap::new();
        let mut complete = true;
        let Directories { all, has_links } = Directories::of(&self.manifests.path);
        self.plain = None;
        for (directory, name) in all {
            // Beside a directory of manifests, others may write as much as they like: an access log.
            let flags = if name.is_some() && is_directory {
                names
            } else {
                contents
            };
            match inotify::add_watch(&self.inotify, &directory, flags) {
                Ok(watch) => {
                    if !has_links && directory == self.manifests.path {
                        self.plain = Some(watch);
                    }
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

    /// Waits for a change that has to be looked for, and reports files that were written.
    fn wait(&mut self, complete: bool, on_change: &mut impl FnMut(Loaded)) -> Result<Next, Errno> {
        let mut written = Written::default();
        loop {
            let timeout = match written.since {
                // What never is quiet is looked at with everything else.
                Some(since) if since.elapsed() >= SETTLE_MAX => return Ok(Next::Look),
                // What comes while these are taken is taken next, all of it at once.
                Some(_) => Some(Duration::ZERO),
                None => (!complete).then_some(LOOK_EVERY),
            };
            match self.poll(timeout)? {
                Event::Stop => return Ok(Next::Stop),
                Event::Changes => {
                    if self.drain(&mut written)? == Seen::More {
                        return Ok(Next::Look);
                    }
                }
                Event::Nothing if written.since.is_none() => return Ok(Next::Look),
                Event::Nothing => {
                    let Some(news) = self.manifests.read_again(&written.names) else {
                        return Ok(Next::Look);
                    };
                    // One of them may have been written once more meanwhile.
                    let events = written.events;
                    if self.drain(&mut written)? == Seen::More {
                        return Ok(Next::Look);
                    }
                    if written.events == events {
                        written = Written::default();
                        if !news.is_empty() {
                            on_change(self.manifests.take(news));
                        }
                    }
                }
            }
        }
    }

    /// Waits until nothing changes for a moment.
    fn quiet(&self, deadline: Instant) -> Result<Next, Errno> {
        loop {
            match self.poll(Some(SETTLE))? {
                Event::Stop => return Ok(Next::Stop),
                Event::Nothing => return Ok(Next::Look),
                Event::Changes => {
                    self.drain(&mut Written::default())?;
                }
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

    /// Reads all events that are there.
    fn drain(&self, written: &mut Written) -> Result<Seen, Errno> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut seen = Seen::Files;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(seen),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            let name = event
                .file_name()
                .map(|name| OsStr::from_bytes(name.to_bytes()));
            let flags = event.events();
            match name {
                Some(name)
                    if self.plain == Some(event.wd()) && !flags.contains(ReadFlags::ISDIR) =>
                {
                    if !super::is_manifest(Path::new(name)) {
                        continue;
                    }
                    if flags.contains(ReadFlags::MODIFY) {
                        written.is_being(name);
                    } else if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
                        written.is(name);
                    } else {
                        seen = Seen::More;
                    }
                }
                _ if flags.contains(ReadFlags::MODIFY) => {}
                _ => {
                    // An overflow belongs to no watch and counts.
                    let only = self.watched.get(&event.wd()).and_then(Option::as_deref);
                    if only.is_none_or(|only| name.is_none_or(|name| name == only)) {
                        seen = Seen::More;
                    }
                }
            }
        }
    }
}

/// What events told of.
#[derive(PartialEq)]
enum Seen {
    /// Manifests that were written, or nothing that counts.
    Files,
    /// More than that.
    More,
}

/// Manifests that were written whole, and when that began.
#[derive(Default)]
struct Written {
    names: BTreeSet<OsString>,
    since: Option<Instant>,
    /// Counts what happened to manifests.
    events: u64,
}

impl Written {
    fn is(&mut self, name: &OsStr) {
        self.events += 1;
        self.names.insert(name.to_owned());
        self.since.get_or_insert_with(Instant::now);
    }

    /// Its end will be told.
    fn is_being(&mut self, name: &OsStr) {
        self.events += 1;
        self.names.remove(name);
        if self.names.is_empty() {
            self.since = None;
        }
    }
}

/// What a round of setting watches gave.
#[derive(Clone, Copy, Debug)]
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

/// The directories whose changes may change what is read.
struct Directories {
    /// Each with the one name in it that counts (`None`: all).
    all: Vec<(PathBuf, Option<OsString>)>,
    /// Whether a manifest is a symbolic link.
    has_links: bool,
}

impl Directories {
    fn of(path: &Path) -> Self {
        let mut all = Vec::new();
        let mut has_links = false;
        let is_directory = path.is_dir();
        if is_directory {
            all.push((path.to_owned(), None));
        }
        // The path itself may be replaced: a symbolic link, or a directory made anew.
        if let Some(name) = path.file_name() {
            let name = (is_directory || !path.exists()).then(|| name.to_owned());
            all.push((parent(path), name));
        }
        for file in super::list(path).unwrap_or_default() {
            if file.is_symlink() {
                has_links = true;
                if let Ok(target) = file.canonicalize() {
                    all.push((parent(&target), None));
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        Self { all, has_links }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Quiet that ends a burst of other changes: an editor writes, renames and touches in one go.
const SETTLE: Duration = Duration::from_millis(10);
/// What never is quiet counts as it is after this time.
const SETTLE_MAX: Duration = Duration::from_millis(50);
/// Looks at the files without being told, while something cannot be watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events read at once; one takes at most 16 bytes and a name of 255.
const EVENT_BYTES: usize = 4096;
