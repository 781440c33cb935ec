//! The dashboard of several nodes: daemons that run, and nodes that are away, hang or flood.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::daemon::{Answer, Daemon, PATIENCE, Place, origin, read_answer, wait_for};

/// A dashboard of several nodes that runs, with a session. Dropping it ends it.
struct View {
    process: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    address: String,
    cookie: String,
}

impl View {
    fn start(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
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
        let mut view = Self {
            input: process.stdin.take(),
            process,
            lines,
            address: String::new(),
            cookie: String::new(),
        };
        let (address, token) = view.url();
        view.address = address;
        let answer = view.redeem(&token);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(view.redeem(&token).status, 401, "a token opens one session");
        let cookie = answer.head.lines().find_map(|line| {
            let cookie = line.strip_prefix("set-cookie: ")?;
            Some(cookie.split(';').next().unwrap().to_owned())
        });
        view.cookie = cookie.unwrap();
        view
    }

    fn of_sockets(endpoints: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["dashboard", "--endpoints", &endpoints.join(",")]);
        Self::start(command)
    }

    /// The address and the token of the next URL that it prints.
    fn url(&self) -> (String, String) {
        let url = self.lines.recv_timeout(PATIENCE).unwrap();
        let parts = url.strip_prefix("http://").unwrap().split_once("/#t=");
        let (address, token) = parts.unwrap_or_else(|| panic!("{url}"));
        (address.to_owned(), token.to_owned())
    }

    fn request(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !fields.iter().any(|(name, _)| *name == "Host") {
            let _ = write!(head, "Host: {}\r\n", self.address);
        }
        for (name, value) in fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut BufReader::new(stream)).unwrap()
    }

    fn redeem(&self, token: &str) -> Answer {
        let origin = format!("http://{}", self.address);
        let body = format!("{{\"token\":\"{token}\"}}");
        self.request("POST", "/session", &[("Origin", &origin)], &body)
    }

    fn get(&self, resource: &str) -> Value {
        let path = format!("/api/v1/{resource}");
        let answer = self.request("GET", &path, &[("Cookie", &self.cookie)], "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The state of a node and the reason for it.
    fn node(&self, name: &str) -> (String, String) {
        let nodes = self.get("nodes");
        let mut nodes = nodes.as_array().unwrap().iter();
        let node = nodes.find(|node| node["node"] == name);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        node.map_or_else(Default::default, |node| {
            (text(&node["state"]), text(&node["reason"]))
        })
    }

    fn wait_for_state(&self, name: &str, state: &str) -> String {
        wait_for(&format!("{name} to be {state}"), || {
            self.node(name).0 == state
        });
        self.node(name).1
    }

    /// Requests to `one.test/` on all nodes.
    fn requests(&self) -> u64 {
        let rows = self.get("traffic/routes");
        let mut rows = rows.as_array().unwrap().iter();
        let row = rows.find(|row| row["name"] == "one.test/");
        row.map_or(0, |row| row["requests"].as_u64().unwrap())
    }

    /// Opens a stream.
    fn stream(&self, query: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /api/v1/stream?{query} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
            self.address, self.cookie
        );
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn interrupt(&mut self) -> ExitStatus {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
        self.process.wait().unwrap()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn endpoint(name: &str, place: &Place) -> String {
    format!("{name}=unix:{}/admin.sock", place.run_dir("a"))
}

fn send(daemon: &Daemon, count: usize) {
    for _ in 0..count {
        assert_eq!(daemon.get(daemon.http, "/").status, 200);
    }
}

#[test]
fn daemons_are_joined_and_one_that_is_away_is_named() {
    let places = [Place::new(origin()), Place::new(origin())];
    let [one, other] = &places;
    let first = one.start("a", &[]);
    let mut second = other.start("a", &[]);
    // Hosts of one node only: its row names the node.
    other.add_hosts(&["more.test".to_owned()]);
    send(&first, 2);
    let endpoints = [
        endpoint("edge-1", one),
        endpoint("edge-2", other),
        format!("edge-3=unix:{}/none.sock", one.run_dir("a")),
    ];
    let view = View::of_sockets(&endpoints);
    view.wait_for_state("edge-1", "ready");
    view.wait_for_state("edge-2", "ready");
    let reason = view.wait_for_state("edge-3", "away");
    wait_for("the reason", || view.node("edge-3").1.contains("none.sock"));
    assert!(!reason.is_empty());
    send(&second, 3);
    let stream = view.stream("topics=status,routes");
    wait_for("all requests", || view.requests() == 5);

    let status = view.get("status");
    assert_eq!(status["state"], "away", "the worst state");
    let workers = status["workers"].as_array().unwrap();
    let nodes: Vec<_> = workers.iter().map(|worker| &worker["node"]).collect();
    assert_eq!(nodes, ["edge-1", "edge-2"]);
    let routes = view.get("routes");
    let nodes_of = |host: &str| {
        let mut rows = routes.as_array().unwrap().iter();
        rows.find(|row| row["host"] == host).unwrap()["nodes"].clone()
    };
    assert_eq!(nodes_of("more.test"), serde_json::json!(["edge-2"]));
    let one_test = routes.as_array().unwrap().iter();
    let one_test = one_test.filter(|row| row["host"] == "one.test");
    let rows: Vec<_> = one_test.map(|row| row["nodes"].clone()).collect();
    assert_eq!(rows, [serde_json::json!(["edge-1", "edge-2"])]);
    let answers = view.get("explain?host=more.test&path=/");
    assert_eq!(answers.as_array().unwrap().len(), 2, "{answers}");
    assert_eq!(answers[0]["nodes"], serde_json::json!(["edge-1"]));
    assert_eq!(answers[0]["answer"]["served_by"], Value::Null);
    assert_ne!(answers[1]["answer"]["served_by"], Value::Null);

    // A daemon that ends is away, and its requests still count; another run of it is added.
    second.process.kill().unwrap();
    second.process.wait().unwrap();
    view.wait_for_state("edge-2", "away");
    assert_eq!(view.requests(), 5);
    assert_eq!(view.node("edge-1").0, "ready");
    let again = other.start("a", &[]);
    send(&again, 1);
    view.wait_for_state("edge-2", "ready");
    wait_for("the requests of both runs", || view.requests() == 6);
    drop(stream);
}

#[test]
fn view_is_guarded_as_a_daemons_dashboard_is() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    let view = View::of_sockets(&[endpoint("edge-1", &place)]);
    for path in [
        "/api/v1/status",
        "/api/v1/nodes",
        "/api/v1/routes",
        "/api/v1/stream",
    ] {
        let answer = view.request("GET", path, &[("Cookie", "sluice-x=y")], "");
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.body.contains("\"auth\":\"nodes\""), "{answer:?}");
        let fields = [("Host", "evil.test"), ("Cookie", &*view.cookie)];
        assert_eq!(view.request("GET", path, &fields, "").status, 403, "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let answer = view.request(method, path, &[("Cookie", &view.cookie)], "");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(
                answer
                    .head
                    .contains("content-security-policy: default-src 'none'")
            );
        }
    }
    let evil = [("Origin", "http://evil.test")];
    assert_eq!(
        view.request("POST", "/session", &evil, "{\"token\":\"\"}")
            .status,
        403
    );
    let page = view.request("GET", "/", &[], "");
    assert!(
        page.status == 200 && page.body.contains("app.js"),
        "{page:?}"
    );
}

#[test]
fn enter_prints_another_url_and_an_interrupt_ends() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    let mut view = View::of_sockets(&[endpoint("edge-1", &place)]);
    let mut input = view.input.take().unwrap();
    input.write_all(b"\n").unwrap();
    let (address, token) = view.url();
    assert_eq!(address, view.address);
    assert_eq!(view.redeem(&token).status, 200);
    assert_eq!(view.interrupt().code(), Some(0));
}

#[test]
fn requests_of_all_nodes_are_followed_with_the_names_of_their_nodes() {
    let places = [Place::new(origin()), Place::new(origin())];
    let daemons = places.each_ref().map(|place| place.start("a", &[]));
    let endpoints = [
        endpoint("edge-1", &places[0]),
        endpoint("edge-2", &places[1]),
    ];
    let view = View::of_sockets(&endpoints);
    view.wait_for_state("edge-1", "ready");
    view.wait_for_state("edge-2", "ready");
    let mut stream = view.stream("topics=tail&path=/seen");
    for (daemon, name) in daemons.iter().zip(["edge-1", "edge-2"]) {
        let seen = format!("\"node\":\"{name}\"");
        let (sender, stopped) = channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                // Requests from before the daemon has the watcher are not shown.
                while stopped.recv_timeout(Duration::from_millis(100)).is_err() {
                    daemon.get(daemon.http, "/unseen");
                    daemon.get(daemon.http, "/seen?token=canary");
                }
            });
            let mut line = String::new();
            while !line.contains(&seen) {
                line.clear();
                assert!(
                    stream.read_line(&mut line).unwrap() > 0,
                    "no request of {name}"
                );
            }
            sender.send(()).unwrap();
            assert!(line.contains("\"path\":\"/seen\""), "{line}");
            assert!(
                !line.contains("/unseen") && !line.contains("canary"),
                "{line}"
            );
        });
    }
}

#[test]
fn nodes_that_flood_hang_or_fail_are_named_and_delay_nobody() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    send(&daemon, 4);
    let directory = place.directory.path();
    let kubectl = directory.join("kubectl");
    let script = KUBECTL
        .replace("SLUICE", env!("CARGO_BIN_EXE_sluice"))
        .replace("RUN", &place.run_dir("a"));
    std::fs::write(&kubectl, script).unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plugin = directory.join("kubectl-sluice");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sluice"), &plugin).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(plugin);
    command
        .arg("dashboard")
        .env("PATH", format!("{}:{path}", directory.display()));
    let begun = Instant::now();
    let mut view = View::start(command);
    view.wait_for_state("good", "ready");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    wait_for("the requests", || view.requests() == 4);
    for (node, reason) in [
        (
            "chatty",
            "cut off, because it sent more than 200 lines a second",
        ),
        (
            "endless",
            "cut off, because it sent a line of more than 32 MiB",
        ),
        ("old", "error: unrecognized subcommand 'feed'"),
        ("foreign", "its answer is not understood"),
        ("hanging", "has not answered yet"),
        ("ended", "pod `ended` does not run"),
    ] {
        wait_for(&format!("{node} to be away"), || {
            let (state, found) = view.node(node);
            state == "away" && found.contains(reason)
        });
    }
    assert_eq!(view.get("routes")[0]["nodes"], serde_json::json!(["good"]));
    let peak = resident_kib(view.process.id());
    println!("the view has taken {peak} KiB");
    assert!(peak < 160 << 10, "{peak} KiB");

    // No command of it is left.
    let marker = format!("{}/commands", directory.display());
    assert!(Path::new(&marker).exists());
    let commands = std::fs::read_to_string(&marker).unwrap();
    assert_eq!(view.interrupt().code(), Some(0));
    for id in commands.lines() {
        wait_for(&format!("process {id} to end"), || {
            let command = std::fs::read_to_string(format!("/proc/{id}/stat"));
            command.is_err() || command.is_ok_and(|stat| stat.contains(") Z "))
        });
    }
}

/// The most memory that a process has had.
fn resident_kib(id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.unwrap().split_whitespace().nth(1);
    number.unwrap().parse().unwrap()
}

#[test]
fn feed_ends_with_its_input_and_says_what_has_changed() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let mut feed = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["dashboard", "feed"])
        .arg(format!("--run-dir={}", place.run_dir("a")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = feed.stdin.take().unwrap();
    let mut lines = BufReader::new(feed.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    input.write_all(b"{\"pace\":{\"seconds\":1}}\n").unwrap();
    let first = next();
    assert_eq!(first["look"]["sample"]["state"], "ready", "{first}");
    assert_eq!(
        first["look"]["status"]["version"],
        env!("CARGO_PKG_VERSION")
    );
    send(&daemon, 1);
    input
        .write_all(b"not json\n{\"future\":{}}\n{\"ask\":{\"number\":7,\"resource\":\"routes\",\"query\":\"\"}}\n")
        .unwrap();
    let mut seen = [false; 2];
    while seen != [true; 2] {
        let line = next();
        if line["answer"]["number"] == 7 {
            assert_eq!(line["answer"]["value"][0]["host"], "one.test");
            seen[0] = true;
        } else if line["look"]["routes"]["rows"][0]["requests"] == 1 {
            assert_eq!(
                line["look"]["status"]["version"],
                Value::Null,
                "sent before"
            );
            seen[1] = true;
        }
    }
    drop(input);
    assert_eq!(feed.wait().unwrap().code(), Some(0));
}

/// Stands for nodes that misbehave: what each pod answers in place of `sluice dashboard feed`.
const KUBECTL: &str = r#"#!/bin/sh
case " $* " in
*" get pods "*)
    item() { printf '{"metadata":{"name":"%s"},"spec":{"nodeName":"%s"},"status":{"phase":"%s"}}' "$1" "$1" "$2"; }
    printf '{"items":['
    for pod in good chatty endless old foreign hanging; do item $pod Running; printf ,; done
    item ended Pending
    printf ']}'
    exit ;;
esac
echo $$ >> "$(dirname "$0")/commands"
case " $* " in
*" good "*) exec SLUICE dashboard feed --run-dir=RUN ;;
*" chatty "*) exec yes '"alive"' ;;
*" endless "*) exec cat /dev/zero ;;
*" old "*) echo "error: unrecognized subcommand 'feed'" >&2; exit 2 ;;
*" foreign "*) echo '<html>'; exec sleep 600 ;;
*" hanging "*) exec sleep 600 ;;
esac
"#;
