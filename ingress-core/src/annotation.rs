//! What annotations of an Ingress, and the parameters of its class, say.
//!
//! One registry for both: a setting has a key, which is an annotation under our own prefix or
//! ingress-nginx's, and a key of the ConfigMap that an IngressClass names as its parameters. The
//! annotation counts before the parameter, our own prefix before ingress-nginx's.
//!
//! A value that means nothing is told and counts as if it were not there. So is a key under one of
//! the two prefixes that is not known: who has moved from ingress-nginx has to learn that a list of
//! allowed networks, say, does nothing here.

mod balance;
pub mod client_auth;
mod retry;
mod size;
mod timeout;

use std::collections::BTreeMap;

use crate::ir::{BackendPolicy, UpstreamProtocol};
use client_auth::ClientAuthSettings;
pub use size::bytes as read_size;

/// Every setting that one Ingress, or one class, makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How backends are spoken to.
    pub backend: BackendPolicy,
    /// What clients have to show.
    pub client_auth: ClientAuthSettings,
    /// Bytes of a request body; 0: any number. `None`: as the operator says.
    pub body_bytes_max: Option<u64>,
    session: balance::Session,
}

/// A value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as the object spells it.
    pub key: String,
    /// What was found and what is expected.
    pub message: String,
    /// Whether the key itself is unknown rather than its value wrong.
    pub is_unknown_key: bool,
}

/// Whether an annotation of an Ingress can say anything to this controller.
pub fn has_a_say(key: &str) -> bool {
    key == CLASS_ANNOTATION || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Reads the annotations of an Ingress on top of what its class says.
///
/// Annotations under other prefixes are left alone: they are somebody else's.
pub fn of_ingress(
    annotations: &BTreeMap<String, String>,
    class: Settings,
) -> (Settings, Vec<Mistake>) {
    let mut settings = class;
    let mut mistakes = Vec::new();
    if annotations.is_empty() {
        return (settings, mistakes);
    }
    for setting in REGISTRY {
        // The first that is usable counts.
        for prefix in PREFIXES {
            let key = format!("{prefix}{}", setting.key);
            let Some(value) = annotations.get(&key) else {
                continue;
            };
            match (setting.read)(value, &mut settings) {
                Ok(()) => break,
                Err(message) => mistakes.push(Mistake {
                    key,
                    message,
                    is_unknown_key: false,
                }),
            }
        }
    }
    settings.backend.affinity = settings.session.affinity();
    let unknown = annotations.keys().filter(|key| is_unknown(key));
    mistakes.extend(unknown.map(|key| Mistake {
        key: key.clone(),
        message: "is not a known annotation; ignored".to_owned(),
        is_unknown_key: true,
    }));
    (settings, mistakes)
}

/// Whether an annotation has one of our prefixes and a name that says nothing to us.
fn is_unknown(annotation: &str) -> bool {
    let name = PREFIXES
        .iter()
        .find_map(|prefix| annotation.strip_prefix(prefix));
    name.is_some_and(|name| REGISTRY.iter().all(|setting| setting.key != name))
}

/// Reads the parameters of a class: the `data` of its ConfigMap.
pub fn of_class(parameters: &BTreeMap<String, String>) -> (Settings, Vec<Mistake>) {
    let mut settings = Settings::default();
    let mut mistakes = Vec::new();
    for (key, value) in parameters {
        let mut known = REGISTRY.iter();
        let known = known.find(|setting| setting.key == key && key != client_auth::SECRET);
        let outcome = match known {
            Some(setting) => (setting.read)(value, &mut settings),
            None => Err("is not a known parameter; ignored".to_owned()),
        };
        if let Err(message) = outcome {
            mistakes.push(Mistake {
                key: key.clone(),
                message,
                is_unknown_key: known.is_none(),
            });
        }
    }
    settings.backend.affinity = settings.session.affinity();
    (settings, mistakes)
}

/// One setting: its key and how its value is read.
struct Setting {
    key: &'static str,
    read: fn(&str, &mut Settings) -> Result<(), String>,
}

const REGISTRY: &[Setting] = &[
    Setting {
        key: "backend-protocol",
        read: backend_protocol,
    },
    Setting {
        key: "ssl-passthrough",
        read: ssl_passthrough,
    },
    Setting {
        key: "proxy-body-size",
        read: size::proxy_body_size,
    },
    Setting {
        key: "proxy-connect-timeout",
        read: timeout::connect,
    },
    Setting {
        key: "proxy-send-timeout",
        read: timeout::send,
    },
    Setting {
        key: "proxy-read-timeout",
        read: timeout::read,
    },
    Setting {
        key: "request-timeout",
        read: timeout::request,
    },
    Setting {
        key: "proxy-next-upstream",
        read: retry::next_upstream,
    },
    Setting {
        key: "proxy-next-upstream-tries",
        read: retry::tries,
    },
    Setting {
        key: "proxy-next-upstream-timeout",
        read: retry::timeout,
    },
    // The hash comes after what it counts more than.
    Setting {
        key: "load-balance",
        read: balance::load_balance,
    },
    Setting {
        key: "upstream-hash-by",
        read: balance::upstream_hash_by,
    },
    Setting {
        key: "affinity",
        read: balance::affinity,
    },
    Setting {
        key: "affinity-mode",
        read: balance::affinity_mode,
    },
    Setting {
        key: "session-cookie-name",
        read: balance::cookie_name,
    },
    Setting {
        key: "session-cookie-path",
        read: balance::cookie_path,
    },
    Setting {
        key: "session-cookie-domain",
        read: balance::cookie_domain,
    },
    Setting {
        key: "session-cookie-max-age",
        read: balance::cookie_max_age,
    },
    Setting {
        key: "session-cookie-samesite",
        read: balance::cookie_same_site,
    },
    Setting {
        key: "session-cookie-secure",
        read: balance::cookie_secure,
    },
    Setting {
        key: "session-cookie-change-on-failure",
        read: balance::change_on_failure,
    },
    Setting {
        key: client_auth::SECRET,
        read: client_auth::secret,
    },
    Setting {
        key: "auth-tls-verify-client",
        read: client_auth::verify_client,
    },
    Setting {
        key: "auth-tls-verify-depth",
        read: client_auth::verify_depth,
    },
    Setting {
        key: "auth-tls-pass-certificate-to-upstream",
        read: client_auth::pass_certificate,
    },
    Setting {
        key: "auth-tls-error-page",
        read: client_auth::error_page,
    },
    Setting {
        key: "auth-tls-match-cn",
        read: client_auth::match_cn,
    },
];

fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{value}` is not one of true, false; ignored")),
    }
}

/// Source: ingress-nginx, annotation `ssl-passthrough`.
fn ssl_passthrough(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.backend.passthrough = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `backend-protocol`.
fn backend_protocol(value: &str, settings: &mut Settings) -> Result<(), String> {
    let protocol = match value.trim().to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" => UpstreamProtocol::Http1,
        "HTTPS" => UpstreamProtocol::Https,
        "GRPC" => UpstreamProtocol::Http2,
        "GRPCS" => UpstreamProtocol::Http2Tls,
        _ => {
            return Err(format!(
                "`{value}` is not one of HTTP, AUTO_HTTP, HTTPS, GRPC, GRPCS; ignored"
            ));
        }
    };
    settings.backend.protocol = Some(protocol);
    Ok(())
}

/// Names the class of an Ingress, as before there was `spec.ingressClassName`.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PREFIXES: [&str; 2] = ["sluice.dev/", "nginx.ingress.kubernetes.io/"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_key() {
        let readme = include_str!("../../README.md");
        for setting in REGISTRY {
            let key = setting.key;
            assert!(readme.contains(&format!("| `{key}` |")), "{key}");
        }
    }

    #[test]
    fn an_annotation_that_is_ours_and_unknown_is_told() {
        let annotations = map(&[
            (
                "nginx.ingress.kubernetes.io/whitelist-source-range",
                "10.0.0.0/8",
            ),
            ("sluice.dev/proxy-body-szie", "1m"),
            ("sluice.dev/proxy-body-size", "1m"),
            ("example.com/anything", "1m"),
        ]);
        let (_, mistakes) = of_ingress(&annotations, Settings::default());
        let unknown = mistakes.iter().filter(|mistake| mistake.is_unknown_key);
        let keys: Vec<_> = unknown.map(|mistake| &*mistake.key).collect();
        let expected = [
            "nginx.ingress.kubernetes.io/whitelist-source-range",
            "sluice.dev/proxy-body-szie",
        ];
        assert_eq!((keys, mistakes.len()), (expected.to_vec(), 2));
    }

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        entries.iter().map(owned).collect()
    }

    const OURS: &str = "sluice.dev/backend-protocol";
    const NGINX: &str = "nginx.ingress.kubernetes.io/backend-protocol";

    fn protocol(
        annotations: &[(&str, &str)],
        class: Option<UpstreamProtocol>,
    ) -> Option<UpstreamProtocol> {
        let class = Settings {
            backend: BackendPolicy {
                protocol: class,
                ..BackendPolicy::default()
            },
            ..Settings::default()
        };
        of_ingress(&map(annotations), class).0.backend.protocol
    }

    #[test]
    fn passthrough_is_true_or_false() {
        let read = |value: &str| {
            let annotations = map(&[("nginx.ingress.kubernetes.io/ssl-passthrough", value)]);
            let (settings, mistakes) = of_ingress(&annotations, Settings::default());
            (settings.backend.passthrough, mistakes.len())
        };
        assert_eq!(read("true"), (true, 0));
        assert_eq!(read("false"), (false, 0));
        assert_eq!(read("yes"), (false, 1));
    }

    #[test]
    fn a_body_may_be_as_large_as_the_class_says_or_the_ingress() {
        let (class, _) = of_class(&map(&[("proxy-body-size", "8m")]));
        let read = |value: &str| {
            let annotations = map(&[("nginx.ingress.kubernetes.io/proxy-body-size", value)]);
            let (settings, mistakes) = of_ingress(&annotations, class.clone());
            (settings.body_bytes_max, mistakes.len())
        };
        assert_eq!(read("0"), (Some(0), 0));
        assert_eq!(read("1k"), (Some(1024), 0));
        assert_eq!(read("large"), (Some(8 << 20), 1));
        assert_eq!(Settings::default().body_bytes_max, None);
    }

    #[test]
    fn our_prefix_counts_before_ingress_nginx_and_both_before_the_class() {
        let https = Some(UpstreamProtocol::Https);
        let grpc = Some(UpstreamProtocol::Http2);
        assert_eq!(protocol(&[], None), None);
        assert_eq!(protocol(&[], https), https);
        assert_eq!(protocol(&[(NGINX, "grpc")], https), grpc);
        assert_eq!(protocol(&[(NGINX, "HTTPS"), (OURS, "GRPC")], None), grpc);
    }

    #[test]
    fn a_value_that_means_nothing_is_told_and_ignored() {
        let annotations = map(&[(OURS, "gopher"), (NGINX, "GRPCS")]);
        let (settings, mistakes) = of_ingress(&annotations, Settings::default());
        assert_eq!(settings.backend.protocol, Some(UpstreamProtocol::Http2Tls));
        assert_eq!(mistakes[0].key, OURS);
        assert!(mistakes[0].message.contains("`gopher`"), "{mistakes:?}");
    }

    #[test]
    fn unknown_parameters_are_told_and_unknown_annotations_are_not() {
        let (settings, mistakes) = of_class(&map(&[
            ("backend-protocol", "HTTPS"),
            ("worker-shutdown", "1"),
        ]));
        assert_eq!(settings.backend.protocol, Some(UpstreamProtocol::Https));
        assert!(mistakes[0].is_unknown_key && mistakes[0].key == "worker-shutdown");
        let (_, mistakes) = of_ingress(
            &map(&[("cert-manager.io/issuer", "x")]),
            Settings::default(),
        );
        assert_eq!(mistakes, []);
    }
}
