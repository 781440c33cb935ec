//! Kubeconfig files: which server, whose word for it, and who asks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::pki::Identity;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum User<'a> {
    /// The owner of a client certificate.
    Certificate(&'a Identity),
    /// The bearer of a token.
    Token(&'a str),
}

/// Writes the kubeconfig `name` for `user` at `server` into a directory.
pub(super) fn write(
    directory: &Path,
    name: &str,
    server: &str,
    authority: &Path,
    user: &User<'_>,
) -> Result<PathBuf> {
    let user: Value = match user {
        User::Certificate(identity) => {
            json!({"client-certificate": identity.certificate, "client-key": identity.key})
        }
        User::Token(token) => json!({ "token": token }),
    };
    // JSON is YAML.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "rig",
            "cluster": {"server": server, "certificate-authority": authority},
        }],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": name}}],
        "current-context": "rig",
    });
    let path = path(directory, name);
    fs::write(&path, serde_json::to_string_pretty(&config)?)?;
    Ok(path)
}

/// Where the kubeconfig `name` of a directory is.
pub(super) fn path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.kubeconfig"))
}
