//! Sluice without eBPF and without root: ordinary sockets on loopback.

mod host {
    mod acme;
    mod clients;
    mod dashboards;
    mod oauth2_proxy;
    mod oidc;
    mod published;
}

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use ingress_tests::demo::Programs;
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, wait_until};
use ingress_tests::train::Exercise;
use serde_json::Value;

/// A daemon and an origin of somebody who is not root.
struct Scene {
    directory: tempfile::TempDir,
    http_port: u16,
    https_port: u16,
    pins: PathBuf,
    /// What runs until the end of the test.
    processes: Vec<Process>,
}

#[test]
fn the_same_job_is_done_without_root_and_says_what_is_off() -> Result<()> {
    let scene = Scene::set("host")?;
    for url in [
        format!("http://127.0.0.1:{}/", scene.http_port),
        format!("https://127.0.0.1:{}/", scene.https_port),
    ] {
        let report: Value = serde_json::from_slice(&curl(&url)?)?;
        assert_eq!(report["pod"], "origin", "{url}");
        assert_eq!(report["headers"]["x-forwarded-for"], "127.0.0.1", "{url}");
    }
    let status = scene.status()?;
    assert_eq!(status["datapath"]["mode"], "host");
    let reason = status["datapath"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("--datapath host"), "{reason}");
    assert!(
        scene
            .log()?
            .contains("guard, steer, return_path and dispatch are off")
    );
    Ok(())
}

#[test]
fn without_privileges_the_best_datapath_is_chosen_and_the_reason_told() -> Result<()> {
    let scene = Scene::set("auto")?;
    curl(&format!("http://127.0.0.1:{}/", scene.http_port))?;
    let status = scene.status()?;
    assert_eq!(status["datapath"]["mode"], "host");
    let reason = status["datapath"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("NET_ADMIN"), "{reason}");
    assert!(!scene.pins.exists(), "nothing is left in bpffs");
    Ok(())
}

#[test]
fn every_kind_of_traffic_that_profiles_are_taken_of_is_answered() -> Result<()> {
    let options = Options::from_env()?;
    let notes = tempfile::tempdir()?;
    let exercise = Exercise {
        programs: Programs {
            sluice: options.sluice,
            origin: options.origin,
        },
        notes: notes.path().to_owned(),
        percent: 1,
    };
    exercise.run(|_| {})
}

impl Scene {
    fn set(datapath: &str) -> Result<Self> {
        let [backend] = free_ports()?;
        let manifest = Manifest::default().serve_at("any.test", &["127.0.0.1"], backend);
        let mut scene = Self::with(datapath, &manifest)?;
        let mut origin = Command::new(Options::from_env()?.origin);
        origin.args(["--name", "origin", &format!("--listen=127.0.0.1:{backend}")]);
        let log = scene.directory.path().join("origin.log");
        scene.processes.push(Process::spawn(origin, &log)?);
        Ok(scene)
    }

    /// A daemon alone, with this manifest.
    fn with(datapath: &str, manifest: &Manifest) -> Result<Self> {
        Self::with_flags(datapath, manifest, &[])
    }

    /// The same with further flags.
    fn with_flags(datapath: &str, manifest: &Manifest, flags: &[&str]) -> Result<Self> {
        let options = Options::from_env()?;
        let directory = tempfile::tempdir_in("/tmp")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
        // Binaries may lie where only root can go.
        let sluice = directory.path().join("sluice");
        copy_program(&options.sluice, &sluice)?;
        let [http, https] = free_ports()?;
        let manifests = directory.path().join("manifests");
        manifest.save(&manifests)?;
        let mut command = as_nobody(&sluice);
        command.args(["run", &format!("--datapath={datapath}")]);
        command.args(flags);
        command.arg(format!("--manifests={}", manifests.display()));
        let pins = Path::new("/sys/fs/bpf").join(format!("host{http}"));
        command.arg(format!("--bpffs={}", pins.display()));
        command.arg(format!("--http-port={http}"));
        command.arg(format!("--https-port={https}"));
        command.arg(format!(
            "--run-dir={}",
            directory.path().join("run").display()
        ));
        let process = Process::spawn(command, &directory.path().join("sluice.log"))?;
        let scene = Self {
            directory,
            http_port: http,
            https_port: https,
            pins,
            processes: vec![process],
        };
        wait_until("the daemon to serve", || Ok(scene.status().is_ok()))
            .with_context(|| scene.log().unwrap_or_default())?;
        Ok(scene)
    }

    fn status(&self) -> Result<Value> {
        let run_dir = format!("--run-dir={}", self.directory.path().join("run").display());
        let mut status = Command::new(self.directory.path().join("sluice"));
        let output = status
            .args(["status", "--output=json", &run_dir])
            .output()?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(
            self.directory.path().join("sluice.log"),
        )?)
    }
}

fn curl(url: &str) -> Result<Vec<u8>> {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--insecure",
        "--fail",
        "--retry-connrefused",
    ]);
    let output = curl
        .args(["--retry", "3", "--header", "Host: any.test", url])
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// Copies a program by a process of its own. A test that starts another process meanwhile would hand it our
/// descriptor, and a file that is open for writing cannot be executed.
fn copy_program(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    anyhow::ensure!(status.success(), "failed to copy {}", from.display());
    Ok(())
}

/// A command of somebody without any privilege, whoever runs the test.
fn as_nobody(program: &Path) -> Command {
    if !rustix::process::getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program);
    command
}

/// Ports that nobody has at this moment.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
