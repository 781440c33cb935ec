//! Answers of snippets: the snippet as it stands in the `location` of a real nginx, and the filters that
//! are made from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use ingress_core::filter::{self, Context, Decision, RequestHead};
use ingress_core::ir::{Filter, HostPattern, ObjectRef};
use ingress_core::object::Ingress;
use ingress_core::route::normalise;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, translate};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use nginx_rig::{Answer, Nginx, Random};

/// Snippets of manifests in the wild, and their relatives.
const SNIPPETS: &[&str] = &[
    "return 403;",
    "return 301 https://new.test$request_uri;",
    "if ($host = 'www.b.test') { return 301 https://b.test$request_uri; }",
    r"if ($host ~ ^www\.(.+)$) { return 301 https://$1$request_uri; }",
    r#"if ($host ~* "^(WWW)\.([a-z])\.test$") { return 302 https://$2.test/$1$uri?$args; }"#,
    "if ($http_user_agent ~* \"(badbot|worse bot)\" ) { return 403; }",
    "if ( $http_user_agent !~ Mozilla ) { return 403; }",
    "if ($http_user_agent = \"\") { return 400; }",
    "if ($http_x_debug) { return 410; }",
    "if ($request_method != GET) { return 405; }",
    "if ($request_method !~* ^(get|head)$) { return 405; }",
    "if ($arg_a = 1) { return 307 /one; }\nif ($arg_a ~ ^[2-3]$) { return 308 /more$is_args; }",
    "if ($arg_a = 1) { return 307 /one; }\nif ($arg_a ~ ^([2-3])$) { return 308 /more/$1; }",
    "if ($cookie_sid = 'x y') { return 409; }\nif ($args) { return 411; }",
    r"if ($uri ~ \.(php|env)$) { return 404; }",
    r"if ($request_uri ~* '/%2e') { return 404; }",
    "location /admin { deny all; }",
    "location = /admin { return 404; }",
    r"location ~ \.(env|git)$ { deny all; }",
    r"location ~* ^/(ADMIN|app)/(.*)$ { return 301 /new/$2; }",
    "location ^~ /app { if ($request_method = POST) { return 403; } return 302 /moved; }",
];

#[test]
fn snippets_answer_as_in_nginx() {
    let mut random = Random(3);
    let (mut answered, mut passed) = (0, 0);
    for snippet in SNIPPETS {
        let Some(filters) = filters(snippet) else {
            assert!(snippet.contains("$is_args"), "{snippet} was refused");
            continue;
        };
        let nginx = Nginx::start(&format!(
            "server {{ listen {{socket}}; absolute_redirect off; {snippet}\n\
             location / {{ try_files /none @endpoint; }}\n\
             location @endpoint {{ return 204; }} }}",
        ));
        let requests: Vec<Request> = (0..400).map(|_| Request::make(&mut random)).collect();
        let texts: Vec<String> = requests.iter().map(Request::text).collect();
        for (request, expected) in requests.iter().zip(nginx.ask(&texts)) {
            let found = answer(&filters, request);
            let expected = told(&expected);
            answered += usize::from(expected.0 != 204);
            passed += usize::from(expected.0 == 204);
            assert_eq!(found, expected, "{request:?} with {snippet}");
        }
    }
    assert!(answered > 1500 && passed > 1500, "{answered} and {passed}");
}

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    target: String,
    fields: BTreeMap<&'static str, &'static str>,
}

impl Request {
    fn make(random: &mut Random) -> Self {
        const PATHS: &[&str] = &[
            "/",
            "/admin",
            "/admin/x",
            "/administrator",
            "/Admin",
            "/app/a.php",
            "/app",
            "/.env",
            "/.git/config",
            "/a.ENV",
            "/%2Eenv",
            "/x//y",
        ];
        const QUERIES: &[&str] = &["", "", "?a=1", "?a=2", "?b=1&a=3", "?a=12", "?"];
        let target = [random.pick(PATHS), random.pick(QUERIES)].concat();
        let mut fields = BTreeMap::new();
        fields.insert(
            "host",
            random.pick(&["a.test", "www.b.test", "WWW.c.test", "b.test:81"]),
        );
        for (name, values) in [
            (
                "user-agent",
                &["Mozilla/5.0", "a BadBot", "worse bot", ""][..],
            ),
            ("x-debug", &["1", "0", "", "00"]),
            ("cookie", &["sid=x y", "a=b; sid=x y", "sid=z"]),
        ] {
            if random.below(2) == 0 {
                fields.insert(name, random.pick(values));
            }
        }
        Self {
            method: random.pick(&["GET", "GET", "DELETE", "POST"]),
            target,
            fields,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if self.method == "POST" {
            text.push_str("content-length: 0\r\n");
        }
        text + "\r\n"
    }
}

/// Status and Location of an answer of nginx.
fn told(answer: &Answer) -> (u16, Option<String>) {
    (answer.status, answer.field("location").map(str::to_owned))
}

/// The filters made from a snippet; `None` if it closes the rule.
fn filters(snippet: &str) -> Option<Box<[Filter]>> {
    let ingress: v1::Ingress = serde_json::from_value(json!({
        "metadata": {
            "namespace": "test",
            "name": "it",
            "annotations": {"nginx.ingress.kubernetes.io/server-snippet": snippet},
        },
        "spec": {
            "ingressClassName": "sluice",
            "rules": [{"host": "a.test", "http": {"paths": [{
                "path": "/",
                "pathType": "Prefix",
                "backend": {"service": {"name": "web", "port": {"number": 80}}},
            }]}}],
        },
    }))
    .unwrap();
    let config_map = ConfigMap {
        metadata: ObjectMeta {
            namespace: Some("test".to_owned()),
            name: Some("settings".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("allow-snippet-annotations".to_owned(), "true".to_owned())].into()),
        ..ConfigMap::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.ingresses.push(Arc::new(Ingress::from(ingress)));
    snapshot.config_maps.push(Arc::new(config_map));
    let options = Options {
        config_map: Some(ObjectRef {
            kind: "ConfigMap",
            namespace: "test".into(),
            name: "settings".into(),
        }),
        ..Options::default()
    };
    let config = translate(&snapshot, &options).config;
    let rule = &config.hosts[&HostPattern::parse("a.test").unwrap()].rules[0];
    let is_open = !rule.target.backends().is_empty();
    is_open.then(|| rule.policy.filters.clone())
}

/// Status and Location; 204 for a request that goes to an endpoint.
fn answer(filters: &[Filter], request: &Request) -> (u16, Option<String>) {
    let path = request.target.split('?').next().unwrap_or_default();
    let path = normalise(path.as_bytes()).unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in &request.fields {
        let name = HeaderName::from_static(name);
        fields.insert(name, HeaderValue::from_static(value));
    }
    let context = Context {
        is_https: false,
        method: request.method,
        headers: &fields,
        authority: request.fields["host"],
        path: &path,
        target: request.target.as_bytes(),
        client: [127, 0, 0, 1].into(),
    };
    let mut set = HeaderMap::new();
    let mut head = RequestHead {
        headers: &mut set,
        path: None,
        host: None,
    };
    match filter::on_request(filters, 0, &mut head, &context) {
        Decision::Respond(answer) => {
            let location = answer.location.as_ref().map(|to| to.to_str().unwrap());
            (answer.status.as_u16(), location.map(str::to_owned))
        }
        Decision::Continue => (204, None),
        other @ (Decision::Close | Decision::Check { .. }) => panic!("{other:?}"),
    }
}
