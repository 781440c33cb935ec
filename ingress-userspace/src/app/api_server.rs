//! Reaches the Kubernetes API server, as the flags say.

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::settings::{ApiServer, Run};
use crate::source::kubernetes::Selection;

/// A client; nothing is sent yet, the API server may be away.
pub(crate) async fn client(flags: &ApiServer) -> Result<Client> {
    let config = config(flags).await?;
    Client::try_from(config).context("failed to make a client for the API server")
}

async fn config(flags: &ApiServer) -> Result<Config> {
    let options = KubeConfigOptions {
        context: flags.kube_context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match &flags.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("failed to read kubeconfig `{}`", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .with_context(|| format!("kubeconfig `{}` cannot be used", path.display()))?
        }
        None if flags.kube_context.is_some() => Config::from_kubeconfig(&options)
            .await
            .context("no usable kubeconfig in $KUBECONFIG or ~/.kube/config")?,
        None => Config::infer().await.context(
            "no API server: neither a service account of a pod nor a kubeconfig was found (see \
             --kubeconfig, or --manifests to serve without Kubernetes)",
        )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // The library's own retries of 429, 503 and 504 pause for up to 1,000 s and tell nobody: after a
    // long outage nothing would be read for minutes. Who asks tries again by himself.
    config.default_retry = false;
    Ok(config)
}

/// What to watch.
pub(super) fn selection(flags: &Run) -> Selection {
    let kubernetes = &flags.kubernetes;
    // External names that lead back here are known by the pods' nodes, addresses to publish by
    // the nodes.
    let pods = kubernetes.pod_namespace.clone();
    let are_nodes_published = kubernetes.update_status
        && kubernetes.publish_service.is_none()
        && kubernetes.publish_status_addresses.is_empty()
        && pods.is_some();
    Selection {
        namespaces: kubernetes.api_server.watch_namespaces.clone(),
        namespace_selector: kubernetes.api_server.watch_namespace_selector.clone(),
        translation: flags.translation(),
        has_nodes: kubernetes.topology_hints
            || are_nodes_published
            || !kubernetes.adopted_services.is_empty(),
        services: kubernetes.adopted_services.clone(),
        pods: pods.map(|namespace| (namespace, kubernetes.pod_selector.clone())),
    }
}

const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
