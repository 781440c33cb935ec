//! Fields of a rule: its path and the port of its backend.

use std::borrow::Cow;
use std::sync::Arc;

use crate::diagnostic::Reason;
use crate::ir::{PathPattern, PathRegex, ServicePort};
use crate::object::{PathType, ServiceBackend};
use crate::route::normalise;

/// A path as a regular expression; an empty one is the root.
pub(super) fn read_regex(text: &Arc<str>) -> Result<PathPattern, (Reason, String)> {
    if text.is_empty() {
        return Ok(PathPattern::prefix("/"));
    }
    let regex = PathRegex::new(text);
    let regex = regex.map_err(|message| (Reason::InvalidPath, format!("`{text}` {message}")))?;
    Ok(PathPattern::Regex(Arc::new(regex)))
}

pub(super) fn read_path(
    text: &Arc<str>,
    path_type: &PathType,
) -> Result<PathPattern, (Reason, String)> {
    let invalid = |message: String| Err((Reason::InvalidPath, message));
    let strict = match path_type {
        PathType::Exact | PathType::Prefix => true,
        PathType::ImplementationSpecific => false,
        PathType::Other(other) => {
            let expected = "`Exact`, `Prefix` or `ImplementationSpecific` is expected";
            return Err((Reason::InvalidPathType, format!("`{other}`: {expected}")));
        }
    };
    if text.is_empty() && !strict {
        return Ok(PathPattern::prefix("/"));
    }
    if !text.starts_with('/') {
        return invalid(format!("`{text}` does not start with `/`"));
    }
    // What the API server refuses as well: no normalised request path has any of these.
    let never = ["//", "/./", "/../", "%2f", "%2F"]
        .into_iter()
        .find(|part| text.contains(part));
    let never = never.or_else(|| ["/..", "/."].into_iter().find(|end| text.ends_with(end)));
    if let Some(never) = never.filter(|_| strict) {
        return invalid(format!(
            "`{text}` contains `{never}`, which no normalised path has"
        ));
    }
    // Requests are matched by their decoded path.
    let decoded = match normalise(text.as_bytes()) {
        Ok(Cow::Borrowed(_)) => Arc::clone(text),
        Ok(Cow::Owned(path)) => match String::from_utf8(path) {
            Ok(path) => path.into(),
            Err(_) => return invalid(format!("`{text}` is not UTF-8 after decoding")),
        },
        Err(error) => return invalid(format!("`{text}`: {error}")),
    };
    Ok(if *path_type == PathType::Exact {
        PathPattern::Exact(decoded)
    } else {
        PathPattern::prefix_sharing(&decoded)
    })
}

pub(super) fn read_port(service: &ServiceBackend) -> Result<ServicePort, String> {
    let ServiceBackend {
        name: service_name,
        port_name,
        port_number,
    } = service;
    if service_name.is_empty() {
        return Err("backend has an empty `service.name`; answered with 503".to_owned());
    }
    let name = port_name.as_deref().filter(|name| !name.is_empty());
    match (name, port_number.filter(|number| *number != 0)) {
        (Some(name), None) => Ok(ServicePort::Name(name.into())),
        (None, Some(number)) => u16::try_from(number)
            .map(ServicePort::Number)
            .map_err(|_| format!("port `{number}` is not in 1 to 65535; answered with 503")),
        (Some(_), Some(_)) => {
            Err("port has both `name` and `number`; answered with 503".to_owned())
        }
        (None, None) => Err("port has neither `name` nor `number`; answered with 503".to_owned()),
    }
}
