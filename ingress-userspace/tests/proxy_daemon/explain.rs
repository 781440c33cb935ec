//! `sluice explain` of a daemon that runs: it says what the proxy then does.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use ingress_core::explain::Explanation;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::daemon::{Answer, PATIENCE, Place, origin, read_answer, wait_for};

/// An Ingress with one host.
#[derive(Clone, Debug)]
struct Object {
    host: &'static str,
    /// Types, paths and Services.
    paths: Vec<(&'static str, String, usize)>,
    annotation: &'static str,
    has_tls: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    host: &'static str,
    path: String,
    method: &'static str,
    canary: &'static str,
}

fn path() -> impl Strategy<Value = String> {
    let element = proptest::sample::select(vec!["a", "b", "ab"]);
    let elements = proptest::collection::vec(element, 0..3);
    (elements, any::<bool>()).prop_map(|(elements, ends_with_slash)| {
        let path = format!("/{}", elements.join("/"));
        if ends_with_slash && path.len() > 1 {
            path + "/"
        } else {
            path
        }
    })
}

fn object() -> impl Strategy<Value = Object> {
    let types = vec!["Exact", "Prefix", "Prefix", "ImplementationSpecific"];
    let rule = (proptest::sample::select(types), path(), 0..SERVICES + 1);
    (
        proptest::sample::select(vec!["", "a.test", "b.test", "*.test", "c.b.test"]),
        proptest::collection::vec(rule, 1..4),
        proptest::sample::select(ANNOTATIONS.to_vec()),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(host, paths, annotation, has_tls)| Object {
            host,
            paths,
            annotation,
            has_tls: has_tls && !host.is_empty(),
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        proptest::sample::select(vec!["a.test", "b.test", "x.test", "c.b.test", "other"]),
        path(),
        proptest::sample::select(vec!["GET", "POST", "OPTIONS"]),
        proptest::sample::select(vec!["", "always", "never"]),
    )
        .prop_map(|(host, path, method, canary)| Asked {
            host,
            path,
            method,
            canary,
        })
}

const ANNOTATIONS: [&str; 9] = [
    "",
    "",
    "whitelist-source-range: 127.0.0.0/8",
    "whitelist-source-range: 192.0.2.0/24",
    "denylist-source-range: 127.0.0.1",
    "permanent-redirect: http://elsewhere.test/",
    "ssl-redirect: 'false'",
    "app-root: /root",
    "canary: 'true', nginx.ingress.kubernetes.io/canary-by-header: x-canary",
];
const SERVICES: usize = 4;
const OBJECTS: usize = 24;
const REQUESTS: usize = 500;

fn manifest(objects: &[Object], endpoints: &[SocketAddr]) -> String {
    let mut text = String::new();
    for (index, object) in objects.iter().enumerate() {
        let Object {
            host,
            paths,
            annotation,
            has_tls,
        } = object;
        let annotations = if annotation.is_empty() {
            String::new()
        } else {
            format!("nginx.ingress.kubernetes.io/{annotation}")
        };
        let host = if host.is_empty() {
            String::new()
        } else {
            format!("host: '{host}', ")
        };
        let tls = if *has_tls {
            format!("  tls: [{{hosts: ['{}']}}]\n", object.host)
        } else {
            String::new()
        };
        let path = |(kind, path, service): &(&str, String, usize)| {
            format!(
                "{{path: {path}, pathType: {kind}, backend: {{service: {{name: s{service}, port: {{number: 80}}}}}}}}"
            )
        };
        let paths: Vec<_> = paths.iter().map(path).collect();
        let _ = write!(
            text,
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
             metadata: {{name: i{index}, namespace: web, annotations: {{{annotations}}}}}\n\
             spec:\n{tls}  rules: [{{{host}http: {{paths: [{}]}}}}]\n",
            paths.join(", ")
        );
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{index}, namespace: web}}\n\
             spec: {{ports: [{{port: 80}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s{index}-1, namespace: web, labels: {{kubernetes.io/service-name: s{index}}}}}\n\
             addressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n",
            endpoint.port(),
            endpoint.ip()
        );
    }
    text
}

/// A server that answers every request with its name.
fn named_origin(name: String) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let name = name.clone();
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line == "\r\n" {
                        let length = name.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
                        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

fn explained(place: &Place, asked: &Asked) -> Explanation {
    let socket = place.directory.path().join("a/admin.sock");
    let mut stream = UnixStream::connect(socket).unwrap();
    let Asked {
        host,
        path,
        method,
        canary,
    } = asked;
    let field = if canary.is_empty() {
        String::new()
    } else {
        format!("explain-field: x-canary:{canary}\r\n")
    };
    let question = format!(
        "GET /explain HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nexplain-host: {host}\r\n\
         explain-path: {path}\r\nexplain-method: {method}\r\nexplain-scheme: http\r\n\
         explain-from: 127.0.0.1\r\n{field}\r\n"
    );
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let explanation: Option<Explanation> = serde_json::from_str(body).unwrap();
    explanation.unwrap()
}

/// The status and the body or location that an explanation promises.
fn promised(explanation: &Explanation) -> (u16, String) {
    let own = explanation.passage.answer.as_ref();
    let server = explanation.served_by.as_ref();
    let own = own.or_else(|| server.and_then(|server| server.answer.as_ref()));
    if let Some(own) = own {
        let (status, location) = own.split_once(' ').unwrap_or((own, ""));
        return (status.parse().unwrap(), location.to_owned());
    }
    match server {
        None => (404, String::new()),
        Some(server) if server.endpoints.is_empty() => (503, String::new()),
        Some(server) => {
            let backend = server.backend.as_ref().unwrap();
            let name = backend.trim_start_matches("web/").trim_end_matches(":80");
            (200, name.to_owned())
        }
    }
}

fn given(answer: &Answer) -> (u16, String) {
    let location = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location")
            .then(|| value.to_owned())
    });
    match answer.status {
        200 => (200, answer.body.clone()),
        status => (status, location.unwrap_or_default()),
    }
}

#[test]
fn five_hundred_requests_are_served_as_they_are_explained() {
    let mut runner = TestRunner::deterministic();
    let objects = proptest::collection::vec(object(), OBJECTS);
    let objects = objects.new_tree(&mut runner).unwrap().current();
    let requests = proptest::collection::vec(asked(), REQUESTS);
    let requests = requests.new_tree(&mut runner).unwrap().current();
    let endpoints: Vec<_> = (0..SERVICES)
        .map(|index| named_origin(format!("s{index}")))
        .collect();
    let place = Place::new(origin());
    let file = place.directory.path().join("manifests/one.yaml");
    std::fs::write(file, manifest(&objects, &endpoints)).unwrap();
    let daemon = place.start("a", &[]);
    wait_for("an Ingress to be served", || {
        requests
            .iter()
            .any(|asked| explained(&place, asked).served_by.is_some())
    });
    let stream = TcpStream::connect(daemon.http).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for asked in &requests {
        let explanation = explained(&place, asked);
        let Asked {
            host,
            path,
            method,
            canary,
        } = asked;
        let canary = if canary.is_empty() {
            String::new()
        } else {
            format!("X-Canary: {canary}\r\n")
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{canary}\r\n"
        );
        writer.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut reader).unwrap();
        assert_eq!(
            promised(&explanation),
            given(&answer),
            "{asked:?}: {explanation:#?}\n{answer:?}"
        );
        *statuses.entry(answer.status).or_default() += 1;
    }
    for status in [200, 301, 308, 403, 404, 503] {
        assert!(
            statuses.contains_key(&status),
            "no {status} in {statuses:?}"
        );
    }
}

#[test]
fn flags_describe_the_request_and_rules_that_lost_have_reasons() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    place.change(|manifest| {
        manifest.replace(
            "name: shop, namespace: web}",
            "name: shop, namespace: web, annotations: \
             {nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8}}",
        )
    });
    let explain = |arguments: &[&str]| {
        let output = place.sluice(&[&["explain"], arguments].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    wait_for("the source ranges", || {
        explain(&["one.test"]).contains("check      source ranges")
    });
    let allowed = explain(&["one.test", "/", "--from=10.1.2.3", "--method=POST"]);
    assert!(!allowed.contains("answer"), "{allowed}");
    let refused = explain(&[
        "https://one.test/a?b",
        "--from=192.0.2.1",
        "--header=X-A: b",
    ]);
    assert!(
        refused.contains("answer     403, by source ranges"),
        "{refused}"
    );
    assert!(
        refused.contains("tls        default certificate"),
        "{refused}"
    );
    let json = explain(&["one.test", "--sni=one.test", "-o", "json"]);
    let explanation: Explanation = serde_json::from_str(&json).unwrap();
    assert!(explanation.passage.is_https, "{json}");
}
