//! Copies of requests, by ingress-nginx's names: `mirror-target`, `mirror-host` and
//! `mirror-request-body`.

use std::sync::Arc;

use super::Settings;
use super::template::template;
use crate::ir::{Mirror, Template};

/// The settings for mirroring, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MirrorSettings {
    target: Option<Template>,
    host: Option<Arc<str>>,
    without_body: bool,
}

impl MirrorSettings {
    /// The pieces together, if there is a target.
    pub(super) fn mirror(&self) -> Option<Arc<Mirror>> {
        Some(Arc::new(Mirror {
            target: self.target.clone()?,
            host: self.host.clone(),
            with_body: !self.without_body,
        }))
    }
}

/// Source: ingress-nginx, annotation `mirror-target`.
pub(super) fn target(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_url = value.starts_with("http://") || value.starts_with("https://");
    if !is_url || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "`{value}` is not a URL that begins with http:// or https://; ignored"
        ));
    }
    settings.mirror.target = Some(template(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `mirror-host`.
pub(super) fn host(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not a host; ignored"));
    }
    settings.mirror.host = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `mirror-request-body`.
pub(super) fn request_body(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.mirror.without_body = match value.trim() {
        "on" => false,
        "off" => true,
        _ => return Err(format!("`{value}` is not one of on, off; ignored")),
    };
    Ok(())
}
