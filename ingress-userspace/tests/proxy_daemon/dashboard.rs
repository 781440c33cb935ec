//! The dashboard of a daemon that runs: sessions, headers and refusals, and what its answers never hold.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::daemon::{Answer, Daemon, PATIENCE, Place, free_port, origin, read_answer, wait_for};

/// A daemon with a dashboard.
struct Scene {
    place: Place,
    daemon: Daemon,
    address: SocketAddr,
}

impl Scene {
    fn start(flags: &[&str]) -> Self {
        let place = Place::new(origin());
        place.add_secrets();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let flag = format!("--dashboard-address={address}");
        let all: Vec<_> = flags.iter().copied().chain([&*flag]).collect();
        let daemon = place.start("a", &all);
        Self {
            place,
            daemon,
            address,
        }
    }

    fn request(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
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

    fn get(&self, path: &str, cookie: &str) -> Answer {
        self.request("GET", path, &[("Cookie", cookie)], "")
    }

    fn token(&self) -> String {
        let output = self.place.sluice(&["dashboard", "url"]);
        let url = String::from_utf8(output.stdout).unwrap();
        let prefix = format!("http://{}/#t=", self.address);
        let token = url.trim_end().strip_prefix(&prefix);
        token.unwrap_or_else(|| panic!("{url}")).to_owned()
    }

    fn redeem(&self, token: &str) -> Answer {
        let origin = format!("http://{}", self.address);
        let body = format!("{{\"token\":\"{token}\"}}");
        self.request("POST", "/session", &[("Origin", &origin)], &body)
    }

    /// The cookie of a new session.
    fn session(&self) -> String {
        let answer = self.redeem(&self.token());
        assert_eq!(answer.status, 200, "{answer:?}");
        let cookie = field(&answer, "set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    /// Opens a stream and reads its status.
    fn stream(&self, cookie: &str) -> (u16, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /api/v1/stream?topics=status,routes HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        (line.split(' ').nth(1).unwrap().parse().unwrap(), stream)
    }
}

impl Place {
    /// Adds an Ingress whose objects hold canaries where secrets are.
    fn add_secrets(&self) {
        let file = self.directory.path().join("manifests/secrets.yaml");
        std::fs::write(file, SECRETS).unwrap();
    }
}

fn field<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value.trim_end())
    })
}

const RESOURCES: [&str; 12] = [
    "session",
    "status",
    "routes",
    "endpoints",
    "certificates",
    "traffic/hosts",
    "traffic/backends",
    "traffic/routes",
    "samples",
    "problems",
    "generations",
    "reasons",
];

#[test]
fn every_answer_is_protected_and_data_need_a_session() {
    let scene = Scene::start(&[]);
    let cookie = scene.session();
    let mut paths: Vec<(String, u16)> = RESOURCES
        .iter()
        .map(|resource| (format!("/api/v1/{resource}"), 200))
        .collect();
    for (path, status) in [
        ("/", 200),
        ("/api/v1/explain?host=one.test", 200),
        ("/api/v1/explain", 400),
        ("/api/v1/uses", 200),
        ("/api/v1/nothing", 404),
        ("/assets/0/app.js", 404),
        ("/metrics", 404),
        ("/../etc/passwd", 404),
    ] {
        paths.push((path.to_owned(), status));
    }
    let page = scene.get("/", "");
    let script = page.body.split('"').find(|part| part.ends_with("/app.js"));
    paths.push((script.unwrap().to_owned(), 200));
    for (path, status) in &paths {
        let answer = scene.get(path, &cookie);
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        assert_protected(&answer, path);
        if path.starts_with("/api/") {
            for cookie in ["", "sluice-x=y", &cookie[..cookie.len() - 2]] {
                let answer = scene.get(path, cookie);
                assert_eq!(answer.status, 401, "{path} with `{cookie}`");
                assert_protected(&answer, path);
            }
        }
        for host in ["evil.test", "localhost.evil.test", ""] {
            let answer = scene.request("GET", path, &[("Host", host), ("Cookie", &cookie)], "");
            assert!(matches!(answer.status, 400 | 403), "{path} for {host}");
            assert_ne!(answer.status, 200);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = scene.request(method, path, &[("Cookie", &cookie)], "");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(field(&answer, "allow"), Some("GET"));
            assert_protected(&answer, path);
        }
    }
    let evil = scene.request("GET", "/", &[("Host", "evil.test")], "");
    assert_eq!(evil.status, 403);
    assert_protected(&evil, "another host");
    assert_eq!(scene.get("/session", &cookie).status, 405);
    let mut stream = TcpStream::connect(scene.address).unwrap();
    let head = format!(
        "HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        scene.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

fn assert_protected(answer: &Answer, path: &str) {
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(field(answer, name), Some(value), "{name} of {path}");
    }
    let kept = if path.starts_with("/assets/") && answer.status == 200 {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    assert_eq!(field(answer, "cache-control"), Some(kept), "{path}");
    assert_eq!(field(answer, "access-control-allow-origin"), None);
}

#[test]
fn token_opens_one_session_and_guesses_are_stopped() {
    let scene = Scene::start(&[]);
    let token = scene.token();
    let answer = scene.redeem(&token);
    let cookie = field(&answer, "set-cookie").unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"] {
        assert!(cookie.split("; ").any(|found| found == part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    assert_protected(&answer, "/session");
    assert_eq!(scene.redeem(&token).status, 401);
    for guess in 1..10 {
        let answer = scene.redeem(&format!("guess-{guess}"));
        assert_eq!(answer.status, 401, "{guess}");
        assert_eq!(field(&answer, "set-cookie"), None);
    }
    let answer = scene.redeem("guess-10");
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_protected(&answer, "/session");
    // Guesses lock nobody out.
    assert_eq!(scene.redeem(&scene.token()).status, 200);
}

#[test]
fn session_is_given_to_the_page_itself_alone() {
    let scene = Scene::start(&["--dashboard-host=edge.example"]);
    let token = scene.token();
    let body = format!("{{\"token\":\"{token}\"}}");
    let origin = format!("http://{}", scene.address);
    let evil: [&[(&str, &str)]; 5] = [
        &[],
        &[("Origin", "http://evil.test")],
        &[("Origin", "null")],
        &[("Origin", &origin), ("Sec-Fetch-Site", "cross-site")],
        &[("Origin", &origin), ("Sec-Fetch-Site", "same-site")],
    ];
    for fields in evil {
        let answer = scene.request("POST", "/session", fields, &body);
        assert_eq!(answer.status, 403, "{fields:?}");
        assert_protected(&answer, "/session");
    }
    for body in ["", "{}", "token", &format!("\"{}\"", "x".repeat(100_000))] {
        let answer = scene.request("POST", "/session", &[("Origin", &origin)], body);
        assert!(matches!(answer.status, 400 | 413), "{answer:?}");
    }
    let fields = [
        ("Host", "edge.example"),
        ("Origin", "http://edge.example"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let answer = scene.request("POST", "/session", &fields, &body);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn no_answer_holds_a_secret_a_query_or_an_authorization() {
    let scene = Scene::start(&[]);
    let cookie = scene.session();
    let (status, mut stream) = scene.stream(&cookie);
    assert_eq!(status, 200);
    for _ in 0..3 {
        let path = "/a?token=query-canary";
        assert_eq!(scene.daemon.get(scene.daemon.http, path).status, 200);
    }
    let mut client = TcpStream::connect(scene.daemon.http).unwrap();
    let head = "GET /b HTTP/1.1\r\nHost: one.test\r\nAuthorization: Bearer \
                authorization-canary\r\nCookie: a=cookie-canary\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    client.read_to_end(&mut Vec::new()).unwrap();
    wait_for("requests in the sums", || {
        let traffic = scene.get("/api/v1/traffic/routes", &cookie);
        let traffic: Vec<Value> = serde_json::from_str(&traffic.body).unwrap();
        traffic.iter().any(|row| row["name"] == "one.test/")
    });
    let mut seen = String::new();
    for resource in RESOURCES {
        let answer = scene.get(&format!("/api/v1/{resource}"), &cookie);
        seen += &answer.head;
        seen += &answer.body;
    }
    for host in ["one.test", "secret.test", "nobody.test"] {
        let path = format!("/api/v1/explain?host={host}&path=/");
        seen += &scene.get(&path, &cookie).body;
    }
    while !seen.contains("\"by\":\"routes\"") {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "{seen}");
        seen += &line;
    }
    for canary in CANARIES {
        assert!(!seen.contains(canary), "{canary}");
    }
    // The objects themselves were read.
    assert!(seen.contains("secret.test") && seen.contains("one.test/"));
    assert!(!scene.daemon.log().contains("canary"));
}

#[test]
fn seventeenth_stream_is_refused_with_the_reason() {
    let scene = Scene::start(&[]);
    let cookie = scene.session();
    let mut open = Vec::new();
    for _ in 0..16 {
        let (status, stream) = scene.stream(&cookie);
        assert_eq!(status, 200);
        open.push(stream);
    }
    let answer = scene.get("/api/v1/stream?topics=", &cookie);
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("16 pages already watch"), "{answer:?}");
    open.pop();
    wait_for("room for another stream", || scene.stream(&cookie).0 == 200);
}

#[test]
fn tail_can_be_off() {
    let scene = Scene::start(&["--dashboard-tail=false"]);
    let cookie = scene.session();
    let answer = scene.get("/api/v1/stream?topics=tail", &cookie);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("--dashboard-tail=false"), "{answer:?}");
    let session: Value = serde_json::from_str(&scene.get("/api/v1/session", &cookie).body).unwrap();
    assert_eq!(session["tail"], false);
}

#[test]
fn dashboard_is_off_unless_asked_for_and_never_in_clear_text_beyond_loopback() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let output = place.sluice(&["dashboard", "url"]);
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(problem.contains("--dashboard-address"), "{problem}");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.process.id())).unwrap();
    for task in tasks {
        let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap();
        assert_ne!(name.trim(), "dashboard");
    }
    let mut refused = place.spawn("b", &["--dashboard-address=0.0.0.0:0"]);
    assert_eq!(refused.wait().code(), Some(1));
    let log = refused.log();
    assert!(log.contains("is not a loopback address"), "{log}");
    let mut refused = place.spawn(
        "c",
        &[
            "--dashboard-address=127.0.0.1:0",
            "--dashboard-auth=kubernetes",
        ],
    );
    assert_eq!(refused.wait().code(), Some(1));
    assert!(refused.log().contains("needs an API server"));
}

#[test]
fn certificate_makes_cookies_secure() {
    let place = Place::new(origin());
    let path = |name: &str| place.directory.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(path("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let flags = [
        format!("--dashboard-address=0.0.0.0:{port}"),
        format!("--dashboard-certificate={}", path("tls.crt").display()),
        format!("--dashboard-key={}", path("tls.key").display()),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let _daemon = place.start("a", &flags);
    let output = place.sluice(&["dashboard", "url", "--port=7"]);
    let url = String::from_utf8(output.stdout).unwrap();
    let token = url.trim_end().strip_prefix("https://localhost:7/#t=");
    let token = token.unwrap_or_else(|| panic!("{url}"));
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--cacert"])
        .arg(path("tls.crt"))
        .arg("--header")
        .arg(format!("Origin: https://localhost:{port}"))
        .arg("--data")
        .arg(format!("{{\"token\":\"{token}\"}}"))
        .arg(format!("https://localhost:{port}/session"))
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie: "));
    let cookie = cookie.unwrap();
    assert!(cookie.contains("__Host-sluice-"), "{cookie}");
    assert!(cookie.ends_with("; Secure"), "{cookie}");
}

const CANARIES: [&str; 6] = [
    "key-canary",
    "password-canary",
    "opaque-canary",
    "query-canary",
    "authorization-canary",
    "cookie-canary",
];

const SECRETS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: secret
  namespace: web
  annotations:
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: users
spec:
  tls: [{hosts: [secret.test], secretName: certificate}]
  rules:
  - host: secret.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: web}
stringData: {auth: 'user:{PLAIN}password-canary', other: opaque-canary}
---
apiVersion: v1
kind: Secret
metadata: {name: certificate, namespace: web}
type: kubernetes.io/tls
stringData: {tls.crt: key-canary, tls.key: key-canary}
";
