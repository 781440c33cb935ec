//! How long endpoints are waited for.
//!
//! Source: ingress-nginx, annotations `proxy-connect-timeout`, `proxy-send-timeout` and
//! `proxy-read-timeout`: whole seconds, without a unit. `request-timeout` is spelled alike.

use std::num::NonZeroU32;

use super::Settings;

/// Source: ingress-nginx, ConfigMap `client-body-timeout`.
pub(super) fn client_body(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.timeouts.client_body = Some(seconds(value)?);
    Ok(())
}

pub(super) fn connect(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.timeouts.connect = Some(seconds(value)?);
    Ok(())
}

pub(super) fn send(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.timeouts.send = Some(seconds(value)?);
    Ok(())
}

pub(super) fn read(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.timeouts.read = Some(seconds(value)?);
    Ok(())
}

/// Ours: ingress-nginx has none.
pub(super) fn request(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.timeouts.request = Some(seconds(value)?);
    Ok(())
}

fn seconds(value: &str) -> Result<NonZeroU32, String> {
    let number = value.trim().parse();
    number.map_err(|_| format!("`{value}` is no number of seconds from 1; ignored"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::annotation::of_ingress;
    use crate::ir::RouteTimeouts;

    #[test]
    fn each_is_a_number_of_seconds() {
        let read = |key: &str, value: &str| {
            let key = format!("nginx.ingress.kubernetes.io/{key}");
            let annotations = BTreeMap::from([(key, value.to_owned())]);
            let (settings, mistakes) =
                of_ingress(&annotations, Settings::default(), &BTreeSet::new());
            (settings.timeouts, mistakes.len())
        };
        let seven = NonZeroU32::new(7);
        let none = RouteTimeouts::default();
        let connect = RouteTimeouts {
            connect: seven,
            ..none
        };
        let send = RouteTimeouts {
            send: seven,
            ..none
        };
        let answer = RouteTimeouts {
            read: seven,
            ..none
        };
        assert_eq!(read("proxy-connect-timeout", "7"), (connect, 0));
        assert_eq!(read("proxy-send-timeout", " 7 "), (send, 0));
        assert_eq!(read("proxy-read-timeout", "7"), (answer, 0));
        let all = RouteTimeouts {
            request: seven,
            ..none
        };
        assert_eq!(read("request-timeout", "7"), (all, 0));
        // It is a key of ConfigMaps alone.
        assert_eq!(read("client-body-timeout", "7"), (none, 1));
        for value in ["", "0", "-1", "7s", "1.5", "99999999999"] {
            assert_eq!(read("proxy-read-timeout", value), (none, 1), "{value}");
        }
    }
}
