//! The container image, and a real container runtime (crun) that starts it as a pod of `deploy/` asks for.
//!
//! What a kubelet and containerd add by themselves is written down here: mounts and hidden paths of every
//! container, the seccomp profile `RuntimeDefault`, volumes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, PodSpec, VolumeMount};
use serde_json::{Value, json};

use crate::host::{self, Process};

/// An image whose layer is unpacked.
#[derive(Debug)]
pub struct Image {
    /// Its files.
    pub rootfs: PathBuf,
    /// Its configuration (image-spec, `config.md`).
    pub config: Value,
}

impl Image {
    /// Unpacks an OCI image layout of one image with one layer, and checks every digest.
    pub fn unpack(file: &Path, directory: &Path) -> Result<Self> {
        let layout = directory.join("layout");
        let rootfs = directory.join("rootfs");
        fs::create_dir_all(&layout)?;
        fs::create_dir_all(&rootfs)?;
        untar(file, &layout)?;
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let manifest = blob(&layout, &index["manifests"][0])?;
        let manifest: Value = serde_json::from_slice(&fs::read(manifest)?)?;
        let config = blob(&layout, &manifest["config"])?;
        let layer = blob(&layout, &manifest["layers"][0])?;
        untar(&layer, &rootfs)?;
        Ok(Self {
            config: serde_json::from_slice(&fs::read(config)?)?,
            rootfs,
        })
    }

    /// The absolute paths of its files.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut find = Command::new("find");
        find.arg(&self.rootfs)
            .args(["-type", "f", "-printf", "/%P\n"]);
        let found = String::from_utf8(find.output()?.stdout)?;
        let mut files: Vec<_> = found.lines().map(str::to_owned).collect();
        files.sort();
        Ok(files)
    }
}

/// The file of a descriptor, which has the size and the digest that the descriptor says.
fn blob(layout: &Path, descriptor: &Value) -> Result<PathBuf> {
    let digest = descriptor["digest"].as_str().context("a digest")?;
    let digest = digest.strip_prefix("sha256:").context("SHA-256")?;
    let file = layout.join("blobs/sha256").join(digest);
    let size = fs::metadata(&file)?.len();
    ensure!(descriptor["size"] == size, "{descriptor}: {size} bytes");
    let sum = Command::new("sha256sum").arg(&file).output()?.stdout;
    ensure!(sum.starts_with(digest.as_bytes()), "{descriptor}");
    Ok(file)
}

fn untar(file: &Path, directory: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--same-permissions", "--file"]);
    host::run(tar.arg(file).arg("--directory").arg(directory))
}

/// A pod on the host network, of which the first container is started.
#[derive(Debug)]
pub struct Pod<'a> {
    /// As the API has it.
    pub spec: &'a PodSpec,
    /// The network namespace of its node, by name.
    pub network: &'a str,
    /// Values of the fields that its environment refers to.
    pub fields: &'a [(&'a str, &'a str)],
    /// A directory of the test for each path of the node that it mounts.
    pub node_paths: &'a [(&'a str, &'a Path)],
    /// Arguments besides its own.
    pub arguments: &'a [String],
    /// Directories of the test that it reads besides its own volumes, at the same place.
    pub readable: &'a [&'a Path],
    /// The seccomp profile `RuntimeDefault`.
    pub seccomp: Value,
}

impl Pod<'_> {
    /// The container to start.
    pub fn container(&self) -> Result<&Container> {
        self.spec.containers.first().context("no container")
    }

    /// The configuration of the runtime (runtime-spec, `config.md`).
    fn configuration(&self, image: &Image) -> Result<Value> {
        let container = self.container()?;
        let rights = container.security_context.clone().unwrap_or_default();
        let capabilities = capabilities(container)?;
        let words = |words: &Value| -> Vec<String> {
            let words = words.as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        // Arguments of a pod take the place of the image's.
        let mut command = words(&image.config["config"]["Entrypoint"]);
        command.extend(match &container.args {
            Some(arguments) => arguments.clone(),
            None => words(&image.config["config"]["Cmd"]),
        });
        command.extend(self.arguments.iter().cloned());
        ensure!(
            rights
                .seccomp_profile
                .is_some_and(|profile| profile.type_ == "RuntimeDefault"),
            "only the profile RuntimeDefault is known here"
        );
        Ok(json!({
            "ociVersion": "1.0.2",
            "root": {
                "path": image.rootfs,
                "readonly": rights.read_only_root_filesystem.unwrap_or(false),
            },
            "process": {
                "args": command,
                "env": self.environment(container)?,
                "cwd": "/",
                "user": {"uid": rights.run_as_user.unwrap_or(0), "gid": rights.run_as_group.unwrap_or(0)},
                "noNewPrivileges": rights.allow_privilege_escalation == Some(false),
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "permitted": capabilities,
                },
            },
            "mounts": self.mounts(container)?,
            "linux": {
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "mount"},
                    {"type": "network", "path": format!("/run/netns/{}", self.network)},
                ],
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
                "seccomp": self.seccomp,
            },
        }))
    }

    fn environment(&self, container: &Container) -> Result<Vec<String>> {
        let mut environment = vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        for variable in container.env.iter().flatten() {
            let field = variable
                .value_from
                .as_ref()
                .and_then(|from| from.field_ref.as_ref());
            let value = match field {
                None => variable.value.as_deref().unwrap_or_default(),
                Some(field) => {
                    let mut known = self.fields.iter();
                    let known = known.find(|(path, _)| *path == field.field_path);
                    known
                        .with_context(|| format!("no value of {}", field.field_path))?
                        .1
                }
            };
            environment.push(format!("{}={value}", variable.name));
        }
        Ok(environment)
    }

    fn mounts(&self, container: &Container) -> Result<Vec<Value>> {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
            json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        for mount in container.volume_mounts.iter().flatten() {
            let volume = self.volume(mount);
            mounts.push(volume.with_context(|| format!("volume `{}`", mount.name))?);
        }
        let readable = self.readable.iter().map(|path| {
            json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]})
        });
        mounts.extend(readable);
        Ok(mounts)
    }

    fn volume(&self, mount: &VolumeMount) -> Result<Value> {
        let mut volumes = self.spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name);
        let volume = volume.context("the pod has none of this name")?;
        let access = if mount.read_only == Some(true) {
            "ro"
        } else {
            "rw"
        };
        if let Some(path) = &volume.host_path {
            let mut known = self.node_paths.iter();
            let (_, own) = known
                .find(|(of_node, _)| *of_node == path.path)
                .context("its path")?;
            return Ok(
                json!({"destination": mount.mount_path, "type": "bind", "source": own,
                "options": ["rbind", "rprivate", access]}),
            );
        }
        let empty = volume
            .empty_dir
            .as_ref()
            .context("neither hostPath nor emptyDir")?;
        ensure!(empty.medium.as_deref() == Some("Memory"), "not in memory");
        let size = empty
            .size_limit
            .as_ref()
            .context("no limit")?
            .0
            .trim_end_matches('i');
        Ok(
            json!({"destination": mount.mount_path, "type": "tmpfs", "source": "tmpfs",
            "options": [access, "mode=777", format!("size={}", size.to_lowercase())]}),
        )
    }
}

/// The capabilities of a container that drops all and adds some, by the kernel's names.
pub fn capabilities(container: &Container) -> Result<Vec<String>> {
    let rights = container.security_context.clone().unwrap_or_default();
    let asked = rights.capabilities.unwrap_or_default();
    if asked.drop.unwrap_or_default() != ["ALL"] {
        bail!("the container keeps the capabilities of the runtime");
    }
    let added = asked.add.unwrap_or_default();
    Ok(added.iter().map(|name| format!("CAP_{name}")).collect())
}

/// A container of crun. It ends with this.
#[derive(Debug)]
pub struct Running {
    name: String,
    state: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Running {
    /// Starts the first container of a pod; `directory` is for the files of the runtime.
    pub fn start(name: &str, image: &Image, pod: &Pod<'_>, directory: &Path) -> Result<Self> {
        let bundle = directory.join("bundle");
        fs::create_dir_all(&bundle)?;
        let configuration = serde_json::to_vec_pretty(&pod.configuration(image)?)?;
        fs::write(bundle.join("config.json"), configuration)?;
        let state = directory.join("state");
        let log = directory.join("container.log");
        let mut run = crun(&state);
        run.args(["run", "--bundle"]).arg(&bundle).arg(name);
        let process =
            Process::spawn(run, &log).context("failed to run crun, of Debian's package `crun`")?;
        Ok(Self {
            name: name.to_owned(),
            state,
            log,
            process,
        })
    }

    /// What a command in the container prints, as an exec probe starts it.
    pub fn exec(&self, command: &[String]) -> Result<Vec<u8>> {
        let mut exec = crun(&self.state);
        let output = exec.args(["exec", &self.name]).args(command).output()?;
        if !output.status.success() {
            bail!(
                "{command:?}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    }

    /// The process id of its first process.
    pub fn id(&self) -> Result<u32> {
        let output = crun(&self.state).args(["state", &self.name]).output()?;
        let state: Value = serde_json::from_slice(&output.stdout)?;
        let id = state["pid"].as_u64().context("no process")?;
        Ok(u32::try_from(id)?)
    }

    /// Sends SIGTERM, and waits for the end with status 0.
    pub fn stop(mut self) -> Result<()> {
        host::run(crun(&self.state).args(["kill", &self.name, "TERM"]))?;
        let status = self.process.wait()?;
        ensure!(status.success(), "ended with {status}:\n{}", self.log());
        Ok(())
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_some())
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is gone already.
        let _ = crun(&self.state)
            .args(["delete", "--force", &self.name])
            .output();
    }
}

fn crun(state: &Path) -> Command {
    // Limits of cgroups are no rights. crun looks at the machine's cgroups all the same, and refuses both
    // versions beside each other: it sees none.
    let mut crun = Command::new("unshare");
    crun.args(["--mount", "--propagation=private", "sh", "-c"])
        .arg("mount -t tmpfs none /sys/fs/cgroup && exec crun \"$@\"")
        .args(["crun", "--cgroup-manager=disabled", "--root"])
        .arg(state);
    crun
}

/// What containerd hides of `/proc` and `/sys` (`pkg/oci/spec.go`, release 2.1).
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
/// What containerd makes read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
