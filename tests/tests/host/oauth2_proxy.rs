//! oauth2-proxy decides about requests, set up as its documentation has it for ingress-nginx: an
//! Ingress for `/oauth2`, and the annotations `auth-url`, `auth-signin` and `auth-response-headers`.
//!
//! Users sign in by oauth2-proxy's form for passwords of a file, so that no provider of identities is
//! needed: `auth-signin` leads to `/oauth2/sign_in` in place of `/oauth2/start`. The session cookie
//! and `/oauth2/auth` are the same.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Process;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, wait_until};
use serde_json::Value;

use crate::{Scene, free_ports};

#[test]
fn oauth2_proxy_signs_users_in_and_tells_the_endpoint_who_they_are() -> Result<()> {
    let client = Client::with_scene()?;
    let target = "/private?x=1&y=2";
    let sign_in = client.url("/oauth2/sign_in?rd=%2Fprivate%3Fx%3D1%26y%3D2");

    for made_up in [
        "X-Auth-Request-User: root",
        "Cookie: _oauth2_proxy=made-up",
        "Authorization: Basic cm9vdDpyb290",
    ] {
        let refused = client.ask(target, &["--header", made_up])?;
        assert_eq!(
            (refused.status, &*refused.location),
            (302, &*sign_in),
            "{made_up}"
        );
    }
    let form = client.ask("/oauth2/sign_in?rd=%2Fprivate", &[])?;
    assert_eq!(form.status, 200, "{}", form.body);
    assert!(form.body.contains("<form"), "{}", form.body);

    assert_eq!(client.sign_in("a wrong password", target)?.status, 401);
    assert_eq!(client.ask(target, &[])?.status, 302);
    let signed_in = client.sign_in(PASSWORD, target)?;
    assert_eq!(
        (signed_in.status, signed_in.location),
        (302, client.url(target))
    );

    let own = client.ask(target, &[])?.report()?;
    assert_eq!(own["path"], target);
    let made_up = [
        "--header",
        "X-Auth-Request-User: root",
        "--header",
        "X-Auth-Request-Email: root@example.test",
        "--header",
        "X-Auth-Request-Groups: wheel",
    ];
    let other = client.ask(target, &made_up)?.report()?;
    for report in [own, other] {
        let headers = &report["headers"];
        assert_eq!(headers["x-auth-request-user"], "ann", "{report}");
        assert_eq!(headers["x-auth-request-groups"], "staff", "{report}");
        // Users of the file have no address.
        assert_eq!(headers.get("x-auth-request-email"), None, "{report}");
    }

    assert_eq!(client.ask("/oauth2/sign_out?rd=%2F", &[])?.status, 302);
    let signed_out = client.ask(target, &[])?;
    assert_eq!((signed_out.status, signed_out.location), (302, sign_in));
    Ok(())
}

/// A client that keeps cookies. Sluice is in front of an origin and of oauth2-proxy.
struct Client {
    scene: Scene,
}

impl Client {
    fn with_scene() -> Result<Self> {
        let [backend, auth] = free_ports()?;
        let manifest = Manifest::default()
            .serve_at("app.test", &["127.0.0.1"], backend)
            .annotated("app.test", &annotations(auth))
            .serve_at("login.test", &["127.0.0.1"], auth);
        let mut scene = Scene::with("host", &manifest)?;
        let directory = scene.directory.path().to_owned();
        fs::write(directory.join("manifests/oauth2.yaml"), SIGN_IN)?;
        let mut origin = Command::new(Options::from_env()?.origin);
        origin.args(["--name", "origin", &format!("--listen=127.0.0.1:{backend}")]);
        let origin = Process::spawn(origin, &directory.join("origin.log"))?;
        let log = directory.join("oauth2-proxy.log");
        let oauth2_proxy = Process::spawn(oauth2_proxy(&directory, auth)?, &log)?;
        scene.processes.extend([origin, oauth2_proxy]);
        let client = Self { scene };
        wait_until("Sluice and oauth2-proxy to serve", || {
            let form = client.ask("/oauth2/sign_in", &[]);
            Ok(form.is_ok_and(|form| form.status == 200))
        })
        .with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("{}\n{log}", client.scene.log().unwrap_or_default())
        })?;
        Ok(client)
    }

    fn url(&self, target: &str) -> String {
        format!("http://app.test:{}{target}", self.scene.http_port)
    }

    fn sign_in(&self, password: &str, target: &str) -> Result<Reply> {
        let password = format!("password={password}");
        let target = format!("rd={target}");
        let mut arguments = Vec::new();
        for field in ["username=ann", &password, &target] {
            arguments.extend(["--data-urlencode", field]);
        }
        self.ask("/oauth2/sign_in", &arguments)
    }

    /// One request of a client that keeps cookies.
    fn ask(&self, target: &str, arguments: &[&str]) -> Result<Reply> {
        let cookies = self.scene.directory.path().join("cookies");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "10"]);
        let resolve = format!("app.test:{}:127.0.0.1", self.scene.http_port);
        curl.args(["--resolve", &resolve]);
        curl.arg("--cookie").arg(&cookies);
        curl.arg("--cookie-jar").arg(&cookies);
        curl.args(["--write-out", "\n%{http_code} %{redirect_url}"]);
        let output = curl.args(arguments).arg(self.url(target)).output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        let (body, last) = text.rsplit_once('\n').context("curl wrote no status")?;
        let (status, location) = last.split_once(' ').context("curl wrote no status")?;
        Ok(Reply {
            status: status.parse()?,
            location: location.to_owned(),
            body: body.to_owned(),
        })
    }
}

/// An answer.
struct Reply {
    status: u16,
    /// Where it leads, as a whole URL.
    location: String,
    body: String,
}

impl Reply {
    /// What the origin saw.
    fn report(&self) -> Result<Value> {
        ensure!(self.status == 200, "{}: {}", self.status, self.body);
        Ok(serde_json::from_str(&self.body)?)
    }
}

/// oauth2-proxy with a file of users.
fn oauth2_proxy(directory: &Path, port: u16) -> Result<Command> {
    let program = env::var_os("SLUICE_OAUTH2_PROXY").context("SLUICE_OAUTH2_PROXY is not set")?;
    let users = directory.join("users");
    fs::write(&users, USERS)?;
    let mut command = Command::new(program);
    command.arg(format!("--http-address=127.0.0.1:{port}"));
    command.arg(format!("--htpasswd-file={}", users.display()));
    command.args([
        "--reverse-proxy=true",
        "--upstream=static://202",
        "--set-xauthrequest=true",
        "--htpasswd-user-group=staff",
        "--email-domain=*",
        "--cookie-secret=0123456789abcdef0123456789abcdef",
        "--cookie-secure=false",
        // It is told of a provider and never asks it.
        "--client-id=none",
        "--client-secret=none",
    ]);
    Ok(command)
}

/// What oauth2-proxy's documentation has on the Ingress of the service that it protects.
fn annotations(auth: u16) -> String {
    let signin = "http://$http_host/oauth2/sign_in?rd=$escaped_request_uri";
    let fields = "X-Auth-Request-User,X-Auth-Request-Email,X-Auth-Request-Groups";
    format!(
        "auth-url: \"http://127.0.0.1:{auth}/oauth2/auth\", \
         nginx.ingress.kubernetes.io/auth-signin: \"{signin}\", \
         nginx.ingress.kubernetes.io/auth-response-headers: \"{fields}\""
    )
}

/// The Ingress of oauth2-proxy itself, which nothing protects.
const SIGN_IN: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: oauth2}
spec:
  rules:
  - host: app.test
    http:
      paths:
      - path: /oauth2
        pathType: Prefix
        backend: {service: {name: login-test, port: {number: 80}}}
";

const PASSWORD: &str = "a long password";

/// Ann's password, by SHA-1 as `htpasswd -s` writes it.
const USERS: &str = "ann:{SHA}UVcB/CFHFiFoE+mm7HcEBj6djVc=\n";
