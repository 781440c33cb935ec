//! What a container runtime does: a root of its own, volumes, capabilities, then the program.
//!
//! The image is the machine's `/usr` and the one program that stands for it. `sluice-container` reads
//! a [`Spec`], makes itself such a container and becomes the program, so that its process id and its
//! end are the program's. What a container may not do on a node it may not do here: `/sys` and
//! `/proc/sys` are read-only unless it is privileged, and capabilities that it does not ask for are
//! gone from the bounding set.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use ingress_userspace::datapath::Namespace;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::thread::{
    CapabilitySet, UnshareFlags, remove_capability_from_bounding_set, set_no_new_privs,
    unshare_unsafe,
};
use serde::{Deserialize, Serialize};

/// A container.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Spec {
    /// Network namespace that it runs in, by name.
    pub network: String,
    /// Empty directory for its root.
    pub root: PathBuf,
    /// The program that stands for its image.
    pub program: PathBuf,
    /// Where the image has that program.
    pub entry_point: PathBuf,
    /// Command and arguments.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// What it may do.
    pub rights: Rights,
}

/// A volume at its place.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mount {
    /// On the node.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether mounts below it are seen on the node too.
    pub bidirectional: bool,
}

/// What a container may do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Rights {
    /// Everything.
    pub privileged: bool,
    /// Whether its root can't be written.
    pub read_only_root: bool,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Capabilities by name, `NET_ADMIN`.
    pub capabilities: Vec<String>,
    /// User and group, 0 for root.
    pub user: (u32, u32),
}

/// Makes the calling process the container, which must have one thread; returns only on failure.
pub fn become_container(spec: &Spec) -> Result<()> {
    let network = Namespace::open(&spec.network)
        .with_context(|| format!("failed to open network namespace `{}`", spec.network))?;
    network.enter()?;
    // SAFETY: the caller has one thread, so none is surprised by another view of the file system.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    build_root(spec)?;
    enter_root(&spec.root)?;
    give_up_rights(&spec.rights)?;
    let (program, arguments) = spec.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(spec.environment.iter().cloned());
    if spec.rights.user != (0, 0) {
        command.uid(spec.rights.user.0).gid(spec.rights.user.1);
    }
    Err(anyhow!(command.exec()).context(format!("failed to start `{program}`")))
}

fn build_root(spec: &Spec) -> Result<()> {
    let root = spec.root.as_path();
    // Our mounts stay ours; mounts that are shared below stay shared, for those who ask for it.
    mount_change("/", MountPropagationFlags::PRIVATE)?;
    match mount_change("/run", MountPropagationFlags::PRIVATE) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error).context("failed to make /run private"),
    }
    mount(
        "tmpfs",
        root,
        "tmpfs",
        MountFlags::empty(),
        Some(c"mode=755"),
    )?;
    for name in IMAGE {
        let source = Path::new("/").join(name);
        let target = root.join(name);
        if let Ok(link) = fs::read_link(&source) {
            symlink(link, target)?;
        } else if source.exists() {
            fs::create_dir(&target)?;
            mount_bind(&source, &target)?;
            remount_read_only(&target)?;
        }
    }
    for name in ["dev", "proc", "sys", "tmp", "run", "var"] {
        fs::create_dir(root.join(name))?;
    }
    symlink("/run", root.join("var/run"))?;
    mount_bind_recursive("/dev", root.join("dev"))?;
    mount_bind("/proc", root.join("proc"))?;
    mount(
        "sysfs",
        root.join("sys"),
        "sysfs",
        MountFlags::empty(),
        None,
    )?;
    if !spec.rights.privileged {
        let settings = root.join("proc/sys");
        mount_bind(&settings, &settings)?;
        remount_read_only(&settings)?;
        remount_read_only(&root.join("sys"))?;
    }
    bind(&spec.program, &inside(root, &spec.entry_point))?;
    for volume in &spec.mounts {
        add_volume(root, volume)
            .with_context(|| format!("failed to mount {}", volume.target.display()))?;
    }
    if spec.rights.read_only_root {
        mount_remount(root, MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

fn add_volume(root: &Path, volume: &Mount) -> Result<()> {
    // `/var/run` is a link that would lead out of the new root.
    let target = match volume.target.strip_prefix("/var/run") {
        Ok(rest) => inside(root, &Path::new("/run").join(rest)),
        Err(_) => inside(root, &volume.target),
    };
    bind(&volume.source, &target)?;
    let propagation = if volume.bidirectional {
        MountPropagationFlags::SHARED
    } else {
        MountPropagationFlags::PRIVATE
    };
    mount_change(&target, propagation)?;
    if volume.read_only {
        remount_read_only(&target)?;
    }
    Ok(())
}

/// Binds a file or a directory with all that is mounted below it.
fn bind(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        let parent = target.parent().context("a volume at /")?;
        fs::create_dir_all(parent)?;
        File::create(target)?;
    }
    mount_bind_recursive(source, target)
        .with_context(|| format!("failed to bind {}", source.display()))
}

fn remount_read_only(target: &Path) -> io::Result<()> {
    Ok(mount_remount(
        target,
        MountFlags::BIND | MountFlags::RDONLY,
        c"",
    )?)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn enter_root(root: &Path) -> io::Result<()> {
    let machine = File::open("/")?;
    chdir(root)?;
    pivot_root(".", ".")?;
    fchdir(&machine)?;
    // What is unmounted here must not be unmounted on the node.
    let no_upstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change(".", no_upstream)?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

fn give_up_rights(rights: &Rights) -> Result<()> {
    if !rights.privileged {
        let mut kept = CapabilitySet::empty();
        for name in &rights.capabilities {
            kept |= CapabilitySet::from_name(name)
                .with_context(|| format!("no capability is named `{name}`"))?;
        }
        for capability in CapabilitySet::all().difference(kept) {
            match remove_capability_from_bounding_set(capability) {
                // One that this kernel does not know.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error).context("failed to give up a capability"),
            }
        }
    }
    if rights.no_new_privileges {
        set_no_new_privs(true)?;
    }
    Ok(())
}

/// What runtimes leave to a container that asks for nothing.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Directories of the machine that every image has.
const IMAGE: [&str; 6] = ["bin", "etc", "lib", "lib64", "sbin", "usr"];
