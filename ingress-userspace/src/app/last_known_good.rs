//! The objects served last, in a file, for a start while the API server is away.
//!
//! Opt-in by `--last-known-good`: the file holds private keys. It is readable for its owner only
//! and belongs on a tmpfs; another file system is refused.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_core::list::List;
use ingress_core::object::{EndpointSlice, Ingress, Service};
use ingress_core::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret};
use k8s_openapi::api::networking::v1::IngressClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::source::Observation;

/// Writes the newest snapshot that it is given.
pub(super) struct LastKnownGood {
    path: PathBuf,
    newest: watch::Sender<Snapshot>,
}

/// The file. Pods are not in it: nothing is written to an API server that is away. Nodes are, for no
/// address of theirs may be adopted.
#[derive(Serialize, Deserialize)]
struct Stored {
    ingresses: Vec<Ingress>,
    ingress_classes: Vec<IngressClass>,
    services: Vec<Service>,
    endpoint_slices: Vec<EndpointSlice>,
    secrets: Vec<Secret>,
    config_maps: Vec<ConfigMap>,
    #[serde(default)]
    nodes: Vec<Node>,
}

impl LastKnownGood {
    /// Keeps the file at `path` from now on; nothing is written before the first [`save`].
    ///
    /// [`save`]: Self::save
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make `{}`", directory.display()))?;
        let file_system = rustix::fs::statfs(directory)
            .with_context(|| format!("failed to look at `{}`", directory.display()))?;
        ensure!(
            [TMPFS_MAGIC, RAMFS_MAGIC].contains(&file_system.f_type),
            "`{}` is no tmpfs: --last-known-good holds private keys, which belong on no disk",
            directory.display()
        );
        let (newest, mut written) = watch::channel(Snapshot::default());
        let target = path.clone();
        tokio::spawn(async move {
            while written.changed().await.is_ok() {
                let snapshot = written.borrow_and_update().clone();
                let target = target.clone();
                let write = tokio::task::spawn_blocking(move || write(&target, snapshot));
                match write.await {
                    Ok(Ok(())) => debug!("the last known good state is written"),
                    Ok(Err(error)) => warn!(%error, "failed to write the last known good state"),
                    Err(error) => warn!(%error, "writing the last known good state failed"),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(Self { path, newest })
    }

    /// Has a snapshot written, soon and not more often than every few seconds.
    pub(super) fn save(&self, snapshot: &Snapshot) {
        self.newest.send_replace(snapshot.clone());
    }

    /// What was written last; `None` when there is no file, or none that can be used.
    pub(super) fn load(&self) -> Option<Observation> {
        match read(&self.path) {
            Ok(observation) => observation,
            Err(error) => {
                warn!(
                    path = %self.path.display(),
                    error = format!("{error:#}"),
                    "the last known good state can't be used"
                );
                None
            }
        }
    }
}

fn write(path: &Path, snapshot: Snapshot) -> io::Result<()> {
    fn owned<K: Clone>(objects: &List<K>) -> Vec<K> {
        objects.iter().map(|object| K::clone(object)).collect()
    }
    let stored = Stored {
        ingresses: owned(&snapshot.ingresses),
        ingress_classes: owned(&snapshot.ingress_classes),
        services: owned(&snapshot.services),
        endpoint_slices: owned(&snapshot.endpoint_slices),
        secrets: owned(&snapshot.secrets),
        config_maps: owned(&snapshot.config_maps),
        nodes: owned(&snapshot.nodes),
    };
    drop(snapshot);
    let unfinished = path.with_extension("new");
    // A file of an earlier daemon keeps whatever mode it has.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    let mut writer = BufWriter::new(file);
    serde_json::to_writer(&mut writer, &stored)?;
    writer.flush()?;
    fs::rename(&unfinished, path)
}

fn read(path: &Path) -> Result<Option<Observation>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("file cannot be read"),
    };
    let stored: Stored = serde_json::from_slice(&bytes).context("it is broken")?;
    let snapshot = Snapshot {
        ingresses: shared(stored.ingresses),
        ingress_classes: shared(stored.ingress_classes),
        services: shared(stored.services),
        endpoint_slices: shared(stored.endpoint_slices),
        secrets: shared(stored.secrets),
        config_maps: shared(stored.config_maps),
        nodes: shared(stored.nodes),
        ..Snapshot::default()
    };
    let age = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = age
        .ok()
        .and_then(|written| written.elapsed().ok())
        .unwrap_or_default();
    Ok(Some(Observation {
        snapshot,
        problems: vec![format!(
            "API server: not reached yet; what was known {} s before the start is served",
            age.as_secs()
        )],
        ..Observation::default()
    }))
}

fn shared<K: DeserializeOwned>(objects: Vec<K>) -> List<K> {
    objects.into_iter().map(Arc::new).collect()
}

/// How long the API server gets before the file stands in for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// Between two writes.
const PAUSE: Duration = Duration::from_secs(5);
/// `statfs(2)`, `f_type`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn saved_objects_survive_a_restart_and_are_private() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = directory.path().join("state.json");
        let first = LastKnownGood::open(path.clone()).unwrap();
        assert!(first.load().is_none());
        let ingress: k8s_openapi::api::networking::v1::Ingress =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop"}}))
                .unwrap();
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"tls.key": "a2V5"}}))
                .unwrap();
        let snapshot = Snapshot {
            ingresses: List::from_iter([Arc::new(ingress.into())]),
            secrets: List::from_iter([Arc::new(secret)]),
            ..Snapshot::default()
        };
        first.save(&snapshot);
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = LastKnownGood::open(path.clone()).unwrap();
        assert_eq!(second.load().unwrap().snapshot, snapshot);
        fs::write(&path, "{").unwrap();
        assert!(second.load().is_none(), "a broken file is as good as none");
    }

    #[tokio::test]
    async fn a_disk_is_no_place_for_keys() {
        let proc = PathBuf::from("/proc/self/state.json");
        assert!(LastKnownGood::open(proc).is_err());
    }
}
