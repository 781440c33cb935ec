//! cert-manager, as its documentation has it, gets certificates from Pebble through Sluice (HTTP-01, RFC 8555 §8.3).

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_tests::cluster::control::CONTROL_V4;
use ingress_tests::cluster::{Cluster, Options};
use ingress_tests::curl::Request;
use ingress_tests::pebble::{Pebble, Settings};
use ingress_tests::rig::wait_within;

#[test]
#[ignore = "needs root: network namespaces"]
fn cert_manager_gets_certificates_through_ingresses_of_its_solver() -> Result<()> {
    let scene = Scene::set()?;
    let plane = &scene.cluster.plane;
    // One Ingress that the solver makes an Ingress beside, and one whose rules it extends.
    plane.apply(&asking("beside", ""))?;
    let in_place = "acme.cert-manager.io/http01-edit-in-place: 'true'";
    plane.apply(&asking("within", in_place))?;
    scene.wait_for_redirects()?;
    for name in ["beside", "within"] {
        scene.wait_for_certificate(name)?;
    }
    // What the solver made is gone, and the rules are what their owner wrote.
    wait_within(PATIENCE, "the solver to clean up", || {
        let left = plane.kubectl(&["get", "ingresses,pods", "--output=name"])?;
        let rules = plane.kubectl(&[
            "get",
            "ingress",
            "within",
            "--output=jsonpath={.spec.rules}",
        ])?;
        Ok(!left.contains("cm-acme-http-solver") && !rules.contains("acme-challenge"))
    })
}

struct Scene {
    cluster: Cluster,
    pebble: Pebble,
}

impl Scene {
    fn set() -> Result<Self> {
        let program = env::var_os("SLUICE_CERT_MANAGER").map(PathBuf::from);
        let program = program.context("SLUICE_CERT_MANAGER is not set: run `cargo xtask test`")?;
        let mut options = Options::from_env()?;
        for image in ["cert-manager-controller", "acmesolver"] {
            options.images = options.images.with(image, &program);
        }
        let cluster = Cluster::start(&Options {
            workers: 1,
            ..options
        })?;
        let edge = cluster.node("edge1")?.v4.parse()?;
        let pebble = Pebble::start(&Settings {
            directory: &cluster.path("pebble"),
            host: Some(cluster.plane.host()),
            address: CONTROL_V4.parse()?,
            hosts_at: edge,
            ports: [14000, 15000, 53],
            http_port: 80,
            tls_port: 443,
            needs_external_account: false,
            refused_nonces: 0,
        })?;
        cluster.install_sluice(&[])?;
        let definitions = program.with_file_name("crds");
        let definitions = definitions.to_string_lossy();
        cluster
            .plane
            .kubectl(&["apply", "--server-side", "--filename", &definitions])?;
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ];
        cluster.plane.kubectl(&wait)?;
        cluster
            .plane
            .apply(&CERT_MANAGER.replace("NAMES", CONTROL_V4))?;
        let authority = STANDARD.encode(fs::read(pebble.authority())?);
        let issuer = ISSUER.replace("URL", &pebble.url());
        cluster
            .plane
            .apply(&issuer.replace("AUTHORITY", &authority))?;
        cluster.plane.apply(include_str!("../rolling/web.yaml"))?;
        cluster.roll_out("deployment/web")?;
        let scene = Self { cluster, pebble };
        let ready = scene.cluster.plane.kubectl(&READY);
        ready.with_context(|| scene.state())?;
        Ok(scene)
    }

    /// Plain HTTP leads to HTTPS, where there is no certificate yet.
    fn wait_for_redirects(&self) -> Result<()> {
        let url = format!("http://{}/page", self.cluster.node("edge1")?.v4);
        wait_within(PATIENCE, "hosts with a TLS section to be served", || {
            let mut statuses = Vec::new();
            for name in ["beside", "within"] {
                let request = Request::get(&url, &format!("{name}.test"));
                statuses.push(request.send(&self.cluster.network.client)?.status);
            }
            Ok(statuses == [308, 308])
        })
    }

    /// Waits until the client trusts the certificate that Sluice serves for an Ingress.
    fn wait_for_certificate(&self, name: &str) -> Result<()> {
        let edge = &self.cluster.node("edge1")?.v4;
        let root = self.pebble.root()?;
        let host = format!("{name}.test");
        let request = Request::get_tls(edge, &host, "/").trusting(&root);
        let arrived = wait_within(PATIENCE, "a trusted certificate", || {
            let response = request.send(&self.cluster.network.client);
            Ok(response.is_ok_and(|response| response.status == 200))
        });
        arrived.with_context(|| self.state())?;
        let secret = format!("{name}-tls");
        let kind = ["get", "secret", &secret, "--output=jsonpath={.type}"];
        let kind = self.cluster.plane.kubectl(&kind)?;
        ensure!(kind == "kubernetes.io/tls", "{kind}");
        Ok(())
    }

    /// cert-manager's objects and log, for the message of a failure.
    fn state(&self) -> String {
        let plane = &self.cluster.plane;
        let kinds = "issuers,certificates,orders,challenges,ingresses,pods";
        let objects = plane.kubectl(&["get", kinds, "--output=wide"]);
        let namespace = "--namespace=cert-manager";
        let pods = plane.kubectl(&["get", "pods", namespace, "--output=name"]);
        let pod = pods.unwrap_or_default();
        let pod = pod.trim().trim_start_matches("pod/");
        let log = self.cluster.log("cert-manager", pod, "controller");
        format!("{}\n{log}", objects.unwrap_or_default())
    }
}

/// An Ingress as cert-manager's documentation has it, with one more annotation.
fn asking(name: &str, annotation: &str) -> String {
    ASKING
        .replace("NAME", name)
        .replace("ANNOTATION", annotation)
}

/// The self-check of a challenge takes eight seconds, and these two wait for each other's changes.
const PATIENCE: Duration = Duration::from_secs(90);

const READY: [&str; 4] = [
    "wait",
    "--for=condition=Ready",
    "issuer/pebble",
    "--timeout=60s",
];

const CERT_MANAGER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: cert-manager}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cert-manager, namespace: cert-manager}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cert-manager}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: cert-manager, namespace: cert-manager}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cert-manager, namespace: cert-manager}
spec:
  selector: {matchLabels: {app: cert-manager}}
  template:
    metadata: {labels: {app: cert-manager}}
    spec:
      serviceAccountName: cert-manager
      containers:
      - name: controller
        image: quay.io/jetstack/cert-manager-controller:test
        args: ['--acme-http01-solver-nameservers=NAMES:53']
";

const ISSUER: &str = "
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: pebble, namespace: default}
spec:
  acme:
    server: URL
    caBundle: AUTHORITY
    email: user@example.com
    privateKeySecretRef: {name: pebble-account}
    solvers:
    - http01: {ingress: {ingressClassName: sluice}}
";

const ASKING: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: NAME
  namespace: default
  annotations:
    cert-manager.io/issuer: pebble
    ANNOTATION
spec:
  ingressClassName: sluice
  rules:
  - host: NAME.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
  tls:
  - {hosts: [NAME.test], secretName: NAME-tls}
";
