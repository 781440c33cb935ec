//! Which of the daemons of one directory orders: the one that holds a lock in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// Tells whether this daemon has the lock; tries to get it until it has.
pub(super) fn lead(directory: PathBuf) -> watch::Receiver<bool> {
    let (is_leading, leading) = watch::channel(false);
    tokio::spawn(async move {
        let mut was_refused = false;
        let lock = loop {
            match take(&directory) {
                Ok(Some(lock)) => break lock,
                Err(error) if !was_refused => {
                    was_refused = true;
                    let directory = directory.display();
                    warn!(%error, %directory, "no certificate is ordered: the lock can't be made");
                }
                Ok(None) | Err(_) => {}
            }
            tokio::select! {
                () = is_leading.closed() => return,
                () = sleep(PAUSE) => {}
            }
        };
        info!("this daemon orders certificates");
        is_leading.send_replace(true);
        is_leading.closed().await;
        drop(lock);
    });
    leading
}

fn take(directory: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW);
    let file = options.open(directory.join(NAME))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Hidden: no manifest.
const NAME: &str = ".sluice-acme.lock";
const PAUSE: Duration = Duration::from_secs(1);
