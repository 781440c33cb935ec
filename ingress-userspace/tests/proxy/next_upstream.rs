//! What an Ingress asks for with `proxy-next-upstream`, beyond what goes on by itself.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use h2::Reason;
use http::{Request, Response};
use ingress_core::ir::{Config, Retries, RetryCause, UpstreamProtocol};

use crate::balancing::config_with;
use crate::h2rig::{Asked, H2Origin, connect, run};
use crate::rig::{Origin, Proxy, dead, streaming, with_policy};

fn after(causes: &[RetryCause]) -> Retries {
    Retries {
        after: Some(causes.iter().copied().collect()),
        ..Retries::default()
    }
}

fn retrying(endpoints: &[SocketAddr], retries: Retries) -> Config {
    with_policy(config_with(endpoints, |_| {}), |policy| {
        policy.retries = retries;
        policy.timeouts.read = NonZeroU32::new(1);
    })
}

/// An endpoint that reads requests and says this, or nothing and closes.
struct Failing {
    origin: Origin,
    asked: Arc<AtomicUsize>,
}

impl Failing {
    fn start(answer: Option<&'static str>) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let origin = Origin::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                connection.read_body(&head);
                count.fetch_add(1, Ordering::Relaxed);
                match answer {
                    Some(answer) => connection.write(answer),
                    None => return,
                }
            }
        });
        Self { origin, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// Asks until the endpoint that fails was asked as well. Returns the statuses.
fn ask(proxy: &Proxy, failing: &Failing, request: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    while failing.asked() == 0 {
        assert!(statuses.len() < 100, "never asked");
        let mut client = proxy.client();
        client.write(request);
        statuses.push(client.read_reply().status);
    }
    statuses
}

const GET: &str = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody";

#[test]
fn retries_follow_the_named_conditions_and_no_others() {
    let good = Origin::repeating();
    for (cause, answer, status) in [
        (RetryCause::Error, None, 502),
        (RetryCause::Timeout, Some(""), 504),
        (RetryCause::InvalidHeader, Some("what?\r\n\r\n"), 502),
        (RetryCause::Http503, Some(BUSY), 503),
    ] {
        let failing = Failing::start(answer);
        let endpoints = [failing.origin.address, good.address];
        let proxy = Proxy::start(retrying(&endpoints, after(&[cause])));
        let statuses = ask(&proxy, &failing, GET);
        assert!(statuses.iter().all(|status| *status == 200), "{cause:?}");
        assert_eq!(proxy.snapshot().upstream_retries, 1, "{cause:?}");

        let failing = Failing::start(answer);
        let endpoints = [failing.origin.address, good.address];
        let others = RetryCause::NAMES.map(|(_, cause)| cause);
        let others = others.into_iter().filter(|other| *other != cause);
        let others: Vec<_> = others.filter(|other| *other != RetryCause::Off).collect();
        let proxy = Proxy::start(retrying(&endpoints, after(&others)));
        let statuses = ask(&proxy, &failing, GET);
        assert_eq!(statuses.last(), Some(&status), "{cause:?}");
        assert_eq!(proxy.snapshot().upstream_retries, 0, "{cause:?}");
    }
}

#[test]
fn every_endpoint_is_told_the_same() {
    let (failing, good) = (Failing::start(Some(BUSY)), Origin::echo("good"));
    let endpoints = [failing.origin.address, good.address];
    let proxy = Proxy::start(retrying(&endpoints, after(&[RetryCause::Http503])));
    let fields = [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    while failing.asked() == 0 {
        let reply = proxy.get("one.test", "/");
        let seen = fields.map(|field| reply.seen(field));
        assert_eq!(
            seen,
            ["one.test", "127.0.0.1", "one.test", "http"].map(Some)
        );
        assert!(reply.seen("x-request-id").is_some());
    }
}

#[test]
fn a_method_that_is_not_idempotent_goes_on_only_if_that_is_said() {
    let good = Origin::repeating();
    for (causes, status) in [
        (vec![RetryCause::Http503], 503),
        (vec![RetryCause::Http503, RetryCause::NonIdempotent], 200),
    ] {
        let failing = Failing::start(Some(BUSY));
        let endpoints = [failing.origin.address, good.address];
        let proxy = Proxy::start(retrying(&endpoints, after(&causes)));
        let statuses = ask(&proxy, &failing, POST);
        assert_eq!(statuses.last(), Some(&status), "{causes:?}");
    }
}

#[test]
fn a_body_is_sent_again_as_a_whole_if_it_is_small() {
    let good = Origin::repeating();
    let causes = after(&[RetryCause::Http503, RetryCause::NonIdempotent]);
    let small = "0123456789".repeat(6_000);
    let large = "0123456789".repeat(7_000);
    for (body, status, is_chunked) in [
        (&small, 200, false),
        (&small, 200, true),
        (&large, 503, false),
        (&large, 503, true),
    ] {
        let failing = Failing::start(Some(BUSY));
        let proxy = Proxy::start(retrying(&[failing.origin.address, good.address], causes));
        let length = body.len();
        let rest = if is_chunked {
            format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
        } else {
            format!("Content-Length: {length}\r\n\r\n{body}")
        };
        loop {
            let mut client = proxy.client();
            client.write(&format!("POST / HTTP/1.1\r\nHost: one.test\r\n{rest}"));
            let reply = client.read_reply();
            if failing.asked() > 0 {
                assert_eq!(reply.status, status, "{length} {is_chunked}");
                break;
            }
            assert_eq!(reply.text(), body);
        }
    }
}

#[test]
fn a_body_that_has_not_ended_goes_nowhere_else() {
    let hasty = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            connection.write(BUSY);
        }
    });
    let good = Origin::repeating();
    let causes = after(&[RetryCause::Http503, RetryCause::NonIdempotent]);
    let proxy = Proxy::start(streaming(retrying(&[hasty.address, good.address], causes)));
    let mut refused = 0;
    for _ in 0..20 {
        let mut client = proxy.client();
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbo");
        thread::sleep(Duration::from_millis(50));
        client.write("dy");
        let reply = client.read_reply();
        match reply.status {
            200 => assert_eq!(reply.text(), "body"),
            status => assert_eq!(status, 503),
        }
        refused += u32::from(reply.status == 503);
    }
    assert!(refused > 0);
    assert_eq!(proxy.snapshot().upstream_retries, 0);
}

#[test]
fn an_endpoint_whose_answers_nobody_gets_is_left_alone_in_the_end() {
    let (failing, good) = (Failing::start(Some(BUSY)), Origin::repeating());
    let endpoints = [failing.origin.address, good.address];
    let proxy = Proxy::start(retrying(&endpoints, after(&[RetryCause::Http503])));
    for _ in 0..60 {
        assert_eq!(proxy.get("one.test", "/").status, 200);
    }
    assert!(proxy.snapshot().upstream_ejections > 0);
    assert!(failing.asked() < 20, "{}", failing.asked());
}

#[test]
fn tries_are_as_many_as_is_said_and_the_last_answer_counts() {
    for (tries_max, tries) in [(None, 3), (Some(1), 1), (Some(2), 2), (Some(0), 5)] {
        let failing: Vec<_> = (0..5).map(|_| Failing::start(Some(BUSY))).collect();
        let endpoints: Vec<_> = failing.iter().map(|one| one.origin.address).collect();
        let retries = Retries {
            tries_max,
            ..after(&[RetryCause::Http503])
        };
        let proxy = Proxy::start(retrying(&endpoints, retries));
        let reply = proxy.get("one.test", "/");
        assert_eq!((reply.status, reply.text()), (503, "busy"));
        let asked: Vec<_> = failing.iter().map(Failing::asked).collect();
        assert_eq!(asked.iter().sum::<usize>(), tries, "{tries_max:?}");
        assert!(asked.iter().all(|asked| *asked < 2), "{asked:?}");
    }
}

#[test]
fn tries_end_with_their_time() {
    let silent = [0, 1, 2].map(|_| Failing::start(Some("")));
    let endpoints = silent.each_ref().map(|one| one.origin.address);
    let retries = Retries {
        seconds_max: NonZeroU32::new(1),
        ..after(&[RetryCause::Timeout])
    };
    let proxy = Proxy::start(retrying(&endpoints, retries));
    assert_eq!(proxy.get("one.test", "/").status, 504);
    let asked = silent.iter().map(Failing::asked).sum::<usize>();
    assert_eq!(asked, 1);
}

#[test]
fn off_means_that_nothing_goes_on() {
    let good = Origin::repeating();
    let endpoints = [dead(), good.address];
    let off = after(&[RetryCause::Error, RetryCause::Off]);
    let proxy = Proxy::start(retrying(&endpoints, off));
    let statuses: Vec<_> = (0..40).map(|_| proxy.get("one.test", "/").status).collect();
    assert!(statuses.contains(&502), "{statuses:?}");
    assert_eq!(proxy.snapshot().upstream_retries, 0);
}

#[test]
fn a_stream_that_broke_or_says_nothing_is_asked_for_elsewhere() {
    let breaking = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        if asked.request.uri().path() == "/break" {
            respond.send_reset(Reason::INTERNAL_ERROR);
        } else {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
    });
    let serving = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let both = [breaking.address, serving.address];
    let config = config_with(&both, |backend| {
        backend.protocol = UpstreamProtocol::Http2;
    });
    let config = with_policy(config, |policy| {
        policy.retries = after(&[RetryCause::Error, RetryCause::Timeout]);
        policy.timeouts.read = NonZeroU32::new(1);
    });
    let proxy = Proxy::start(config);
    run(async {
        let client = connect(proxy.http).await;
        for number in 0..24 {
            let path = if number % 4 == 0 { "wait" } else { "break" };
            let uri = format!("http://one.test/{path}");
            let request = Request::get(uri).body(()).unwrap();
            let mut client = client.clone().ready().await.unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
    assert!(proxy.snapshot().upstream_retries > 0);
}
