//! Flags that decide what objects mean: shared by `run`, `check` and `explain`.

use std::sync::Arc;

use clap::Args;
use clap::ValueEnum;
use ingress_core::ir::{BackendKey, ObjectRef};
use ingress_core::translate::{self, Options, Unclassed};

use crate::acme::Issuer;

/// Which Ingresses are ours, and what they mean.
#[derive(Clone, Debug, Args)]
pub struct IngressSelection {
    /// Value of the annotation kubernetes.io/ingress.class that is ours, and the class name that
    /// is ours where no IngressClass object has it.
    #[arg(
        long,
        env = "SLUICE_INGRESS_CLASS",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub ingress_class: String,

    /// spec.controller of the IngressClasses that are ours; `k8s.io/ingress-nginx` takes over
    /// what ingress-nginx served.
    #[arg(
        long,
        env = "SLUICE_CONTROLLER_CLASS",
        value_name = "NAME",
        default_value = "sluice.dev/ingress-controller"
    )]
    pub controller_class: String,

    /// Whether to serve Ingresses that name no class [default: true with manifests, else false].
    #[arg(
        long,
        env = "SLUICE_WATCH_INGRESS_WITHOUT_CLASS",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub watch_ingress_without_class: Option<bool>,

    /// Service for requests that no rule matches.
    #[arg(
        long,
        env = "SLUICE_DEFAULT_BACKEND_SERVICE",
        value_name = "NAMESPACE/NAME:PORT"
    )]
    pub default_backend_service: Option<BackendKey>,

    /// ConfigMap with defaults of all Ingresses, under ingress-nginx's keys; the parameters of a class
    /// and annotations count before it.
    #[arg(
        long = "configmap",
        env = "SLUICE_CONFIGMAP",
        value_name = "NAMESPACE/NAME",
        value_parser = super::relay::parse_config_map
    )]
    pub config_map: Option<ObjectRef>,

    /// Secret with the certificate of hosts that have none of their own.
    #[arg(
        long,
        env = "SLUICE_DEFAULT_SSL_CERTIFICATE",
        value_name = "NAMESPACE/NAME",
        value_parser = parse_secret
    )]
    pub default_ssl_certificate: Option<ObjectRef>,

    /// Annotation, or key of a class's ConfigMap, that is ignored even if it restricts access;
    /// without it, routes whose restriction cannot be honoured answer 503. May be given several
    /// times. The key stands without its prefix.
    #[arg(
        long = "ignore-annotation",
        env = "SLUICE_IGNORE_ANNOTATION",
        value_name = "KEY",
        value_delimiter = ','
    )]
    pub ignored_annotations: Vec<String>,

    /// Which Ingresses may add rules to a host: `shared`, all; `namespace`, those of the namespace
    /// whose Ingress named the host first.
    #[arg(
        long,
        env = "SLUICE_HOST_OWNERSHIP",
        value_enum,
        default_value = "shared"
    )]
    pub host_ownership: HostOwnership,

    /// Where ingress-nginx and the Kubernetes specification differ, which of them counts [default:
    /// ingress-nginx with --controller-class=k8s.io/ingress-nginx, else strict].
    #[arg(long, env = "SLUICE_COMPAT", value_enum)]
    pub compat: Option<Compat>,

    /// ACME issuer that Ingresses may name by the annotation sluice.dev/acme (docs/acme.md), as
    /// NAME=URL,terms=agreed; may be given more than once. Further parts are KEY=VALUE: contact,
    /// challenge (http-01 or tls-alpn-01), key (ecdsa-p256 or rsa-2048), ca-file, eab-key-id and
    /// eab-key-file.
    #[arg(
        long = "acme-issuer",
        env = "SLUICE_ACME_ISSUER",
        value_name = "NAME=URL,KEY=VALUE"
    )]
    pub acme_issuers: Vec<Issuer>,

    /// Don't serve Services of type ExternalName.
    #[arg(long, env = "SLUICE_DISABLE_SVC_EXTERNAL_NAME")]
    pub disable_svc_external_name: bool,
}

/// `NAMESPACE/NAME` of a Secret.
fn parse_secret(text: &str) -> Result<ObjectRef, String> {
    let secret = super::relay::parse_config_map(text)?;
    Ok(ObjectRef {
        kind: "Secret",
        ..secret
    })
}

impl IngressSelection {
    /// What the translation has to know.
    pub fn options(&self, is_unclassed_ours: bool, hints_for_node: Option<String>) -> Options {
        Options {
            controller_class: self.controller_class.clone(),
            ingress_class: self.ingress_class.clone(),
            unclassed: if is_unclassed_ours {
                Unclassed::Accept
            } else {
                Unclassed::Ignore
            },
            default_backend: self.default_backend_service.clone().map(Arc::new),
            config_map: self.config_map.clone(),
            default_certificate: self.default_ssl_certificate.clone(),
            hints_for_node,
            external_names: !self.disable_svc_external_name,
            acme_issuers: (self.acme_issuers.iter())
                .map(|issuer| Arc::clone(&issuer.name))
                .collect(),
            ignored_annotations: self.ignored_annotations.iter().cloned().collect(),
            host_ownership: match self.host_ownership {
                HostOwnership::Shared => translate::HostOwnership::Shared,
                HostOwnership::Namespace => translate::HostOwnership::Namespace,
            },
            compat: match self.compat() {
                Compat::Strict => translate::Compat::Strict,
                Compat::IngressNginx => translate::Compat::IngressNginx,
            },
            ..Options::default()
        }
    }

    fn compat(&self) -> Compat {
        let default = if self.controller_class == INGRESS_NGINX {
            Compat::IngressNginx
        } else {
            Compat::Strict
        };
        self.compat.unwrap_or(default)
    }
}

/// Values of `--host-ownership`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostOwnership {
    /// All Ingresses.
    Shared,
    /// Those of one namespace.
    Namespace,
}

/// Values of `--compat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// The Kubernetes specification.
    Strict,
    /// ingress-nginx.
    IngressNginx,
}

/// `spec.controller` of ingress-nginx's classes.
const INGRESS_NGINX: &str = "k8s.io/ingress-nginx";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        meaning: IngressSelection,
    }

    fn parse(flags: &[&str]) -> Result<IngressSelection, clap::Error> {
        let flags = ["sluice"].into_iter().chain(flags.iter().copied());
        <Flags as clap::Parser>::try_parse_from(flags).map(|flags| flags.meaning)
    }

    #[test]
    fn default_backend_has_a_port_by_number_or_name() {
        for right in ["web/shop:8080", "web/shop:http"] {
            let flag = format!("--default-backend-service={right}");
            let backend = parse(&[&flag]).unwrap().default_backend_service;
            assert_eq!(backend.unwrap().to_string(), right);
        }
        for wrong in [
            "shop",
            "web/shop",
            "web/:80",
            "/shop:80",
            "web/shop:0",
            "web/shop:70000",
        ] {
            let flag = format!("--default-backend-service={wrong}");
            assert!(parse(&[&flag]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn claiming_ingress_nginx_defaults_to_its_behaviour() {
        let compat = |flags: &[&str]| parse(flags).unwrap().options(true, None).compat;
        let nginx = "--controller-class=k8s.io/ingress-nginx";
        assert_eq!(compat(&[]), translate::Compat::Strict);
        assert_eq!(compat(&[nginx]), translate::Compat::IngressNginx);
        assert_eq!(
            compat(&[nginx, "--compat=strict"]),
            translate::Compat::Strict
        );
    }
}
