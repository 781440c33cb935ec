//! The suite as data.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// All features with their requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Where it is from.
    pub source: String,
    /// The Ingress of each feature.
    pub ingresses: BTreeMap<String, IngressSpec>,
    /// One scenario each.
    pub requests: Vec<Request>,
}

/// The Ingress of a feature.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSpec {
    /// Its name.
    pub name: String,
    /// As in the object.
    pub default_backend: Option<Value>,
    /// As in the object.
    pub ingress_class_name: Option<String>,
    /// As in the object.
    #[serde(default)]
    pub tls: Vec<Tls>,
    /// Hosts with their paths.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Whether an address has to appear in its status, or must not.
    #[serde(rename = "status_must_have_address")]
    pub has_address: Option<bool>,
    /// To how many pods the backend is scaled.
    pub replicas: Option<u32>,
    /// How often the URL is asked.
    pub requests: Option<u32>,
    /// What is asked.
    pub url: Option<String>,
    /// What has to come of it.
    pub expect: Option<Spread>,
}

/// Hosts of a certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its Secret.
    pub secret_name: String,
}

/// A host with its paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The host.
    pub host: String,
    /// Its paths.
    pub paths: Vec<RulePath>,
}

/// A path with its backend.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RulePath {
    /// The path.
    pub path: String,
    /// As in the object.
    pub path_type: String,
    /// Name of the Service.
    pub service: String,
    /// Its port, by number or name.
    pub port: Value,
}

/// Over how many pods requests have to spread.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Status of every answer.
    pub status: u16,
    /// Pods that answered.
    pub distinct_pods: usize,
}

/// A request with what has to come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Feature and number.
    pub id: String,
    /// Method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host; empty for the address itself.
    pub host: String,
    /// Path.
    pub path: String,
    /// What has to come of it.
    pub expect: Expectation,
}

/// What has to come of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// Status code.
    pub status: u16,
    /// The Service whose pod answers.
    pub service: Option<String>,
    /// Protocol of the response.
    pub response_proto: Option<String>,
    /// Fields that the response has, with any value.
    #[serde(default)]
    pub response_headers_present: Vec<String>,
    /// The host that the certificate is for.
    pub cert_hostname: Option<String>,
    /// What the pod saw of the request.
    pub echo: Option<Echo>,
    /// Whether a redirect on the way is in order.
    #[serde(default)]
    pub follow_redirects: bool,
}

/// What a pod saw of a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    /// Host.
    pub host: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Path.
    pub path: Option<String>,
    /// Protocol.
    pub proto: Option<String>,
    /// Fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Suite {
    /// Reads the suite; a word in it that is not understood is an error, not a scenario less.
    pub fn load() -> Result<Self> {
        let text = include_str!("../../data/ingress-conformance.json");
        serde_json::from_str(text).context("failed to read the suite")
    }
}

impl Request {
    /// The feature that it belongs to.
    pub fn feature(&self) -> &str {
        self.id.split('-').next().unwrap_or_default()
    }
}
