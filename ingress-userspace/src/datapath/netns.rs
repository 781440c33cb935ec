//! Network namespaces: the host's, and the ingress netns that outlives the process.
//!
//! A thread is moved for as long as a closure runs, never a runtime's thread: what runs inside
//! gets a thread of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::statfs;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// The network namespace of the calling thread.
    pub fn current() -> io::Result<Self> {
        File::open(OWN_NAMESPACE).map(|file| Self { file })
    }

    /// A file that no thread can move into.
    #[cfg(test)]
    pub(super) fn of_no_network() -> Self {
        let file = File::open("/dev/null").expect("every machine has it");
        Self { file }
    }

    /// Opens the namespace named `name`; an error where there is none.
    pub fn open(name: &str) -> io::Result<Self> {
        File::open(path(name)).map(|file| Self { file })
    }

    /// Opens the namespace named `name`, or makes it where there is none; true when it was there.
    ///
    /// The name is a file in `/run/netns`, as `ip netns` has it, and survives the process.
    pub fn adopt_or_create(name: &str) -> io::Result<(Self, bool)> {
        let path = path(name);
        if is_namespace(&path) {
            return File::open(&path).map(|file| (Self { file }, true));
        }
        fs::create_dir_all(NAMESPACES)?;
        // What a reboot left is a plain file.
        let _ = fs::remove_file(&path);
        File::create_new(&path)?;
        on_thread(|| {
            // SAFETY: only the network namespace is unshared, no file descriptor is touched, and
            // the thread ends with this closure.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            mount_bind(OWN_NAMESPACE, &path)
        })?
        .inspect_err(|_| drop(fs::remove_file(&path)))?;
        File::open(&path).map(|file| (Self { file }, false))
    }

    /// Removes the name; the namespace itself goes with its last user.
    pub fn remove(name: &str) -> io::Result<()> {
        let path = path(name);
        if is_namespace(&path) {
            unmount(&path, UnmountFlags::DETACH)?;
        }
        fs::remove_file(path)
    }

    /// Moves the calling thread into this namespace for good.
    pub fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.file.as_fd(), network).map_err(io::Error::from)
    }

    /// Runs `f` inside, on a thread of its own.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_thread(|| self.enter().map(|()| f()))?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
}

fn on_thread<T: Send>(f: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)?;
        thread
            .join()
            .map_err(|_| io::Error::other("the thread inside the network namespace died"))
    })
}

const NAMESPACES: &str = "/run/netns";
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// `linux/magic.h`.
const NSFS_MAGIC: i64 = 0x6e73_6673;
