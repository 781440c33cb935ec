//! Every rendered manifest is taken by the API server, and the chart says what the base says.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::control::{Audit, ControlPlane, Options};
use ingress_tests::cluster::programs::Programs;
use serde_json::Value;

#[test]
#[ignore = "needs root: network namespaces"]
fn every_rendered_manifest_is_taken_by_the_api_server() -> Result<()> {
    let plane = ControlPlane::start(&Options {
        prefix: format!("dp{}", std::process::id()),
        programs: Programs::from_env(),
        audit: Audit::Off,
    })?;
    for kind in ["PodMonitor", "PrometheusRule"] {
        plane.apply(&operator_kind(kind))?;
    }
    plane.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/podmonitors.monitoring.coreos.com",
        "crd/prometheusrules.monitoring.coreos.com",
    ])?;
    for overlay in [
        "base",
        "overlays/acme",
        "overlays/host",
        "overlays/ingress-nginx",
        "overlays/prometheus",
        "overlays/grafana",
        "overlays/webhook",
    ] {
        let directory = deploy().join("kustomize").join(overlay);
        let rendered = plane.kubectl(&["kustomize", &directory.to_string_lossy()])?;
        plane.apply(&rendered).with_context(|| overlay.to_owned())?;
        plane.kubectl(&[
            "delete",
            "--ignore-not-found",
            "ingressclass",
            "sluice",
            "nginx",
        ])?;
        let daemon_set = plane.kubectl(&["-n", "sluice-system", "get", "daemonset", "sluice"])?;
        ensure!(daemon_set.contains("sluice"), "{overlay}: {daemon_set}");
    }
    for values in CHARTS {
        // The class of a load balancer may not change.
        let service = ["service", "sluice", "--namespace=sluice-system"];
        plane.kubectl(&[&["delete", "--ignore-not-found"][..], &service].concat())?;
        let rendered = chart(values)?;
        plane
            .apply(&rendered)
            .with_context(|| format!("{values:?}"))?;
        plane.kubectl(&[
            "delete",
            "--ignore-not-found",
            "ingressclass",
            "sluice",
            "nginx",
        ])?;
    }
    Ok(())
}

/// Values of the chart.
const CHARTS: &[&[&str]] = &[
    &[],
    &["datapath=host", "httpPort=8080", "httpsPort=8443"],
    &[
        "metrics.podMonitor.enabled=true",
        "metrics.prometheusRule.enabled=true",
        "metrics.grafanaDashboards.enabled=true",
        "ingressClass.default=true",
    ],
    &[
        "controllerClass=k8s.io/ingress-nginx",
        "ingressClass.name=nginx",
    ],
    &[
        "ingressClass.parameters.backend-protocol=HTTPS",
        "extraArgs={--workers=1}",
    ],
    &["tcp.5432=db/postgres:5432", "udp.53=kube-system/dns:53"],
    &["uplinkInNetns=eth1"],
    &[
        "acme.enabled=true",
        "acme.issuers[0].name=le",
        "acme.issuers[0].termsAgreed=true",
        "acme.issuers[0].directory=https://acme.test/dir",
        "acme.issuers[0].caSecret=ca",
        "acme.issuers[0].externalAccount.secret=eab",
        "acme.issuers[0].externalAccount.keyId=id",
    ],
    &["acme.enabled=true", "acme.namespaces={default}"],
    &[
        "service.enabled=true",
        "service.loadBalancerClass=metallb.io/l2",
        "service.annotations.a=b",
        "tcp.5432=db/postgres:5432",
        "udp.53=kube-system/dns:53",
    ],
    &[
        "service.enabled=true",
        "datapath=host",
        "httpPort=8080",
        "httpsPort=8443",
    ],
    &["dashboard.enabled=true"],
    &["webhook.enabled=true", "webhook.port=8443"],
    &[
        "dashboard.enabled=true",
        "dashboard.auth=kubernetes",
        "dashboard.tail=false",
    ],
];

#[test]
#[ignore = "needs root: helm"]
fn the_charts_service_is_adopted_where_ebpf_can_serve_it() -> Result<()> {
    let adopts = "- --adopt-service=sluice-system/sluice\n";
    for (values, is_adopted, delay) in [
        (&[][..], false, 5),
        (&["service.enabled=true"], true, 10),
        (&["service.enabled=true", "service.adopt=false"], false, 10),
        (&["service.enabled=true", "shutdownDelay=0"], true, 0),
        (
            &["service.enabled=true", "datapath=host", "httpPort=8080"],
            false,
            10,
        ),
    ] {
        let rendered = chart(values)?;
        assert_eq!(rendered.contains(adopts), is_adopted, "{values:?}");
        assert!(
            rendered.contains(&format!("--shutdown-delay={delay}\n")),
            "{values:?}"
        );
        let seconds = format!("terminationGracePeriodSeconds: {}\n", delay + 55);
        assert!(rendered.contains(&seconds), "{values:?}");
        let is_local = rendered.contains("externalTrafficPolicy: Local\n");
        assert_eq!(is_local, !values.is_empty(), "{values:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces"]
fn the_chart_says_what_the_base_says() -> Result<()> {
    let plane = ControlPlane::start(&Options {
        prefix: format!("dc{}", std::process::id()),
        programs: Programs::from_env(),
        audit: Audit::Off,
    })?;
    let base = deploy().join("kustomize/base");
    let base = plane.kubectl(&["kustomize", &base.to_string_lossy()])?;
    plane.apply(&base)?;
    let from_base = objects(&plane)?;
    plane.kubectl(&["delete", "namespace", "sluice-system"])?;
    plane.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: sluice-system}\n")?;
    plane.apply(&chart(&[])?)?;
    assert_eq!(objects(&plane)?, from_base);
    plane.apply(&chart(&["tcp.5432=db/postgres:5432:PROXY"])?)?;
    let data = [
        "-n",
        "sluice-system",
        "get",
        "configmap/sluice-tcp",
        "--output=jsonpath={.data}",
    ];
    assert_eq!(
        plane.kubectl(&data)?,
        r#"{"5432":"db/postgres:5432:PROXY"}"#
    );
    Ok(())
}

/// The objects as the API server has them, defaults filled in, without what it adds by itself.
fn objects(plane: &ControlPlane) -> Result<BTreeMap<String, Value>> {
    let mut objects = BTreeMap::new();
    for object in [
        "-n sluice-system daemonset/sluice",
        "-n sluice-system serviceaccount/sluice",
        "-n sluice-system role/sluice",
        "-n sluice-system rolebinding/sluice",
        "clusterrole/sluice",
        "clusterrolebinding/sluice",
        "ingressclass/sluice",
        "priorityclass/sluice",
    ] {
        let mut arguments = vec!["get", "--output=json"];
        arguments.extend(object.split_whitespace());
        let mut value: Value = serde_json::from_str(&plane.kubectl(&arguments)?)?;
        let labels = value["metadata"]["labels"].take();
        value["metadata"] = labels;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("status");
        }
        objects.insert(object.to_owned(), value);
    }
    Ok(objects)
}

/// The chart rendered with these values.
fn chart(values: &[&str]) -> Result<String> {
    let helm =
        env::var_os("SLUICE_HELM").context("SLUICE_HELM is not set: run `cargo xtask test`")?;
    let mut command = Command::new(helm);
    command
        .args(["template", "sluice"])
        .arg(deploy().join("helm/sluice"))
        .args(["--namespace=sluice-system", "--kube-version=v1.36.0"]);
    command.args(values.iter().map(|value| format!("--set={value}")));
    let output = command.output().context("failed to start helm")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("deploy")
}

/// What the Prometheus operator would bring along, with any fields.
/// A kind of the Prometheus operator, whose definition asks nothing of its objects.
fn operator_kind(kind: &str) -> String {
    let singular = kind.to_ascii_lowercase();
    format!(
        "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {singular}s.monitoring.coreos.com}}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {{kind: {kind}, listKind: {kind}List, plural: {singular}s, singular: {singular}}}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
"
    )
}
