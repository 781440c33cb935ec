//! Flags that decide what objects mean: shared by `run`, `check` and `explain`.

use std::sync::Arc;

use clap::Args;
use ingress_core::ir::{BackendKey, BackendPolicy, ServicePort};
use ingress_core::translate::{Options, Unclassed};

/// Which Ingresses are ours, and what they mean.
#[derive(Clone, Debug, Args)]
pub struct Meaning {
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
    #[arg(long, env = "SLUICE_DEFAULT_BACKEND_SERVICE", value_name = "NAMESPACE/NAME:PORT",
          value_parser = parse_backend)]
    pub default_backend_service: Option<BackendKey>,

    /// Don't serve Services of type ExternalName.
    #[arg(long, env = "SLUICE_DISABLE_SVC_EXTERNAL_NAME")]
    pub disable_svc_external_name: bool,
}

impl Meaning {
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
            hints_for_node,
            external_names: !self.disable_svc_external_name,
            ..Options::default()
        }
    }
}

fn parse_backend(text: &str) -> Result<BackendKey, String> {
    let parts = text
        .split_once('/')
        .and_then(|(namespace, rest)| Some((namespace, rest.split_once(':')?)))
        .filter(|(namespace, (name, port))| ![namespace, name, port].iter().any(|s| s.is_empty()));
    let Some((namespace, (service, port))) = parts else {
        return Err("expected NAMESPACE/NAME:PORT".into());
    };
    let port = match port.parse() {
        Ok(number) => ServicePort::Number(number),
        Err(_) => ServicePort::Name(port.into()),
    };
    Ok(BackendKey {
        namespace: namespace.into(),
        service: service.into(),
        port,
        policy: BackendPolicy::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_backend_has_a_port_by_number_or_name() {
        let by_number = parse_backend("web/shop:8080").unwrap();
        assert_eq!(by_number.port, ServicePort::Number(8080));
        let by_name = parse_backend("web/shop:http").unwrap();
        assert_eq!(by_name.port, ServicePort::Name("http".into()));
        for wrong in ["shop", "web/shop", "web/:80", "/shop:80"] {
            assert!(parse_backend(wrong).is_err(), "{wrong}");
        }
    }
}
