//! What a service account was granted and what it used, by the API server's own books.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use ingress_tests::cluster::control::ControlPlane;
use serde_json::Value;

/// Something that is allowed, or was done: `group/resource verb`.
pub(super) type Rights = BTreeSet<String>;

/// What the roles named `sluice` grant.
pub(super) fn granted(plane: &ControlPlane) -> Result<Rights> {
    let mut rights = Rights::new();
    for role in ["clusterrole/sluice", "role/sluice"] {
        let role = plane.kubectl(&["-n", "sluice-system", "get", role, "--output=json"])?;
        let role: Value = serde_json::from_str(&role)?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            for (group, resource, verb) in product(rule) {
                rights.insert(format!("{group}/{resource} {verb}"));
            }
        }
    }
    Ok(rights)
}

fn product(rule: &Value) -> Vec<(String, String, String)> {
    let texts = |key: &str| -> Vec<String> {
        let values = rule[key].as_array().into_iter().flatten();
        values
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let mut all = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            let verbs = texts("verbs").into_iter();
            all.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
        }
    }
    all
}

/// What the service account did with success, and what it was refused.
pub(super) fn used(plane: &ControlPlane) -> Result<(Rights, Vec<String>)> {
    let mut rights = Rights::new();
    let mut refused = Vec::new();
    for line in plane.audit_log()?.lines() {
        let entry: Value = serde_json::from_str(line).context("the audit log is no JSON")?;
        if entry["user"]["username"] != ACCOUNT {
            continue;
        }
        let object = &entry["objectRef"];
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let mut resource = text("resource").to_owned();
        if !text("subresource").is_empty() {
            resource = format!("{resource}/{}", text("subresource"));
        }
        let verb = entry["verb"].as_str().unwrap_or_default();
        let what = format!("{}/{resource} {verb}", text("apiGroup"));
        if entry["responseStatus"]["code"] == 403 {
            refused.push(what);
        } else {
            rights.insert(what);
        }
    }
    Ok((rights, refused))
}

const ACCOUNT: &str = "system:serviceaccount:sluice-system:sluice";
