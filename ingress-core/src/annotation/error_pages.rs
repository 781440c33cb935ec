//! Answers in place of errors, by ingress-nginx's names: `custom-http-errors`, `default-backend`
//! and `disable-proxy-intercept-errors`.

use std::sync::Arc;

use super::{Settings, boolean};

/// The settings for error pages, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErrorPageSettings {
    statuses: Box<[u16]>,
    is_disabled: bool,
    /// A Service in the Ingress's namespace.
    pub(crate) backend: Option<Arc<str>>,
}

impl ErrorPageSettings {
    /// The statuses that are replaced.
    pub(crate) fn statuses(&self) -> &[u16] {
        if self.is_disabled {
            &[]
        } else {
            &self.statuses
        }
    }

    /// Whether anything is replaced.
    pub(crate) fn is_on(&self) -> bool {
        self.backend.is_some() || !self.statuses().is_empty()
    }
}

/// Source: ingress-nginx, annotation `custom-http-errors`.
pub(super) fn statuses(value: &str, settings: &mut Settings) -> Result<(), String> {
    let items = value.split(',').map(str::trim);
    let items = items.filter(|item| !item.is_empty());
    let statuses: Option<Box<[u16]>> = items
        .map(|item| {
            item.parse()
                .ok()
                .filter(|status| (400..600).contains(status))
        })
        .collect();
    settings.error_pages.statuses = statuses
        .ok_or_else(|| format!("`{value}` is not a list of statuses from 400 to 599; ignored"))?;
    Ok(())
}

/// Source: ingress-nginx, annotation `default-backend`: its first port is used.
pub(super) fn default_backend(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if value.is_empty() || value.len() > 63 || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not the name of a Service; ignored"));
    }
    settings.error_pages.backend = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `disable-proxy-intercept-errors`.
pub(super) fn disable(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.error_pages.is_disabled = boolean(value)?;
    Ok(())
}
