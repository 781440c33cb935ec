//! Filters of a route, from the request of a client to what its endpoint gets and back.

use std::sync::Arc;

use http::Request;
use ingress_core::ir::{
    AccessList, Authentication, BasicAuth, Config, Denial, Filter, HostPattern, Hsts, PathPattern,
    PathRegex, Redirect, Rewrite, Satisfy, Target, Template, TemplatePart, TlsRedirect,
    TlsRedirectMode,
};

use crate::h2rig;
use crate::rig::{Origin, Proxy, config, with_policy};

fn start(filters: Vec<Filter>) -> (Proxy, Origin) {
    let origin = Origin::echo("origin");
    let config = config(&[("one.test", "/", &[origin.address])]);
    let filters = filters.into_boxed_slice();
    let config = with_policy(config, |policy| policy.filters.clone_from(&filters));
    (Proxy::start(config), origin)
}

/// The same configuration, with a TLS section for its host.
fn with_tls(mut config: Config) -> Config {
    let host = HostPattern::parse("one.test").unwrap();
    let mut rules = Arc::clone(&config.hosts[&host]);
    Arc::make_mut(&mut rules).has_tls = true;
    config.hosts.insert(host, rules);
    config
}

#[test]
fn clients_outside_of_the_allowed_networks_get_403() {
    for (network, status) in [("127.0.0.0/8", 200), ("203.0.113.0/24", 403)] {
        let (proxy, _origin) = start(vec![Filter::Access(AccessList {
            allow: Some([network.parse().unwrap()].into()),
            ..AccessList::default()
        })]);
        assert_eq!(proxy.get("one.test", "/").status, status, "{network}");
    }
}

/// Nothing but the path `/open` is open to the client.
fn closing(filter: impl Fn(AccessList) -> Filter) -> (Proxy, [Origin; 2]) {
    let origins = ["open", "closed"].map(Origin::echo);
    let config = config(&[
        ("one.test", "/open", &[origins[0].address]),
        ("one.test", "/", &[origins[1].address]),
    ]);
    let list = AccessList {
        deny: ["127.0.0.0/8".parse().unwrap()].into(),
        denial: Denial::Close,
        ..AccessList::default()
    };
    let mut config = with_policy(config, |policy| {
        policy.filters = [filter(list.clone())].into();
    });
    let host = HostPattern::parse("one.test").unwrap();
    let mut rules = Arc::clone(&config.hosts[&host]);
    for rule in &mut Arc::make_mut(&mut rules).rules {
        if rule.matches.path == PathPattern::prefix("/open") {
            Arc::make_mut(rule).policy = Arc::default();
        }
    }
    config.hosts.insert(host, rules);
    (Proxy::start(config), origins)
}

fn authentication(sources: AccessList) -> Filter {
    Filter::Authenticate(Arc::new(Authentication {
        satisfy: Satisfy::All,
        sources: Some(sources),
        basic: Some(BasicAuth {
            realm: "".into(),
            users: Arc::default(),
        }),
        jwt: None,
        oidc: None,
        external: None,
    }))
}

#[test]
fn connection_of_a_denied_client_is_closed_without_an_answer() {
    for filter in [Filter::Access, authentication] {
        let (proxy, [_open, closed]) = closing(filter);
        for request in [
            "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: one.test\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Type: application/grpc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: one.test\r\n\r\nGET /open HTTP/1.1\r\nHost: one.test\r\n\r\n",
        ] {
            let mut client = proxy.client();
            assert_eq!(client.get("one.test", "/open").status, 200);
            client.write(request);
            assert!(client.is_closed(), "{request}");
        }
        assert_eq!(closed.connections(), 0, "no denied request reaches it");
    }
}

#[test]
fn http2_stream_of_a_denied_client_is_reset_and_others_go_on() {
    for filter in [Filter::Access, authentication] {
        let (proxy, _origins) = closing(filter);
        h2rig::run(async {
            let mut client = h2rig::connect(proxy.http).await;
            let mut ask = async |path: &str| {
                let uri = format!("http://one.test{path}");
                let request = Request::get(uri).body(()).unwrap();
                let (response, _) = client.send_request(request, true).unwrap();
                response.await.map(|response| response.status().as_u16())
            };
            assert_eq!(ask("/open").await.unwrap(), 200);
            let denied = ask("/").await.unwrap_err();
            assert_eq!(denied.reason(), Some(h2::Reason::CANCEL), "{denied}");
            assert_eq!(ask("/open").await.unwrap(), 200);
        });
    }
}

#[test]
fn rewritten_path_reaches_the_endpoint_with_the_query() {
    let pattern = Arc::new(PathRegex::new(&"/api(/|$)(.*)".into()).unwrap());
    let template = [TemplatePart::Text("/".into()), TemplatePart::Group(2)];
    let rewrite = Rewrite {
        pattern,
        template: template.into(),
    };
    let (proxy, _origin) = start(vec![Filter::Rewrite(rewrite)]);
    let reply = proxy.get("one.test", "/api/a%20b?c=d");
    assert!(
        reply
            .text()
            .starts_with("origin\nGET /a%20b?c=d HTTP/1.1\r\n"),
        "{}",
        reply.text()
    );
}

#[test]
fn rewritten_path_replaces_a_raw_one_and_its_raw_query_stays() {
    let pattern = Arc::new(PathRegex::new(&"/api(/|$)(.*)".into()).unwrap());
    let template = [TemplatePart::Text("/".into()), TemplatePart::Group(2)];
    let rewrite = Rewrite {
        pattern,
        template: template.into(),
    };
    let (proxy, _origin) = start(vec![Filter::Rewrite(rewrite)]);
    let reply = proxy.get("one.test", "/api/<a>?q=\"<b>`\"");
    let line = reply.text().lines().nth(1).unwrap();
    assert_eq!(line, "GET /%3Ca%3E?q=\"<b>`\" HTTP/1.1");
}

#[test]
fn fields_are_set_on_requests_and_responses() {
    let fields = |name: &str, value: &str| [(name.into(), value.into())].into();
    let (proxy, _origin) = start(vec![
        Filter::RequestHeaders([("x-asked".into(), Template::text("yes"))].into()),
        Filter::ResponseHeaders(fields("x-answered", "yes")),
        Filter::UpstreamHost("inner.test".into()),
    ]);
    let reply = proxy.get("one.test", "/");
    assert_eq!(reply.head.field("x-answered"), Some("yes"));
    let seen = reply.text().to_ascii_lowercase();
    assert!(seen.contains("\r\nx-asked: yes\r\n"), "{seen}");
    assert!(seen.contains("\r\nhost: inner.test\r\n"), "{seen}");
    assert!(
        seen.contains("\r\nx-forwarded-host: one.test\r\n"),
        "{seen}"
    );
    assert_eq!(seen.matches("\r\nhost:").count(), 1, "{seen}");
}

#[test]
fn clear_text_requests_for_hosts_with_tls_are_redirected() {
    let origin = Origin::echo("origin");
    let plain = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start(plain.clone());
    assert_eq!(proxy.get("one.test", "/").status, 200);
    let proxy = Proxy::start(with_tls(plain.clone()));
    let reply = proxy.get("one.test", "/x?y");
    assert_eq!(reply.status, 308);
    let location = reply.head.field("location");
    assert_eq!(location, Some("https://one.test/x?y"));
    let never = with_policy(with_tls(plain), |policy| {
        policy.tls_redirect = TlsRedirect {
            mode: TlsRedirectMode::Never,
            ..TlsRedirect::default()
        };
        policy.hsts = Some(Arc::new(Hsts {
            value: "max-age=1".into(),
        }));
    });
    let proxy = Proxy::start(never);
    let reply = proxy.get("one.test", "/");
    assert_eq!(reply.status, 200);
    let field = reply.head.field("strict-transport-security");
    assert_eq!(field, None, "only responses over TLS say it");
}

#[test]
fn redirect_target_answers_without_an_endpoint() {
    let mut config = config(&[("one.test", "/", &[])]);
    let host = HostPattern::parse("one.test").unwrap();
    let mut rules = Arc::clone(&config.hosts[&host]);
    let rule = Arc::make_mut(&mut Arc::make_mut(&mut rules).rules[0]);
    rule.target = Target::Redirect(Arc::new(Redirect {
        location: "https://new.test/".into(),
        code: 301,
    }));
    config.hosts.insert(host, rules);
    let proxy = Proxy::start(config);
    let reply = proxy.get("one.test", "/x");
    assert_eq!(reply.status, 301);
    assert_eq!(reply.head.field("location"), Some("https://new.test/"));
}

/// The rules `/` and `/admin`, which lead to two endpoints.
#[test]
fn normalised_path_chooses_the_rule_and_the_endpoint_gets_the_path_as_sent() {
    let (public, admin) = (Origin::echo("public"), Origin::echo("admin"));
    let proxy = Proxy::start(config(&[
        ("one.test", "/", &[public.address]),
        ("one.test", "/admin", &[admin.address]),
    ]));
    for path in [
        "/admin",
        "//admin/x",
        "/./admin/x",
        "/x/../admin/x",
        "/%61dmin/x",
        "/x/%2e%2e/admin",
        "/admin%2Fx",
    ] {
        let reply = proxy.get("one.test", path);
        let line = format!("admin\nGET {path} HTTP/1.1\r\n");
        assert!(reply.text().starts_with(&line), "{}", reply.text());
    }
    for path in ["/admin/../x", "/administrator", "/x"] {
        let reply = proxy.get("one.test", path);
        assert!(reply.text().starts_with("public\n"), "{path}");
    }
    for path in ["/../x", "/a%00", "/..%2fadmin", "/a/%2e%2e%5cb", "/%zz"] {
        assert_eq!(proxy.get("one.test", path).status, 400, "{path}");
    }
}

#[test]
fn rules_of_decoded_paths_match_encoded_requests() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[
        ("one.test", "/my files", &[origin.address]),
        ("one.test", "/größe", &[origin.address]),
    ]));
    assert_eq!(proxy.get("one.test", "/my%20files/x").status, 200);
    assert_eq!(proxy.get("one.test", "/gr%C3%B6%C3%9Fe").status, 200);
    assert_eq!(proxy.get("one.test", "/my").status, 404);
}

#[test]
fn expressions_match_without_regard_to_case_from_the_start() {
    let origin = Origin::echo("origin");
    let mut config = config(&[("one.test", "/", &[origin.address])]);
    let host = HostPattern::parse("one.test").unwrap();
    let mut rules = Arc::clone(&config.hosts[&host]);
    let rule = Arc::make_mut(&mut Arc::make_mut(&mut rules).rules[0]);
    let regex = PathRegex::new(&"/[A-Z]{3}".into()).unwrap();
    rule.matches = PathPattern::Regex(Arc::new(regex)).into();
    config.hosts.insert(host, rules);
    let proxy = Proxy::start(config);
    assert_eq!(proxy.get("one.test", "/uuid").status, 200);
    assert_eq!(proxy.get("one.test", "/x/uuid").status, 404);
}
