//! Users log in at dex, a real OpenID provider, and are let in by a session that every node can read.
//!
//! A client that keeps cookies plays the browser: it follows redirects one by one, and fills in dex's form.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, wait_until};
use serde_json::Value;

use crate::{Scene, free_ports};

#[test]
fn users_log_in_once_for_all_nodes_and_the_endpoint_gets_their_claims() -> Result<()> {
    let mut stage = Stage::set()?;
    let browser = stage.browser("ann", 0);
    let target = "/private?x=1&y=%2F";

    for script in [
        vec!["--header", "Accept: */*"],
        vec!["--header", "Accept: text/html", "--data", "x=1"],
        vec![
            "--header",
            "Accept: text/html",
            "--header",
            "Sec-Fetch-Mode: cors",
        ],
        vec![
            "--header",
            "Upgrade: websocket",
            "--header",
            "Connection: Upgrade",
        ],
    ] {
        let refused = browser.ask("app.test", target, &script)?;
        assert_eq!(refused.status, 401, "{script:?}");
    }
    let start = browser.open("app.test", target)?;
    ensure!(
        start.location.starts_with(&stage.provider),
        "{}",
        start.location
    );
    assert_eq!(start.status, 302);
    for parameter in [
        "code_challenge_method=S256",
        "response_type=code",
        "&nonce=",
        "&state=",
    ] {
        assert!(start.location.contains(parameter), "{}", start.location);
    }

    let callback = browser.log_in(&start.location)?;
    let back = browser.go(&callback, &[])?;
    assert_eq!(
        (back.status, &*back.location),
        (302, &*browser.url("app.test", target))
    );
    let page = browser.ask(
        "app.test",
        target,
        &[
            "--header",
            "X-User: root",
            "--header",
            "X-Phone: 1",
            "--cookie",
            "theme=dark",
        ],
    )?;
    let report = page.report()?;
    assert_eq!(report["path"], target);
    let headers = &report["headers"];
    assert_eq!(headers["x-user"], "ann", "{report}");
    assert_eq!(headers["x-email"], "ann@example.test", "{report}");
    assert_eq!(headers["x-groups"], "dev,admin", "{report}");
    assert_eq!(headers.get("x-phone"), None, "dex knows no phone");
    assert!(!report.to_string().contains("sluice-oidc"), "{report}");

    // From here on nobody asks the provider.
    stage.dex = None;
    for node in [0, 1] {
        let at_node = stage.browser("ann", node);
        let report = at_node.ask("app.test", "/", &[])?.report()?;
        assert_eq!(report["headers"]["x-user"], "ann", "node {node}");
    }
    let stranger = stage.browser("stranger", 1);
    assert_eq!(
        stranger.open("app.test", "/")?.status,
        503,
        "no provider, no login"
    );
    Ok(())
}

#[test]
fn callbacks_cannot_be_made_up_carried_elsewhere_or_used_twice() -> Result<()> {
    let stage = Stage::set()?;
    let browser = stage.browser("ann", 0);
    let start = browser.open("app.test", "//evil.test/%2e%2e/x")?;
    let callback = browser.log_in(&start.location)?;

    let stranger = stage.browser("stranger", 0);
    let reply = stranger.go(&callback, &[])?;
    assert_eq!(reply.status, 400, "another browser's login");
    assert_eq!(stranger.open("app.test", "/")?.status, 302);
    let reply = stranger.go(&callback, &[])?;
    assert_eq!(reply.status, 400, "another login of its own");

    let jar = fs::read(&browser.jar)?;
    let back = browser.go(&callback, &[])?;
    let expected = browser.url("app.test", "//evil.test/%2e%2e/x");
    let got = (back.status, &*back.location);
    assert_eq!(got, (302, &*expected), "the host is ours");
    let reply = browser.go(&callback, &[])?;
    assert_eq!(reply.status, 400, "the login is over");
    fs::write(&stranger.jar, jar)?;
    let reply = stranger.go(&callback, &[])?;
    assert_eq!(reply.status, 400, "dex takes no code twice");

    // One without cookies, which curl leaves out of a request of more than 8 KiB.
    let robot = stage.browser("robot", 0);
    let long = format!("?state=x&code={}", "y".repeat(9000));
    for query in ["", "?code=x", "?state=x&code=y", &long] {
        let target = format!("/oauth2/callback{query}");
        let reply = robot.ask("app.test", &target, &[])?;
        assert_eq!(reply.status, 400, "{}", &query[..query.len().min(40)]);
    }
    Ok(())
}

#[test]
fn sessions_cannot_be_made_up_or_carried_to_other_hosts() -> Result<()> {
    let stage = Stage::set()?;
    let browser = stage.browser("ann", 0);
    let start = browser.open("app.test", "/")?;
    let login = start.cookie()?.to_owned();
    let callback = browser.log_in(&start.location)?;
    assert_eq!(browser.go(&callback, &[])?.status, 302);

    let (name, value) = browser.session()?;
    let with = |host: &str, cookie: &str| {
        let nobody = stage.browser("nobody", 0);
        nobody.ask(host, "/", &["--header", &format!("Cookie: {cookie}")])
    };
    let good = with("app.test", &format!("{name}={value}"))?;
    assert_eq!(good.status, 200);
    let twice = with("app.test", &format!("{name}=x; {name}={value}"))?;
    assert_eq!(twice.status, 200, "the one that is good counts");
    let flipped = if value.starts_with('A') { "Q" } else { "A" };
    for (what, cookie) in [
        ("tampered with", format!("{name}={flipped}{}", &value[1..])),
        ("cut off", format!("{name}={}", &value[..value.len() / 2])),
        ("too long", format!("{name}={}", "A".repeat(20_000))),
        ("empty", format!("{name}=")),
        ("a login", format!("{name}={login}")),
    ] {
        assert_eq!(with("app.test", &cookie)?.status, 401, "{what}");
    }
    for host in ["other.test", "admin.test"] {
        let begun = stage.browser("nobody", 0).open(host, "/")?;
        let name = begun.set_cookie.split('=').next().unwrap_or_default();
        let id = name.rsplit_once('-').context("no cookie")?.1;
        let cookie = format!("sluice-oidc-{id}={value}");
        let reply = with(host, &cookie)?;
        assert_eq!(reply.status, 401, "a session of app.test at {host}");
    }
    Ok(())
}

#[test]
fn users_of_no_listed_group_are_refused_and_may_log_out_to_be_another() -> Result<()> {
    let stage = Stage::set()?;
    let browser = stage.browser("bob", 0);
    let start = browser.open("admin.test", "/")?;
    let callback = browser.log_in(&start.location)?;
    assert_eq!(browser.go(&callback, &[])?.status, 302);
    assert_eq!(browser.open("admin.test", "/")?.status, 403);
    assert_eq!(browser.ask("admin.test", "/", &[])?.status, 403);
    // dex has no place to log out, and knows no sessions.
    let out = browser.ask("admin.test", "/oauth2/logout?rd=//evil.test", &[])?;
    assert_eq!((out.status, &*out.body), (200, "logged out\n"));
    assert_eq!(browser.open("admin.test", "/")?.status, 302);

    let browser = stage.browser("ann", 0);
    let start = browser.open("admin.test", "/")?;
    let callback = browser.log_in(&start.location)?;
    assert_eq!(browser.go(&callback, &[])?.status, 302);
    assert_eq!(browser.open("admin.test", "/")?.status, 200);
    Ok(())
}

#[test]
fn sessions_over_https_are_kept_from_clear_text_and_from_other_hosts() -> Result<()> {
    let stage = Stage::set()?;
    let browser = stage.browser("ann", 0);
    let url = browser.secure_url("app.test", "/secure");
    let start = browser.go(&url, &["--header", "Accept: text/html"])?;
    assert!(
        start.set_cookie.starts_with("__Secure-sluice-oidc-login-"),
        "{}",
        start.set_cookie
    );
    assert!(
        start.set_cookie.contains("; Path=/oauth2/callback; "),
        "{}",
        start.set_cookie
    );
    let callback = browser.log_in(&start.location)?;
    let back = browser.go(&callback, &[])?;
    assert_eq!((back.status, &*back.location), (302, &*url));
    assert!(
        back.set_cookie.starts_with("__Host-sluice-oidc-"),
        "{}",
        back.set_cookie
    );
    for attribute in ["; Path=/;", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(back.set_cookie.contains(attribute), "{}", back.set_cookie);
    }
    let report = browser.go(&url, &[])?.report()?;
    assert_eq!(report["headers"]["x-user"], "ann");
    let clear = browser.ask("app.test", "/secure", &[])?;
    assert_eq!(clear.status, 401, "curl does not send it in clear text");
    Ok(())
}

/// Two nodes in front of an origin, and dex.
struct Stage {
    nodes: [Scene; 2],
    /// Its issuer.
    provider: String,
    dex: Option<Process>,
}

impl Stage {
    fn set() -> Result<Self> {
        let [backend, dex] = free_ports()?;
        let provider = format!("http://127.0.0.1:{dex}");
        let manifest = HOSTS
            .iter()
            .fold(Manifest::default(), |manifest, (host, groups)| {
                manifest
                    .serve_at(host, &["127.0.0.1"], backend)
                    .annotated(host, &annotations(&provider, groups))
            });
        let nodes = [
            Scene::with("host", &manifest)?,
            Scene::with("host", &manifest)?,
        ];
        for node in &nodes {
            fs::write(node.directory.path().join("manifests/login.yaml"), SECRET)?;
        }
        let mut stage = Self {
            nodes,
            provider,
            dex: None,
        };
        let directory = stage.nodes[0].directory.path().to_owned();
        let mut origin = Command::new(Options::from_env()?.origin);
        origin.args(["--name", "origin", &format!("--listen=127.0.0.1:{backend}")]);
        let origin = Process::spawn(origin, &directory.join("origin.log"))?;
        stage.nodes[0].processes.push(origin);
        let program = env::var_os("SLUICE_DEX").context("SLUICE_DEX is not set")?;
        let mut command = Command::new(program);
        command.args([
            &format!("--listen=127.0.0.1:{dex}"),
            "--client-id=sluice",
            "--client-secret=secret of sluice",
        ]);
        let node = &stage.nodes[0];
        for (host, _) in HOSTS {
            command.arg(format!(
                "--redirect-uri=http://{host}:{}/oauth2/callback",
                node.http_port
            ));
            command.arg(format!(
                "--redirect-uri=https://{host}:{}/oauth2/callback",
                node.https_port
            ));
        }
        let log = directory.join("dex.log");
        stage.dex = Some(Process::spawn(command, &log)?);
        stage.wait().with_context(|| {
            let dex = fs::read_to_string(&log).unwrap_or_default();
            format!("{}\n{dex}", stage.nodes[0].log().unwrap_or_default())
        })?;
        Ok(stage)
    }

    /// Waits until every node has the Secret, and the first has found dex.
    fn wait(&self) -> Result<()> {
        for (node, status) in [(0, 302), (1, 401)] {
            let browser = self.browser("first", node);
            wait_until("Sluice and dex to serve", || {
                let answer = match status {
                    302 => browser.open("app.test", "/"),
                    _ => browser.ask("app.test", "/", &[]),
                };
                Ok(answer.is_ok_and(|answer| answer.status == status))
            })?;
        }
        Ok(())
    }

    /// The browser of a user, which keeps its cookies, and speaks to a node.
    fn browser(&self, user: &'static str, node: usize) -> Browser {
        let jar = self.nodes[0]
            .directory
            .path()
            .join(format!("cookies-{user}"));
        let node = &self.nodes[node];
        Browser {
            user,
            jar,
            provider: self.provider.clone(),
            http_port: node.http_port,
            https_port: node.https_port,
        }
    }
}

struct Browser {
    user: &'static str,
    jar: PathBuf,
    provider: String,
    http_port: u16,
    https_port: u16,
}

impl Browser {
    fn url(&self, host: &str, target: &str) -> String {
        format!("http://{host}:{}{target}", self.http_port)
    }

    fn secure_url(&self, host: &str, target: &str) -> String {
        format!("https://{host}:{}{target}", self.https_port)
    }

    /// Opens a page.
    fn open(&self, host: &str, target: &str) -> Result<Reply> {
        self.ask(host, target, &["--header", "Accept: text/html,*/*;q=0.8"])
    }

    fn ask(&self, host: &str, target: &str, arguments: &[&str]) -> Result<Reply> {
        self.go(&self.url(host, target), arguments)
    }

    /// Fills in the provider's form, and returns the URL that it sends the browser back to.
    fn log_in(&self, start: &str) -> Result<String> {
        let mut reply = self.go(start, &[])?;
        let mut url = start.to_owned();
        while reply.location.starts_with(&self.provider) {
            url = reply.location;
            reply = self.go(&url, &[])?;
        }
        ensure!(
            reply.body.contains("<form"),
            "{}: {}",
            reply.status,
            reply.body
        );
        let name = format!("login={}", self.user);
        let password = format!("password=password of {}", self.user);
        let form = ["--data-urlencode", &name, "--data-urlencode", &password];
        let mut reply = self.go(&url, &form)?;
        while reply.location.starts_with(&self.provider) {
            reply = self.go(&reply.location, &[])?;
        }
        ensure!(
            reply.location.contains("code="),
            "{}: {}",
            reply.status,
            reply.body
        );
        Ok(reply.location)
    }

    /// The name and value of the session cookie.
    fn session(&self) -> Result<(String, String)> {
        let jar = fs::read_to_string(&self.jar)?;
        let mut cookies = jar.lines().filter_map(|line| {
            let (rest, value) = line.rsplit_once('\t')?;
            Some((rest.rsplit_once('\t')?.1, value))
        });
        let found =
            cookies.find(|(name, _)| name.starts_with("sluice-oidc-") && !name.contains("login"));
        let (name, value) = found.with_context(|| jar.clone())?;
        Ok((name.to_owned(), value.to_owned()))
    }

    /// One request, whose redirect is not followed.
    fn go(&self, url: &str, arguments: &[&str]) -> Result<Reply> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--path-as-is"]);
        curl.args(["--max-time", "20"]);
        for (host, _) in HOSTS {
            for port in [self.http_port, self.https_port] {
                curl.args(["--resolve", &format!("{host}:{port}:127.0.0.1")]);
            }
        }
        curl.arg("--cookie").arg(&self.jar);
        curl.arg("--cookie-jar").arg(&self.jar);
        let last = "\n%header{set-cookie}\n%{http_code} %header{location}";
        curl.args(["--write-out", last]);
        let output = curl.args(arguments).arg(url).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{url}: {complaint}");
        let text = String::from_utf8(output.stdout)?;
        let (text, last) = text.rsplit_once('\n').context("curl wrote no status")?;
        let (body, set_cookie) = text.rsplit_once('\n').context("curl wrote no status")?;
        let (status, location) = last.split_once(' ').context("curl wrote no status")?;
        let location = if location.starts_with('/') {
            let origin = url
                .match_indices('/')
                .nth(2)
                .map_or(url, |(at, _)| &url[..at]);
            format!("{origin}{location}")
        } else {
            location.to_owned()
        };
        Ok(Reply {
            status: status.parse()?,
            location,
            set_cookie: set_cookie.to_owned(),
            body: body.to_owned(),
        })
    }
}

/// An answer.
struct Reply {
    status: u16,
    /// Where it leads, as a whole URL.
    location: String,
    /// The first cookie that it sets.
    set_cookie: String,
    body: String,
}

impl Reply {
    /// What the origin saw.
    fn report(&self) -> Result<Value> {
        ensure!(self.status == 200, "{}: {}", self.status, self.body);
        Ok(serde_json::from_str(&self.body)?)
    }

    /// The value of the cookie that it sets.
    fn cookie(&self) -> Result<&str> {
        let (_, rest) = self.set_cookie.split_once('=').context("no cookie")?;
        Ok(rest.split(';').next().unwrap_or_default())
    }
}

fn annotations(provider: &str, groups: &str) -> String {
    let claims = "name: X-User, email: X-Email, groups: X-Groups, phone_number: X-Phone";
    let keys = [
        ("secret", "login"),
        ("scopes", "openid profile email groups"),
        ("claims-to-headers", claims),
        ("groups", groups),
    ];
    let keys = keys.iter().filter(|(_, value)| !value.is_empty());
    let others = keys.map(|(key, value)| format!(", sluice.dev/auth-oidc-{key}: \"{value}\""));
    format!(
        "auth-oidc-issuer: \"{provider}\"{}",
        others.collect::<String>()
    )
}

/// Hosts, and the groups whose users are let in.
const HOSTS: [(&str, &str); 3] = [
    ("app.test", ""),
    ("other.test", ""),
    ("admin.test", "admin, root"),
];

const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData:
  client-id: sluice
  client-secret: secret of sluice
  cookie-secret: 0123456789abcdef0123456789abcdef
";
