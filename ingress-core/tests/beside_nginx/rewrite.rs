//! What an endpoint gets with `rewrite-target`: nginx's `rewrite "(?i)PATH" TARGET break` in
//! `location ~* "^PATH"`, and the filter.

use std::sync::Arc;

use http::HeaderMap;
use ingress_core::filter::{self, Context, Decision, RequestHead};
use ingress_core::ir::{Filter, HostPattern, PathPattern};
use ingress_core::object::{
    Ingress, IngressBackend, IngressPath, IngressRule, Meta, PathType, ServiceBackend,
};
use ingress_core::route::normalise;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, translate};

use nginx_rig::{Nginx, Random};

/// Paths and targets of manifests in the wild, and their relatives.
const RULES: &[(&str, &str)] = &[
    ("/api(/|$)(.*)", "/$2"),
    ("/something(/|$)(.*)", "/new/$2"),
    ("/v[0-9]+/(.*)", "/$1"),
    ("/(users|groups)/([0-9]+)", "/$2/$1"),
    ("/a/(.+)", "/b/$1/c"),
    ("/files(/.*)?", "/root$1"),
    ("/[A-Z]{3}", "/fixed"),
    ("/x/(?<name>.*)", "/y/$1"),
    ("/old", "/new"),
    ("/(.*)", "/$1"),
];

#[test]
fn endpoints_get_the_path_that_nginx_would_send() {
    let mut random = Random(2);
    for (path, target) in RULES {
        let nginx = Nginx::start(&format!(
            "server {{ listen {{other}}; location / {{ return 200 $request_uri; }} }}\n\
             server {{ listen {{socket}};\n\
             location ~* \"^{path}\" {{\n\
             rewrite \"(?i){path}\" {target} break;\n\
             proxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             proxy_pass http://{{other}}; }}\n\
             location / {{ return 404; }} }}",
        ));
        let filters = filters(path, target);
        let targets: Vec<String> = (0..300).map(|_| request_target(&mut random)).collect();
        let requests: Vec<String> = targets
            .iter()
            .map(|one| format!("GET {one} HTTP/1.1\r\nHost: a.test\r\n\r\n"))
            .collect();
        for (asked, answer) in targets.iter().zip(nginx.ask(&requests)) {
            let expected = match answer.status {
                200 => answer.body.clone(),
                status => status.to_string(),
            };
            let found = sent(&filters, asked);
            assert_eq!(found, expected, "{asked} by {path} to {target}");
        }
    }
}

fn request_target(random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "/api",
        "/API",
        "/something",
        "/v1",
        "/v12",
        "/users",
        "/groups",
        "/42",
        "/a",
        "/files",
        "/abc",
        "/x",
        "/old",
        "/",
        "/a%20b",
        "/ü",
        "/%C3%BC",
        "/a+b",
        "/a%25",
        "/q~",
        "/(x)",
        "/;y",
    ];
    let mut target = String::new();
    for _ in 0..=random.below(4) {
        target.push_str(random.pick(PIECES));
    }
    if random.below(3) == 0 {
        target.push_str("?q=1&r=%20");
    }
    target
}

/// The filters of the rule, if it is one.
fn filters(path: &str, target: &str) -> (PathPattern, Box<[Filter]>) {
    let annotation = "nginx.ingress.kubernetes.io/";
    let backend = IngressBackend {
        service: Some(ServiceBackend {
            name: "web".into(),
            port_name: None,
            port_number: Some(80),
        }),
        resource: None,
    };
    let ingress = Ingress {
        meta: Meta {
            namespace: "test".into(),
            name: "it".into(),
            ..Meta::default()
        },
        annotations: [
            (format!("{annotation}use-regex"), "true".to_owned()),
            (format!("{annotation}rewrite-target"), target.to_owned()),
        ]
        .into(),
        class: Some("sluice".into()),
        rules: [IngressRule {
            host: "a.test".into(),
            paths: [IngressPath {
                path: path.into(),
                path_type: PathType::ImplementationSpecific,
                backend,
            }]
            .into(),
        }]
        .into(),
        ..Ingress::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.ingresses.push(Arc::new(ingress));
    let config = translate(&snapshot, &Options::default()).config;
    let rule = &config.hosts[&HostPattern::parse("a.test").unwrap()].rules[0];
    (rule.matches.path.clone(), rule.policy.filters.clone())
}

/// What the endpoint gets, or the status of the answer.
fn sent((pattern, filters): &(PathPattern, Box<[Filter]>), target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(path) = normalise(path.as_bytes()) else {
        return "400".to_owned();
    };
    if !pattern.matches(&path) {
        return "404".to_owned();
    }
    let fields = HeaderMap::new();
    let context = Context {
        is_https: false,
        method: "GET",
        headers: &fields,
        authority: "a.test",
        path: &path,
        target: target.as_bytes(),
        client: [127, 0, 0, 1].into(),
    };
    let mut set = HeaderMap::new();
    let mut head = RequestHead {
        headers: &mut set,
        path: None,
        host: None,
    };
    let decision = filter::on_request(filters, 0, &mut head, &context);
    assert_eq!(decision, Decision::Continue);
    match head.path {
        Some(path) if query.is_empty() => path,
        Some(path) => format!("{path}?{query}"),
        None => target.to_owned(),
    }
}
