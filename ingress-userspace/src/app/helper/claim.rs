//! Who has the eBPF datapath of this node: one daemon at a time.
//!
//! Two would attach to the same devices and use the same names. Daemons in pods on the host network
//! share no files but those in bpffs, so the claim is a lock on the directory of pins, which only
//! root may open: nobody else can take it. It ends with its process, however that ends.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::geteuid;

/// The datapath is ours for as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    _directory: File,
}

impl Claim {
    /// Takes the datapath whose pins are in this directory; `None` while another daemon has it.
    pub(crate) fn take(pins: &Path) -> io::Result<Option<Self>> {
        DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY)
            .create(pins)?;
        let directory = File::open(pins)?;
        let metadata = directory.metadata()?;
        if metadata.uid() != geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "`{}` belongs to user {}, who may keep it locked: remove it",
                pins.display(),
                metadata.uid()
            )));
        }
        directory.set_permissions(fs::Permissions::from_mode(OWNER_ONLY))?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Whoever had it has removed the directory with everything else: its name may be another
        // one's by now.
        let is_current = fs::metadata(pins)
            .is_ok_and(|now| (now.dev(), now.ino()) == (metadata.dev(), metadata.ino()));
        Ok(is_current.then_some(Self {
            _directory: directory,
        }))
    }
}

const OWNER_ONLY: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datapath_is_claimed_by_one_daemon_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let pins = parent.path().join("pins");
        let first = Claim::take(&pins).unwrap();
        assert!(first.is_some());
        assert!(Claim::take(&pins).unwrap().is_none());
        drop(first);
        assert!(Claim::take(&pins).unwrap().is_some());
    }

    #[test]
    fn lock_directory_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let pins = parent.path().join("pins");
        fs::create_dir(&pins).unwrap();
        fs::set_permissions(&pins, fs::Permissions::from_mode(0o755)).unwrap();
        let _claim = Claim::take(&pins).unwrap();
        assert_eq!(fs::metadata(&pins).unwrap().mode() & 0o777, OWNER_ONLY);
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let pins = parent.path().join("pins");
        let first = Claim::take(&pins).unwrap();
        fs::remove_dir(&pins).unwrap();
        let second = Claim::take(&pins).unwrap();
        assert!(second.is_some());
        drop(first);
        assert!(Claim::take(&pins).unwrap().is_none());
    }
}
