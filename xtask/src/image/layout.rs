//! Packs a directory as an image of one layer: an OCI image layout (image-spec 1.1) in a tar file,
//! which podman, skopeo and containerd import.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::VERSION;
use crate::shell::{output, root, step};

/// Packs the files below `rootfs`; `work` is a directory for what is made on the way.
pub(super) fn pack(rootfs: &Path, work: &Path, output: &Path) -> Result<()> {
    let time = Time::of_sources()?;
    let layout = Layout(work.join("layout"));
    fs::create_dir_all(layout.blobs())?;
    let layer = work.join("layer.tar");
    tar(rootfs, &layer, &time)?;
    let uncompressed = sha256(&layer)?;
    let mut gzip = Command::new("gzip");
    step(
        "compress the layer",
        gzip.args(["--no-name", "--force"]).arg(&layer),
    )?;
    let layer = layout.add(&work.join("layer.tar.gz"), LAYER)?;
    let config = layout.add_json(&config(&uncompressed, &time), CONFIG)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [layer],
    });
    let mut manifest = layout.add_json(&manifest, MANIFEST)?;
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    // The name is containerd's, the reference is the specification's.
    manifest["annotations"] = json!({
        "io.containerd.image.name": format!("{NAME}:{VERSION}"),
        "org.opencontainers.image.ref.name": VERSION,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    layout.write("index.json", &index)?;
    layout.write("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    tar(&layout.0, output, &time)
}

/// What a runtime starts, and how the layer is made.
fn config(uncompressed: &str, time: &Time) -> Value {
    json!({
        "created": time.text,
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": "0:0",
            "Entrypoint": ["/sluice"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "sluice",
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{uncompressed}")]},
        "history": [{"created": time.text, "created_by": "cargo xtask image"}],
    })
}

/// A directory with blobs by their digests.
struct Layout(PathBuf);

impl Layout {
    fn blobs(&self) -> PathBuf {
        self.0.join("blobs/sha256")
    }

    /// Moves a file to the blobs, and gives its descriptor.
    fn add(&self, file: &Path, media_type: &str) -> Result<Value> {
        let digest = sha256(file)?;
        let size = fs::metadata(file)?.len();
        fs::rename(file, self.blobs().join(&digest))?;
        Ok(json!({
            "mediaType": media_type,
            "digest": format!("sha256:{digest}"),
            "size": size,
        }))
    }

    fn add_json(&self, content: &Value, media_type: &str) -> Result<Value> {
        self.write("blob", content)?;
        self.add(&self.0.join("blob"), media_type)
    }

    fn write(&self, name: &str, content: &Value) -> Result<()> {
        Ok(fs::write(self.0.join(name), serde_json::to_vec(content)?)?)
    }
}

/// When the sources were written last: the time of everything in the image.
struct Time {
    /// Seconds since 1970.
    seconds: String,
    /// By RFC 3339.
    text: String,
}

impl Time {
    /// `SOURCE_DATE_EPOCH` (reproducible-builds.org), else the time of the commit, else 1970.
    fn of_sources() -> Result<Self> {
        let commit = || {
            let mut git = Command::new("git");
            output(git.current_dir(root()).args(["log", "-1", "--format=%ct"]))
        };
        let given = env::var("SOURCE_DATE_EPOCH").ok();
        let seconds = given.or_else(commit).unwrap_or_else(|| "0".to_owned());
        let seconds = seconds.trim().to_owned();
        let mut date = Command::new("date");
        date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"]);
        let text = output(date.arg(format!("--date=@{seconds}")));
        let text = text.with_context(|| format!("`{seconds}` is no number of seconds"))?;
        let text = text.trim().to_owned();
        Ok(Self { seconds, text })
    }
}

/// Packs what is below a directory, the same for every user and every day.
fn tar(directory: &Path, output: &Path, time: &Time) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort();
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", time.seconds)])
        .arg("--file")
        .arg(output)
        .arg("--directory")
        .arg(directory)
        .args(names);
    step(&format!("pack {}", output.display()), &mut tar)
}

/// The SHA-256 of a file, in hexadecimal digits.
fn sha256(file: &Path) -> Result<String> {
    let sum = output(Command::new("sha256sum").arg(file));
    let sum = sum.with_context(|| format!("sha256sum cannot read {}", file.display()))?;
    let digits = sum.split_whitespace().next();
    Ok(digits.context("sha256sum printed nothing")?.to_owned())
}

/// The architecture by the name that Go and images have for it.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The image's name in `deploy/`.
const NAME: &str = "ghcr.io/sluice-dev/sluice";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn name_and_version_are_those_of_the_manifests() -> Result<()> {
        let base = root().join("deploy/kustomize/base/kustomization.yaml");
        let base = fs::read_to_string(base)?;
        let image = format!("newName: {NAME}\n    newTag: {VERSION}\n");
        assert!(base.contains(&image), "{base}");
        Ok(())
    }

    #[test]
    fn same_files_give_the_same_bytes() -> Result<()> {
        let work = env::temp_dir().join(format!("sluice-layout-{}", std::process::id()));
        let mut digests = Vec::new();
        for mode in [0o700, 0o755] {
            let files = work.join("files");
            fs::create_dir_all(files.join("etc"))?;
            fs::write(files.join("etc/passwd"), "root:x:0:0::/:\n")?;
            fs::write(files.join("sluice"), "binary")?;
            fs::set_permissions(files.join("sluice"), fs::Permissions::from_mode(mode))?;
            let image = work.join("image.tar");
            pack(&files, &work, &image)?;
            digests.push(sha256(&image)?);
            fs::remove_dir_all(&work)?;
        }
        assert_eq!(digests[0], digests[1]);
        Ok(())
    }
}
