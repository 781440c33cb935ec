//! Literate specs: `tests/specs/*.md` against a running proxy.
//!
//! A spec is prose with objects in YAML and tables. The objects of all blocks of a section (from one
//! heading to the next) are served together; each Service that an Ingress names has an endpoint that
//! tells what it got. A row of a table is a request, the answer, and what the endpoint got:
//!
//! * The request is `METHOD URL`, then fields, each in backticks of its own. `body: text` is a body.
//!   `X-Answer: 404` has the endpoint answer with a status, `X-Answer-Field: name: value` with a field.
//! * The answer is a status and fields that it has; `!name` is a field that it has not, and
//!   `name: …end` one whose value ends so.
//! * The endpoint is the name of its Service, then its request line and fields; `-` is none at all.
//!
//! `{auth}` in YAML is the address of a service that decides: it answers with the status that ends the
//! path, `X-User: ann`, a cookie, and as `X-Saw` the value of the field `X-Original-URL`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ingress_core::ir::{Config, Endpoint};
use ingress_core::translate::{Compat, Options, translate};
use ingress_userspace::source::manifests::Manifests;
use serde_json::json;

use crate::rig::{Client, Head, Origin, Proxy, Reply};

#[test]
fn specs_hold() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/specs");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_unstable();
    assert!(!files.is_empty());
    let failures: Vec<String> = files.iter().flat_map(|file| check(file)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What does not hold in one file.
fn check(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let mut failures = Vec::new();
    let mut rows = 0;
    for section in sections(&text) {
        if section.rows.is_empty() {
            continue;
        }
        let served = Served::start(&section);
        for row in &section.rows {
            rows += 1;
            if let Err(message) = served.check(row) {
                failures.push(format!("{name}:{}: {message}", row.line));
            }
        }
    }
    assert!(rows > 0, "{name} has no table");
    failures
}

#[derive(Default)]
struct Section {
    yaml: String,
    rows: Vec<Row>,
}

struct Row {
    line: usize,
    request: Vec<String>,
    /// The status and fields of the answer.
    answer: (String, Vec<String>),
    /// The name of the Service, and what its endpoint got.
    endpoint: (String, Vec<String>),
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section::default()];
    let mut is_yaml = false;
    for (index, line) in text.lines().enumerate() {
        let Some(section) = sections.last_mut() else {
            continue;
        };
        if line.starts_with("```") {
            is_yaml = line == "```yaml";
            if is_yaml {
                section.yaml.push_str("---\n");
            }
        } else if is_yaml {
            let _ = writeln!(section.yaml, "{line}");
        } else if line.starts_with('#') {
            sections.push(Section::default());
        } else if line.starts_with("| `") {
            section.rows.push(row(line, index + 1));
        }
    }
    sections
}

fn row(line: &str, number: usize) -> Row {
    let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let [request, answer, endpoint] = cells[..] else {
        panic!("line {number} has not three cells")
    };
    let word = |cell: &str| cell.split([' ', '`']).next().unwrap_or_default().to_owned();
    Row {
        line: number,
        request: quoted(request),
        answer: (word(answer), quoted(answer)),
        endpoint: (word(endpoint), quoted(endpoint)),
    }
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    let parts = cell.split('`').enumerate();
    parts
        .filter(|(index, _)| index % 2 == 1)
        .map(|(_, part)| part.to_owned())
        .collect()
}

/// The objects of a section, served.
struct Served {
    proxy: Proxy,
    _origins: Vec<Origin>,
}

impl Served {
    fn start(section: &Section) -> Self {
        let auth = auth_service();
        let mut origins = Vec::new();
        let yaml = section.yaml.replace("{auth}", &auth.address.to_string());
        let config = config(&yaml, &mut origins);
        origins.push(auth);
        Self {
            proxy: Proxy::start(config),
            _origins: origins,
        }
    }

    fn check(&self, row: &Row) -> Result<(), String> {
        let reply = self.ask(&row.request);
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        let (status, fields) = &row.answer;
        if reply.status.to_string() != *status {
            return Err(format!("{} in place of {status}: {body}", reply.status));
        }
        for field in fields {
            has_field(&reply.head, field).map_err(|message| format!("answer: {message}"))?;
        }
        let (service, got) = &row.endpoint;
        let (answered, head) = match body.split_once('\n') {
            Some((service, head)) if head.contains("HTTP/1.1") => (service, head),
            _ => ("-", ""),
        };
        if answered != service {
            return Err(format!("`{answered}` has answered in place of `{service}`"));
        }
        let head = Head {
            text: head.to_owned(),
        };
        for line in got {
            if line.contains(" /") && !line.contains(": ") {
                let first = head.text.lines().next().unwrap_or_default();
                if first != format!("{line} HTTP/1.1") {
                    return Err(format!("endpoint got `{first}` in place of `{line}`"));
                }
            } else {
                has_field(&head, line).map_err(|message| format!("endpoint: {message}"))?;
            }
        }
        Ok(())
    }

    fn ask(&self, request: &[String]) -> Reply {
        let (line, fields) = request.split_first().unwrap();
        let (method, url) = line.split_once(' ').unwrap();
        let rest = url.strip_prefix("http://").unwrap();
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, target) = rest.split_at(at);
        let target = if target.is_empty() { "/" } else { target };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        let mut body = "";
        for field in fields {
            match field.strip_prefix("body: ") {
                Some(text) => body = text,
                None => {
                    let _ = write!(head, "{field}\r\n");
                }
            }
        }
        if !body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        let mut client = Client::connect(self.proxy.http);
        client.write(&format!("{head}\r\n{body}"));
        client.read_reply()
    }
}

/// Whether a head has a field with a value; `!name`: whether it has none.
fn has_field(head: &Head, wanted: &str) -> Result<(), String> {
    if let Some(name) = wanted.strip_prefix('!') {
        return match head.field(name) {
            None => Ok(()),
            Some(value) => Err(format!("has `{name}: {value}`")),
        };
    }
    let (name, value) = wanted.split_once(": ").unwrap();
    let lines = head.text.lines().filter_map(|line| line.split_once(": "));
    let found: Vec<&str> = lines
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    let is_it = |found: &&str| match value.strip_prefix('…') {
        Some(end) => found.ends_with(end),
        None => *found == value,
    };
    if found.iter().any(is_it) {
        Ok(())
    } else {
        Err(format!("`{name}` is {found:?} in place of `{value}`"))
    }
}

/// The configuration of objects, with an endpoint for each Service.
fn config(yaml: &str, origins: &mut Vec<Origin>) -> Config {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("objects.yaml"), yaml).unwrap();
    let mut manifests = Manifests::open(directory.path()).unwrap();
    let mut loaded = manifests.load();
    assert_eq!(loaded.problems, [], "{yaml}");
    let options = Options {
        ingress_class: "nginx".to_owned(),
        controller_class: "k8s.io/ingress-nginx".to_owned(),
        compat: Compat::IngressNginx,
        ..Options::default()
    };
    let named = translate(&loaded.snapshot, &options).config;
    let mut objects = String::from(yaml);
    let mut services: Vec<String> = Vec::new();
    for (key, _) in named.backends.iter() {
        services.push(key.service.to_string());
    }
    for word in yaml.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("nginx.ingress.kubernetes.io/default-backend: ")
    }) {
        services.push(word.to_owned());
    }
    services.sort_unstable();
    services.dedup();
    for service in &services {
        // `empty` has no endpoint.
        let address = if service == "empty" { "" } else { "10.0.0.1" };
        let _ = write!(
            objects,
            "\n---\n{}\n---\n{}\n",
            service_object(service),
            slice(service, address)
        );
    }
    fs::write(directory.path().join("objects.yaml"), &objects).unwrap();
    loaded = manifests.load();
    assert_eq!(loaded.problems, [], "{objects}");
    let mut config = translate(&loaded.snapshot, &options).config;
    let backends: Vec<_> = config
        .backends
        .iter()
        .map(|(key, backend)| (Arc::clone(key), Arc::clone(backend)))
        .collect();
    for (key, mut backend) in backends {
        if backend.endpoints.is_empty() {
            continue;
        }
        let origin = telling(&key.service);
        let address = origin.address;
        Arc::make_mut(&mut backend).endpoints = vec![Endpoint { address }];
        config.backends.insert(key, backend);
        origins.push(origin);
    }
    config
}

fn service_object(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}]},
    })
}

fn slice(name: &str, address: &str) -> serde_json::Value {
    let endpoints = if address.is_empty() {
        json!([])
    } else {
        json!([{"addresses": [address]}])
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": endpoints,
    })
}

/// An endpoint that answers with the name of its Service and the head that it got.
fn telling(service: &str) -> Origin {
    let service = service.to_owned();
    Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            connection.read_body(&head);
            let status = head.field("x-answer").unwrap_or("200");
            let field = head.field("x-answer-field");
            let field = field.map_or_else(String::new, |field| format!("{field}\r\n"));
            let body = format!("{service}\n{}", head.text);
            connection.write(&format!(
                "HTTP/1.1 {status} Status\r\n{field}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

/// The service that decides.
fn auth_service() -> Origin {
    Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            let line = head.text.lines().next().unwrap_or_default();
            let path = line.split(' ').nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default();
            let status = path.rsplit('/').next().unwrap_or_default();
            let saw = head.field("x-original-url").unwrap_or_default();
            connection.write(&format!(
                "HTTP/1.1 {status} Status\r\nX-User: ann\r\nX-Saw: {saw}\r\nSet-Cookie: auth=1\r\n\
                 WWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    })
}
