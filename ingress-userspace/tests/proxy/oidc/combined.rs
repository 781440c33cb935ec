//! Logins beside other ways to authenticate, and what other services see of a session.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_core::ir::{
    AccessList, Authentication, BasicAuth, ExternalAuth, JwtAlgorithm, JwtAuth, JwtKeys, Mirror,
    Satisfy, Template, Users,
};
use serde_json::json;

use super::{
    PAGE, Provider, ask, asking, auth, cookie, is_login, log_in, only, open, parameter, session,
};
use crate::issuer::{Issuer, now, set};
use crate::rig::{Origin, Proxy, wait_until, with_policy};

#[test]
fn a_session_is_one_of_several_ways_in_if_any_is_enough() {
    let (origin, provider, api) = (Origin::echo("one"), Provider::start(), Issuer::new("api"));
    let jwt = JwtAuth {
        keys: JwtKeys::Set(set(&[&api]).into()),
        issuer: None,
        audiences: [].into(),
        algorithms: [JwtAlgorithm::Es256].into(),
        leeway: 30,
        cookie: None,
        fields: [("sub".into(), "x-user".into())].into(),
    };
    let users = [("ann".into(), "{PLAIN}secret".into())].into();
    let basic = BasicAuth {
        realm: "Shop".into(),
        users: Arc::new(Users(users)),
    };
    let asked = |change: fn(&mut Authentication, JwtAuth, BasicAuth)| {
        let mut asked = Authentication {
            satisfy: Satisfy::Any,
            ..only(auth(&provider.issuer()))
        };
        change(&mut asked, jwt.clone(), basic.clone());
        Proxy::start(asking(&origin, asked))
    };
    let bearer = api.sign(&json!({"sub": "robot", "exp": now() + 60}));
    let bearer = format!("Authorization: Bearer {bearer}\r\n");
    let password = format!("Authorization: Basic {}\r\n", STANDARD.encode("ann:secret"));

    let proxy = asked(|asked, jwt, _| asked.jwt = Some(Arc::new(jwt)));
    let reply = ask(&proxy, "/", &bearer);
    assert_eq!((reply.status, reply.seen("x-user")), (200, Some("robot")));
    let refused = ask(&proxy, "/", "X-User: root\r\n");
    let challenge = refused.head.field("www-authenticate");
    assert_eq!((refused.status, challenge), (401, Some("Bearer")));
    let cookie = session(&log_in(&proxy, &provider)).unwrap();
    let reply = ask(&proxy, "/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!((reply.status, reply.seen("x-user")), (200, Some("ann")));
    let reply = ask(
        &proxy,
        "/",
        &format!("Authorization: Bearer x\r\n{PAGE}Cookie: {cookie}\r\n"),
    );
    assert_eq!(reply.status, 200, "a bad token beside a good session");

    let proxy = asked(|asked, _, basic| asked.basic = Some(basic));
    assert_eq!(ask(&proxy, "/", &password).status, 200);
    assert_eq!(open(&proxy, "/").status, 302, "no password, but a browser");
    let refused = ask(&proxy, "/", "");
    let challenge = refused.head.field("www-authenticate");
    assert_eq!(
        (refused.status, challenge),
        (401, Some("Basic realm=\"Shop\""))
    );

    let proxy = asked(|asked, _, _| asked.sources = Some(sources(true)));
    let reply = ask(&proxy, "/", "X-User: root\r\nCookie: sluice-oidc-x=1\r\n");
    assert_eq!(
        (reply.status, reply.seen("x-user")),
        (200, None),
        "by its address"
    );
    assert_eq!(reply.seen("cookie"), None);
    assert_eq!(
        ask(&proxy, "/oauth2/callback", "").status,
        400,
        "not the endpoint's"
    );
    let proxy = asked(|asked, _, _| asked.sources = Some(sources(false)));
    assert_eq!(open(&proxy, "/").status, 302);
    assert_eq!(ask(&proxy, "/", "").status, 401);
}

fn sources(admits: bool) -> AccessList {
    let here = ["127.0.0.0/8".parse().unwrap()];
    let elsewhere = ["192.0.2.0/24".parse().unwrap()];
    AccessList {
        allow: Some(if admits { here } else { elsewhere }.into()),
        ..AccessList::default()
    }
}

#[test]
fn all_ways_have_to_be_taken_if_all_are_asked_for() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let denied = Authentication {
        sources: Some(sources(false)),
        ..only(auth(&provider.issuer()))
    };
    let proxy = Proxy::start(asking(&origin, denied));
    for target in ["/", "/oauth2/callback", "/oauth2/logout"] {
        assert_eq!(open(&proxy, target).status, 403, "{target}");
    }
    let users = [("ann".into(), "{PLAIN}secret".into())].into();
    let both = Authentication {
        basic: Some(BasicAuth {
            realm: "Shop".into(),
            users: Arc::new(Users(users)),
        }),
        ..only(auth(&provider.issuer()))
    };
    let proxy = Proxy::start(asking(&origin, both));
    assert_eq!(open(&proxy, "/").status, 401, "the password first");
    let password = format!(
        "{PAGE}Authorization: Basic {}\r\n",
        STANDARD.encode("ann:secret")
    );
    let begun = ask(&proxy, "/", &password);
    assert_eq!(begun.status, 302);
    provider.change(|script| script.nonce = parameter(&begun, "nonce"));
    let login = cookie(&begun, is_login).unwrap();
    let target = format!(
        "/oauth2/callback?code=c&state={}",
        parameter(&begun, "state")
    );
    let back = ask(&proxy, &target, &format!("Cookie: {login}\r\n"));
    let cookie = session(&back).unwrap();
    assert_eq!(
        ask(&proxy, "/", &format!("Cookie: {cookie}\r\n")).status,
        401
    );
    let reply = ask(&proxy, "/", &format!("{password}Cookie: {cookie}\r\n"));
    assert_eq!((reply.status, reply.seen("authorization")), (200, None));
}

#[test]
fn neither_services_that_decide_nor_mirrors_get_a_session() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let service = Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            seen.lock().unwrap().push(head.text);
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let url = |path: &str| Template::text(&format!("http://{}{path}", service.address));
    let asked = Authentication {
        external: Some(Arc::new(ExternalAuth {
            url: url("/auth"),
            method: "GET".into(),
            is_method_given: false,
            signin: None,
            redirect_parameter: "rd".into(),
            response_headers: [].into(),
            request_headers: [].into(),
            request_redirect: Template::text("/"),
            cache: None,
            always_sets_cookie: false,
        })),
        ..only(auth(&provider.issuer()))
    };
    let mirror = Arc::new(Mirror {
        target: url("/mirror"),
        host: None,
        with_body: false,
    });
    let config = with_policy(asking(&origin, asked), |policy| {
        policy.mirror = Some(Arc::clone(&mirror));
    });
    let proxy = Proxy::start(config);
    let cookie = session(&log_in(&proxy, &provider)).unwrap();
    assert_eq!(
        ask(&proxy, "/", &format!("Cookie: {cookie}; a=b\r\n")).status,
        200
    );
    wait_until("the mirror to be asked", || {
        heads.lock().unwrap().len() >= 2
    });
    for head in heads.lock().unwrap().iter() {
        assert!(
            !head.contains("sluice-oidc") && head.contains("cookie: a=b\r\n"),
            "{head}"
        );
    }
}
