//! A daemon beside the API server, in its network namespace: for what needs no node and no pod.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::control::{ControlPlane, Place};
use crate::host::{Host, Process};

/// A daemon that serves. Dropping it kills it.
pub struct Daemon<'a> {
    host: &'a Host,
    process: Process,
    sluice: PathBuf,
    run_dir: PathBuf,
    /// From its start until it was ready.
    pub start_time: Duration,
}

/// Looks for the effect of a change from a thread of its own.
pub struct Watcher(JoinHandle<Result<Instant>>);

impl<'a> Daemon<'a> {
    /// Starts one, as one who may do everything unless the flags say otherwise, and waits until it is
    /// ready.
    pub fn start(
        plane: &'a ControlPlane,
        sluice: &Path,
        name: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let began = Instant::now();
        let mut daemon = Self::start_unready(plane, sluice, name, flags)?;
        while daemon.readiness()? != Some(200) {
            if let Some(status) = daemon.process.ended()? {
                bail!("the daemon ended with {status}:\n{}", daemon.log());
            }
            if began.elapsed() > START_MAX {
                bail!("it was not ready in time:\n{}", daemon.log());
            }
            std::thread::sleep(POLL);
        }
        daemon.start_time = began.elapsed();
        Ok(daemon)
    }

    /// Starts one, ready or not.
    pub fn start_unready(
        plane: &'a ControlPlane,
        sluice: &Path,
        name: &str,
        flags: &[&str],
    ) -> Result<Self> {
        let run_dir = plane.directory().join(name);
        fs::create_dir_all(&run_dir)?;
        let host = plane.host();
        let kubeconfig = plane.kubeconfig(Place::Lan);
        let mut command = host.command(sluice);
        command
            .args(["run", "--datapath=host", "--workers=1", "--access-log=off"])
            .arg(format!("--run-dir={}", run_dir.display()))
            .args(flags);
        if !flags.iter().any(|flag| flag.starts_with(KUBECONFIG)) {
            command.arg(format!("{KUBECONFIG}{}", kubeconfig.display()));
        }
        if !flags.iter().any(|flag| flag.starts_with(GRACE)) {
            command.arg(format!("{GRACE}0"));
        }
        Ok(Self {
            host,
            process: Process::spawn(command, &run_dir.join("log"))?,
            sluice: sluice.to_owned(),
            run_dir,
            start_time: Duration::ZERO,
        })
    }

    /// What its readiness probe answers; `None` while it answers nothing.
    pub fn readiness(&self) -> Result<Option<u16>> {
        let ask = || get(&mut connect(PROBES).ok()?, "probe", "/readyz").ok();
        self.host.run(ask)
    }

    /// Resident bytes once they have settled.
    pub fn memory(&self) -> Result<u64> {
        std::thread::sleep(SETTLE);
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// How much of a core it used over this time, from 0 to 1.
    pub fn share_of_a_core(&self, time: Duration) -> Result<f64> {
        let before = self.cpu_seconds()?;
        std::thread::sleep(time);
        Ok((self.cpu_seconds()? - before) / time.as_secs_f64())
    }

    fn cpu_seconds(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            let running = schedstat
                .split_whitespace()
                .next()
                .context("no schedstat")?;
            nanoseconds += running.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e9)
    }

    /// Its answer to `sluice status --output json`.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(&self.sluice)
            .args(["status", "--output=json"])
            .arg(format!("--run-dir={}", self.run_dir.display()))
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What it tells a scraper.
    pub fn metrics(&self) -> Result<String> {
        self.host
            .sh(&format!("curl --silent http://127.0.0.1:{PROBES}/metrics"))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.run_dir.join("log")).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for a clean end.
    pub fn stop(self) -> Result<()> {
        self.stop_and_tell().map(drop)
    }

    /// Likewise, and gives the whole log.
    pub fn stop_and_tell(self) -> Result<String> {
        self.signal("-TERM")?;
        self.end()
    }

    /// Stops it after something that happened while it was asleep, so that it has not seen that.
    pub fn stop_unaware(self, meanwhile: impl FnOnce() -> Result<()>) -> Result<String> {
        self.signal("-STOP")?;
        let happened = meanwhile();
        for signal in ["-TERM", "-CONT"] {
            self.signal(signal)?;
        }
        happened?;
        self.end()
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let id = self.process.id().to_string();
        crate::host::run(Command::new("kill").args([signal, &id])).map(drop)
    }

    /// Waits for a clean end, and gives the whole log.
    fn end(mut self) -> Result<String> {
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the daemon ended with {status}:\n{}", self.log());
        }
        Ok(self.log())
    }

    /// The generation published last.
    pub fn generation(&self) -> Result<u64> {
        self.status()?["generation"]
            .as_u64()
            .context("no generation")
    }

    /// Whether a request is routed: anything but 404.
    pub fn is_served(&self, host: &str, path: &str) -> Result<bool> {
        let ask = || Ok::<_, anyhow::Error>(get(&mut connect(HTTP)?, host, path)? != 404);
        self.host.run(ask)?
    }

    /// Starts to ask for something that is not routed yet.
    pub fn watch_for(&self, host: &str, path: &str) -> Result<Watcher> {
        let (host, path) = (host.to_owned(), path.to_owned());
        let ask = move || {
            let mut connection = connect(HTTP)?;
            let began = Instant::now();
            while get(&mut connection, &host, &path)? == 404 {
                if began.elapsed() > EFFECT_MAX {
                    bail!("no effect on {host}{path} in time");
                }
                std::thread::sleep(LOOK);
            }
            Ok(Instant::now())
        };
        Ok(Watcher(self.host.spawn(ask)?))
    }
}

impl Watcher {
    /// When the effect was seen.
    pub fn seen(self) -> Result<Instant> {
        self.0.join().map_err(|_| anyhow!("a watcher panicked"))?
    }
}

fn connect(port: u16) -> Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(EFFECT_MAX))?;
    Ok(BufReader::new(stream))
}

/// The status of an answer, whose body is read too.
fn get(connection: &mut BufReader<TcpStream>, host: &str, path: &str) -> Result<u16> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.get_mut().write_all(head.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line
        .split_whitespace()
        .nth(1)
        .context("no status")?
        .parse()?;
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let field = line.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    connection.read_exact(&mut vec![0; length])?;
    Ok(status)
}

const KUBECONFIG: &str = "--kubeconfig=";
const GRACE: &str = "--shutdown-grace-period=";

const HTTP: u16 = 80;
const PROBES: u16 = 10254;
const START_MAX: Duration = Duration::from_mins(2);
const EFFECT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_micros(200);
const SETTLE: Duration = Duration::from_secs(2);
