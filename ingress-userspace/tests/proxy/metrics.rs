//! What requests come to in metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_core::ir::{Acme, HostPattern, OrderTotals, OrderedCertificate, Probe};
use ingress_userspace::admin::{AdoptedService, DatapathMetrics};
use ingress_userspace::datapath;
use ingress_userspace::proxy::{RequestMetrics, WorkerOptions};

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, Raw, fields};
use crate::health_checks::{check, checked, start_checked};
use crate::rig::{Options, Origin, Proxy, config, wait_until};

/// Samples by name and labels, as Prometheus would read them.
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    pub(crate) fn of(proxy: &Proxy) -> Self {
        let text = proxy.metrics();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        let samples: BTreeMap<_, _> = samples.collect();
        let lines = text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, samples.len(), "no sample occurs twice");
        Self(samples)
    }

    /// The value of the one sample of this name that has all these labels.
    pub(crate) fn value(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let has = |sample: &&String| {
            let rest = sample.strip_prefix(name);
            let is_name = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
            is_name && labels.iter().all(|label| sample.contains(label))
        };
        let mut found = self.0.keys().filter(has);
        let first = found.next()?;
        assert_eq!(found.next(), None, "{name} {labels:?} is one sample");
        Some(self.0[first])
    }
}

pub(crate) const REQUESTS: &str = "nginx_ingress_controller_requests";

/// On every sample of a route of `config`.
const COMMON: [&str; 6] = [
    r#"namespace="default""#,
    r#"ingress="test""#,
    r#"canary="""#,
    r#"controller_class="class""#,
    r#"controller_namespace="namespace""#,
    r#"controller_pod="pod""#,
];

/// Waits until so many requests have been counted: a request ends after its response.
pub(crate) fn samples_of(proxy: &Proxy, count: f64) -> Samples {
    let sum = || {
        let samples = Samples::of(proxy).0;
        let requests = samples
            .iter()
            .filter(|(name, _)| name.starts_with("nginx_ingress_controller_requests{"));
        requests.map(|(_, value)| value).sum::<f64>()
    };
    wait_until("the requests are counted", || sum() >= count);
    Samples::of(proxy)
}

#[test]
fn a_request_is_counted_for_the_rule_that_it_matched() {
    let origin = Origin::echo("origin");
    let rules: &[(&str, &str, &[_])] = &[
        ("one.test", "/", &[origin.address]),
        ("one.test", "/shop", &[origin.address]),
        ("*.two.test", "/", &[origin.address]),
    ];
    let proxy = Proxy::start(config(rules));
    let mut client = proxy.client();
    for (host, path) in [
        ("one.test", "/shop/cart?id=7"),
        ("one.test", "/shop"),
        ("one.test", "/"),
        ("a.two.test", "/x"),
        ("nobody.test", "/"),
    ] {
        client.get(host, path);
    }
    client.write("BREW / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.read_reply().status, 200);
    let samples = samples_of(&proxy, 6.0);
    for (labels, count) in [
        (
            [
                r#"host="one.test""#,
                r#"path="/shop""#,
                r#"method="GET""#,
                r#"service="one-test-shop""#,
            ],
            2.0,
        ),
        (
            [
                r#"host="one.test""#,
                r#"path="/""#,
                r#"method="GET""#,
                r#"service="one-test-""#,
            ],
            1.0,
        ),
        (
            [
                r#"host="one.test""#,
                r#"path="/""#,
                r#"method="OTHER""#,
                r#"status="200""#,
            ],
            1.0,
        ),
        (
            [
                r#"host="*.two.test""#,
                r#"path="/""#,
                r#"method="GET""#,
                r#"status="200""#,
            ],
            1.0,
        ),
    ] {
        let labels: Vec<_> = labels.into_iter().chain(COMMON).collect();
        assert_eq!(samples.value(REQUESTS, &labels), Some(count), "{labels:?}");
    }
    let nobody = [r#"host="""#, r#"ingress="""#, r#"status="404""#];
    assert_eq!(samples.value(REQUESTS, &nobody), Some(1.0));
    assert_eq!(samples.value("sluice_upstream_reuse_ratio", &[]), Some(0.8));
}

#[test]
fn bytes_and_times_are_those_of_the_wire() {
    let body = "b".repeat(3000);
    let answer: &'static str = Box::leak(
        format!("HTTP/1.1 201 Created\r\nServer: x\r\nContent-Length: 3000\r\n\r\n{body}")
            .into_boxed_str(),
    );
    let origin = Origin::fixed(answer);
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    let request = "POST /a?b HTTP/1.1\r\nHost: one.test\r\nContent-Length: 5\r\n\r\n12345";
    client.write(request);
    let reply = client.read_reply();
    let samples = samples_of(&proxy, 1.0);
    let labels = [r#"method="POST""#, r#"status="201""#];
    let value = |name: &str| samples.value(&format!("nginx_ingress_controller_{name}"), &labels);
    #[expect(clippy::cast_precision_loss, reason = "lengths are small")]
    let (sent, received) = (
        request.len() as f64,
        (reply.head.text.len() + reply.body.len()) as f64,
    );
    assert_eq!(value("request_size_sum"), Some(sent));
    assert_eq!(value("response_size_sum"), Some(received));
    assert_eq!(value("bytes_sent_sum"), Some(received));
    for name in [
        "request_duration_seconds",
        "response_duration_seconds",
        "header_duration_seconds",
        "connect_duration_seconds",
        "request_size",
        "response_size",
        "bytes_sent",
    ] {
        assert_eq!(value(&format!("{name}_count")), Some(1.0), "{name}");
        let name = format!("nginx_ingress_controller_{name}_bucket");
        let last = [labels[0], labels[1], r#"le="+Inf""#];
        assert_eq!(samples.value(&name, &last), Some(1.0), "{name}");
    }
    let sums = ["connect", "header", "response", "request"]
        .map(|name| value(&format!("{name}_duration_seconds_sum")).unwrap());
    assert!(sums.is_sorted() && sums[0] > 0.0, "{sums:?}");
}

#[test]
fn a_request_that_reaches_no_endpoint_has_no_time_there() {
    let proxy = Proxy::start(config(&[("one.test", "/", &[])]));
    assert_eq!(proxy.get("one.test", "/").status, 503);
    let samples = samples_of(&proxy, 1.0);
    let count = |name: &str| {
        let name = format!("nginx_ingress_controller_{name}_duration_seconds_count");
        samples.value(&name, &[r#"status="503""#])
    };
    assert_eq!(count("request"), Some(1.0));
    assert_eq!(count("header"), Some(0.0));
    assert_eq!(count("connect"), Some(0.0));
}

#[test]
fn a_client_that_goes_away_is_counted_as_nginx_counts_it() {
    let (asked, is_asked) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        asked.lock().unwrap().send(()).unwrap();
        connection.read_head();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    is_asked.recv_timeout(crate::rig::PATIENCE).unwrap();
    drop(client);
    let samples = samples_of(&proxy, 1.0);
    assert_eq!(samples.value(REQUESTS, &[r#"status="499""#]), Some(1.0));
}

#[test]
fn a_tunnel_is_counted_once_when_it_ends() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello",
        );
        connection.read_chunk();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    let head = "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write(head);
    let told = client.read_head().unwrap();
    assert_eq!(told.status(), 101);
    assert_eq!(Samples::of(&proxy).value(REQUESTS, &[]), None);
    client.write("bye, then\r\n");
    drop(client);
    let samples = samples_of(&proxy, 1.0);
    let labels = [r#"status="101""#];
    assert_eq!(samples.value(REQUESTS, &labels), Some(1.0));
    let size = |name: &str| {
        let name = format!("nginx_ingress_controller_{name}_size_sum");
        samples.value(&name, &labels)
    };
    #[expect(clippy::cast_precision_loss, reason = "lengths are small")]
    let up = (head.len() + "bye, then\r\n".len()) as f64;
    assert_eq!(size("request"), Some(up));
    #[expect(clippy::cast_precision_loss, reason = "lengths are small")]
    let down = (told.text.len() + "hello".len()) as f64;
    assert_eq!(size("response"), Some(down));
}

#[test]
fn series_of_a_rule_that_is_gone_are_gone() {
    let origin = Origin::echo("origin");
    let both: &[(&str, &str, &[_])] = &[
        ("one.test", "/", &[origin.address]),
        ("one.test", "/old", &[origin.address]),
        ("two.test", "/", &[origin.address]),
    ];
    let proxy = Proxy::start(config(both));
    for (host, path) in [("one.test", "/"), ("one.test", "/old"), ("two.test", "/")] {
        assert_eq!(proxy.get(host, path).status, 200);
    }
    let has = |samples: &Samples, labels: &[&str]| samples.value(REQUESTS, labels).is_some();
    let samples = samples_of(&proxy, 3.0);
    assert!(has(&samples, &[r#"path="/old""#]) && has(&samples, &[r#"host="two.test""#]));
    proxy.publish(config(&[("one.test", "/", &[origin.address])]));
    let samples = Samples::of(&proxy);
    assert!(!has(&samples, &[r#"path="/old""#]) && !has(&samples, &[r#"host="two.test""#]));
    let kept = [r#"host="one.test""#, r#"path="/""#];
    assert_eq!(
        samples.value(REQUESTS, &kept),
        Some(1.0),
        "a neighbour keeps counting"
    );
    proxy.get("one.test", "/");
    assert_eq!(samples_of(&proxy, 2.0).value(REQUESTS, &kept), Some(2.0));
    proxy.publish(config(both));
    proxy.get("two.test", "/");
    let samples = samples_of(&proxy, 3.0);
    assert_eq!(samples.value(REQUESTS, &[r#"host="two.test""#]), Some(1.0));
}

#[test]
fn certificates_and_configurations_are_told() {
    let secret = crate::tls::secret("exact", "one.test");
    let mut with_certificate = config(&[]);
    let pattern = HostPattern::parse("one.test").unwrap();
    with_certificate
        .certificates
        .insert(pattern, Arc::clone(&secret));
    let proxy = Proxy::start(with_certificate.clone());
    let samples = Samples::of(&proxy);
    let labels = [
        r#"class="class""#,
        r#"host="one.test""#,
        r#"namespace="default""#,
        r#"secret_name="exact""#,
    ];
    let expiry = samples.value("nginx_ingress_controller_ssl_expire_time_seconds", &labels);
    // rcgen's certificates end with the year 4095.
    assert_eq!(expiry, Some(67_090_118_400.0));
    let mut labels = labels.to_vec();
    labels.push(r#"public_key_algorithm="ECDSA""#);
    labels.push(r#"issuer_common_name="rcgen self signed cert""#);
    let info = samples.value("nginx_ingress_controller_ssl_certificate_info", &labels);
    assert_eq!(info, Some(1.0));
    let hash = |samples: &Samples| samples.value("nginx_ingress_controller_config_hash", &[]);
    let successes = |samples: &Samples| samples.value("nginx_ingress_controller_success", &[]);
    assert_eq!(successes(&samples), Some(1.0));
    let first = hash(&samples);
    proxy.publish(config(&[("one.test", "/", &[])]));
    let changed = Samples::of(&proxy);
    assert_eq!(successes(&changed), Some(2.0));
    assert_ne!(hash(&changed), first);
    proxy.publish(with_certificate);
    assert_eq!(hash(&Samples::of(&proxy)), first);
}

#[test]
fn malformed_requests_are_counted() {
    let proxy = Proxy::start(config(&[]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\nno field\r\n\r\n");
    assert_eq!(client.read_reply().status, 400);
    wait_until("it is counted", || proxy.snapshot().host.malformed == 1);
    let mut raw = Raw::connect(proxy.http);
    let head = fields(&[(":method", "GET"), (":path", "/")]);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    wait_until("that is too", || proxy.snapshot().host.malformed == 2);
    assert_eq!(proxy.snapshot().host.requests, 0);
}

#[test]
fn without_metrics_of_requests_no_route_is_counted_and_all_else_is() {
    let origin = Origin::echo("origin");
    let options = Options::worker(WorkerOptions {
        request_metrics: RequestMetrics::Off,
        ..WorkerOptions::default()
    });
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), options);
    let mut client = proxy.client();
    assert_eq!(client.get("one.test", "/").status, 200);
    assert_eq!(client.get("else.test", "/").status, 404);
    let read = r#"sluice_requests_total{datapath="host",worker="0"}"#;
    wait_until("the requests are counted", || {
        Samples::of(&proxy)
            .0
            .get(read)
            .is_some_and(|value| *value >= 2.0)
    });
    let counted = Samples::of(&proxy).0;
    let of_routes = |name: &&String| {
        name.starts_with(REQUESTS) || name.starts_with("nginx_ingress_controller_request_")
    };
    assert_eq!(counted.keys().find(of_routes), None);
}

/// Every family of a scrape: name, kind, labels and meaning, as rows of a table.
fn rows_of(scrape: &str) -> String {
    let mut rows = BTreeMap::new();
    let mut helps = BTreeMap::new();
    for line in scrape.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            helps.insert(name, help);
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            let samples = scrape.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let rest = rest
                    .trim_start_matches("_bucket")
                    .trim_start_matches("_sum");
                let rest = rest.strip_prefix('{')?;
                rest.split_once('}').map(|(labels, _)| labels)
            });
            let names = samples.flat_map(|labels| labels.split("\","));
            let names = names.filter_map(|label| label.split_once('=').map(|(name, _)| name));
            let names: std::collections::BTreeSet<_> = names.filter(|name| *name != "le").collect();
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let help = helps.get(name).copied().unwrap_or_default();
            let labels = names.join(", ");
            rows.insert(name, format!("| `{name}` | {kind} | {labels} | {help} |\n"));
        }
    }
    rows.into_values().collect()
}

/// One certificate that is ordered.
fn acme() -> Acme {
    let secret = crate::tls::secret("exact", "one.test").secret.clone();
    let certificate = OrderedCertificate {
        secret,
        issuer: "issuer".into(),
        renews_at: Some(1),
        failure: None,
    };
    let totals = OrderTotals {
        issuer: "issuer".into(),
        issued: 1,
        failed: 0,
    };
    Acme {
        certificates: [certificate].into(),
        totals: [totals].into(),
        ..Acme::default()
    }
}

/// What a daemon with a datapath adds to the metrics of its workers.
fn metrics_of_datapath() -> String {
    let metrics = DatapathMetrics {
        mode: "netns",
        state: datapath::Status {
            gate: Some(datapath::GateStatus {
                device: "sluice0".to_owned(),
                netns: "sluice".to_owned(),
                return_path: datapath::TcMode::Tcx,
            }),
            counters: vec![datapath::Count {
                program: "steer".into(),
                reason: "frontend".into(),
                packets: 1,
            }],
            ..datapath::Status::default()
        },
        denied_by_admin: 0,
        denied_by_configuration: 0,
        adopted: vec![AdoptedService {
            namespace: "edge".to_owned(),
            name: "sluice".to_owned(),
            frontends: 2,
            problems: 0,
        }],
    };
    let encoder = prometheus::TextEncoder::new();
    encoder.encode_to_string(&metrics.families()).unwrap()
}

/// `UPDATE_DOCS=1 cargo test -p ingress-userspace --test proxy reference` writes it anew.
#[test]
fn reference_of_metrics_is_current() {
    let origin = Origin::echo("a");
    let check = check(Probe::Tcp);
    let mut all = checked(&[origin.address], &check);
    let pattern = HostPattern::parse("one.test").unwrap();
    all.certificates
        .insert(pattern, crate::tls::secret("exact", "one.test"));
    all.acme = Some(Arc::new(acme()));
    let proxy = start_checked(all);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    samples_of(&proxy, 1.0);
    wait_until("the endpoint to be probed", || {
        !proxy.table.probed_backends().is_empty()
    });
    let reference = format!(
        "# Metrics\n\nGenerated from a scrape of a running proxy; a test fails when it is stale.\n\n\
         Metrics whose names begin with `nginx_` have the names and labels of ingress-nginx, so that its\n\
         dashboards work; all others are specific to Sluice. Labels come from the configuration and from closed\n\
         sets, never from clients. `--metrics-address` serves them (default: 127.0.0.1:10254; the chart binds the\n\
         pod's address), as text or, to clients that prefer it, as OpenMetrics 1.0: the same series, with units and\n\
         with exemplars on the buckets of request durations, which name the newest sampled trace of each.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n{}",
        rows_of(&(proxy.metrics() + &metrics_of_datapath()))
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &reference).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/metrics.md is stale: UPDATE_DOCS=1 cargo test -p ingress-userspace --test proxy reference"
    );
}
