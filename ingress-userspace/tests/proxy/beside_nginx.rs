//! Passwords beside a real nginx: which credentials get in with which lines of an htpasswd file.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ingress_core::ir::{Authentication, BasicAuth, Filter, Satisfy, Users};
use nginx_rig::Nginx;

use crate::rig::{Origin, Proxy, config, with_policy};

/// Users by name and hash, as `openssl passwd`, `openssl sha1` and `crypt(3)` of Debian 12 make them. All
/// passwords are `secret`, if they are any.
const USERS: &[(&str, &str)] = &[
    ("plain", "{PLAIN}secret"),
    ("sha", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
    ("ssha", "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0"),
    ("apr1", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"),
    ("md5", "$1$saltsalt$9xy1btjgzLYfb7hivXtC//"),
    (
        "sha256",
        "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
    ),
    (
        "bcrypt",
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
    ),
    ("none", ""),
    ("bare", "secret"),
    ("cut", "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ"),
    ("broken", "{SHA}*"),
    ("short", "{SSHA}gVK8"),
    ("locked", "!"),
];

/// What is sent after `Authorization: `; `USER:PASSWORD` stands in brackets where it is encoded.
const CREDENTIALS: &[&str] = &[
    "Basic [USER:secret]",
    "basic [USER:secret]",
    "Basic  [USER:secret]",
    "Basic [USER:Secret]",
    "Basic [USER:secre]",
    "Basic [USER:secret ]",
    "Basic [USER:]",
    "Basic [USER]",
    "Basic [:secret]",
    "Basic [USER:secret:]",
    "Basic [ USER:secret]",
    "Bearer [USER:secret]",
    "Basic USER:secret",
    "Basic",
    "",
];

#[test]
fn credentials_get_in_where_nginx_lets_them_in() {
    let nginx = Nginx::start(
        "server { listen {socket}; auth_basic realm; auth_basic_user_file {directory}/users;\n\
         location / { try_files /none @endpoint; } location @endpoint { return 204; } }",
    );
    let lines: Vec<String> = USERS
        .iter()
        .map(|(name, hash)| format!("{name}:{hash}\n"))
        .collect();
    std::fs::write(nginx.path("users"), lines.concat()).unwrap();
    let (proxy, _origin) = proxy();
    let mut admitted = 0;
    for (user, hash) in USERS {
        for credentials in CREDENTIALS {
            let field = encoded(&credentials.replace("USER", user));
            let request =
                format!("GET / HTTP/1.1\r\nHost: one.test\r\nAuthorization: {field}\r\n\r\n");
            let mut client = proxy.client();
            client.write(&request);
            let found = client.read_reply().status;
            let expected = nginx.ask(&[request])[0].status;
            let gets_in = (found == 200, expected == 204);
            assert_eq!(
                gets_in.0, gets_in.1,
                "`{credentials}` of {user} ({hash}): {found}, {expected}"
            );
            admitted += usize::from(found == 200);
        }
    }
    assert!(admitted >= 7, "{admitted}");
}

/// The part in brackets in base64.
fn encoded(credentials: &str) -> String {
    let Some((scheme, rest)) = credentials.split_once('[') else {
        return credentials.to_owned();
    };
    let pair = rest.trim_end_matches(']');
    format!("{scheme}{}", BASE64_STANDARD.encode(pair))
}

fn proxy() -> (Proxy, Origin) {
    let users = USERS
        .iter()
        .map(|(name, hash)| ((*name).into(), (*hash).into()));
    let filter = Filter::Authenticate(Arc::new(Authentication {
        satisfy: Satisfy::All,
        sources: None,
        basic: Some(BasicAuth {
            realm: "realm".into(),
            users: Arc::new(Users(users.collect())),
        }),
        jwt: None,
        oidc: None,
        external: None,
    }));
    let origin = Origin::echo("origin");
    let config = config(&[("one.test", "/", &[origin.address])]);
    let config = with_policy(config, |policy| policy.filters = [filter.clone()].into());
    (Proxy::start(config), origin)
}
