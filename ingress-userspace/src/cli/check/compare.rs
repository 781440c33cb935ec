//! Sends the same requests to two controllers and tells the differences.
//!
//! The requests come from the rules: each path as it stands, with a slash, with something behind it,
//! in other letters, and one that no rule names. Only answers are compared that a client would notice:
//! status, Location and the media type.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderName, Request, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ingress_core::ir::{Config, HostPattern};

/// A request that both controllers get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Probe {
    pub(super) host: String,
    pub(super) path: String,
}

/// The requests that the rules of a configuration suggest, at most [`PROBES_MAX`].
pub(super) fn probes(config: &Config) -> Vec<Probe> {
    let mut probes = BTreeSet::new();
    for (host, rules) in &*config.hosts {
        let host = match host {
            HostPattern::Exact(host) => host.to_string(),
            HostPattern::Wildcard(parent) => format!("any.{parent}"),
            HostPattern::Any => "unknown.invalid".to_owned(),
        };
        let mut add = |path: String| {
            if path.parse::<Uri>().is_ok() && path.starts_with('/') {
                probes.insert(Probe {
                    host: host.clone(),
                    path,
                });
            }
        };
        add("/".to_owned());
        add("/sluice-compare-no-such-path".to_owned());
        for rule in &rules.rules {
            let path = plain(&rule.origin.path);
            add(path.clone());
            add(format!("{}/", path.trim_end_matches('/')));
            add(format!("{}/x?y=1", path.trim_end_matches('/')));
            add(format!("{path}x"));
            add(path.to_ascii_uppercase());
            add(format!("/x/..{path}"));
        }
    }
    probes.into_iter().take(PROBES_MAX).collect()
}

/// The part of a path before an expression begins.
fn plain(path: &str) -> String {
    let end = path.find(['(', '[', '.', '*', '+', '?', '|', '^', '$', '\\', '{']);
    let plain = &path[..end.unwrap_or(path.len())];
    if plain.starts_with('/') {
        plain.to_owned()
    } else {
        "/".to_owned()
    }
}

/// The differences between two controllers at these URLs.
///
/// # Errors
///
/// Where a URL is invalid, or one of the two cannot be reached at all.
pub(super) async fn run(probes: &[Probe], old: &Uri, new: &Uri) -> Result<String> {
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let mut text = String::new();
    let mut differences = 0;
    for probe in probes {
        let (old, new) = tokio::join!(ask(&client, old, probe), ask(&client, new, probe));
        let (old, new) = (old?, new?);
        if old != new {
            differences += 1;
            let Probe { host, path } = probe;
            let _ = writeln!(text, "{host}{path}\n  before: {old}\n  after:  {new}");
        }
    }
    let _ = writeln!(text, "{} requests, {differences} differences", probes.len());
    Ok(text)
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    base: &Uri,
    probe: &Probe,
) -> Result<String> {
    let authority = base.authority().context("the URL has no host")?;
    let uri = format!("http://{authority}{}", probe.path);
    let request = Request::get(uri)
        .header(HOST, &probe.host)
        .body(Empty::new())?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.request(request)).await;
    let response = answer
        .with_context(|| format!("{base} does not answer"))?
        .with_context(|| format!("{base} cannot be reached"))?;
    let field = |name: HeaderName| {
        let value = response.headers().get(name);
        value
            .map_or("", |value| value.to_str().unwrap_or("?"))
            .to_owned()
    };
    let media_type = field(CONTENT_TYPE);
    let media_type = media_type.split(';').next().unwrap_or_default();
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let mut text = response.status().as_u16().to_string();
    let location = field(LOCATION);
    if !location.is_empty() {
        let _ = write!(text, " Location: {location}");
    }
    // Controllers word their own errors differently.
    if !is_error && !media_type.is_empty() && location.is_empty() {
        let _ = write!(text, " {media_type}");
    }
    Ok(text)
}

const PROBES_MAX: usize = 5000;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
