//! Secrets at the API server, or as files of a directory of manifests.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::task::spawn_blocking;

/// Where Secrets are read and written.
pub(super) enum Store {
    /// The API server.
    Cluster(Client),
    /// A directory of manifests.
    Directory(PathBuf),
}

impl Store {
    /// The Secret as it is now.
    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Option<Secret>> {
        match self {
            Self::Cluster(client) => {
                let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
                let found = secrets.get_opt(name).await;
                found.with_context(|| format!("failed to read Secret `{namespace}/{name}`"))
            }
            Self::Directory(directory) => {
                let file = file(directory, namespace, name)?;
                spawn_blocking(move || read(&file)).await?
            }
        }
    }

    /// Creates a Secret without a version, or replaces exactly the version that it has. Returns it with
    /// its new version.
    pub(super) async fn put(&self, secret: Secret) -> Result<Secret> {
        let namespace = secret.namespace().unwrap_or_default();
        let name = secret.name_any();
        match self {
            Self::Cluster(client) => {
                let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
                let post = PostParams::default();
                let written = if secret.metadata.resource_version.is_some() {
                    secrets.replace(&name, &post, &secret).await
                } else {
                    secrets.create(&post, &secret).await
                };
                written.with_context(|| format!("failed to write Secret `{namespace}/{name}`"))
            }
            Self::Directory(directory) => {
                let file = file(directory, &namespace, &name)?;
                spawn_blocking(move || write(&file, secret)).await?
            }
        }
    }
}

/// The file of a Secret. Names in manifests are whatever their author wrote.
fn file(directory: &Path, namespace: &str, name: &str) -> Result<PathBuf> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    // Without dots in namespaces, two Secrets never share a file.
    let are_plain =
        namespace.bytes().all(is_plain) && name.bytes().all(|byte| is_plain(byte) || byte == b'.');
    ensure!(
        are_plain && !namespace.is_empty() && !name.is_empty(),
        "`{namespace}/{name}` is not the name of a Secret"
    );
    Ok(directory.join(format!("sluice-acme.{namespace}.{name}.json")))
}

fn read(file: &Path) -> Result<Option<Secret>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read `{}`", file.display()));
        }
    };
    let secret = serde_json::from_slice::<Secret>(&text);
    let mut secret =
        secret.with_context(|| format!("`{}` is not a Secret in JSON", file.display()))?;
    secret.metadata.resource_version = Some(VERSION.to_owned());
    Ok(Some(secret))
}

/// Writes a temporary file and renames it, so that no reader sees half a Secret.
fn write(file: &Path, mut secret: Secret) -> Result<Secret> {
    let is_new = secret.metadata.resource_version.take().is_none();
    ensure!(!is_new || !file.exists(), "`{}` exists", file.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = file.with_file_name(format!(".{name}.tmp"));
    let text = serde_json::to_vec_pretty(&secret)?;
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW);
        let mut open = options.open(&temporary)?;
        open.write_all(&text)?;
        open.sync_all()?;
        fs::rename(&temporary, file)
    };
    written().with_context(|| format!("failed to write `{}`", file.display()))?;
    secret.metadata.resource_version = Some(VERSION.to_owned());
    Ok(secret)
}

/// Files have no versions: the lock sees to it that one daemon writes.
const VERSION: &str = "file";

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn secret(name: &str) -> Secret {
        Secret {
            metadata: ObjectMeta {
                namespace: Some("shop".to_owned()),
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        }
    }

    #[tokio::test]
    async fn secret_is_created_once_and_replaced_by_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::Directory(directory.path().to_owned());
        assert!(store.get("shop", "web").await.unwrap().is_none());
        let first = store.put(secret("web")).await.unwrap();
        assert!(store.put(secret("web")).await.is_err());
        store.put(first).await.unwrap();
        assert!(store.get("shop", "web").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn names_that_lead_out_of_the_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::Directory(directory.path().to_owned());
        for name in ["../web", "a/b", "", "a\0b"] {
            assert!(store.put(secret(name)).await.is_err(), "{name}");
            assert!(store.get("shop", name).await.is_err(), "{name}");
        }
    }

    #[test]
    fn secrets_share_no_file() {
        let of = |namespace, name| file(Path::new("/"), namespace, name);
        assert!(of("a", "b.c").is_ok());
        assert!(of("a.b", "c").is_err());
    }
}
