//! Keys of several groups, prefixes and mistakes.

use super::*;
use crate::ir::Denial;

fn read_ingress(annotations: &BTreeMap<String, String>) -> (Settings, Vec<Mistake>) {
    of_ingress(annotations, Settings::default(), &BTreeSet::new())
}

#[test]
fn unknown_and_unsupported_annotations_are_reported() {
    let annotations = map(&[
        ("nginx.ingress.kubernetes.io/ssl-ciphers", "HIGH"),
        ("nginx.ingress.kubernetes.io/proxy-buffer-size", "8k"),
        ("sluice.dev/proxy-body-szie", "1m"),
        ("sluice.dev/proxy-body-size", "1m"),
        ("example.com/anything", "1m"),
    ]);
    let (settings, mistakes) = read_ingress(&annotations);
    let found: Vec<_> = mistakes
        .iter()
        .map(|mistake| (&*mistake.key, mistake.kind))
        .collect();
    let expected = [
        (
            "nginx.ingress.kubernetes.io/ssl-ciphers",
            MistakeKind::Unsupported,
        ),
        ("sluice.dev/proxy-body-szie", MistakeKind::UnknownKey),
    ];
    assert_eq!(found, expected);
    assert!(!settings.is_closed);
}

#[test]
fn denied_clients_get_403_unless_their_connections_are_closed() {
    for (value, denial, count) in [
        ("close", Denial::Close, 0),
        ("403", Denial::Forbidden, 0),
        ("444", Denial::Forbidden, 1),
        ("", Denial::Forbidden, 1),
    ] {
        let annotations = map(&[("sluice.dev/deny-answer", value)]);
        let (settings, mistakes) = read_ingress(&annotations);
        assert_eq!(settings.access.denial, denial, "{value}");
        assert!(
            !settings.access.restricts() && !settings.is_closed,
            "{value}"
        );
        assert_eq!(mistakes.len(), count, "{value}");
    }
}

#[test]
fn restrictions_that_cannot_be_honoured_close_the_routes() {
    for (key, value) in [
        ("auth-type", "digest"),
        ("auth-typo", "basic"),
        ("auth-url", "auth.test"),
        ("limit-rps", "five"),
        ("enable-modsecurity", "true"),
        ("satisfy", "some"),
        ("proxy-ssl-verify", "maybe"),
        ("proxy-ssl-ciphers", "HIGH"),
        ("configuration-snippet", "deny all;"),
        ("whitelist-source-range", "office"),
        ("denylist-source-range", ""),
        ("force-ssl-redirect", "yes"),
    ] {
        for prefix in PREFIXES {
            let annotations = map(&[(&format!("{prefix}{key}"), value)]);
            let (settings, mistakes) = read_ingress(&annotations);
            assert!(settings.is_closed, "{key}");
            assert_eq!(mistakes[0].kind, MistakeKind::Restriction, "{key}");
            let ignored = BTreeSet::from([key.to_owned()]);
            let (settings, mistakes) = of_ingress(&annotations, Settings::default(), &ignored);
            assert!(!settings.is_closed && mistakes.is_empty(), "{key}");
        }
    }
    for (key, value) in [
        ("limit-rps", "0"),
        ("enable-modsecurity", "false"),
        ("satisfy", "all"),
        ("whitelist-source-range", "10.0.0.0/8"),
        ("force-ssl-redirect", "True"),
    ] {
        let key = format!("nginx.ingress.kubernetes.io/{key}");
        let (settings, mistakes) = read_ingress(&map(&[(&key, value)]));
        assert!(!settings.is_closed, "{key}: {mistakes:?}");
    }
}

#[test]
fn restrictions_of_a_class_that_cannot_be_honoured_close_its_routes() {
    let closed = |key: &str, value: &str| {
        let (settings, _) = of_class(Settings::default(), &map(&[(key, value)]), &BTreeSet::new());
        settings.is_closed
    };
    assert!(closed("global-auth-url", "auth.test"));
    assert!(closed("whitelist-source-range", "office"));
    assert!(closed("block-cidrs", "office"));
    assert!(!closed("block-cidrs", "10.0.0.0/8"));
    assert!(!closed("whitelist-source-range", "10.0.0.0/8"));
    assert!(!closed("limit-req-status-code", "429"));
    assert!(!closed("global-auth-url", ""));
}

#[test]
fn booleans_are_those_of_go() {
    for value in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(boolean(value), Ok(true), "{value}");
    }
    for value in ["0", "f", "F", "FALSE", "false", "False"] {
        assert_eq!(boolean(value), Ok(false), "{value}");
    }
    for value in ["", "yes", "on", "tRUE"] {
        boolean(value).unwrap_err();
    }
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
    of_ingress(&map(annotations), class, &BTreeSet::new())
        .0
        .backend
        .protocol
}

#[test]
fn passthrough_is_true_or_false() {
    let read = |value: &str| {
        let annotations = map(&[("nginx.ingress.kubernetes.io/ssl-passthrough", value)]);
        let (settings, mistakes) = read_ingress(&annotations);
        (settings.passthrough, mistakes.len())
    };
    assert_eq!(read("true"), (true, 0));
    assert_eq!(read("false"), (false, 0));
    assert_eq!(read("yes"), (false, 1));
}

#[test]
fn a_body_may_be_as_large_as_the_class_says_or_the_ingress() {
    let (class, _) = of_class(
        Settings::default(),
        &map(&[("proxy-body-size", "8m")]),
        &BTreeSet::new(),
    );
    let read = |value: &str| {
        let annotations = map(&[("nginx.ingress.kubernetes.io/proxy-body-size", value)]);
        let (settings, mistakes) = of_ingress(&annotations, class.clone(), &BTreeSet::new());
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
    let (settings, mistakes) = read_ingress(&annotations);
    assert_eq!(settings.backend.protocol, Some(UpstreamProtocol::Http2Tls));
    assert_eq!(mistakes[0].key, OURS);
    assert!(mistakes[0].message.contains("`gopher`"), "{mistakes:?}");
}

#[test]
fn unknown_parameters_are_told_and_unknown_annotations_are_not() {
    let parameters = map(&[("backend-protocol", "HTTPS"), ("worker-shutdown", "1")]);
    let (settings, mistakes) = of_class(Settings::default(), &parameters, &BTreeSet::new());
    assert_eq!(settings.backend.protocol, Some(UpstreamProtocol::Https));
    assert!(mistakes[0].kind == MistakeKind::UnknownKey && mistakes[0].key == "worker-shutdown");
    let (_, mistakes) = read_ingress(&map(&[("cert-manager.io/issuer", "x")]));
    assert_eq!(mistakes, []);
}
