//! Keys of ingress-nginx's ConfigMap that are about the process: flags of ours, or nothing.

/// How a ConfigMap key that applies to the whole process is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::annotation) enum ProcessKey {
    /// This flag says the same.
    Flag(&'static str),
    /// It tunes what only nginx has.
    Harmless,
}

/// The treatment of a key; `None` if it does not apply to the whole process.
pub(in crate::annotation) fn process_key(key: &str) -> Option<ProcessKey> {
    let flag = FLAGS.iter().find(|(known, _)| *known == key);
    let flag = flag.map(|(_, flag)| ProcessKey::Flag(flag));
    flag.or_else(|| HARMLESS.contains(&key).then_some(ProcessKey::Harmless))
}

/// Keys, and the flags that say the same.
pub(super) const FLAGS: &[(&str, &str)] = &[
    ("access-log-path", "--access-log-path"),
    ("enable-opentelemetry", "--otlp-endpoint"),
    ("enable-real-ip", "--proxy-real-ip-cidr"),
    ("log-format-upstream", "--access-log-format"),
    ("otel-service-name", "--otlp-service-name"),
    ("otlp-collector-host", "--otlp-endpoint"),
    ("otlp-collector-port", "--otlp-endpoint"),
    ("ssl-ciphers", "--tls-ciphers"),
    ("ssl-protocols", "--tls-min-version"),
    ("ssl-session-ticket-key", "--tls-ticket-keys"),
    ("worker-processes", "--workers"),
    ("worker-shutdown-timeout", "--shutdown-grace-period"),
];

/// Keys that tune what only nginx has, or say what holds here anyway.
pub(super) const HARMLESS: &[&str] = &[
    "allow-backend-server-header",
    "annotations-risk-level",
    "bind-address",
    "client-body-buffer-size",
    "client-header-buffer-size",
    "debug-connections",
    "disable-ipv6",
    "disable-ipv6-dns",
    "enable-aio-write",
    "enable-multi-accept",
    "enable-serial-reloads",
    "error-log-level",
    "generate-request-id",
    "grpc-buffer-size-kb",
    "http2-max-concurrent-streams",
    "http2-max-field-size",
    "http2-max-header-size",
    "http2-max-requests",
    "ignore-invalid-headers",
    "keep-alive-requests",
    "large-client-header-buffers",
    "map-hash-bucket-size",
    "max-worker-connections",
    "max-worker-open-files",
    "nginx-status-ipv4-whitelist",
    "nginx-status-ipv6-whitelist",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-headers-hash-bucket-size",
    "proxy-headers-hash-max-size",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-ssl-location-only",
    "reuse-port",
    "server-name-hash-bucket-size",
    "server-name-hash-max-size",
    "server-tokens",
    "ssl-buffer-size",
    "ssl-dh-param",
    "ssl-ecdh-curve",
    "ssl-prefer-server-ciphers",
    "ssl-session-cache",
    "ssl-session-cache-size",
    "ssl-session-tickets",
    "ssl-session-timeout",
    "strict-validate-path-type",
    "upstream-keepalive-connections",
    "upstream-keepalive-requests",
    "upstream-keepalive-time",
    "use-http2",
    "variables-hash-bucket-size",
    "variables-hash-max-size",
    "worker-cpu-affinity",
];
