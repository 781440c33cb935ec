//! Logins at a provider that answers as each test says, mostly wrongly. `tests/tests/host/oidc.rs` has a real one.

mod combined;
mod groups;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ingress_core::ir::{Authentication, Config, Filter, OidcAuth, OidcClient, Satisfy};
use serde_json::{Value, json};

use crate::issuer::{Issuer, encode, now, set, token};
use crate::rig::{Client, Origin, Proxy, Reply, config, dead, wait_until, with_policy};

type Sign = Arc<dyn Fn(&Value) -> String + Send + Sync>;

/// What a provider does.
#[derive(Clone)]
struct Script {
    /// Members of its document in place of the usual ones.
    document: BTreeMap<&'static str, Value>,
    /// Claims of ID tokens in place of the usual ones.
    claims: BTreeMap<&'static str, Value>,
    /// The answer of the token endpoint: a status and a body in place of the usual ones.
    answer: Option<(u16, String)>,
    /// Makes a token of claims.
    sign: Sign,
    keys: String,
    /// Heads and bodies of requests to the token endpoint.
    exchanges: Vec<(String, String)>,
    /// The nonce of the login that is under way.
    nonce: String,
}

/// A provider.
struct Provider {
    origin: Origin,
    script: Arc<Mutex<Script>>,
}

impl Provider {
    fn start() -> Self {
        let issuer = Arc::new(Issuer::new("a"));
        let signing = Arc::clone(&issuer);
        let script = Arc::new(Mutex::new(Script {
            document: BTreeMap::new(),
            claims: BTreeMap::new(),
            answer: None,
            sign: Arc::new(move |claims| signing.sign(claims)),
            keys: set(&[&issuer]),
            exchanges: Vec::new(),
            nonce: String::new(),
        }));
        let served = Arc::clone(&script);
        let origin = Origin::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                let own = head.field("host").unwrap_or_default().to_owned();
                let body = connection.read_body(&head);
                let body = String::from_utf8(body).unwrap();
                let mut script = served.lock().unwrap();
                let (status, answer) = script.answer(&format!("http://{own}"), &head.text, &body);
                drop(script);
                let length = answer.len();
                connection.write(&format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{answer}"
                ));
            }
        });
        Self { origin, script }
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.origin.address)
    }

    fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }
}

impl Script {
    fn answer(&mut self, own: &str, head: &str, body: &str) -> (u16, String) {
        let target = head.split(' ').nth(1).unwrap_or_default();
        match target {
            "/.well-known/openid-configuration" => {
                let mut document = json!({
                    "issuer": own,
                    "authorization_endpoint": format!("{own}/authorize"),
                    "token_endpoint": format!("{own}/token"),
                    "jwks_uri": format!("{own}/keys"),
                });
                for (member, value) in &self.document {
                    document[*member] = value.clone();
                }
                (200, document.to_string())
            }
            "/keys" => (200, self.keys.clone()),
            "/token" => {
                self.exchanges.push((head.to_owned(), body.to_owned()));
                if let Some(answer) = &self.answer {
                    return answer.clone();
                }
                let mut claims = json!({
                    "iss": own, "aud": "web", "sub": "ann", "exp": now() + 300, "iat": now(),
                    "nonce": self.nonce, "groups": ["dev"],
                });
                for (claim, value) in &self.claims {
                    claims[*claim] = value.clone();
                }
                let id_token = (self.sign)(&claims);
                (
                    200,
                    json!({"id_token": id_token, "access_token": "x"}).to_string(),
                )
            }
            _ => (404, String::new()),
        }
    }
}

fn auth(issuer: &str) -> OidcAuth {
    OidcAuth {
        issuer: issuer.into(),
        client: Some(Arc::new(OidcClient {
            id: "web".into(),
            secret: "a secret".into(),
            cookie_secret: [7; 32].into(),
        })),
        scopes: "openid".into(),
        callback_path: "/oauth2/callback".into(),
        logout_path: "/oauth2/logout".into(),
        logout_url: None,
        groups: [].into(),
        groups_claim: "groups".into(),
        fields: [("sub".into(), "x-user".into())].into(),
        session_lifetime: 600,
    }
}

fn only(oidc: OidcAuth) -> Authentication {
    Authentication {
        satisfy: Satisfy::All,
        sources: None,
        basic: None,
        jwt: None,
        oidc: Some(Arc::new(oidc)),
        external: None,
    }
}

fn asking(origin: &Origin, asked: Authentication) -> Config {
    let filter = Filter::Authenticate(Arc::new(asked));
    let config = config(&[("one.test", "/", &[origin.address])]);
    with_policy(config, |policy| policy.filters = [filter.clone()].into())
}

fn start(origin: &Origin, oidc: OidcAuth) -> Proxy {
    Proxy::start(asking(origin, only(oidc)))
}

fn ask(proxy: &Proxy, target: &str, fields: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!(
        "GET {target} HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n"
    ));
    client.read_reply()
}

fn open(proxy: &Proxy, target: &str) -> Reply {
    ask(proxy, target, PAGE)
}

const PAGE: &str = "Accept: text/html\r\n";

/// A parameter of the URL that a browser is sent to.
fn parameter(reply: &Reply, name: &str) -> String {
    let location = reply.head.field("location").unwrap_or_default();
    let (_, query) = location.split_once('?').unwrap_or_default();
    let mut all = query.split('&').filter_map(|one| one.split_once('='));
    let found = all.find(|(found, _)| *found == name);
    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// The name and value of a cookie that an answer sets, and does not remove.
fn cookie(reply: &Reply, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let lines = reply.head.text.lines();
    let mut cookies = lines.filter_map(|line| line.strip_prefix("set-cookie: "));
    let found = cookies.find(|cookie| wanted(cookie) && !cookie.contains("Max-Age=0;"))?;
    found.split(';').next().map(str::to_owned)
}

fn is_login(cookie: &str) -> bool {
    cookie.starts_with("sluice-oidc-login-")
}

/// Logs in, and gives the answer of the callback.
fn log_in(proxy: &Proxy, provider: &Provider) -> Reply {
    log_in_with(proxy, provider, "")
}

fn log_in_with(proxy: &Proxy, provider: &Provider, parameters: &str) -> Reply {
    let begun = open(proxy, "/page");
    assert_eq!(begun.status, 302, "{}", begun.text());
    provider.change(|script| script.nonce = parameter(&begun, "nonce"));
    let login = cookie(&begun, is_login).unwrap();
    let state = parameter(&begun, "state");
    let target = format!("/oauth2/callback?code=the%2Fcode&state={state}{parameters}");
    ask(proxy, &target, &format!("Cookie: {login}\r\n"))
}

/// The session that an answer of the callback begins.
fn session(reply: &Reply) -> Option<String> {
    cookie(reply, |cookie| {
        cookie.starts_with("sluice-oidc-") && !is_login(cookie)
    })
}

#[test]
fn code_is_exchanged_with_the_credentials_of_the_client() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    for methods in [
        json!(["client_secret_basic"]),
        json!(["client_secret_post"]),
        Value::Null,
    ] {
        let is_post = methods == json!(["client_secret_post"]);
        provider.change(|script| {
            script.exchanges.clear();
            let member = "token_endpoint_auth_methods_supported";
            script.document.insert(member, methods);
        });
        let proxy = start(&origin, auth(&provider.issuer()));
        let back = log_in(&proxy, &provider);
        assert_eq!(
            (back.status, back.head.field("location")),
            (302, Some("http://one.test/page"))
        );
        assert_eq!(back.head.field("cache-control"), Some("no-store"));
        let exchanges = provider.script.lock().unwrap().exchanges.clone();
        let [(head, body)] = &exchanges[..] else {
            panic!("{exchanges:?}");
        };
        let field = |name: &str| {
            let mut all = body.split('&').filter_map(|one| one.split_once('='));
            let found = all.find(|(found, _)| *found == name);
            found.map(|(_, value)| value.to_owned())
        };
        assert_eq!(field("code").as_deref(), Some("the%2Fcode"));
        let redirect_uri = "http%3A%2F%2Fone.test%2Foauth2%2Fcallback";
        assert_eq!(field("redirect_uri").as_deref(), Some(redirect_uri));
        let basic = format!(
            "authorization: Basic {}\r\n",
            STANDARD.encode("web:a%20secret")
        );
        assert_eq!(head.contains(&basic), !is_post, "{head}");
        let secret = is_post.then(|| "a%20secret".to_owned());
        assert_eq!(field("client_secret"), secret);
    }
}

#[test]
fn the_challenge_is_that_of_the_verifier() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let proxy = start(&origin, auth(&provider.issuer()));
    let begun = open(&proxy, "/");
    let login = cookie(&begun, is_login).unwrap();
    let state = parameter(&begun, "state");
    let target = format!("/oauth2/callback?code=c&state={state}");
    ask(&proxy, &target, &format!("Cookie: {login}\r\n"));
    let exchanges = provider.script.lock().unwrap().exchanges.clone();
    let (_, verifier) = exchanges[0].1.split_once("code_verifier=").unwrap();
    let expected = encode(digest(&SHA256, verifier.as_bytes()).as_ref());
    assert_eq!(parameter(&begun, "code_challenge"), expected);
}

#[test]
fn id_tokens_that_prove_nothing_begin_no_session() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let proxy = start(&origin, auth(&provider.issuer()));
    let good = log_in(&proxy, &provider);
    let cookie = session(&good).unwrap();
    let reply = ask(
        &proxy,
        "/",
        &format!("Cookie: a=b; {cookie}\r\nX-User: root\r\n"),
    );
    assert_eq!((reply.status, reply.seen("x-user")), (200, Some("ann")));
    assert_eq!(reply.seen("cookie"), Some("a=b"));

    for (claim, value) in [
        ("nonce", json!("other")),
        ("nonce", Value::Null),
        ("iss", json!("https://evil.test")),
        ("aud", json!("other")),
        ("aud", json!(["web", "other"])),
        ("azp", json!("other")),
        ("exp", json!(now() - 31)),
        ("exp", Value::Null),
        ("nbf", json!(now() + 60)),
    ] {
        provider.change(|script| script.claims = [(claim, value.clone())].into());
        let back = log_in(&proxy, &provider);
        assert_eq!(
            (back.status, session(&back)),
            (502, None),
            "{claim}: {value}"
        );
    }
    provider.change(|script| script.claims.clear());
    let stranger = Arc::new(Issuer::new("a"));
    let none = |claims: &Value| token(&json!({"alg": "none"}), claims, |_| Vec::new());
    let other = Arc::clone(&stranger);
    let signs: [Sign; 3] = [
        Arc::new(move |claims| other.sign(claims)),
        Arc::new(none),
        Arc::new(|_| "no.token.at-all".to_owned()),
    ];
    for sign in signs {
        provider.change(|script| script.sign = sign);
        let back = log_in(&proxy, &provider);
        assert_eq!((back.status, session(&back)), (502, None));
    }
    // The provider has another key from now on.
    let new = Arc::new(Issuer::new("new"));
    provider.change(|script| {
        script.keys = set(&[&new]);
        script.sign = Arc::new(move |claims| new.sign(claims));
    });
    wait_until("the new key to count", || {
        session(&log_in(&proxy, &provider)).is_some()
    });
    assert_eq!(
        ask(&proxy, "/", &format!("Cookie: {cookie}\r\n")).status,
        200,
        "sessions go on"
    );
}

#[test]
fn a_provider_that_fails_lets_nobody_in_and_does_no_harm_to_others() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let proxy = start(&origin, auth(&provider.issuer()));
    for (status, body, expected) in [
        (500, "", 502),
        (200, "", 502),
        (200, "{}", 502),
        (200, r#"{"id_token": null}"#, 502),
        (302, "", 502),
        (401, r#"{"error": "invalid_client"}"#, 502),
        (400, r#"{"error": "invalid_grant"}"#, 400),
        (200, &" ".repeat(300_000), 503),
    ] {
        provider.change(|script| script.answer = Some((status, body.to_owned())));
        let back = log_in(&proxy, &provider);
        let got = (back.status, session(&back));
        assert_eq!(
            got,
            (expected, None),
            "{status} {}",
            &body[..body.len().min(40)]
        );
    }
    for (parameters, expected) in [
        ("&error=access_denied", 403),
        ("&error=server_error", 502),
        ("&iss=https%3A%2F%2Fevil.test", 400),
    ] {
        let back = log_in_with(&proxy, &provider, parameters);
        assert_eq!(
            (back.status, session(&back)),
            (expected, None),
            "{parameters}"
        );
    }
    assert_eq!(proxy.snapshot().oidc_logins, 0);
    assert!(proxy.snapshot().oidc_login_failures >= 11);

    let unreachable = format!("http://{}", dead());
    let other = Provider::start();
    other.change(|script| drop(script.document.insert("issuer", json!("http://other.test"))));
    let broken = Provider::start();
    broken.change(|script| drop(script.document.insert("token_endpoint", json!("/token"))));
    for issuer in [unreachable, other.issuer(), broken.issuer()] {
        let proxy = start(&origin, auth(&issuer));
        assert_eq!(open(&proxy, "/").status, 503, "{issuer}");
        assert_eq!(ask(&proxy, "/", "").status, 401, "{issuer}");
        assert_eq!(ask(&proxy, "/oauth2/logout", "").status, 200, "{issuer}");
    }
    let without_account = OidcAuth {
        client: None,
        ..auth(&provider.issuer())
    };
    let proxy = start(&origin, without_account);
    assert_eq!(open(&proxy, "/").status, 503);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_provider_that_hangs_holds_a_bounded_number_of_requests() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let proxy = start(&origin, auth(&provider.issuer()));
    let hanging = Origin::start(|mut connection| {
        while connection.read_head().is_some() {}
        thread::sleep(Duration::from_secs(30));
    });
    let url = format!("http://{}/token", hanging.address);
    provider.change(|script| drop(script.document.insert("token_endpoint", json!(url))));
    let begun = open(&proxy, "/");
    let (state, login) = (
        parameter(&begun, "state"),
        cookie(&begun, is_login).unwrap(),
    );
    let request = format!(
        "GET /oauth2/callback?code=c&state={state} HTTP/1.1\r\nHost: one.test\r\nCookie: {login}\r\n\r\n"
    );
    let waiting: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = proxy.client();
            client.write(&request);
            client
        })
        .collect();
    wait_until("all to be exchanged", || hanging.connections() == 16);
    let mut one_more = proxy.client();
    one_more.write(&request);
    assert_eq!(one_more.read_reply().status, 503);
    for mut client in waiting {
        assert_eq!(
            client.read_reply().status,
            503,
            "the proxy does not wait for long"
        );
    }
}

#[test]
fn sessions_end_and_have_room_for_what_fits_into_a_cookie() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let short = OidcAuth {
        session_lifetime: 2,
        ..auth(&provider.issuer())
    };
    let proxy = start(&origin, short);
    let cookie = session(&log_in(&proxy, &provider)).unwrap();
    let fields = format!("Cookie: {cookie}\r\n");
    assert_eq!(ask(&proxy, "/", &fields).status, 200);
    wait_until("the session to end", || {
        ask(&proxy, "/", &fields).status == 401
    });

    provider.change(|script| drop(script.claims.insert("sub", json!("x".repeat(2900)))));
    assert!(session(&log_in(&proxy, &provider)).is_some());
    provider.change(|script| drop(script.claims.insert("sub", json!("x".repeat(3000)))));
    let back = log_in(&proxy, &provider);
    assert_eq!((back.status, session(&back)), (500, None));
}

#[test]
fn logging_out_ends_the_session_and_leads_where_the_configuration_says_only() {
    let (origin, provider) = (Origin::echo("one"), Provider::start());
    let end = format!("{}/end", provider.issuer());
    provider.change(|script| drop(script.document.insert("end_session_endpoint", json!(end))));
    for (logout_url, rest) in [
        (None, ""),
        (
            Some("https://one.test/bye"),
            "&post_logout_redirect_uri=https%3A%2F%2Fone.test%2Fbye",
        ),
    ] {
        let oidc = OidcAuth {
            logout_url: logout_url.map(Into::into),
            ..auth(&provider.issuer())
        };
        let proxy = start(&origin, oidc);
        let target = "/oauth2/logout?post_logout_redirect_uri=https://evil.test&rd=//evil.test";
        let out = ask(&proxy, target, "");
        let expected = format!("{end}?client_id=web{rest}");
        assert_eq!(
            (out.status, out.head.field("location")),
            (302, Some(&*expected))
        );
        let cleared = out.head.field("set-cookie").unwrap();
        assert!(cleared.starts_with("sluice-oidc-") && cleared.contains("=; Path=/; Max-Age=0;"));
    }
}
