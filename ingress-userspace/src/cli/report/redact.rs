//! Replaces hosts, addresses and names of objects by hashes, the same everywhere in one report.
//!
//! Names are learnt from the daemon's lists, wherever a field has them. Beside those, whatever looks
//! like a host or an address is replaced, names behind a kind (`Secret shop/key`), and what stands in
//! backquotes, which is a value of a user in messages: unknown text is hidden rather than shown. Keys of JSON, names of metrics, numbers and paths stay.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use aws_lc_rs::hmac;
use serde_json::Value;

/// Replaces texts by hashes of them.
pub(super) struct Redactor {
    key: hmac::Key,
    hosts: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Redactor {
    pub(super) fn new(salt: [u8; 32]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &salt),
            hosts: BTreeSet::new(),
            names: BTreeSet::new(),
        }
    }

    /// Learns the hosts and names of a list.
    pub(super) fn learn(&mut self, value: &Value) {
        match value {
            Value::Array(all) => all.iter().for_each(|one| self.learn(one)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (&**key, value) {
                        ("host", Value::String(host)) => self.learn_host(host),
                        ("names", Value::Array(hosts)) => {
                            let hosts = hosts.iter().filter_map(Value::as_str);
                            hosts.for_each(|host| self.learn_host(host));
                        }
                        ("name", Value::String(name)) if fields.contains_key("namespace") => {
                            self.learn_name(name);
                        }
                        ("namespace", Value::String(name)) => self.learn_name(name),
                        ("backend", Value::String(backend)) => self.learn_backend(backend),
                        (_, value) => self.learn(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn learn_host(&mut self, host: &str) {
        let host = host.strip_prefix("*.").unwrap_or(host);
        if host != "*" {
            self.hosts.insert(host.to_ascii_lowercase());
        }
    }

    fn learn_name(&mut self, name: &str) {
        // Numbers are figures everywhere else.
        if name.bytes().any(|byte| !byte.is_ascii_digit()) {
            self.names.insert(name.to_owned());
        }
    }

    /// `namespace/service:port`, which logs also spell `namespace-service-port`.
    fn learn_backend(&mut self, backend: &str) {
        let (service, _) = backend.rsplit_once(':').unwrap_or((backend, ""));
        for name in service.split('/') {
            self.learn_name(name);
        }
        self.learn_name(&backend.replace(['/', ':'], "-"));
    }

    /// The text of a file.
    pub(super) fn redact(&self, file: &str, text: &str) -> String {
        if Path::new(file).extension().is_some_and(|end| end == "json") {
            let Ok(mut value) = serde_json::from_str(text) else {
                return String::new();
            };
            self.redact_value(&mut value);
            // It was JSON before.
            return serde_json::to_string_pretty(&value).unwrap_or_default() + "\n";
        }
        if file.starts_with("metrics") {
            return self.redact_metrics(text);
        }
        if file.starts_with("flags") {
            return self.redact_flags(text);
        }
        self.redact_text(text)
    }

    /// Some flags name objects that no list has.
    fn redact_flags(&self, text: &str) -> String {
        let redact = |line: &str| match line.split_once('=') {
            Some((flag, value)) if names_objects(flag) => {
                let names = value.split_inclusive(['/', ',', ':']);
                let names = names.map(|name| {
                    let core = name.trim_end_matches(['/', ',', ':']);
                    let is_number = core.bytes().all(|byte| byte.is_ascii_digit());
                    let hashed = if is_number {
                        core.to_owned()
                    } else {
                        self.hash("name", core)
                    };
                    hashed + &name[core.len()..]
                });
                format!("{flag}={}\n", names.collect::<String>())
            }
            _ => self.redact_text(line) + "\n",
        };
        text.lines().map(redact).collect()
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact_text(text),
            Value::Array(all) => all.iter_mut().for_each(|one| self.redact_value(one)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    let issuer = value
                        .as_str()
                        .filter(|text| key == "issuer" && !text.is_empty());
                    match issuer {
                        Some(issuer) => *value = self.hash("issuer", issuer).into(),
                        None => self.redact_value(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Only values of labels name anything.
    fn redact_metrics(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            if line.starts_with('#') {
                out += line;
                continue;
            }
            for (index, part) in line.split('"').enumerate() {
                if index > 0 {
                    out.push('"');
                }
                if index % 2 == 0 {
                    out += part;
                    continue;
                }
                let label = out.rsplit(['{', ',']).next().unwrap_or_default();
                let label = label.trim_end_matches("=\"");
                out += &match label {
                    _ if part.is_empty() => String::new(),
                    "issuer_common_name" | "issuer_organization" => self.hash("issuer", part),
                    label if NAME_LABELS.contains(&label) => self.hash("name", part),
                    _ => self.redact_text(part),
                };
            }
        }
        out
    }

    fn redact_text(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for (index, part) in text.split('`').enumerate() {
            if index > 0 {
                out.push('`');
            }
            let plain = self.redact_plain(part);
            let is_quoted = index % 2 == 1;
            // Values of several words are hidden as a whole.
            let is_value = plain == part || part.contains(char::is_whitespace);
            if is_quoted && is_value && !is_ours(part) {
                out += &self.hash("text", part);
            } else {
                out += &plain;
            }
        }
        out
    }

    fn redact_plain(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = "";
        // Whether the next words are names because a kind stands before them.
        let mut names_left = 0;
        while let Some(start) = rest.find(is_word) {
            let gap = &rest[..start];
            let word = &rest[start..];
            let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            names_left = match (gap, names_left) {
                (" ", _) if KINDS.contains(&before) => 2,
                ("/", 1..) => names_left,
                _ => 0,
            };
            out += gap;
            out += &self.word(word, names_left > 0);
            names_left -= i32::from(names_left > 0);
            before = word;
            rest = after;
        }
        out + rest
    }

    fn word(&self, word: &str, is_name: bool) -> String {
        let core = word.trim_start_matches('.');
        let head = &word[..word.len() - core.len()];
        let core = core.trim_end_matches(['.', ':', '-']);
        let tail = &word[head.len() + core.len()..];
        format!("{head}{}{tail}", self.core(core, is_name))
    }

    fn core(&self, word: &str, is_name: bool) -> String {
        if let Some(hashed) = self.address(word) {
            return hashed;
        }
        if let Some((first, rest)) = word.split_once(':') {
            return self.core(first, is_name) + ":" + &self.core(rest, false);
        }
        let lower = word.to_ascii_lowercase();
        if self.hosts.contains(&lower) || (looks_like_host(&lower) && !is_ours(&lower)) {
            return self.hash("host", &lower);
        }
        if is_name || self.names.contains(word) {
            return self.hash("name", word);
        }
        word.to_owned()
    }

    /// An address, maybe with a port; those of this machine alone stay.
    fn address(&self, word: &str) -> Option<String> {
        let bare = word
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(word).parse() {
            return self.ip(ip);
        }
        let socket: SocketAddr = word.parse().ok()?;
        let ip = self.ip(socket.ip())?;
        Some(format!("{ip}:{}", socket.port()))
    }

    fn ip(&self, ip: IpAddr) -> Option<String> {
        let ip = ip.to_canonical();
        let is_shown = ip.is_loopback() || ip.is_unspecified();
        (!is_shown).then(|| self.hash("address", &ip.to_string()))
    }

    fn hash(&self, noun: &str, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        let number = tag.as_ref().iter().take(HASH_BYTES);
        let number = number.fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{noun}-{number:010x}")
    }
}

/// A text without user and password in the URLs that it names (RFC 3986 §3.2.1).
pub(super) fn without_user(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//") {
        let (before, authority) = rest.split_at(at + 2);
        let ends = |c: char| c.is_whitespace() || "/?#\"'`\\<>".contains(c);
        let end = authority.find(ends).unwrap_or(authority.len());
        let user = authority[..end].rfind('@').map_or(0, |at| at + 1);
        out += before;
        rest = &authority[user..];
    }
    out + rest
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._:[]".contains(character) || !character.is_ascii()
}

/// At least two labels, and the last is no number (RFC 1123 §2.1).
fn looks_like_host(word: &str) -> bool {
    let is_label = |label: &str| {
        let is_in = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(is_in)
    };
    let Some((rest, last)) = word.rsplit_once('.') else {
        return false;
    };
    let is_last = last.len() > 1 && !last.bytes().any(|byte| byte.is_ascii_digit());
    is_last && is_label(last) && rest.split('.').all(is_label)
}

/// What Sluice and Kubernetes themselves name: domains of annotations, fields of objects, flags.
fn is_ours(text: &str) -> bool {
    let domain = text.split('/').next().unwrap_or_default();
    DOMAINS
        .iter()
        .any(|ours| domain == *ours || domain.ends_with(&format!(".{ours}")))
        || FIELDS.iter().any(|field| text.starts_with(field))
}

/// Whether a flag or its variable names objects: `--watch-namespace`, `SLUICE_WATCH_NAMESPACE`.
fn names_objects(flag: &str) -> bool {
    let flag = flag.to_ascii_lowercase().replace('_', "-");
    let flag = flag.trim_start_matches("--").trim_start_matches("sluice-");
    NAME_FLAGS.contains(&flag)
}

const NAME_FLAGS: [&str; 14] = [
    "configmap",
    "default-backend-service",
    "default-ssl-certificate",
    "election-id",
    "kube-context",
    "node-name",
    "pod-name",
    "pod-namespace",
    "publish-service",
    "tcp-service",
    "tcp-services-configmap",
    "udp-service",
    "udp-services-configmap",
    "watch-namespace",
];
const NAME_LABELS: [&str; 6] = [
    "controller_namespace",
    "controller_pod",
    "ingress",
    "namespace",
    "secret_name",
    "service",
];
const DOMAINS: [&str; 3] = ["kubernetes.io", "k8s.io", "sluice.dev"];
const FIELDS: [&str; 11] = [
    // Paths of rules, which stay.
    "/",
    // Keys of Secrets.
    "tls.",
    "ca.",
    "spec.",
    "spec[",
    "metadata.",
    "data.",
    "data[",
    "status.",
    "--",
    "sluice ",
];
const KINDS: [&str; 7] = [
    "Ingress",
    "IngressClass",
    "Service",
    "EndpointSlice",
    "Secret",
    "ConfigMap",
    "Namespace",
];
/// Of a hash: 40 bits tell some 100,000 names apart.
const HASH_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redactor() -> Redactor {
        let mut redactor = Redactor::new([7; 32]);
        redactor.learn(&json!([{
            "host": "*.shop.example",
            "object": {"kind": "Ingress", "namespace": "acme", "name": "front"},
            "target": {"backends": [{"backend": "acme/cart:http"}]},
        }]));
        redactor
    }

    #[test]
    fn known_names_are_replaced_wherever_they_stand_and_always_by_the_same() {
        let redactor = redactor();
        let text = redactor.redact(
            "log.txt",
            "acme-cart-http failed; host SHOP.example, (acme/front)",
        );
        for word in ["acme", "cart", "SHOP", "front"] {
            assert!(!text.contains(word), "{text}");
        }
        let acme = redactor.hash("name", "acme");
        assert!(text.contains(&acme), "{text}");
        let json = redactor.redact("routes.json", r#"{"namespace": "acme", "state": "ready"}"#);
        assert!(json.contains(&acme) && json.contains("\"ready\""), "{json}");
    }

    #[test]
    fn unknown_hosts_addresses_and_named_objects_are_replaced() {
        let redactor = redactor();
        let text = redactor.redact(
            "log.txt",
            "connect to 192.0.2.7:8080 and [2001:db8::1]:443, 10.0.0.0/8, ::ffff:192.0.2.7. \
             Secret vault/master: other.example.org, `hunter2` in spec.rules[0].host \
             of nginx.ingress.kubernetes.io/auth-url on 127.0.0.1:80 after 1.5 s, v0.1.0",
        );
        for word in [
            "192.0.2", "2001", "10.0", "vault", "master", "other", "hunter2",
        ] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        for word in [
            ":8080",
            ":443",
            "/8,",
            "Secret name-",
            "spec.rules[0].host",
            "nginx.ingress.kubernetes.io/auth-url",
            "127.0.0.1:80",
            "1.5 s, v0.1.0",
        ] {
            assert!(text.contains(word), "{word} not in {text}");
        }
        let hash = redactor.hash("address", "192.0.2.7");
        assert_eq!(text.matches(&hash).count(), 2, "{text}");
    }

    #[test]
    fn metrics_keep_their_names_and_numbers() {
        let redactor = redactor();
        let text = "# HELP cart acme\ncart{host=\"a.shop.example\",status=\"200\"} 1.5\n";
        let text = redactor.redact("metrics.txt", text);
        assert!(
            text.starts_with("# HELP cart acme\ncart{host=\"host-"),
            "{text}"
        );
        assert!(text.ends_with("\",status=\"200\"} 1.5\n"), "{text}");
    }

    #[test]
    fn flags_that_name_objects_lose_their_names() {
        let redactor = redactor();
        let flags = "--watch-namespace=acme,hidden\n--http-port=80\nSLUICE_TCP_SERVICE=9000:hidden/db:5432\n";
        let text = redactor.redact("flags.txt", flags);
        assert!(!text.contains("acme") && !text.contains("hidden"), "{text}");
        assert!(text.contains("--http-port=80\n"), "{text}");
        assert!(text.contains("SLUICE_TCP_SERVICE=9000:name-"), "{text}");
        assert!(text.ends_with(":5432\n"), "{text}");
    }

    #[test]
    fn urls_lose_their_users() {
        let text = without_user("see http://a:b@c.test/d@e and //f@g, not h@i");
        assert_eq!(text, "see http://c.test/d@e and //g, not h@i");
    }
}
