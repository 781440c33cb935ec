//! The access log: what a line says, and that nobody but us writes one.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingress_userspace::proxy::{AccessLog, Escape, Target, Template, WorkerOptions};
use serde_json::Value;

use crate::metrics::{REQUESTS, samples_of};
use crate::rig::{Options, Origin, Proxy, config, dead, wait_until};

/// A proxy that logs into a file.
struct Logged {
    proxy: Proxy,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Logged {
    fn start(template: Template, endpoints: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access.log");
        let proxy = start(template, &file, endpoints);
        Self {
            proxy,
            file,
            _directory: directory,
        }
    }

    /// The lines, when there are so many.
    fn lines(&self, count: usize) -> Vec<String> {
        let read = || fs::read_to_string(&self.file).unwrap_or_default();
        wait_until("the lines are written", || read().lines().count() >= count);
        let lines: Vec<_> = read().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

fn start(template: Template, file: &Path, endpoints: &[SocketAddr]) -> Proxy {
    let target = Target::File(file.to_owned());
    let (log, _) = AccessLog::start(template, target).unwrap();
    let options = WorkerOptions {
        access_log: Some(log),
        ..WorkerOptions::default()
    };
    let config = config(&[("one.test", "/shop", endpoints)]);
    Proxy::start_with(config, Options::worker(options))
}

#[test]
fn a_line_is_that_of_ingress_nginx() {
    let origin = Origin::fixed("HTTP/1.1 201 Created\r\nServer: x\r\nContent-Length: 2\r\n\r\nok");
    let logged = Logged::start(Template::nginx(), &[origin.address]);
    let mut client = logged.proxy.client();
    let request = "POST /shop/a?b=c HTTP/1.1\r\nHost: one.test\r\nReferer: http://r/\r\n\
                   User-Agent: test/1 \"x\"\r\nAuthorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l\r\n\
                   X-Request-ID: 0123456789abcdef0123456789abcdef\r\nContent-Length: 3\r\n\r\nabc";
    client.write(request);
    assert_eq!(client.read_reply().status, 201);
    client.get("one.test", "/else");
    let lines = logged.lines(2);
    let (before, rest) = lines[0].split_once('[').unwrap();
    assert_eq!(before, "127.0.0.1 - aladdin ");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!(time.len(), "20/Nov/2026:19:54:43 +0000".len(), "{time}");
    let length = request.len();
    let expected = format!(
        "\"POST /shop/a?b=c HTTP/1.1\" 201 2 \"http://r/\" \"test/1 \\x22x\\x22\" {length} "
    );
    let rest = rest
        .strip_prefix(&*expected)
        .unwrap_or_else(|| panic!("{rest}"));
    let words: Vec<_> = rest.split(' ').collect();
    let [
        took,
        name,
        alternative,
        endpoint,
        bytes,
        upstream_took,
        status,
        id,
    ] = words[..]
    else {
        panic!("{rest}")
    };
    assert!(
        took.parse::<f64>().unwrap() < 5.0 && took.len() == 5,
        "{took}"
    );
    assert!(upstream_took.parse::<f64>().unwrap() < 5.0);
    assert_eq!((name, alternative), ("[default-one-test-shop-80]", "[]"));
    assert_eq!(endpoint, origin.address.to_string());
    assert_eq!((bytes, status), ("2", "201"));
    assert_eq!(id, "0123456789abcdef0123456789abcdef");
    let (_, rest) = lines[1].split_once("] ").unwrap();
    assert!(
        rest.starts_with("\"GET /else HTTP/1.1\" 404 36 \"-\" \"-\" "),
        "{rest}"
    );
    let (rest, id) = rest.rsplit_once(' ').unwrap();
    assert!(rest.ends_with(" [] [] - - - -"), "{rest}");
    assert_eq!(id.len(), 32, "{id}");
}

#[test]
fn the_id_in_the_log_is_the_one_that_the_endpoint_gets() {
    let origin = Origin::echo("origin");
    let template = Template::parse("$req_id", Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let reply = logged.proxy.get("one.test", "/shop");
    assert_eq!(logged.lines(1), [reply.seen("x-request-id").unwrap()]);
}

/// What was kept of a request is used again for another one.
#[test]
fn a_line_says_nothing_of_requests_before() {
    let origin = Origin::echo("origin");
    let format = "$remote_addr $http_x_a \"$request\" $request_id";
    let template = Template::parse(format, Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let mut client = logged.proxy.client();
    let id = "0123456789abcdef0123456789abcd\"\"";
    for number in 1..4 {
        client.write(&format!(
            "GET /shop/{number} HTTP/1.1\r\nHost: one.test\r\nX-A: secret\r\nX-Request-ID: {id}\r\n\r\n"
        ));
        assert_eq!(client.read_reply().status, 200);
        client.get("one.test", "/shop");
        let lines = logged.lines(2 * number);
        let expected = format!(
            "127.0.0.1 secret \"GET /shop/{number} HTTP/1.1\" 0123456789abcdef0123456789abcd\\x22\\x22"
        );
        assert_eq!(lines[2 * number - 2], expected);
        let last = &lines[2 * number - 1];
        let own = last.strip_prefix("127.0.0.1 - \"GET /shop HTTP/1.1\" ");
        let own = own.unwrap_or_else(|| panic!("{last}"));
        let is_own = own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_own, "{last}");
    }
}

#[test]
fn each_line_is_one_json_object_for_any_request() {
    let origin = Origin::echo("origin");
    let logged = Logged::start(Template::json(), &[origin.address]);
    let mut client = logged.proxy.client();
    let hostile = "\" , \"status\": 1, \\ \u{e4}\t{}";
    client.write(&format!(
        "GET /shop?'a' HTTP/1.1\r\nHost: one.test:81\r\nUser-Agent: {hostile}\r\n\
         Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n"
    ));
    let reply = client.read_reply();
    let lines = logged.lines(1);
    let line: Value = serde_json::from_str(&lines[0]).unwrap_or_else(|_| panic!("{}", lines[0]));
    let text = |name: &str| {
        line[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!(line["status"], reply.status);
    let latin: String = hostile.bytes().map(char::from).collect();
    assert_eq!(text("user_agent"), latin);
    assert_eq!((text("host"), text("method")), ("one.test", "GET"));
    assert_eq!((text("namespace"), text("ingress")), ("default", "test"));
    assert_eq!(text("trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(text("upstream_addr"), origin.address.to_string());
    assert!(line["request_time"].is_number() && line["bytes_sent"].is_number());
}

#[test]
fn a_target_with_a_host_tells_it() {
    let origin = Origin::echo("origin");
    let template = Template::parse("$host $request", Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let expected = [
        ("http://one.test:81/shop?a", "one.test"),
        ("http://one.test/shop?a", "one.test"),
        ("/shop?a", "two.test"),
    ]
    .map(|(target, host)| {
        let port = if target.contains(":81") { ":81" } else { "" };
        let mut client = logged.proxy.client();
        client.write(&format!(
            "GET {target} HTTP/1.1\r\nHost: {host}{port}\r\n\r\n"
        ));
        client.read_reply();
        format!("{host} GET /shop?a HTTP/1.1")
    });
    let mut lines = logged.lines(expected.len());
    lines.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn lines_of_any_length_are_whole_and_in_their_order() {
    let origin = Origin::echo("origin");
    let format = format!("$args {} $uri", "$http_user_agent".repeat(COPIES));
    let template = Template::parse(&format, Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let mut client = logged.proxy.client();
    // The longest is longer than what a worker collects. Of a value, 4 KiB are in the log.
    let lengths = [0, 1, 9_000, 20_000, 3, 20_000, 5_000, 0];
    let lengths = lengths.into_iter().cycle().take(200);
    let mut expected = Vec::new();
    for (number, length) in lengths.enumerate() {
        let agent = "\"".repeat(length);
        client.write(&format!(
            "GET /shop/{number}?n={number} HTTP/1.1\r\nHost: one.test\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        assert_eq!(client.read_reply().status, 200);
        let escaped = match length {
            0 => "-".repeat(COPIES),
            _ => "\\x22".repeat(COPIES * length.min(4096)),
        };
        expected.push(format!("n={number} {escaped} /shop/{number}"));
    }
    let lines = logged.lines(expected.len());
    for (line, expected) in lines.iter().zip(&expected) {
        let (line, expected) = (Shown(line), Shown(expected));
        assert_eq!(line, expected);
    }
}

/// How often a value is in a line.
const COPIES: usize = 12;

/// A line of which an error shows the ends.
#[derive(PartialEq)]
struct Shown<'a>(&'a str);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(line) = self;
        let from = line.len().saturating_sub(40);
        let (begin, end) = (line.get(..40).unwrap_or(line), &line[from..]);
        write!(formatter, "{begin} … {end} ({} bytes)", line.len())
    }
}

/// It is counted with its line, of which some are begun twice.
#[test]
fn logged_requests_are_counted_once() {
    let origin = Origin::echo("origin");
    let template = Template::parse("$http_user_agent", Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let mut client = logged.proxy.client();
    let agent = "x".repeat(7_000);
    for host in ["one.test"; 60].into_iter().chain(["nobody.test"]) {
        client.write(&format!(
            "GET /shop HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        client.read_reply();
    }
    logged.lines(61);
    let samples = samples_of(&logged.proxy, 61.0);
    let counted = |label| samples.value(REQUESTS, &[label]);
    assert_eq!(counted(r#"status="200""#), Some(60.0));
    assert_eq!(counted(r#"status="404""#), Some(1.0));
    assert_eq!(counted(r#"host="one.test""#), Some(60.0));
}

#[test]
fn every_endpoint_that_was_tried_is_told() {
    let origin = Origin::echo("origin");
    let dead = dead();
    let format = "$upstream_addr|$upstream_status|$status";
    let template = Template::parse(format, Escape::Text).unwrap();
    let logged = Logged::start(template, &[dead, origin.address]);
    let mut client = logged.proxy.client();
    let tried = format!("{dead}, {}|502, 200|200", origin.address);
    let mut count = 0;
    loop {
        assert_eq!(client.get("one.test", "/shop").status, 200);
        count += 1;
        if logged.lines(count).contains(&tried) {
            return;
        }
        assert!(count < 50, "{:?}", logged.lines(count));
    }
}

#[test]
fn an_endpoint_whose_client_has_gone_has_no_status() {
    let origin = Origin::start(|mut connection| while connection.read_head().is_some() {});
    let template = "$status $upstream_addr $upstream_status $upstream_response_length";
    let template = Template::parse(template, Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    let mut client = logged.proxy.client();
    client.write("GET /shop HTTP/1.1\r\nHost: one.test\r\n\r\n");
    wait_until("it is asked", || origin.connections() == 1);
    drop(client);
    assert_eq!(logged.lines(1), [format!("499 {} - 0", origin.address)]);
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let origin = Origin::echo("origin");
    let template = Template::parse("$uri", Escape::Text).unwrap();
    let logged = Logged::start(template, &[origin.address]);
    logged.proxy.get("one.test", "/shop/before");
    logged.lines(1);
    let moved = logged.file.with_extension("1");
    fs::rename(&logged.file, &moved).unwrap();
    wait_until("the file is there", || {
        logged.proxy.get("one.test", "/shop/after");
        logged.file.exists()
    });
    assert!(
        fs::read_to_string(&moved)
            .unwrap()
            .starts_with("/shop/before\n")
    );
}

#[test]
fn a_writer_that_is_stuck_costs_lines_and_no_requests() {
    let origin = Origin::echo("origin");
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // Somebody has it open, and does not read.
    let reader = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let template = Template::parse(&"$http_user_agent".repeat(5), Escape::Text).unwrap();
    let proxy = start(template, &pipe, &[origin.address]);
    let mut client = proxy.client();
    let agent = "x".repeat(4_000);
    let mut count = 0;
    while proxy.snapshot().log_lines_dropped == 0 {
        client.write(&format!(
            "GET /shop HTTP/1.1\r\nHost: one.test\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        assert_eq!(client.read_reply().status, 200);
        count += 1;
        assert!(count < 2000, "{:?}", proxy.snapshot());
    }
    let counted = proxy.snapshot();
    // 4 MiB of buffers and what a pipe holds.
    assert!(counted.log_lines < 300, "{counted:?}");
    // It is as large as it has to be for a block to be written at once.
    let held = rustix::pipe::fcntl_getpipe_size(&reader).unwrap();
    assert_eq!(held, 256 * 1024);
}

#[test]
fn lines_are_not_lost_when_a_worker_ends() {
    let origin = Origin::echo("origin");
    let template = Template::parse("$status", Escape::Text).unwrap();
    let mut logged = Logged::start(template, &[origin.address]);
    assert_eq!(logged.proxy.get("one.test", "/shop").status, 200);
    logged.proxy.worker.shut_down(Duration::ZERO);
    assert_eq!(logged.lines(1), ["200"]);
}
