//! Debian's kernels in an emulator: tests and measurements on the kernels that users run.
//!
//! A kernel is unpacked from its package and never installed. The emulator (QEMU without KVM, which
//! not every machine has) boots it in seconds; its root is this machine's, read only, by 9p.

mod initramfs;
mod package;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::shell::{cache, is_root, root, say};
use crate::{compile, setup};

/// A kernel that tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, from the backports for Debian 12.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    /// The oldest that is supported.
    pub(crate) const OLDEST: Self = Self::V6_1;

    /// Parts of the names of tests whose features this kernel lacks: TCX came with Linux 6.6.
    pub(crate) fn lacking(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["a_tcx_program", "however_we_are_attached"],
            Self::V6_12 => &[],
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }
}

#[derive(Args)]
pub(crate) struct Flags {
    /// The kernel to boot.
    kernel: Kernel,
    /// Make the guest's clock count instructions: one is one nanosecond.
    #[arg(long)]
    count: bool,
    /// Stop the emulator after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    timeout: u64,
    /// The program to run as root, and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Boots a kernel, runs a command on it, and gives the command's exit status.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let machine = Machine::prepare(flags.kernel)?;
    let limit = Duration::from_secs(flags.timeout);
    let status = machine.run(&flags.command, flags.count, limit)?;
    Ok(ExitCode::from(status))
}

/// A command of this executable that runs a program, whose arguments are added, on a kernel.
pub(crate) fn command(kernel: Kernel, program: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["kernel", kernel.name(), "--"]).arg(program);
    Ok(command)
}

/// The words of a command that runs its arguments on a kernel whose clock counts instructions.
pub(crate) fn counting(kernel: Kernel) -> Result<Vec<String>> {
    let program = env::current_exe()?.display().to_string();
    let words = ["kernel", kernel.name(), "--count", "--"];
    Ok([program]
        .into_iter()
        .chain(words.map(str::to_owned))
        .collect())
}

/// A kernel that is ready to boot.
struct Machine {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Machine {
    fn prepare(kernel: Kernel) -> Result<Self> {
        if !is_root() {
            bail!("the emulator shares the whole file system of this machine: run it as root");
        }
        setup::install_packages(&[
            ("qemu-system-x86_64", "qemu-system-x86"),
            ("busybox", "busybox-static"),
            ("cpio", "cpio"),
            ("modprobe", "kmod"),
            ("xz", "xz-utils"),
        ])?;
        let package = package::unpacked(kernel, &cache()?.join("kernels"))?;
        Ok(Self {
            kernel: package.image(),
            initramfs: initramfs::build(&package)?,
        })
    }

    /// Runs a command as root and copies what it prints to standard output.
    fn run(&self, command: &[String], counts: bool, limit: Duration) -> Result<u8> {
        let script = Script::write(command)?;
        let mut emulator = self.emulator(&script.path, counts)?;
        let stdout = emulator.stdout.take().context("QEMU has no output")?;
        let ending = Ending::of(emulator, limit);
        let status = copy(stdout);
        let is_late = ending.wait();
        match status? {
            Some(status) => Ok(status),
            None if is_late => bail!("the command did not end within {} s", limit.as_secs()),
            None => bail!(
                "the kernel stopped before the command ended; its log:\n{}",
                fs::read_to_string(script.log()).unwrap_or_default()
            ),
        }
    }

    fn emulator(&self, script: &Path, counts: bool) -> Result<Child> {
        let mut kept = vec![root()];
        kept.extend(env::current_exe()?.ancestors().nth(2).map(Path::to_owned));
        let kept: Vec<_> = kept.iter().map(|path| path.to_string_lossy()).collect();
        let options = format!(
            "console=ttyS0 panic=-1 quiet mitigations=off sluice.script={} sluice.keep={}",
            script.display(),
            kept.join(":"),
        );
        let log = format!("file:{}", script.with_extension("log").display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1"])
            .args(["-m", MEMORY, "-display", "none", "-monitor", "none"])
            .args(["-no-reboot", "-serial", &log, "-serial", "stdio"])
            .args(["-nodefaults", "-append", &options, "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-fsdev", SHARE, "-device", SHARE_DEVICE])
            .args(["-device", "virtio-rng-pci"]);
        if counts {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu.spawn().context("failed to start QEMU")
    }
}

/// The script that the guest runs: the command, and the environment variables that tests read.
struct Script {
    path: PathBuf,
}

impl Script {
    fn write(command: &[String]) -> Result<Self> {
        let directory = std::path::absolute(compile::target())?.join("kernel");
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}.sh", process::id()));
        let mut text = format!("cd {}\n", quoted(&root().to_string_lossy()));
        for (name, value) in env::vars() {
            if is_passed(&name) {
                let _ = writeln!(text, "export {name}={}", quoted(&value));
            }
        }
        let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
        let _ = writeln!(text, "{}", words.join(" "));
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where the guest's console goes.
    fn log(&self) -> PathBuf {
        self.path.with_extension("log")
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(self.log());
    }
}

fn is_passed(name: &str) -> bool {
    let prefixes = ["SLUICE_", "CARGO_", "RUST_", "PROPTEST_"];
    let names = ["PATH", "HOME", "KUBEBUILDER_ASSETS"];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Copies the guest's output to standard output. Returns the exit status that the guest reports.
fn copy(output: impl Read) -> Result<Option<u8>> {
    let mut status = None;
    let mut lines = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(status);
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        match text.strip_prefix(STATUS) {
            Some(number) => status = number.trim().parse().ok(),
            #[expect(clippy::print_stdout, reason = "what the command prints")]
            None => println!("{text}"),
        }
    }
}

/// Kills the emulator when its time is over.
struct Ending {
    watch: thread::JoinHandle<()>,
    is_late: Arc<AtomicBool>,
}

impl Ending {
    fn of(mut emulator: Child, limit: Duration) -> Self {
        let is_late = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&is_late);
        let watch = thread::spawn(move || {
            let deadline = Instant::now() + limit;
            while let Ok(None) = emulator.try_wait() {
                if Instant::now() > deadline {
                    late.store(true, Ordering::Release);
                    let _ = emulator.kill();
                }
                thread::sleep(POLL);
            }
        });
        Self { watch, is_late }
    }

    /// Waits for the emulator's end. Returns true if its time was over.
    fn wait(self) -> bool {
        if self.watch.join().is_err() {
            say("    the thread that watches QEMU has panicked");
        }
        self.is_late.load(Ordering::Acquire)
    }
}

/// The line that the guest prints last, before the command's exit status.
const STATUS: &str = "sluice-status ";
const MEMORY: &str = "3072";
const SHARE: &str = "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on";
const SHARE_DEVICE: &str = "virtio-9p-pci,fsdev=host,mount_tag=host";
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_the_guest_is_not_part_of_its_output() -> Result<()> {
        assert_eq!(copy(&b"one\r\nsluice-status 3\r\n"[..])?, Some(3));
        assert_eq!(copy(&b"a kernel that panics"[..])?, None);
        Ok(())
    }

    #[test]
    fn words_reach_the_command_as_they_are() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
