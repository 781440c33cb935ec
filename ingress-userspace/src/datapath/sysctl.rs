//! Writes sysctls of the calling thread's network namespace.
//!
//! Containers have `/proc/sys` read-only. Where it is, another proc file system is opened for the
//! write; it is mounted nowhere, so nobody else sees it (`fsmount(2)`, Linux 5.2; needs
//! `SYS_ADMIN`).

use std::fs::{self, File};
use std::io::{self, Write as _};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Sets the sysctl at `key`, a path below `/proc/sys/net`.
pub(super) fn set(key: &str, value: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/{key}"), value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            write_aside(key, value).map_err(|_| error)
        }
        outcome => outcome,
    }
}

fn write_aside(key: &str, value: &str) -> io::Result<()> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::empty();
    let proc = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&proc, format!("sys/net/{key}"), flags, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}
