//! Bad objects, one at a time: one Warning that names object and field, and nothing else changes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::{ControlPlane, Place};
use ingress_tests::rig::wait_until;

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn each_bad_object_gives_one_warning_and_changes_nothing_else() -> Result<()> {
    let plane = plane("bad")?;
    plane.apply(&format!(
        "{CLASS}{}",
        ingress("default", "good", "good.test")
    ))?;
    let flags = ["--publish-status-address=192.0.2.1"];
    let daemon = Daemon::start(&plane, &sluice()?, "bad", &flags)?;
    let mut known = warnings(&plane)?;
    for (what, object, expected) in CASES {
        let object = match object {
            Object::Text(text) => (*text).to_owned(),
            Object::Ingress(change) => change(ingress("default", "bad", "bad.test")),
        };
        plane.apply(&object).context(*what)?;
        let news = || {
            let now = warnings(&plane)?;
            Ok::<_, anyhow::Error>(now.difference(&known).cloned().collect::<Vec<_>>())
        };
        wait_until(what, || Ok(!news()?.is_empty())).with_context(|| daemon.log())?;
        let news = news()?;
        let [warning] = &news[..] else {
            anyhow::bail!("{what}: {news:?}");
        };
        ensure!(warning.starts_with(expected), "{what}: {warning}");
        ensure!(daemon.is_served("good.test", "/")?, "{what}");
        known = warnings(&plane)?;
        plane.kubectl(&["delete", "--ignore-not-found", "ingress", "bad"])?;
    }
    daemon.stop()
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_config_map_that_cannot_be_read_delays_nobody_else() -> Result<()> {
    let plane = plane("unread")?;
    plane.apply(&format!(
        "{CLASS}{LIMITED}{}{}",
        ingress("default", "good", "good.test"),
        ingress("default", "bad", "bad.test").replacen(
            "namespace: default}",
            "namespace: default, annotations: {sluice.dev/custom-headers: default/headers}}",
            1,
        ),
    ))?;
    let kubeconfig = plane.kubeconfig_for_user("limited", Place::Lan)?;
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let daemon = Daemon::start(&plane, &sluice()?, "unread", &[&kubeconfig])?;
    ensure!(daemon.is_served("good.test", "/")?);
    plane.apply(&ingress("default", "later", "later.test"))?;
    wait_until("a later Ingress", || daemon.is_served("later.test", "/"))
        .with_context(|| daemon.log())?;
    let log = daemon.stop_and_tell()?;
    ensure!(log.contains("configmaps in default/headers"), "{log}");
    Ok(())
}

enum Object {
    Text(&'static str),
    Ingress(fn(String) -> String),
}

/// What it is, the object, and how the Warning begins: reason, kind and name, field. What an object
/// names comes before it: it is applied first, and an Ingress without it would be told so meanwhile.
const CASES: &[(&str, Object, &str)] = &[
    (
        "an annotation that cannot be parsed",
        Object::Ingress(|text| {
            let annotation = "annotations: {nginx.ingress.kubernetes.io/backend-protocol: gopher}";
            text.replacen(
                "namespace: default}",
                &format!("namespace: default, {annotation}}}"),
                1,
            )
        }),
        "InvalidAnnotation Ingress bad metadata.annotations[nginx.ingress.kubernetes.io/backend-protocol]:",
    ),
    (
        "a class that does not exist",
        Object::Ingress(|text| text.replace("Name: sluice", "Name: typo")),
        "UnknownClass Ingress bad spec.ingressClassName:",
    ),
    (
        "a Secret that is no certificate",
        Object::Ingress(|text| {
            let secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: none, namespace: default}\n\
                          type: kubernetes.io/tls\nstringData: {tls.crt: nonsense, tls.key: nonsense}\n";
            let tls = "  tls: [{hosts: [bad.test], secretName: none}]\n  rules:";
            secret.to_owned() + &text.replace("  rules:", tls)
        }),
        "InvalidSecret Secret none data:",
    ),
    (
        "an EndpointSlice of names",
        Object::Ingress(|text| {
            text + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                    metadata: {name: names, namespace: default, labels: {kubernetes.io/service-name: web}}\n\
                    addressType: FQDN\nports: []\nendpoints: [{addresses: [example.com]}]\n"
        }),
        "AddressTypeUnsupported EndpointSlice names addressType:",
    ),
    (
        "an external name that leads back",
        Object::Ingress(|text| {
            let looped = "---\napiVersion: v1\nkind: Service\nmetadata: {name: loop, namespace: default}\n\
                          spec: {type: ExternalName, externalName: good.test}\n";
            looped.to_owned() + &text.replace("name: web, port", "name: loop, port")
        }),
        "ExternalNameLoop Ingress bad spec.rules[0].http.paths[0].backend.service.name:",
    ),
    (
        "a second default class",
        Object::Text(
            "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: one, annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}}
spec: {controller: sluice.dev/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: two, annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}}
spec: {controller: sluice.dev/ingress-controller}
",
        ),
        "DefaultClassConflict IngressClass",
    ),
];

/// All Warnings of ours (other controllers have theirs): reason, kind, name, note.
fn warnings(plane: &ControlPlane) -> Result<BTreeSet<String>> {
    let fields = "--output=jsonpath={range .items[?(@.type==\"Warning\")]}{.reportingController} {.reason} {.regarding.kind} {.regarding.name} {.note}\n{end}";
    let events = plane.kubectl(&["get", "events.events.k8s.io", "--all-namespaces", fields])?;
    let ours = |line: &str| Some(line.strip_prefix(REPORTER)?.trim_start().to_owned());
    Ok(events.lines().filter_map(ours).collect())
}

/// A user that may read what Sluice reads, but for ConfigMaps.
const LIMITED: &str = "---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules:
  - apiGroups: ['']
    resources: [services, secrets, nodes, namespaces]
    verbs: [get, list, watch]
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
  - apiGroups: [networking.k8s.io]
    resources: [ingresses, ingressclasses]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: limited}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: limited}]
";

const REPORTER: &str = "sluice.dev/ingress-controller";
