//! Clients that mean harm: what they can make a worker hold is bounded, and others do not notice.
//! Alone in its process, because it looks at the memory of the whole.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use ingress_userspace::proxy::Timeouts;
use proxy_rig::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS, fields,
    frame, get, remembered,
};
use proxy_rig::h2rig;
use proxy_rig::rig::{Client, Options, Origin, Proxy, config, wait_until};

/// What one attack may make the process grow by, the test's own threads and buffers included.
const GROWTH_KIB_MAX: usize = 16 << 10;

/// Requests of the ordinary client, at least, beside an attack or an ordinary neighbour.
const REQUESTS: usize = 1000;

/// How long 99 of 100 of them may take on any machine.
const P99_MAX: Duration = Duration::from_secs(2);

/// How often it may seem that others notice an attack.
const ROUNDS: usize = 4;

/// An attack that never ends by itself ends after so many bytes.
const ATTACK_BYTES: usize = 32 << 20;

fn proxy(origin: &Origin) -> Proxy {
    let timeouts = Timeouts {
        downstream_write: Duration::from_secs(1),
        ..Timeouts::default()
    };
    let options = Options::timeouts(timeouts);
    Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), options)
}

/// What somebody on the same worker has done to the process and to an ordinary client.
struct Effect {
    growth_kib: usize,
    /// What 99 of 100 requests took at most.
    p99: Duration,
    slowest: Duration,
}

/// Lets an ordinary client ask while `neighbour` does again and again what it does.
fn effect(proxy: &Proxy, neighbour: impl Fn(&Proxy)) -> Effect {
    let mut client = Client::connect(proxy.http);
    ask(&mut client);
    let before = resident_kib("VmRSS:");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let (seen, count) = (Arc::clone(&is_over), Arc::clone(&answered));
    let asking = thread::spawn(move || {
        let mut times = Vec::new();
        while !seen.load(Ordering::SeqCst) {
            times.push(ask(&mut client));
            count.fetch_add(1, Ordering::SeqCst);
        }
        times
    });
    let once = || {
        neighbour(proxy);
        wait_until("only the ordinary client is left", || {
            proxy.snapshot().host.connections_open == 1
        });
    };
    once();
    let growth_kib = resident_kib("VmHWM:").saturating_sub(before);
    // Until it can be told what it does to others.
    while answered.load(Ordering::SeqCst) < REQUESTS {
        once();
    }
    is_over.store(true, Ordering::SeqCst);
    let mut times = asking.join().unwrap();
    wait_until("the ordinary client has gone", || {
        proxy.snapshot().host.connections_open == 0
    });
    times.sort_unstable();
    Effect {
        growth_kib,
        p99: times[times.len() * 99 / 100],
        slowest: times[times.len() - 1],
    }
}

/// A neighbour who means no harm and is busy too: as many requests at a time as a page has.
fn ordinary_neighbour(proxy: &Proxy) {
    h2rig::run(async {
        let client = h2rig::connect(proxy.http).await;
        for _ in 0..NEIGHBOUR_PAGES {
            let mut responses = Vec::new();
            for _ in 0..NEIGHBOUR_STREAMS {
                let mut ready = client.clone().ready().await.unwrap();
                let request = Request::get("http://one.test/").body(()).unwrap();
                responses.push(ready.send_request(request, true).unwrap().0);
            }
            for response in responses {
                assert_eq!(response.await.unwrap().status(), 200);
            }
        }
    });
}

const NEIGHBOUR_PAGES: usize = 20;
const NEIGHBOUR_STREAMS: usize = 100;

/// One request, and how long it took.
fn ask(client: &mut Client) -> Duration {
    let start = Instant::now();
    assert_eq!(client.get("one.test", "/").status, 200);
    start.elapsed()
}

fn resident_kib(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

/// Says hello; to `/large` for a long time, to `/wait` never.
fn hello() -> Origin {
    Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            if head.text.starts_with("POST /wait") {
                continue;
            }
            if head.text.starts_with("GET /large") {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                let some = "x".repeat(1 << 16);
                for _ in 0..1000 {
                    connection.write(&some);
                }
            }
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    })
}

/// Sends the same bytes again and again, until the proxy takes no more.
fn flood(raw: &mut Raw, bytes: &[u8]) {
    raw.stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let many = bytes.repeat((1 << 16) / bytes.len() + 1);
    for _ in 0..ATTACK_BYTES / many.len() {
        if !raw.write(&many) {
            return;
        }
    }
}

/// Returns when it is over.
type Attack = fn(&Proxy);

/// One after another: they look at the same process.
#[test]
fn attacks_are_bounded_and_others_do_not_notice() {
    let origin = hello();
    let attacks: [(&str, Attack); 11] = [
        ("rapid reset", rapid_reset),
        ("made you reset", made_you_reset),
        ("settings flood", settings_flood),
        ("settings of many windows", settings_of_many_windows),
        ("ping flood", ping_flood),
        ("continuation flood", continuation_flood),
        ("hpack bomb", hpack_bomb),
        ("header bomb over HTTP/1", header_bomb_over_http_1),
        ("line without end", line_without_end),
        ("streams without end", streams_without_end),
        ("windows that never open", windows_that_never_open),
    ];
    for (name, attack) in attacks {
        let proxy = proxy(&origin);
        let is_noticed = || {
            let normal = effect(&proxy, ordinary_neighbour).p99;
            let Effect {
                growth_kib: growth,
                p99,
                slowest,
            } = effect(&proxy, attack);
            println!("{name}: {growth} KiB; p99 {p99:?} (normal {normal:?}), at most {slowest:?}");
            assert!(growth < GROWTH_KIB_MAX, "{name}: grew by {growth} KiB");
            assert!(p99 < P99_MAX, "{name}: p99 {p99:?}");
            p99 > 2 * normal
        };
        // Other things that the machine does are noticed too, but not each time.
        let is_always_noticed = (0..ROUNDS).all(|_| is_noticed());
        assert!(
            !is_always_noticed,
            "{name}: others wait more than twice as long"
        );
        assert_eq!(proxy.snapshot().panics, 0, "{name}");
    }
}

/// CVE-2023-44487.
fn rapid_reset(proxy: &Proxy) {
    let before = proxy.snapshot().host.requests;
    let mut raw = Raw::connect(proxy.http);
    for number in 0..50_000_u32 {
        let stream = 2 * number + 1;
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if !raw.write(&bytes) {
            break;
        }
    }
    let requests = proxy.snapshot().host.requests - before;
    assert!(requests < 100_000, "{requests} requests were taken on");
}

/// CVE-2025-8671: each request provokes a reset by the proxy.
fn made_you_reset(proxy: &Proxy) {
    let before = proxy.snapshot().host.requests;
    let mut raw = Raw::connect(proxy.http);
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/"),
        ("content-length", "5"),
    ]);
    for number in 0..50_000_u32 {
        let stream = 2 * number + 1;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &head);
        bytes.extend(frame(DATA, END_STREAM, stream, &[]));
        if !raw.write(&bytes) {
            break;
        }
    }
    let requests = proxy.snapshot().host.requests - before;
    assert!(requests < 10_000, "{requests} requests were taken on");
}

/// As many values of one setting as a frame holds, while as many streams are open as may be.
fn settings_of_many_windows(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/wait"),
    ]);
    for number in 0..100_u32 {
        raw.send(HEADERS, END_HEADERS, 2 * number + 1, &head);
    }
    let mut settings = Vec::new();
    for number in 0..2_730_u32 {
        settings.extend([0, 4]);
        settings.extend((65_535 + number % 2).to_be_bytes());
    }
    flood(&mut raw, &frame(SETTINGS, 0, 0, &settings));
}

/// CVE-2019-9515.
fn settings_flood(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    flood(&mut raw, &frame(SETTINGS, 0, 0, &[]));
}

/// CVE-2019-9512.
fn ping_flood(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    flood(&mut raw, &frame(PING, 0, 0, &[0; 8]));
}

/// CVE-2024-27316.
fn continuation_flood(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_STREAM, 1, &get());
    let more = fields(&[("x-a", &"y".repeat(1000))]);
    flood(&mut raw, &frame(CONTINUATION, 0, 1, &more));
}

/// One large entry in the table of the decoder, and thousands of references to it.
fn hpack_bomb(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    for number in 0..100_u32 {
        let mut head = get();
        // It becomes entry 62.
        head.extend(remembered(&[("x-bomb", &"y".repeat(3900))]));
        head.extend([0x80 | 0x3e].repeat(10_000));
        if !raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head) {
            return;
        }
    }
    drop(raw);
}

fn header_bomb_over_http_1(proxy: &Proxy) {
    for _ in 0..100 {
        let mut client = Client::connect(proxy.http);
        client.write("GET / HTTP/1.1\r\nHost: one.test\r\n");
        client.write(&"X: y\r\n".repeat(100_000));
        let reply = client.read_head();
        assert!(reply.is_none_or(|head| head.status() == 431));
    }
}

fn line_without_end(proxy: &Proxy) {
    let mut clients: Vec<_> = (0..10).map(|_| Client::connect(proxy.http)).collect();
    for client in &mut clients {
        client.write("GET /");
        client.write(&"x".repeat(4 << 20));
    }
    for client in &mut clients {
        let reply = client.read_head();
        assert!(reply.is_none_or(|head| matches!(head.status(), 414 | 431)));
    }
}

/// More streams at a time than the settings allow.
fn streams_without_end(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/wait"),
    ]);
    for number in 0..10_000_u32 {
        if !raw.send(HEADERS, END_HEADERS, 2 * number + 1, &head) {
            break;
        }
    }
    // Connections for the first of them are being made, which an origin has to accept.
    thread::sleep(Duration::from_millis(50));
}

/// As many large responses as there may be, and no window for any of them.
fn windows_that_never_open(proxy: &Proxy) {
    let mut raw = Raw::connect(proxy.http);
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    raw.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let head = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/large"),
    ]);
    for number in 0..100_u32 {
        raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head);
    }
    wait_until("all are answered", || proxy.snapshot().requests_open >= 100);
    // The ordinary client may ask just then.
    wait_until("none is any more", || proxy.snapshot().requests_open <= 1);
}
