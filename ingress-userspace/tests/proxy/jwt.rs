//! Clients that are let in by JSON Web Tokens.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKey};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use ingress_core::ir::{
    AccessList, Authentication, Config, Filter, JwtAlgorithm, JwtAuth, JwtKeys, Satisfy,
};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::grpc::server_config;
use crate::issuer::{Issuer, encode, now, set, token};
use crate::rig::{Origin, PATIENCE, Proxy, Reply, config, dead, with_policy};

/// Claims that are good for an hour.
fn claims() -> Value {
    json!({
        "iss": "https://id.test", "aud": ["web", "other"], "exp": now() + 3600, "sub": "ann",
        "groups": ["admin", "dev"],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn auth(keys: JwtKeys) -> JwtAuth {
    JwtAuth {
        keys,
        issuer: Some("https://id.test".into()),
        audiences: ["api".into(), "web".into()].into(),
        algorithms: [JwtAlgorithm::Es256].into(),
        leeway: 30,
        cookie: None,
        fields: [
            ("sub".into(), "x-user".into()),
            ("groups".into(), "x-groups".into()),
            ("email".into(), "x-email".into()),
        ]
        .into(),
    }
}

fn asking(origin: &Origin, auth: JwtAuth, sources: Option<AccessList>) -> Config {
    let satisfy = match sources {
        Some(_) => Satisfy::Any,
        None => Satisfy::All,
    };
    let filter = Filter::Authenticate(Arc::new(Authentication {
        satisfy,
        sources,
        basic: None,
        jwt: Some(Arc::new(auth)),
        oidc: None,
        external: None,
    }));
    let config = config(&[("one.test", "/", &[origin.address])]);
    with_policy(config, |policy| policy.filters = [filter.clone()].into())
}

fn start(origin: &Origin, auth: JwtAuth) -> Proxy {
    Proxy::start(asking(origin, auth, None))
}

fn ask(proxy: &Proxy, fields: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!("GET / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n"));
    client.read_reply()
}

fn show(proxy: &Proxy, token: &str) -> Reply {
    ask(proxy, &format!("Authorization: Bearer {token}\r\n"))
}

#[test]
fn endpoint_gets_the_claims_of_a_good_token_and_nothing_that_a_client_makes_up() {
    let (origin, issuer) = (Origin::echo("one"), Issuer::new("a"));
    let proxy = start(&origin, auth(JwtKeys::Set(set(&[&issuer]).into())));
    let token = issuer.sign(&claims());
    // The second time the token is known.
    for _ in 0..2 {
        let fields = format!(
            "authorization: bearer {token}\r\nX-User: root\r\nX-Email: root@a.test\r\n\
             X-Groups: wheel\r\n"
        );
        let reply = ask(&proxy, &fields);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.seen("x-user"), Some("ann"));
        assert_eq!(reply.seen("x-groups"), Some("admin,dev"));
        assert_eq!(reply.seen("x-email"), None);
    }
    let mut broken = claims();
    broken["sub"] = "ann\r\nX-Admin: 1".into();
    let reply = show(&proxy, &issuer.sign(&broken));
    assert_eq!((reply.status, reply.seen("x-user")), (200, None));
    assert_eq!(reply.seen("x-admin"), None);
}

#[test]
fn client_that_gets_in_by_its_address_cannot_make_up_claims() {
    let (origin, issuer) = (Origin::echo("one"), Issuer::new("a"));
    let auth = auth(JwtKeys::Set(set(&[&issuer]).into()));
    let local = AccessList {
        allow: Some(["127.0.0.0/8".parse().unwrap()].into()),
        ..AccessList::default()
    };
    let proxy = Proxy::start(asking(&origin, auth, Some(local)));
    let reply = ask(&proxy, "X-User: root\r\n");
    assert_eq!((reply.status, reply.seen("x-user")), (200, None));
}

#[test]
fn tokens_that_prove_nothing_get_401() {
    let (origin, issuer, other) = (Origin::echo("one"), Issuer::new("a"), Issuer::new("a"));
    let proxy = start(&origin, auth(JwtKeys::Set(set(&[&issuer]).into())));
    let signed = |key: &str, value: Value| issuer.sign(&with(key, value));
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    let mut anonymous = claims();
    anonymous.as_object_mut().unwrap().remove("iss");
    let public = issuer.key.public_key().as_ref();
    let by_public_key = token(&json!({"alg": "HS256", "kid": "a"}), &claims(), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, public);
        hmac::sign(&key, message).as_ref().to_vec()
    });
    let good = issuer.sign(&claims());
    let (rest, _) = good.rsplit_once('.').unwrap();
    let (_, payload) = rest.split_once('.').unwrap();
    let forged = encode(with("sub", json!("root")).to_string().as_bytes());
    for (what, token) in [
        ("expired", signed("exp", json!(now() - 31))),
        ("not yet", signed("nbf", json!(now() + 40))),
        ("wrong audience", signed("aud", json!("mail"))),
        ("no audience", signed("aud", Value::Null)),
        ("wrong issuer", signed("iss", json!("https://evil.test"))),
        ("no issuer", issuer.sign(&anonymous)),
        ("endless", issuer.sign(&endless)),
        ("exp that is text", signed("exp", json!("tomorrow"))),
        ("other key of that name", other.sign(&claims())),
        ("HMAC by the public key", by_public_key),
        (
            "none",
            token(&json!({"alg": "none"}), &claims(), |_| Vec::new()),
        ),
        ("no signature", format!("{rest}.")),
        ("other claims", good.replace(payload, &forged)),
        ("text", "abc".to_owned()),
        ("points", "..".to_owned()),
    ] {
        let reply = show(&proxy, &token);
        assert_eq!(reply.status, 401, "{what}");
        let challenge = reply.head.field("www-authenticate");
        assert_eq!(challenge, Some("Bearer error=\"invalid_token\""), "{what}");
    }
    let two = format!("Authorization: Bearer {good}\r\nAuthorization: Bearer {good}\r\n");
    for without in ["", "Authorization: Basic YTpi\r\n", &two] {
        let reply = ask(&proxy, without);
        let challenge = reply.head.field("www-authenticate");
        assert_eq!(
            (reply.status, challenge),
            (401, Some("Bearer")),
            "{without}"
        );
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(show(&proxy, &good).status, 200);
    assert_eq!(show(&proxy, &signed("exp", json!(now() - 20))).status, 200);
}

#[test]
fn only_listed_algorithms_count() {
    let origin = Origin::echo("one");
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: &PublicKey = pair.public_key();
    let part = |bytes: &[u8]| encode(bytes);
    let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
    let exponent = public.exponent().big_endian_without_leading_zero().to_vec();
    let set = json!({"keys": [{"kty": "RSA", "n": part(&modulus), "e": part(&exponent)}]});
    let token = token(&json!({"alg": "RS256"}), &claims(), |message| {
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .unwrap();
        signature
    });
    for (algorithms, status) in [
        (vec![JwtAlgorithm::Es256, JwtAlgorithm::Ps256], 401),
        (vec![JwtAlgorithm::Es256, JwtAlgorithm::Rs256], 200),
    ] {
        let auth = JwtAuth {
            algorithms: algorithms.into(),
            ..auth(JwtKeys::Set(set.to_string().into()))
        };
        assert_eq!(show(&start(&origin, auth), &token).status, status);
    }
}

#[test]
fn token_may_come_in_a_cookie() {
    let (origin, issuer) = (Origin::echo("one"), Issuer::new("a"));
    let auth = JwtAuth {
        cookie: Some("session".into()),
        ..auth(JwtKeys::Set(set(&[&issuer]).into()))
    };
    let proxy = start(&origin, auth);
    let token = issuer.sign(&claims());
    let reply = ask(&proxy, &format!("Cookie: a=b; session={token}\r\n"));
    assert_eq!((reply.status, reply.seen("x-user")), (200, Some("ann")));
    assert_eq!(
        ask(&proxy, &format!("Cookie: other={token}\r\n")).status,
        401
    );
}

/// A server of key sets, which a test may exchange.
struct Keys {
    origin: Origin,
    set: Arc<Mutex<String>>,
    fetches: Arc<AtomicUsize>,
}

impl Keys {
    fn start(set: String) -> Self {
        let set = Arc::new(Mutex::new(set));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (served, counted) = (Arc::clone(&set), Arc::clone(&fetches));
        let origin = Origin::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                assert!(head.text.starts_with("GET /keys HTTP/1.1\r\n"));
                counted.fetch_add(1, Ordering::SeqCst);
                let set = served.lock().unwrap().clone();
                let length = set.len();
                connection.write(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{set}"
                ));
            }
        });
        Self {
            origin,
            set,
            fetches,
        }
    }

    fn url(&self) -> JwtKeys {
        JwtKeys::Url(format!("http://{}/keys", self.origin.address).into())
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[test]
fn keys_are_fetched_once_and_again_for_a_key_that_is_new() {
    let (origin, old, new) = (Origin::echo("one"), Issuer::new("old"), Issuer::new("new"));
    let keys = Keys::start(set(&[&old]));
    let proxy = start(&origin, auth(keys.url()));
    for user in ["ann", "bob", "ann"] {
        let token = old.sign(&with("sub", json!(user)));
        let reply = show(&proxy, &token);
        assert_eq!((reply.status, reply.seen("x-user")), (200, Some(user)));
    }
    assert_eq!(keys.fetches(), 1);
    // Tokens that name any key do not make us ask all the time.
    let stranger = Issuer::new("stranger");
    for _ in 0..20 {
        assert_eq!(show(&proxy, &stranger.sign(&claims())).status, 401);
    }
    assert!(keys.fetches() <= 2, "{}", keys.fetches());

    *keys.set.lock().unwrap() = set(&[&new]);
    let (of_old, of_new) = (old.sign(&claims()), new.sign(&claims()));
    let deadline = Instant::now() + PATIENCE;
    let begun = keys.fetches();
    while show(&proxy, &of_new).status != 200 {
        assert!(Instant::now() < deadline, "the new key is never fetched");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(keys.fetches(), begun + 1);
    assert_eq!(show(&proxy, &of_old).status, 401, "its key has left");
}

#[test]
fn requests_are_refused_while_there_are_no_keys() {
    let (origin, issuer) = (Origin::echo("one"), Issuer::new("a"));
    let token = issuer.sign(&claims());
    let unreachable = JwtKeys::Url(format!("http://{}/keys", dead()).into());
    let empty = Keys::start(r#"{"keys": []}"#.to_owned());
    let text = Keys::start("keys".to_owned());
    let huge = Keys::start(" ".repeat(300_000) + &set(&[&issuer]));
    for keys in [
        unreachable,
        empty.url(),
        text.url(),
        huge.url(),
        JwtKeys::Set("".into()),
    ] {
        let is_url = matches!(keys, JwtKeys::Url(_));
        let proxy = start(&origin, auth(keys));
        for _ in 0..3 {
            let expected = if is_url { 503 } else { 401 };
            assert_eq!(show(&proxy, &token).status, expected);
            assert_eq!(ask(&proxy, "").status, 401);
        }
    }
    assert!(empty.fetches() <= 2, "{}", empty.fetches());
    assert_eq!(origin.connections(), 0);
    // They are asked again after a while.
    *empty.set.lock().unwrap() = set(&[&issuer]);
    let proxy = start(&origin, auth(empty.url()));
    assert_eq!(show(&proxy, &token).status, 200);
}

#[test]
fn keys_of_a_server_that_nobody_vouches_for_are_not_used() {
    let (origin, issuer) = (Origin::echo("one"), Issuer::new("a"));
    let keys = set(&[&issuer]);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let config = Arc::new(server_config(b"http/1.1"));
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(tls, stream.unwrap());
            let mut bytes = [0; 4096];
            if stream.read(&mut bytes).is_ok() {
                let length = keys.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{keys}");
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    let proxy = start(
        &origin,
        auth(JwtKeys::Url(format!("https://{address}/keys").into())),
    );
    assert_eq!(show(&proxy, &issuer.sign(&claims())).status, 503);
    assert_eq!(origin.connections(), 0);
}
