//! The certificate of the validating webhook, where the operator names no files.
//!
//! It is in a Secret that all pods share. The leader makes it, renews it at two thirds of its life,
//! and tells the API server what to trust (`caBundle` of the `ValidatingWebhookConfiguration`). The
//! certificate is its own authority: there is no key that could sign others.
//!
//! Invariants: the API server trusts a certificate before a pod serves it, and trusts the one before
//! as well, until the next renewal. A Secret without the mark of this module is served and never
//! written: somebody else, such as cert-manager, keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admin::certificate_files::config;

/// The objects by which the API server finds the webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// The namespace of the Service and of the Secret.
    pub namespace: String,
    /// The Service that leads to the webhook; the Secret has its name.
    pub service: String,
    /// The `ValidatingWebhookConfiguration` whose webhooks call the Service.
    pub configuration: String,
}

/// Keeps the certificate, and sends each new one, until it is dropped.
pub async fn keep(
    client: Client,
    objects: Objects,
    mut leading: watch::Receiver<bool>,
    served: watch::Sender<Option<Arc<ServerConfig>>>,
) {
    let mut keeper = Keeper {
        secrets: Api::namespaced(client.clone(), &objects.namespace),
        configurations: Api::all(client),
        objects,
        known: None,
    };
    loop {
        let is_leading = *leading.borrow_and_update();
        match keeper.turn(is_leading).await {
            Ok(Some(config)) => drop(served.send_replace(Some(config))),
            Ok(None) => {}
            Err(error) => warn!("failed to keep the certificate of the webhook: {error:#}"),
        }
        let pause = if served.borrow().is_some() {
            PAUSE
        } else {
            FIRST_PAUSE
        };
        tokio::select! {
            () = sleep(pause) => {}
            changed = leading.changed() => if changed.is_err() {
                return;
            }
        }
    }
}

struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    objects: Objects,
    /// The version of the Secret whose certificate is served.
    known: Option<String>,
}

impl Keeper {
    /// Reads the Secret; the leader also writes what is missing. Returns a certificate that is not
    /// served yet.
    async fn turn(&mut self, is_leading: bool) -> Result<Option<Arc<ServerConfig>>> {
        let name = &self.objects.service;
        let found = self.secrets.get_opt(name).await;
        let mut secret = found.with_context(|| format!("failed to read Secret `{name}`"))?;
        if is_leading {
            let renewal = is_ours(secret.as_ref()) && is_due(secret.as_ref(), SystemTime::now());
            if renewal {
                secret = Some(self.renew(secret).await?);
            } else if let Some(trusted) = secret.as_ref().and_then(|secret| field(secret, TRUSTED))
            {
                self.tell_api_server(&trusted).await?;
            }
        }
        let Some(secret) = secret else {
            return Ok(None);
        };
        let version = secret.metadata.resource_version.clone();
        if version == self.known {
            return Ok(None);
        }
        let part = |key| {
            let part = field(&secret, key);
            part.with_context(|| format!("Secret `{name}` has no field `{key}`"))
        };
        let config = config(&part(CERTIFICATE)?.0, &part(KEY)?.0);
        let config = config.with_context(|| format!("Secret `{name}` has no certificate"))?;
        self.known = version;
        Ok(Some(Arc::new(config)))
    }

    /// Makes a certificate: trusted by the API server first, then in the Secret.
    async fn renew(&self, before: Option<Secret>) -> Result<Secret> {
        let made =
            make(&self.objects, SystemTime::now()).context("failed to make a certificate")?;
        let mut trusted = made.certificate.clone();
        if let Some(earlier) = before
            .as_ref()
            .and_then(|before| field(before, CERTIFICATE))
        {
            trusted.push_str(&String::from_utf8_lossy(&earlier.0));
        }
        let trusted = ByteString(trusted.into_bytes());
        self.tell_api_server(&trusted).await?;
        let name = &self.objects.service;
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.objects.namespace.clone()),
                annotations: Some(BTreeMap::from([(MARK.to_owned(), "true".to_owned())])),
                resource_version: before.and_then(|before| before.metadata.resource_version),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from([
                (CERTIFICATE.to_owned(), ByteString(made.certificate.into())),
                (KEY.to_owned(), ByteString(made.key.into())),
                (TRUSTED.to_owned(), trusted),
            ])),
            ..Secret::default()
        };
        let post = PostParams::default();
        let written = if secret.metadata.resource_version.is_some() {
            self.secrets.replace(name, &post, &secret).await
        } else {
            self.secrets.create(&post, &secret).await
        };
        let written = written.with_context(|| format!("failed to write Secret `{name}`"))?;
        info!(secret = %name, "made a certificate for the validating webhook");
        Ok(written)
    }

    /// Makes the API server trust these certificates at the webhooks that call our Service.
    async fn tell_api_server(&self, trusted: &ByteString) -> Result<()> {
        let name = &self.objects.configuration;
        let found = self.configurations.get_opt(name).await;
        let found = found
            .with_context(|| format!("failed to read ValidatingWebhookConfiguration `{name}`"))?;
        let mut configuration = found
            .with_context(|| format!("there is no ValidatingWebhookConfiguration `{name}`"))?;
        if !trust(&mut configuration, &self.objects, trusted) {
            return Ok(());
        }
        let post = PostParams::default();
        let written = self
            .configurations
            .replace(name, &post, &configuration)
            .await;
        written
            .with_context(|| format!("failed to write ValidatingWebhookConfiguration `{name}`"))?;
        info!(configuration = %name, "the API server trusts the certificate of the webhook");
        Ok(())
    }
}

/// Sets what is trusted at the webhooks that call our Service. Returns whether anything has changed.
fn trust(
    configuration: &mut ValidatingWebhookConfiguration,
    objects: &Objects,
    trusted: &ByteString,
) -> bool {
    let mut has_changed = false;
    for webhook in configuration.webhooks.iter_mut().flatten() {
        let client = &mut webhook.client_config;
        let is_ours = client.service.as_ref().is_some_and(|service| {
            service.namespace == objects.namespace && service.name == objects.service
        });
        if is_ours && client.ca_bundle.as_ref() != Some(trusted) {
            client.ca_bundle = Some(trusted.clone());
            has_changed = true;
        }
    }
    has_changed
}

/// Whether this module may write the Secret: it is missing, or has its mark.
fn is_ours(secret: Option<&Secret>) -> bool {
    secret.is_none_or(|secret| {
        let annotations = secret.metadata.annotations.as_ref();
        annotations.is_some_and(|all| all.contains_key(MARK))
    })
}

/// Whether the certificate is missing, cannot be read, or is in the last third of its life.
fn is_due(secret: Option<&Secret>, now: SystemTime) -> bool {
    let until = secret
        .and_then(|secret| field(secret, CERTIFICATE))
        .and_then(|pem| not_after(&pem.0));
    until.is_none_or(|until| until < now + LIFETIME / 3)
}

fn not_after(pem: &[u8]) -> Option<SystemTime> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
}

fn field(secret: &Secret, key: &str) -> Option<ByteString> {
    secret.data.as_ref()?.get(key).cloned()
}

/// A certificate and its key, in PEM.
struct Made {
    certificate: String,
    key: String,
}

/// Makes a certificate for the names by which an API server calls a Service.
fn make(objects: &Objects, now: SystemTime) -> Result<Made> {
    let Objects {
        namespace, service, ..
    } = objects;
    let name = format!("{service}.{namespace}.svc");
    let names = [name.clone(), format!("{name}.cluster.local")];
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - CLOCK_SKEW_MAX).into();
    params.not_after = (now + LIFETIME).into();
    let key = KeyPair::generate()?;
    Ok(Made {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// The annotation of Secrets that this module writes.
const MARK: &str = "sluice.dev/webhook-certificate";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The certificates that the API server is to trust: this one and the one before.
const TRUSTED: &str = "ca.crt";
const LIFETIME: Duration = Duration::from_hours(24 * 90);
const CLOCK_SKEW_MAX: Duration = Duration::from_hours(1);
/// Time between two looks at the Secret.
const PAUSE: Duration = Duration::from_mins(1);
/// The same, before there is a certificate.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::{
        ServiceReference, ValidatingWebhook, WebhookClientConfig,
    };

    use super::*;

    fn objects() -> Objects {
        Objects {
            namespace: "sluice-system".to_owned(),
            service: "sluice-webhook".to_owned(),
            configuration: "sluice".to_owned(),
        }
    }

    fn secret(mark: bool, certificate: &str) -> Secret {
        let data = [(CERTIFICATE.to_owned(), ByteString(certificate.into()))];
        let mark = mark.then(|| BTreeMap::from([(MARK.to_owned(), "true".to_owned())]));
        Secret {
            metadata: ObjectMeta {
                annotations: mark,
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from(data)),
            ..Secret::default()
        }
    }

    #[test]
    fn certificate_is_made_where_there_is_none_and_renewed_at_two_thirds_of_its_life() {
        let start = SystemTime::now();
        let made = make(&objects(), start).unwrap().certificate;
        let secret = secret(true, &made);
        let after = |days: u64| is_due(Some(&secret), start + Duration::from_hours(24 * days));
        assert_eq!([0, 59, 61, 100].map(after), [false, false, true, true]);
        assert!(is_due(None, start));
        assert!(is_due(Some(&self::secret(true, "not PEM")), start));
    }

    #[test]
    fn secret_of_somebody_else_is_not_written() {
        assert!(is_ours(None));
        assert!(is_ours(Some(&secret(true, ""))));
        assert!(!is_ours(Some(&secret(false, ""))));
    }

    #[test]
    fn made_certificate_and_key_fit_each_other() {
        let made = make(&objects(), SystemTime::now()).unwrap();
        config(made.certificate.as_bytes(), made.key.as_bytes()).unwrap();
    }

    #[test]
    fn only_webhooks_that_call_our_service_get_the_certificate() {
        let webhook = |service: &str| ValidatingWebhook {
            name: service.to_owned(),
            client_config: WebhookClientConfig {
                service: Some(ServiceReference {
                    namespace: "sluice-system".to_owned(),
                    name: service.to_owned(),
                    ..ServiceReference::default()
                }),
                ..WebhookClientConfig::default()
            },
            ..ValidatingWebhook::default()
        };
        let mut configuration = ValidatingWebhookConfiguration {
            webhooks: Some(vec![webhook("sluice-webhook"), webhook("other")]),
            ..ValidatingWebhookConfiguration::default()
        };
        let trusted = ByteString(b"PEM".to_vec());
        assert!(trust(&mut configuration, &objects(), &trusted));
        assert!(!trust(&mut configuration, &objects(), &trusted));
        let webhooks = configuration.webhooks.unwrap();
        let bundle = |at: usize| webhooks[at].client_config.ca_bundle.clone();
        assert_eq!((bundle(0), bundle(1)), (Some(trusted), None));
    }
}
