//! Probes of endpoints: who gets requests, and who does not.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ingress_core::ir::{Balance, Config, HealthCheck, HttpProbe, Probe, UpstreamProtocol};
use ingress_userspace::proxy::{Balancing, start_health_checks};

use crate::balancing::{config_with, name, start};
use crate::grpc::speaking;
use crate::h2rig::H2Origin;
use crate::https;
use crate::metrics::Samples;
use crate::rig::{Origin, Proxy, dead, wait_until};

/// An origin that answers probes with a status that a test sets, and requests with its name.
struct Probed {
    origin: Origin,
    status: Arc<AtomicU16>,
    probes: Arc<AtomicUsize>,
    /// The head of the last probe.
    head: Arc<Mutex<String>>,
}

fn probed(name: &'static str) -> Probed {
    let status = Arc::new(AtomicU16::new(200));
    let probes = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(Mutex::new(String::new()));
    let (of_origin, counted) = (Arc::clone(&status), Arc::clone(&probes));
    let head_of_probe = Arc::clone(&last);
    let origin = Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            let (status, body) = if head.text.starts_with("GET /ready ") {
                head_of_probe.lock().unwrap().clone_from(&head.text);
                counted.fetch_add(1, Ordering::SeqCst);
                (of_origin.load(Ordering::SeqCst), "")
            } else {
                (200, name)
            };
            let length = body.len();
            connection.write(&format!(
                "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        }
    });
    Probed {
        origin,
        status,
        probes,
        head: last,
    }
}

fn http_probe() -> Probe {
    Probe::Http(HttpProbe {
        path: "/ready".into(),
        host: Some("health.test".into()),
        statuses: [(200, 299)].into(),
    })
}

/// A check that one probe decides.
pub(crate) fn check(probe: Probe) -> Arc<HealthCheck> {
    let one = NonZeroU32::MIN;
    Arc::new(HealthCheck {
        probe,
        interval: one,
        timeout: one,
        healthy_threshold: one,
        unhealthy_threshold: one,
    })
}

pub(crate) fn checked(endpoints: &[SocketAddr], check: &Arc<HealthCheck>) -> Config {
    config_with(endpoints, |backend| {
        let policy = &mut Arc::make_mut(&mut backend.key).policy;
        policy.health_check = Some(Arc::clone(check));
        policy.balance = Some(Balance::RoundRobin);
    })
}

pub(crate) fn start_checked(config: Config) -> Proxy {
    let proxy = start(config, Balancing::default());
    start_health_checks(proxy.table.clone()).unwrap();
    proxy
}

/// The endpoints that answer twenty requests.
fn used(proxy: &Proxy) -> Vec<String> {
    let mut client = proxy.client();
    let mut used: Vec<_> = (0..20)
        .map(|_| name(&client.get("one.test", "/")))
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

fn failing(proxy: &Proxy) -> usize {
    let backends = proxy.table.probed_backends();
    backends.iter().map(|backend| backend.failing.len()).sum()
}

#[test]
fn failing_endpoint_gets_no_requests_until_it_passes_again() {
    let (one, two) = (probed("one"), probed("two"));
    let endpoints = [one.origin.address, two.origin.address];
    let proxy = start_checked(checked(&endpoints, &check(http_probe())));
    wait_until("both are probed", || {
        [&one, &two]
            .iter()
            .all(|one| one.probes.load(Ordering::SeqCst) > 0)
    });
    assert_eq!(used(&proxy), ["one", "two"]);
    let head = one.head.lock().unwrap().to_ascii_lowercase();
    assert!(head.contains("\r\nhost: health.test\r\n"), "{head}");
    assert!(
        head.contains("\r\nuser-agent: sluice-health-check\r\n"),
        "{head}"
    );

    one.status.store(302, Ordering::SeqCst);
    wait_until("one fails", || failing(&proxy) == 1);
    assert_eq!(used(&proxy), ["two"]);
    let [backend] = &proxy.table.probed_backends()[..] else {
        panic!()
    };
    assert_eq!(backend.endpoints, 2);
    assert_eq!(backend.failing[0].address, one.origin.address);
    assert_eq!(backend.failing[0].reason, "status 302");
    let metrics = Samples::of(&proxy);
    let backend = ["backend=\"default/one-test-:80\""];
    let value = |name: &str| metrics.value(name, &backend);
    assert_eq!(value("sluice_health_check_endpoints"), Some(2.0));
    assert_eq!(value("sluice_health_check_failing_endpoints"), Some(1.0));
    let failed = metrics.value("sluice_health_checks_total", &["result=\"failed\""]);
    assert!(failed.is_some_and(|failed| failed >= 1.0), "{failed:?}");

    // Another table with the same backend does not bring it back.
    proxy.publish(checked(&endpoints, &check(http_probe())));
    assert_eq!(used(&proxy), ["two"]);

    one.status.store(204, Ordering::SeqCst);
    wait_until("one passes again", || failing(&proxy) == 0);
    assert_eq!(used(&proxy), ["one", "two"]);
}

#[test]
fn endpoints_that_all_fail_get_requests_all_the_same() {
    let (one, two) = (probed("one"), probed("two"));
    one.status.store(500, Ordering::SeqCst);
    two.status.store(500, Ordering::SeqCst);
    let endpoints = [one.origin.address, two.origin.address];
    let proxy = start_checked(checked(&endpoints, &check(http_probe())));
    wait_until("both fail", || failing(&proxy) == 2);
    assert_eq!(used(&proxy), ["one", "two"]);
    // One that comes meanwhile is the only healthy one.
    let three = probed("three");
    let all = [endpoints[0], endpoints[1], three.origin.address];
    proxy.publish(checked(&all, &check(http_probe())));
    wait_until("the others are taken out", || used(&proxy) == ["three"]);
}

#[test]
fn endpoint_that_accepts_no_connection_fails_a_tcp_probe() {
    let good = Origin::echo("good");
    let endpoints = [good.address, dead()];
    let proxy = start_checked(checked(&endpoints, &check(Probe::Tcp)));
    wait_until("the dead one fails", || failing(&proxy) == 1);
    let failures = proxy.snapshot().upstream_connect_failures;
    assert_eq!(used(&proxy), ["good"]);
    assert_eq!(proxy.snapshot().upstream_connect_failures, failures);
}

#[test]
fn endpoint_that_does_not_answer_in_time_fails() {
    let good = probed("good");
    let silent = Origin::start(|mut connection| while connection.read_head().is_some() {});
    let endpoints = [good.origin.address, silent.address];
    let proxy = start_checked(checked(&endpoints, &check(http_probe())));
    wait_until("the silent one fails", || failing(&proxy) == 1);
    let reason = proxy.table.probed_backends()[0].failing[0].reason.clone();
    assert_eq!(reason, "no answer within 1 s");
    assert_eq!(used(&proxy), ["good"]);
}

#[test]
fn probes_speak_the_protocol_of_the_backend() {
    let over_http2 = H2Origin::start(|mut asked| async move {
        let is_probe = asked.request.uri().path() == "/ready";
        let status = if is_probe { 204 } else { 500 };
        let response = http::Response::builder().status(status).body(()).unwrap();
        let _ = asked.respond.send_response(response, true);
    });
    for (protocol, endpoint) in [
        (UpstreamProtocol::Https, https::origin()),
        (UpstreamProtocol::Http2, over_http2.address),
    ] {
        let mut config = speaking(protocol, &[endpoint]);
        let backends = std::mem::take(&mut config.backends);
        for backend in backends.values() {
            let mut backend = (**backend).clone();
            let key = Arc::make_mut(&mut backend.key);
            key.policy.health_check = Some(check(http_probe()));
            config
                .backends
                .insert(Arc::clone(&backend.key), Arc::new(backend));
        }
        let proxy = start_checked(config);
        let passed = || {
            let metrics = Samples::of(&proxy);
            metrics.value("sluice_health_checks_total", &["result=\"passed\""])
        };
        wait_until("a probe passes", || {
            passed().is_some_and(|count| count > 0.0)
        });
        assert_eq!(failing(&proxy), 0, "{protocol:?}");
    }
}

#[test]
fn endpoints_of_other_backends_are_not_probed() {
    let (asked, silent) = (probed("asked"), Origin::echo("silent"));
    let proxy = start_checked(checked(&[asked.origin.address], &check(http_probe())));
    wait_until("the other is probed", || {
        asked.probes.load(Ordering::SeqCst) > 0
    });
    proxy.publish(config_with(&[silent.address], |_| {}));
    wait_until("nothing is probed", || {
        Samples::of(&proxy)
            .value("sluice_health_check_endpoints", &[])
            .is_none()
    });
    assert_eq!(silent.connections(), 0);
}
