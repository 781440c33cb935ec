//! `sluice tail` of a daemon that runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use ingress_userspace::api::{TailEvent, TailLine};

use crate::daemon::{Daemon, PATIENCE, Place, origin, read_answer, wait_for};

/// A `sluice tail` that runs. Dropping it ends it.
struct Watcher {
    process: Child,
    lines: Receiver<String>,
}

impl Watcher {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let run_dir = place.directory.path().join("a");
        let mut process = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("tail")
            .args(arguments)
            .arg(format!("--run-dir={}", run_dir.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = process.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if sender.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// Waits until it shows requests, which it asks for itself.
    fn attach(&self, daemon: &Daemon, path: &str) {
        wait_for("the watcher to attach", || {
            daemon.get(daemon.http, path);
            self.lines.recv_timeout(Duration::from_millis(300)).is_ok()
        });
        while self.lines.recv_timeout(Duration::from_millis(500)).is_ok() {}
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn next_request(&self) -> TailLine {
        let line = self.next();
        match serde_json::from_str(&line).unwrap() {
            TailEvent::Request(line) => *line,
            dropped @ TailEvent::Dropped { .. } => panic!("{dropped:?}"),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn requests_that_fit_are_shown_without_their_query() {
    let endpoint = origin();
    let place = Place::new(endpoint);
    let daemon = place.start("a", &[]);
    let json = [
        "-o",
        "json",
        "--path=/shown",
        "--status=2xx",
        "--host=*.TEST",
    ];
    let watcher = Watcher::start(&place, &json);
    watcher.attach(&daemon, "/shown");
    daemon.get(daemon.http, "/hidden");
    assert_eq!(daemon.get_host(daemon.http, "other", "/shown").status, 404);
    daemon.get(daemon.http, "/shown/1?token=canary");
    let line = watcher.next_request();
    assert_eq!((&*line.host, &*line.path), ("one.test", "/shown/1"));
    assert_eq!((line.status, &*line.method), (200, "GET"));
    assert_eq!(line.client, "127.0.0.1");
    assert_eq!(line.endpoint, Some(endpoint));
    assert_eq!(line.ingress.as_ref().unwrap().to_string(), "web/shop");
    assert_eq!(line.service.as_deref(), Some("web/cart"));
    assert!(line.seconds < 10.0, "{line:?}");
    assert!(!format!("{line:?}").contains("canary"), "{line:?}");

    let text = Watcher::start(&place, &["--method=GET", "--status=404"]);
    wait_for("the second watcher", || {
        daemon.get_host(daemon.http, "other", "/none?token=canary");
        text.lines.recv_timeout(Duration::from_millis(300)).is_ok()
    });
    daemon.get_host(daemon.http, "other", "/none?token=canary");
    let line = text.next();
    assert!(
        line.contains(" 404 ") && line.contains("http://other/none  from 127.0.0.1"),
        "{line}"
    );
}

#[test]
fn further_watchers_and_bad_filters_are_refused() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let watchers: Vec<_> = (0..4).map(|_| Watcher::start(&place, &[])).collect();
    for watcher in &watchers {
        watcher.attach(&daemon, "/");
    }
    let mut fifth = Watcher::start(&place, &[]);
    let mut problem = String::new();
    let mut error = fifth.process.stderr.take().unwrap();
    error.read_to_string(&mut problem).unwrap();
    assert!(problem.contains("4 watchers already"), "{problem}");
    assert_eq!(fifth.process.wait().unwrap().code(), Some(1));
    let mut wrong = Watcher::start(&place, &["--status=6"]);
    assert_eq!(wrong.process.wait().unwrap().code(), Some(2));
    drop(watchers);
    wait_for("a place to be free", || {
        let mut next = Watcher::start(&place, &[]);
        thread::sleep(Duration::from_millis(300));
        next.process.try_wait().unwrap().is_none()
    });
}

#[test]
fn a_watcher_that_does_not_read_delays_nobody_and_learns_what_it_missed() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--workers=1"]);
    let socket = place.directory.path().join("a/admin.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let question = b"GET /v1/tail HTTP/1.1\r\nHost: admin\r\n\r\n";
    stream.write_all(question).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The response head comes before the first line.
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK\r\n");

    let long = format!("/{}", "x".repeat(2_000));
    let sent = send(daemon.http, &long, 5_000);
    assert_eq!(sent, 5_000, "every request was answered");

    let mut shown = 0;
    let dropped = loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "{shown} shown");
        match serde_json::from_str(line.trim_end()) {
            Ok(TailEvent::Request(line)) => {
                assert_eq!(line.path.len(), 1024);
                shown += 1;
            }
            Ok(TailEvent::Dropped { requests }) => break requests,
            // The frames of chunked coding.
            Err(_) => {}
        }
    };
    assert!(shown > 0 && dropped > 0, "{shown} shown, {dropped} dropped");
    assert!(shown + dropped <= 5_000, "{shown} shown, {dropped} dropped");
}

/// Requests on one connection, one after the other.
fn send(address: SocketAddr, path: &str, count: usize) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: one.test\r\n\r\n");
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut sent = 0;
    while sent < count {
        stream.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut answers).unwrap();
        assert_eq!(answer.status, 200);
        sent += 1;
    }
    sent
}
