//! Every key that is known: those that are read, and those of ingress-nginx that are not.
//!
//! A key is a row here and a function in the file of its group; nothing else lists keys.

mod authentication_rows;
mod balance_rows;
mod health_rows;
mod jwt_rows;
mod oidc_rows;
mod process;
mod process_rows;
mod response_rows;
mod rows;
mod traffic_rows;
mod upstream_rows;

pub(super) use process::{ProcessKey, process_key};

use super::{Settings, restricts_access};

/// A key that is read.
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) scope: Scope,
    /// What it may be, for the reference.
    value: &'static str,
    default: &'static str,
    /// What it does, in sentences.
    doc: &'static str,
    pub(super) read: fn(&str, &mut Settings) -> Result<(), String>,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In an annotation of an Ingress and in the parameters of a class.
    Both,
    /// In an annotation only.
    Ingress,
    /// In the parameters of a class only.
    Class,
    /// In the ConfigMap of the controller only.
    Controller,
}

impl Scope {
    /// Whether annotations of Ingresses have the key.
    pub(super) fn is_of_ingresses(self) -> bool {
        matches!(self, Self::Both | Self::Ingress)
    }

    /// Whether the parameters of a class have the key, or those of the controller.
    pub(super) fn is_of_parameters(self, is_controller: bool) -> bool {
        match self {
            Self::Both | Self::Class => true,
            Self::Ingress => false,
            Self::Controller => is_controller,
        }
    }
}

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is honoured.
    Supported,
    /// It tunes what only nginx has; leaving it out changes nothing that a client could notice.
    Harmless,
    /// ingress-nginx has it, or once had it, and this controller does not.
    Unsupported,
    /// Neither has it.
    Unknown,
}

/// The keys that are read, in the order in which they are: a later one may depend on an earlier
/// one.
pub(super) fn readable() -> impl Iterator<Item = &'static Row> {
    let groups = [
        rows::READ,
        balance_rows::READ,
        authentication_rows::READ,
        traffic_rows::READ,
        response_rows::READ,
        upstream_rows::READ,
        health_rows::READ,
        jwt_rows::READ,
        oidc_rows::READ,
        process_rows::READ,
    ];
    groups.into_iter().flatten()
}

/// The reference of annotations and class parameters, in Markdown.
pub fn reference() -> String {
    let mut text = String::from(REFERENCE_HEAD);
    for row in readable() {
        let scope = match row.scope {
            Scope::Both => "Ingress, class",
            Scope::Ingress => "Ingress",
            Scope::Class => "class",
            Scope::Controller => "`--configmap`",
        };
        let is_tls = row.key.starts_with("auth-tls-");
        let invalid = if row.key == "custom-headers" || (restricts_access(row.key) && !is_tls) {
            "rules answer 503"
        } else if row.key == "auth-tls-secret" || row.key == "auth-tls-match-cn" {
            "host answers 403"
        } else {
            "default"
        };
        let Row {
            key,
            value,
            default,
            doc,
            ..
        } = row;
        text += &[
            "| `", key, "` | ", value, " | ", default, " | ", scope, " | ", invalid, " | ", doc,
            " |\n",
        ]
        .concat();
    }
    let list = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        keys.join(", ")
    };
    text += "\n## Accepted without effect\n\nThese tune what only nginx has:\n";
    text += &list(HARMLESS);
    text += ".\n\n## Not supported\n\nA Warning Event and `sluice check` name each. Keys that restrict \
             access make the rules of\ntheir Ingress answer 503, unless `--ignore-annotation` names \
             them:\n";
    let (closing, others): (Vec<&str>, Vec<&str>) =
        UNSUPPORTED.iter().partition(|key| restricts_access(key));
    text += &list(&closing);
    text += ".\n\nOthers are ignored:\n";
    text += &list(&others);
    text += ".\n\n## Keys of the ConfigMap that are flags\n\nThese are read at the start only; a diagnostic on the ConfigMap names the flag.\n\n| key | flag |\n|---|---|\n";
    for (key, flag) in process::FLAGS {
        text += &["| `", key, "` | `", flag, "` |\n"].concat();
    }
    text += "\nThese have no effect, as they tune what only nginx has or say what holds anyway:\n";
    text += &list(process::HARMLESS);
    text += ".\n";
    text
}

/// What becomes of the annotation with this key, without its prefix.
pub fn support(key: &str) -> Support {
    let is_read = |row: &&Row| row.key == key && row.scope.is_of_ingresses();
    if readable().any(|row| is_read(&row)) {
        Support::Supported
    } else if HARMLESS.contains(&key) {
        Support::Harmless
    } else if UNSUPPORTED.contains(&key) {
        Support::Unsupported
    } else {
        Support::Unknown
    }
}

/// Every key of an annotation that is known, without its prefix.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    let read = readable().filter(|row| row.scope.is_of_ingresses());
    let read = read.map(|row| row.key);
    read.chain(HARMLESS.iter().chain(UNSUPPORTED).copied())
}

const fn row(
    key: &'static str,
    scope: Scope,
    docs: [&'static str; 3],
    read: fn(&str, &mut Settings) -> Result<(), String>,
) -> Row {
    let [value, default, doc] = docs;
    Row {
        key,
        scope,
        value,
        default,
        doc,
        read,
    }
}

const HARMLESS: &[&str] = &[
    "client-body-buffer-size",
    "connection-proxy-header",
    "enable-dynamic-tls-records",
    "enable-rewrite-log",
    "http2-push-preload",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "relative-redirects",
    "ssl-prefer-server-ciphers",
    "websocket-services",
];

const UNSUPPORTED: &[&str] = &[
    "auth-snippet",
    "enable-influxdb",
    "enable-modsecurity",
    "enable-opentelemetry",
    "enable-opentracing",
    "enable-owasp-core-rules",
    "fastcgi-index",
    "fastcgi-params-configmap",
    "global-rate-limit",
    "global-rate-limit-ignored-cidrs",
    "global-rate-limit-key",
    "global-rate-limit-window",
    "grpc-backend",
    "modsecurity-snippet",
    "modsecurity-transaction-id",
    "opentelemetry-operation-name",
    "opentelemetry-trust-incoming-span",
    "opentracing-trust-incoming-span",
    "proxy-ssl-ciphers",
    "secure-backends",
    "secure-verify-ca-secret",
    "ssl-ciphers",
    "stream-snippet",
];

const REFERENCE_HEAD: &str = "\
# Annotations and class parameters

Generated from the registry in `ingress-core/src/annotation`; a test fails when it is stale.

Keys stand under `nginx.ingress.kubernetes.io/` or `sluice.dev/` as annotations of an Ingress, and
without a prefix in the ConfigMap that an IngressClass names as its parameters, or that `--configmap`
names for all classes: their values are the defaults of Ingresses. Keys of `--configmap` alone concern the process,
hold in place of a flag and take effect at once. Booleans are those of Go: `true`, `True`, `1`, `t` and their like.

| key | value | default | where | invalid value | what it does |
|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys of ingress-nginx 1.15.1, its last release.
    const INGRESS_NGINX: &str = include_str!("../../tests/ingress_nginx_keys.txt");

    #[test]
    fn every_key_of_ingress_nginx_is_known() {
        for key in INGRESS_NGINX.lines() {
            assert_ne!(support(key), Support::Unknown, "{key}");
        }
    }

    #[test]
    fn no_key_stands_twice() {
        let mut seen = BTreeSet::new();
        for key in known_keys() {
            assert!(seen.insert(key), "{key}");
        }
    }
}
