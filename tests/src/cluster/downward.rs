//! Fields of a pod that its containers are told, and `$(NAME)` in their command and environment.

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;

/// The value of a field, by the paths that the downward API knows.
pub(super) fn field(pod: &Pod, path: &str) -> Result<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" => status.and_then(|status| status.pod_ip.clone()),
        "status.podIPs" => status.map(|status| {
            let addresses = status.pod_ips.iter().flatten();
            addresses
                .map(|address| address.ip.as_str())
                .collect::<Vec<_>>()
                .join(",")
        }),
        "status.hostIP" => status.and_then(|status| status.host_ip.clone()),
        _ => return entry(pod, path),
    };
    value.with_context(|| format!("the pod has no `{path}`"))
}

/// `metadata.labels['name']` and its kin; empty where there is no such entry.
fn entry(pod: &Pod, path: &str) -> Result<String> {
    let of = |map: &str| {
        path.strip_prefix(map)?
            .strip_prefix("['")?
            .strip_suffix("']")
    };
    let (entries, key) = if let Some(key) = of("metadata.labels") {
        (&pod.metadata.labels, key)
    } else if let Some(key) = of("metadata.annotations") {
        (&pod.metadata.annotations, key)
    } else {
        bail!("the downward API has no `{path}`");
    };
    let value = entries.as_ref().and_then(|entries| entries.get(key));
    Ok(value.cloned().unwrap_or_default())
}

/// Replaces `$(NAME)` by its value; `$$` is a dollar, and unknown names stay as they are.
pub(super) fn expand(text: &str, values: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        let value = name.and_then(|(name, after)| {
            let (_, value) = values.iter().rev().find(|(known, _)| known == name)?;
            Some((value, after))
        });
        match value {
            Some((value, after)) => {
                out += value;
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_expanded_as_in_kubernetes() {
        let values = [("A".to_owned(), "1".to_owned())];
        assert_eq!(expand("-$(A)-$(B)-$$(A)-$A-", &values), "-1-$(B)-$(A)-$A-");
    }
}
