//! Where a daemon keeps what outlives it.

use std::env;
use std::path::PathBuf;

use clap::Args;

/// Names of what a daemon keeps outside its process; another daemon on the same machine needs
/// others.
#[derive(Clone, Debug, Args)]
pub struct Paths {
    /// Directory for the lock and the admin socket.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// Directory in bpffs for maps and links.
    #[arg(
        long,
        env = "SLUICE_BPFFS",
        value_name = "DIR",
        default_value = "/sys/fs/bpf/sluice"
    )]
    pub bpffs: PathBuf,

    /// Name of the ingress network namespace.
    #[arg(
        long,
        env = "SLUICE_INGRESS_NETNS",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub ingress_netns: String,

    /// Name of the device that leads into it.
    #[arg(
        long,
        env = "SLUICE_GATE",
        value_name = "DEVICE",
        default_value = "sluice0"
    )]
    pub gate: String,
}

/// Where a daemon keeps its lock and its admin socket.
#[derive(Clone, Debug, Args)]
pub struct RunDir {
    /// Directory for the lock and the admin socket [default: /run/sluice; without root
    /// `$XDG_RUNTIME_DIR/sluice`, else /tmp/sluice-UID].
    #[arg(long = "run-dir", env = "SLUICE_RUN_DIR", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl RunDir {
    /// The directory.
    pub fn path(&self) -> PathBuf {
        let user = rustix::process::getuid();
        match (&self.directory, env::var_os("XDG_RUNTIME_DIR")) {
            (Some(directory), _) => directory.clone(),
            (None, _) if user.is_root() => PathBuf::from("/run/sluice"),
            (None, Some(runtime)) => PathBuf::from(runtime).join("sluice"),
            (None, None) => PathBuf::from(format!("/tmp/sluice-{}", user.as_raw())),
        }
    }
}
