//! Flags and annotations reach the proxy.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, PATIENCE, Place, origin, read_answer, wait_for};

/// The answer to a `GET` with these fields.
fn get(daemon: &Daemon, fields: &str) -> crate::daemon::Answer {
    let mut stream = TcpStream::connect(daemon.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /a HTTP/1.1\r\nHost: one.test\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(&mut BufReader::new(stream)).unwrap()
}

#[test]
fn requests_are_logged_with_the_client_that_a_trusted_proxy_names() {
    let place = Place::new(origin());
    let flags = [
        "--access-log=json",
        "--proxy-real-ip-cidr=127.0.0.0/8,::1",
        "--use-forwarded-headers",
    ];
    let daemon = place.start("a", &flags);
    assert_eq!(get(&daemon, "X-Forwarded-For: 203.0.113.7\r\n").status, 200);
    let log = || fs::read_to_string(place.directory.path().join("a.out")).unwrap();
    wait_for("the line", || log().ends_with('\n'));
    let line: serde_json::Value = serde_json::from_str(&log()).unwrap();
    assert_eq!(line["remote_addr"], "203.0.113.7");
    assert_eq!(
        (&line["ingress"], &line["uri"]),
        (&"shop".into(), &"/a".into())
    );
}

#[test]
fn flags_that_mean_nothing_are_told() {
    let place = Place::new(origin());
    for (flag, told) in [
        ("--use-forwarded-headers", "--proxy-real-ip-cidr"),
        ("--proxy-real-ip-cidr=10.0.0.0/33", "expected a network"),
        (
            "--access-log-format=$nothing",
            "variable `$nothing` is unknown",
        ),
        ("--tls-ciphers=RC4-MD5", "unknown cipher suite `RC4-MD5`"),
        ("--tls-ticket-keys=/nowhere", "failed to read ticket keys"),
        ("--tcp-service=70000=db/mysql:3306", "1 to 65535"),
        ("--tcp-service=3306=mysql", "namespace/service:port"),
        ("--udp-service=53=dns", "namespace/service:port"),
        ("--udp-service=0=dns/dns:53", "1 to 65535"),
        ("--tcp-services-configmap=services", "NAMESPACE/NAME"),
    ] {
        let mut daemon = place.spawn("a", &[flag]);
        assert!(!daemon.wait().success(), "{flag}");
        assert!(daemon.log().contains(told), "{flag}: {}", daemon.log());
    }
}

#[test]
fn restrictions_that_are_ignored_are_shown() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--ignore-annotation=auth-url,limit-rps"]);
    let metrics = daemon.get(daemon.admin, "/metrics").body;
    for key in ["auth-url", "limit-rps"] {
        let line = format!("sluice_ignored_annotation_info{{key=\"{key}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let status = place.sluice(&["status"]);
    let text = String::from_utf8(status.stdout).unwrap();
    let shown = "ignored although they restrict access: auth-url, limit-rps\n";
    assert!(text.contains(shown), "{text}");
}

#[test]
fn a_client_has_as_many_connections_as_it_may_have() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--client-connections-max=2", "--workers=1"]);
    wait_for("the client to have none open", || {
        let kept: Vec<_> = (0..2).filter_map(|_| connected(&daemon)).collect();
        kept.len() == 2 && connected(&daemon).is_none()
    });
}

/// A connection over which a request was answered.
fn connected(daemon: &Daemon) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(daemon.http).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /a HTTP/1.1\r\nHost: one.test\r\n\r\n")
        .ok()?;
    let mut stream = BufReader::new(stream);
    read_answer(&mut stream)?;
    Some(stream.into_inner())
}

#[test]
fn an_annotation_gives_sessions_a_cookie() {
    let place = Place::new(origin());
    annotate(
        &place,
        "{nginx.ingress.kubernetes.io/affinity: cookie, \
         nginx.ingress.kubernetes.io/session-cookie-name: route}",
    );
    let daemon = place.start("a", &["--load-balance=ewma", "--slow-start=10"]);
    let first = get(&daemon, "").head;
    let cookie = first
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    let (cookie, attributes) = cookie.split_once(';').unwrap();
    assert_eq!(attributes, " Path=/; HttpOnly");
    assert!(cookie.starts_with("route="), "{cookie}");
    let next = get(&daemon, &format!("Cookie: {cookie}\r\n")).head;
    assert!(!next.contains("set-cookie"), "{next}");
}

/// Gives the place's Ingress annotations.
fn annotate(place: &Place, annotations: &str) {
    place.change(|manifest| {
        manifest.replace(
            "metadata: {name: shop, namespace: web}",
            &format!("metadata: {{name: shop, namespace: web, annotations: {annotations}}}"),
        )
    });
}

#[test]
fn bodies_are_as_large_as_a_flag_or_an_annotation_says() {
    let place = Place::new(origin());
    let post = |daemon: &Daemon, length: usize| {
        let fields = format!("Content-Length: {length}\r\nExpect: 100-continue\r\n");
        get(daemon, &fields).status
    };
    // No byte of the body is sent: the client waits for 100 or an error.
    let usual = place.start("a", &[]);
    assert_eq!(post(&usual, 1 << 20), 100);
    assert_eq!(post(&usual, (1 << 20) + 1), 413);
    drop(usual);
    annotate(&place, "{nginx.ingress.kubernetes.io/proxy-body-size: 2m}");
    let annotated = place.start("b", &["--proxy-body-size=8k"]);
    assert_eq!(post(&annotated, 2 << 20), 100);
    assert_eq!(post(&annotated, (2 << 20) + 1), 413);
}

#[test]
fn an_idle_client_is_waited_for_as_long_as_a_flag_says() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--keep-alive=1"]);
    let mut idle = TcpStream::connect(daemon.http).unwrap();
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn requests_go_on_after_what_an_annotation_names() {
    let good = origin();
    let place = Place::new(good);
    let breaking = TcpListener::bind(("127.0.0.2", good.port())).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in breaking.incoming() {
            let mut line = String::new();
            let _ = BufReader::new(stream.unwrap()).read_line(&mut line);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    place.change(|manifest| {
        manifest.replace(
            "[{addresses: [127.0.0.1]}]",
            "[{addresses: [127.0.0.1]}, {addresses: [127.0.0.2]}]",
        )
    });
    annotate(
        &place,
        "{nginx.ingress.kubernetes.io/proxy-next-upstream: error timeout}",
    );
    let daemon = place.start("a", &[]);
    wait_for("the one that breaks to be asked", || {
        assert_eq!(get(&daemon, "").status, 200);
        asked.load(Ordering::Relaxed) > 0
    });
}

#[test]
fn two_daemons_with_the_same_ticket_keys_resume_each_others_sessions() {
    let places = [Place::new(origin()), Place::new(origin())];
    let keys = places[0].directory.path().join("keys");
    fs::write(&keys, "A".repeat(64)).unwrap();
    let flag = format!("--tls-ticket-keys={}", keys.display());
    let _daemons = places.each_ref().map(|place| place.start("a", &[&flag]));
    let session = places[0].directory.path().join("session");
    let resumes = |place: &Place, sink: &str| {
        let output = Command::new("openssl")
            .args([
                "s_client",
                "-tls1_2",
                "-connect",
                &format!("127.0.0.1:{}", place.https),
            ])
            .args([sink, session.to_str().unwrap()])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("Reused, TLS")
    };
    assert!(!resumes(&places[0], "-sess_out"));
    assert!(resumes(&places[1], "-sess_in"));
    fs::write(&keys, "B".repeat(64)).unwrap();
    wait_for("the keys to be followed", || {
        !resumes(&places[1], "-sess_in")
    });
}
