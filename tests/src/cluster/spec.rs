//! From a container of a Pod object to one that can be started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};
use kube::{Api, Client};

use super::container::{DEFAULT_CAPABILITIES, Mount, Rights, Spec};
use super::control::API_SERVICE_V4;
use super::downward::{expand, field};
use super::images::Images;

/// What a container is started with, besides its own words.
pub(super) struct Surroundings<'a> {
    /// For what its environment refers to.
    pub(super) client: &'a Client,
    /// Its pod, with its addresses.
    pub(super) pod: &'a Pod,
    /// Programs that stand for images.
    pub(super) images: &'a Images,
    /// Network namespace, by name.
    pub(super) network: &'a str,
    /// Volumes of the pod, by name.
    pub(super) volumes: &'a HashMap<String, PathBuf>,
    /// Empty directory for its root.
    pub(super) root: &'a Path,
}

impl Surroundings<'_> {
    /// The container, ready to be started.
    pub(super) async fn spec(&self, container: &Container) -> Result<Spec> {
        let image = container.image.as_deref().unwrap_or_default();
        let (program, entry_point) = self.images.find(image)?;
        let environment = self.environment(container).await?;
        let of = |words: &Option<Vec<String>>| -> Vec<String> {
            let words = words.iter().flatten();
            words.map(|word| expand(word, &environment)).collect()
        };
        let mut command = of(&container.command);
        if command.is_empty() {
            command.push(entry_point.display().to_string());
        }
        command.extend(of(&container.args));
        Ok(Spec {
            network: self.network.to_owned(),
            root: self.root.to_owned(),
            program: program.to_owned(),
            entry_point,
            command,
            mounts: self.mounts(container)?,
            rights: rights(self.pod, container),
            environment,
        })
    }

    async fn environment(&self, container: &Container) -> Result<Vec<(String, String)>> {
        if container
            .env_from
            .as_ref()
            .is_some_and(|from| !from.is_empty())
        {
            bail!("the rig has no envFrom");
        }
        let mut environment = vec![
            (
                "KUBERNETES_SERVICE_HOST".to_owned(),
                API_SERVICE_V4.to_owned(),
            ),
            ("KUBERNETES_SERVICE_PORT".to_owned(), "443".to_owned()),
            (
                "HOSTNAME".to_owned(),
                self.pod.metadata.name.clone().unwrap_or_default(),
            ),
        ];
        for variable in container.env.iter().flatten() {
            let value = self.value(variable).await;
            let value =
                value.with_context(|| format!("environment variable `{}`", variable.name))?;
            let value = value.unwrap_or_else(|| {
                expand(variable.value.as_deref().unwrap_or_default(), &environment)
            });
            environment.push((variable.name.clone(), value));
        }
        Ok(environment)
    }

    /// What a variable refers to; none if it has a value of its own.
    async fn value(&self, variable: &EnvVar) -> Result<Option<String>> {
        let Some(from) = &variable.value_from else {
            return Ok(None);
        };
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        if let Some(of) = &from.field_ref {
            return field(self.pod, &of.field_path).map(Some);
        }
        if let Some(of) = &from.config_map_key_ref {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            let map = maps.get(&of.name).await?;
            let value = map.data.and_then(|mut data| data.remove(&of.key));
            return value.context("there is no such key").map(Some);
        }
        if let Some(of) = &from.secret_key_ref {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            let secret = secrets.get(&of.name).await?;
            let value = secret.data.and_then(|mut data| data.remove(&of.key));
            let value = value.context("there is no such key")?;
            return Ok(Some(String::from_utf8(value.0)?));
        }
        bail!("the rig has no such source")
    }

    fn mounts(&self, container: &Container) -> Result<Vec<Mount>> {
        let mount = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
            let volume = self.volumes.get(&mount.name);
            let volume = volume.with_context(|| format!("no volume `{}`", mount.name))?;
            Ok(Mount {
                source: match &mount.sub_path {
                    Some(path) => volume.join(path),
                    None => volume.clone(),
                },
                target: PathBuf::from(&mount.mount_path),
                read_only: mount.read_only.unwrap_or(false),
                bidirectional: mount.mount_propagation.as_deref() == Some("Bidirectional"),
            })
        };
        container
            .volume_mounts
            .iter()
            .flatten()
            .map(mount)
            .collect()
    }
}

fn rights(pod: &Pod, container: &Container) -> Rights {
    let own = container.security_context.clone().unwrap_or_default();
    let pods = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.clone());
    let pods = pods.unwrap_or_default();
    let id = |own: Option<i64>, pods: Option<i64>| {
        own.or(pods)
            .and_then(|id| u32::try_from(id).ok())
            .unwrap_or(0)
    };
    let mut capabilities: Vec<String> = DEFAULT_CAPABILITIES.map(str::to_owned).to_vec();
    let asked = own.capabilities.unwrap_or_default();
    for dropped in asked.drop.iter().flatten() {
        capabilities.retain(|known| dropped != "ALL" && dropped != known);
    }
    capabilities.extend(asked.add.into_iter().flatten());
    Rights {
        privileged: own.privileged.unwrap_or(false),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        capabilities,
        user: (
            id(own.run_as_user, pods.run_as_user),
            id(own.run_as_group, pods.run_as_group),
        ),
    }
}
