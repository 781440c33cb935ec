//! The control side on a real API server: what is watched, what is told, what bad input does.

mod control {
    mod acme;
    mod adopt;
    mod bad_input;
    mod dashboard;
    mod events;
    mod external_name;
    mod services;
    mod watching;
}

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ingress_tests::cluster::control::{Audit, ControlPlane, Options};
use ingress_tests::cluster::programs::Programs;

/// A control plane under a name of its own.
fn plane(name: &str) -> Result<ControlPlane> {
    ControlPlane::start(&Options {
        prefix: format!("cs{}{name}", std::process::id()),
        programs: Programs::from_env(),
        audit: Audit::Off,
    })
}

/// The daemon.
fn sluice() -> Result<PathBuf> {
    binary("SLUICE_BINARY")
}

/// What stands for pods.
fn origin() -> Result<PathBuf> {
    binary("SLUICE_ORIGIN")
}

fn binary(variable: &str) -> Result<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from);
    path.with_context(|| format!("{variable} is not set: run tests by `cargo xtask test`"))
}

/// An Ingress of class `sluice` for a host, whose Service has no endpoints.
fn ingress(namespace: &str, name: &str, host: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  ingressClassName: sluice
  rules:
    - host: {host}
      http:
        paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {namespace}}}
spec: {{ports: [{{port: 80}}]}}
"
    )
}

/// Our class.
const CLASS: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: sluice}
spec: {controller: sluice.dev/ingress-controller}
";
