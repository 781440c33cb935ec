//! Which origins may read responses: the conditions that ingress-nginx writes for
//! `cors-allow-origin`, and the filter.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use ingress_core::filter::{self, Context, Decision, RequestHead};
use ingress_core::ir::{Cors, CorsOrigins, Filter, OriginPattern};

use nginx_rig::Nginx;

const ORIGINS: &[&str] = &[
    "https://a.test",
    "https://A.test",
    "http://a.test",
    "https://a.test:8443",
    "https://x.b.test",
    "https://x-1.b.test",
    "https://x.y.b.test",
    "https://b.test",
    "https://.b.test",
    "https://b.test.evil.test",
    "null",
    "https://c_d.test",
];

#[test]
fn origins_are_told_what_nginx_would_tell_them() {
    let nginx = Nginx::start(
        "server { listen {socket}; location / {\n\
         set $cors '';\n\
         if ($http_origin ~* ((https://a\\.test)|(https://[A-Za-z0-9\\-]+\\.b\\.test))$ ) { set $cors 'true'; }\n\
         if ($request_method = 'OPTIONS') { set $cors ${cors}options; }\n\
         if ($cors = \"true\") { add_header Access-Control-Allow-Origin $http_origin always; }\n\
         if ($cors = \"trueoptions\") {\n\
         add_header Access-Control-Allow-Origin $http_origin always;\n\
         return 204; }\n\
         return 200 endpoint; } }",
    );
    let pattern = |before: &str, after: Option<&str>| OriginPattern {
        before: before.into(),
        after: after.map(Into::into),
    };
    let cors = Cors {
        origins: CorsOrigins::Listed(
            [
                pattern("https://a.test", None),
                pattern("https://", Some(".b.test")),
            ]
            .into(),
        ),
        methods: "GET".into(),
        headers: "DNT".into(),
        exposed: None,
        credentials: false,
        max_age: 1,
    };
    let filters = [Filter::Cors(Arc::new(cors))];
    for method in ["GET", "OPTIONS"] {
        let request = |origin: &&str| {
            format!("{method} / HTTP/1.1\r\nHost: a.test\r\nOrigin: {origin}\r\n\r\n")
        };
        let requests: Vec<String> = ORIGINS.iter().map(request).collect();
        for (origin, answer) in ORIGINS.iter().zip(nginx.ask(&requests)) {
            let allowed = answer.field("access-control-allow-origin");
            let expected = (answer.status, allowed.map(str::to_owned));
            assert_eq!(
                told(&filters, method, origin),
                expected,
                "{method} {origin}"
            );
        }
    }
}

/// The status and the origin that may read.
fn told(filters: &[Filter], method: &str, origin: &str) -> (u16, Option<String>) {
    let mut fields = HeaderMap::new();
    fields.insert("origin", HeaderValue::from_str(origin).unwrap());
    let context = Context {
        is_https: false,
        method,
        headers: &fields,
        authority: "a.test",
        path: b"/",
        target: b"/",
        client: [127, 0, 0, 1].into(),
    };
    let mut set = HeaderMap::new();
    let mut head = RequestHead {
        headers: &mut set,
        path: None,
        host: None,
    };
    let status = match filter::on_request(filters, 0, &mut head, &context) {
        Decision::Continue => 200,
        Decision::Respond(answer) => answer.status.as_u16(),
        Decision::Check { .. } | Decision::Close => 0,
    };
    let mut response = HeaderMap::new();
    filter::on_response(filters, &mut response, &context);
    let allowed = response.get("access-control-allow-origin");
    let allowed = allowed.and_then(|value| value.to_str().ok());
    (status, allowed.map(str::to_owned))
}
