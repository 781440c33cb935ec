//! The pods of Sluice, as `kubectl get pods --output=json` lists them.

use serde::Deserialize;

/// A pod on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pod {
    /// The node that it is bound to.
    pub(super) node: String,
    /// Its name.
    pub(super) name: String,
    /// Whether commands can run in it.
    pub(super) is_running: bool,
}

/// Reads the list; pods that no node has yet are left out. Sorted by node.
///
/// # Errors
///
/// If it is no JSON, or no list of pods.
pub(super) fn read(list: &[u8]) -> Result<Vec<Pod>, serde_json::Error> {
    let list: List = serde_json::from_slice(list)?;
    let mut pods: Vec<Pod> = list.items.into_iter().filter_map(pod).collect();
    pods.sort();
    Ok(pods)
}

fn pod(item: Item) -> Option<Pod> {
    let is_ending = item.metadata.deletion_timestamp.is_some();
    Some(Pod {
        node: item.spec.node_name?,
        name: item.metadata.name,
        is_running: item.status.phase == "Running" && !is_ending,
    })
}

/// The pod of each node, or of each of these nodes. Where a node has two, as during an update, the one
/// that runs.
///
/// # Errors
///
/// The name of a node that has no pod, with those that have one.
pub(super) fn select(pods: Vec<Pod>, nodes: &[String]) -> Result<Vec<Pod>, String> {
    let names: Vec<String> = pods.iter().map(|pod| pod.node.clone()).collect();
    if let Some(node) = nodes.iter().find(|node| !names.contains(node)) {
        return Err(format!(
            "node `{node}` has no pod of Sluice; these have one: {}",
            names.join(", ")
        ));
    }
    let mut chosen: Vec<Pod> = Vec::new();
    for pod in pods {
        if !nodes.is_empty() && !nodes.contains(&pod.node) {
            continue;
        }
        match chosen.last_mut() {
            Some(last) if last.node == pod.node => {
                if !last.is_running {
                    *last = pod;
                }
            }
            _ => chosen.push(pod),
        }
    }
    Ok(chosen)
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"items": [
        {"metadata": {"name": "sluice-c"}, "spec": {"nodeName": "edge-2"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "sluice-a", "deletionTimestamp": "2026-11-30T00:00:00Z"},
         "spec": {"nodeName": "edge-1"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "sluice-b"}, "spec": {"nodeName": "edge-1"}, "status": {"phase": "Running"}},
        {"metadata": {"name": "sluice-d"}, "spec": {}, "status": {"phase": "Pending"}}]}"#;

    fn names(nodes: &[&str]) -> Result<Vec<String>, String> {
        let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
        let pods = select(read(LIST.as_bytes()).unwrap(), &nodes)?;
        Ok(pods.into_iter().map(|pod| pod.name).collect())
    }

    #[test]
    fn each_node_has_the_pod_that_runs_on_it() {
        assert_eq!(names(&[]).unwrap(), ["sluice-b", "sluice-c"]);
        assert_eq!(names(&["edge-2"]).unwrap(), ["sluice-c"]);
    }

    #[test]
    fn unknown_node_is_named_with_those_that_there_are() {
        let error = names(&["edge-3"]).unwrap_err();
        assert!(
            error.contains("edge-3") && error.contains("edge-1"),
            "{error}"
        );
    }

    #[test]
    fn output_that_is_no_list_is_refused() {
        for text in ["", "{}", "[]", r#"{"items": [{}]}"#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
