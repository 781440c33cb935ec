//! A host of the rig: a network namespace with a name, and the programs that run in it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use ingress_userspace::datapath::Namespace;
use rustix::mount::{UnmountFlags, unmount};

/// A network namespace in `/run/netns`.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
}

impl Host {
    /// Makes a host with nothing but `lo`.
    pub fn create(name: &str) -> Result<Self> {
        let (namespace, _) = Namespace::adopt_or_create(name)
            .with_context(|| format!("failed to make network namespace `{name}`"))?;
        let host = Self {
            name: name.to_owned(),
            namespace,
        };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` on its links, addresses and routes.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command
            .args(["-n", &self.name])
            .args(arguments.split_whitespace());
        run(&mut command)
    }

    /// Has commands that are started from now on ask this name server, as `ip netns exec` has it.
    pub fn use_name_server(&self, address: IpAddr) -> Result<()> {
        let directory = settings_directory(&self.name);
        fs::create_dir_all(&directory)?;
        let file = directory.join("resolv.conf");
        fs::write(&file, format!("nameserver {address}\n"))
            .with_context(|| format!("failed to write {}", file.display()))
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        if settings_directory(&self.name).exists() {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.name]).arg(program);
            return command;
        }
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={NAMESPACES}/{}", self.name))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a command line in it and gives its standard output.
    pub fn sh(&self, line: &str) -> Result<String> {
        let output = self.command("sh").args(["-c", line]).output()?;
        if !output.status.success() {
            bail!(
                "{}: `{line}`: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `f` on a thread in it.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(self.namespace.run(f)?)
    }

    /// Starts a thread in it.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<T>> {
        let namespace = Namespace::open(&self.name)?;
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let _ = ready.send(namespace.enter());
            f()
        })?;
        is_ready
            .recv()
            .context("the thread died")?
            .context("failed to enter the namespace")?;
        Ok(thread)
    }

    /// Sets a sysctl, by its path below `/proc/sys`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("failed to set `{key}`"))
    }

    /// Its connection tracking table, a line for each entry.
    pub fn conntrack_table(&self) -> Result<Vec<String>> {
        let listed =
            self.sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null")?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    /// Empties its connection tracking table.
    pub fn flush_conntrack(&self) -> Result<()> {
        self.sh("conntrack -F 2>&1").map(drop)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A program that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program with its output in a file.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file =
            fs::File::create(log).with_context(|| format!("failed to make {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> io::Result<Option<std::process::ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Removes every host whose name starts with `prefix`, with all that runs in it, and what daemons
/// of that prefix left in bpffs and in the run directories.
pub fn remove_all(prefix: &str) {
    let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| name.starts_with(prefix)) {
        remove(&name);
    }
    unmount_below(&run_directory(prefix));
    for directory in [bpffs_directory(prefix), run_directory(prefix)] {
        let _ = fs::remove_dir_all(directory);
    }
}

/// Unmounts everything below a directory, the last that was mounted first.
fn unmount_below(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below: Vec<&str> = places
        .filter(|place| Path::new(place).starts_with(directory))
        .collect();
    for place in below.into_iter().rev() {
        let _ = unmount(place, UnmountFlags::DETACH);
    }
}

/// Where a daemon of this prefix pins its maps and links.
pub fn bpffs_directory(prefix: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(prefix)
}

/// Mounts the BPF file system where this machine has not.
pub fn mount_bpffs() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts
        .lines()
        .any(|mount| mount.split(' ').nth(1) == Some("/sys/fs/bpf"))
    {
        return Ok(());
    }
    run(Command::new("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
}

/// Where a rig of this prefix keeps its files.
pub fn run_directory(prefix: &str) -> PathBuf {
    Path::new("/run").join(prefix)
}

/// Runs a command to its end; an error shows what it printed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The link-layer address of an Ethernet device of a host.
pub fn link_address(host: &Host, device: &str) -> Result<[u8; 6]> {
    let link = host.sh(&format!("ip -json link show {device}"))?;
    let link: serde_json::Value = serde_json::from_str(&link)?;
    let address = link[0]["address"].as_str().context("no address")?;
    let bytes = address.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
    bytes.try_into().ok().context("no Ethernet address")
}

fn remove(name: &str) {
    let pids = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for pid in pids.unwrap_or_default().lines() {
        let _ = Command::new("kill").args(["-9", pid]).output();
    }
    let _ = Namespace::remove(name);
    let _ = fs::remove_dir_all(settings_directory(name));
}

/// Files that take the place of those in `/etc` (`ip-netns(8)`).
fn settings_directory(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

const NAMESPACES: &str = "/run/netns";
