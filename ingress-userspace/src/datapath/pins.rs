//! Where maps and links are pinned in bpffs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::settings::Settings;
use super::{DatapathError, io_error};

/// Directories of pins.
pub(super) struct Pins {
    pub(super) maps: PathBuf,
    pub(super) links: PathBuf,
}

impl Pins {
    /// Makes them.
    pub(super) fn create(settings: &Settings) -> Result<Self, DatapathError> {
        let pins = Self {
            maps: settings.bpffs.join(MAPS_DIRECTORY),
            links: settings.bpffs.join("links"),
        };
        for directory in [&pins.maps, &pins.links] {
            fs::create_dir_all(directory).map_err(io_error("make the directories for pins"))?;
        }
        Ok(pins)
    }
}

/// Removes the pins and their directory, unless that is where a container has mounted the host's.
pub(super) fn remove_pins(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if is_mount_point(&error) => Ok(()),
        outcome => outcome,
    }
}

/// Whether a directory could not be removed because something is mounted there; in a container whose
/// root is read-only the kernel says that first.
fn is_mount_point(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ResourceBusy | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Changes with the layout of any map, so that a new version never adopts what it can't read.
const MAPS_DIRECTORY: &str = "maps-4";
