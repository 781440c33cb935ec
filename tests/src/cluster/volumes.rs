//! A pod's volumes, as directories on the node.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccount, Volume,
    VolumeProjection,
};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use super::downward::field;
use super::node::on_node;

/// Files of a volume, by path.
type Files = BTreeMap<String, Vec<u8>>;

/// Where each volume of a pod is, by name; made below `directory`, or on the node.
pub(super) async fn make(
    client: &Client,
    pod: &Pod,
    node: &Path,
    directory: &Path,
) -> Result<HashMap<String, PathBuf>> {
    let mut places = HashMap::new();
    for volume in pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
    {
        let place = place(client, pod, volume, node, &directory.join(&volume.name))
            .await
            .with_context(|| format!("volume `{}`", volume.name))?;
        places.insert(volume.name.clone(), place);
    }
    Ok(places)
}

async fn place(
    client: &Client,
    pod: &Pod,
    volume: &Volume,
    node: &Path,
    own: &Path,
) -> Result<PathBuf> {
    if let Some(path) = &volume.host_path {
        let place = on_node(node, &path.path);
        if path.type_.as_deref() == Some("DirectoryOrCreate") {
            fs::create_dir_all(&place)?;
        }
        return Ok(place);
    }
    let source = Source { client, pod };
    let mut files = Files::new();
    if let Some(map) = &volume.config_map {
        let is_optional = map.optional.unwrap_or(false);
        files = source
            .config_map(&map.name, map.items.as_deref(), is_optional)
            .await?;
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        let is_optional = secret.optional.unwrap_or(false);
        files = source
            .secret(name, secret.items.as_deref(), is_optional)
            .await?;
    } else if let Some(downward) = &volume.downward_api {
        files = source.downward(downward.items.as_deref().unwrap_or_default())?;
    } else if let Some(projected) = &volume.projected {
        for projection in projected.sources.iter().flatten() {
            files.extend(source.projection(projection).await?);
        }
    } else if volume.empty_dir.is_none() {
        bail!("the rig has no volumes of this kind");
    }
    fs::create_dir_all(own)?;
    for (path, content) in files {
        let file = own.join(path);
        fs::create_dir_all(file.parent().unwrap_or(own))?;
        fs::write(file, content)?;
    }
    Ok(own.to_owned())
}

struct Source<'a> {
    client: &'a Client,
    pod: &'a Pod,
}

impl Source<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        is_optional: bool,
    ) -> Result<Files> {
        let map = self.api::<ConfigMap>().get_opt(name).await?;
        let Some(map) = map else {
            return missing("config map", name, is_optional);
        };
        let text = map.data.into_iter().flatten();
        let mut all: Files = text.map(|(key, text)| (key, text.into_bytes())).collect();
        all.extend(
            map.binary_data
                .into_iter()
                .flatten()
                .map(|(key, bytes)| (key, bytes.0)),
        );
        choose(all, items)
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        is_optional: bool,
    ) -> Result<Files> {
        let secret = self.api::<Secret>().get_opt(name).await?;
        let Some(secret) = secret else {
            return missing("secret", name, is_optional);
        };
        let entries = secret.data.into_iter().flatten();
        choose(entries.map(|(key, bytes)| (key, bytes.0)).collect(), items)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile]) -> Result<Files> {
        let read = |item: &DownwardAPIVolumeFile| {
            let of = item
                .field_ref
                .as_ref()
                .context("only fields can be projected")?;
            Ok((
                item.path.clone(),
                field(self.pod, &of.field_path)?.into_bytes(),
            ))
        };
        items.iter().map(read).collect()
    }

    async fn projection(&self, projection: &VolumeProjection) -> Result<Files> {
        if let Some(token) = &projection.service_account_token {
            let seconds = token.expiration_seconds.unwrap_or(3600);
            let token_text = self.token(token.audience.as_deref(), seconds).await?;
            return Ok(Files::from([(token.path.clone(), token_text.into_bytes())]));
        }
        if let Some(map) = &projection.config_map {
            let is_optional = map.optional.unwrap_or(false);
            return self
                .config_map(&map.name, map.items.as_deref(), is_optional)
                .await;
        }
        if let Some(secret) = &projection.secret {
            let is_optional = secret.optional.unwrap_or(false);
            return self
                .secret(&secret.name, secret.items.as_deref(), is_optional)
                .await;
        }
        if let Some(downward) = &projection.downward_api {
            return self.downward(downward.items.as_deref().unwrap_or_default());
        }
        bail!("the rig has no projections of this kind")
    }

    /// A token of the pod's service account that is bound to the pod, as a kubelet asks for one.
    async fn token(&self, audience: Option<&str>, seconds: i64) -> Result<String> {
        let metadata = &self.pod.metadata;
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let request: TokenRequest = serde_json::from_value(json!({
            "spec": {
                "audiences": audience.map_or_else(Vec::new, |audience| vec![audience]),
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": metadata.name, "uid": metadata.uid,
                },
            },
        }))?;
        let answer: TokenRequest = self
            .api::<ServiceAccount>()
            .create_subresource("token", &account, &PostParams::default(), &request)
            .await?;
        Ok(answer.status.context("the API server gave no token")?.token)
    }
}

fn missing(kind: &str, name: &str, is_optional: bool) -> Result<Files> {
    if is_optional {
        return Ok(Files::new());
    }
    bail!("{kind} `{name}` does not exist")
}

/// All entries, or those that are listed, at their paths.
fn choose(mut all: Files, items: Option<&[KeyToPath]>) -> Result<Files> {
    let Some(items) = items else {
        return Ok(all);
    };
    let mut take = |item: &KeyToPath| {
        let content = all.remove(&item.key);
        let content = content.with_context(|| format!("there is no key `{}`", item.key))?;
        Ok((item.path.clone(), content))
    };
    items.iter().map(&mut take).collect()
}
