//! The dashboard with users whom a real API server reviews.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::{ControlPlane, Place};

use crate::{CLASS, ingress, plane, sluice};

#[test]
#[ignore = "needs root: network namespaces"]
fn users_of_the_dashboard_are_those_whom_the_api_server_lets_look() -> Result<()> {
    let plane = plane("users")?;
    plane.apply(&format!(
        "{CLASS}{}{USERS}",
        ingress("default", "web", "web.test")
    ))?;
    // The daemon itself has the rights that the chart gives it for this.
    let own = plane.service_account_token("default", "daemon")?;
    let kubeconfig = plane.kubeconfig_for_token("daemon", Place::Lan, &own)?;
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--dashboard-address=127.0.0.1:{PORT}"),
        "--dashboard-auth=kubernetes".to_owned(),
        "--update-status=false".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&plane, &sluice()?, "users", &flags)?;
    let token = |name| plane.service_account_token("default", name);

    let (status, cookie) = log_in(&plane, &token("operator")?)?;
    ensure!(status == 200, "the operator got {status}: {}", daemon.log());
    let cookie = cookie.context("the operator got no cookie")?;
    ensure!(get(&plane, "/api/v1/routes", &cookie)?.contains("web.test"));
    ensure!(get(&plane, "/api/v1/session", &cookie)?.contains("\"tail\":true"));

    let (status, cookie) = log_in(&plane, &token("viewer")?)?;
    ensure!(status == 200, "the viewer got {status}");
    let cookie = cookie.context("the viewer got no cookie")?;
    ensure!(get(&plane, "/api/v1/session", &cookie)?.contains("\"tail\":false"));
    let refused = get(&plane, "/api/v1/stream?topics=tail", &cookie)?;
    ensure!(refused.starts_with("HTTP/1.1 403"), "{refused}");

    for token in [token("nobody")?, "no token".to_owned(), String::new()] {
        let (status, cookie) = log_in(&plane, &token)?;
        ensure!(status == 401 && cookie.is_none(), "{status} for `{token}`");
    }
    let anonymous = get(&plane, "/api/v1/routes", "")?;
    ensure!(anonymous.contains("\"auth\":\"kubernetes\""), "{anonymous}");

    // While the API server is away nobody gets in, and sessions go on.
    plane.stop_api();
    let (status, _) = log_in(&plane, &own)?;
    ensure!(status == 502, "without an API server: {status}");
    ensure!(get(&plane, "/api/v1/session", &cookie)?.starts_with("HTTP/1.1 200"));
    for _ in 0..FAILURES_LEFT {
        log_in(&plane, "guess")?;
    }
    let (status, _) = log_in(&plane, "guess")?;
    ensure!(status == 429, "after ten failures: {status}");
    Ok(())
}

/// The status and the cookie of a login.
fn log_in(plane: &ControlPlane, token: &str) -> Result<(u16, Option<String>)> {
    let body = format!("{{\"token\":\"{token}\"}}");
    let head = format!(
        "POST /session HTTP/1.1\r\nOrigin: http://localhost:{PORT}\r\nContent-Length: {}\r\n",
        body.len()
    );
    let answer = ask(plane, head, body)?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    let cookie = answer.lines().find_map(|line| {
        let cookie = line.strip_prefix("set-cookie: ")?;
        cookie.split(';').next().map(str::to_owned)
    });
    Ok((status, cookie))
}

fn get(plane: &ControlPlane, path: &str, cookie: &str) -> Result<String> {
    let head = format!("GET {path} HTTP/1.1\r\nCookie: {cookie}\r\n");
    ask(plane, head, String::new())
}

fn ask(plane: &ControlPlane, head: String, body: String) -> Result<String> {
    plane.host().run(move || -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let host = format!("Host: localhost:{PORT}\r\nConnection: close\r\n\r\n");
        stream.write_all([head, host, body].concat().as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?
}

const PORT: u16 = 10_256;
/// Of ten: three tokens were refused before, and one could not be reviewed.
const FAILURES_LEFT: usize = 6;

const USERS: &str = "---
apiVersion: v1
kind: ServiceAccount
metadata: {name: daemon, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: viewer, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nobody, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sluice-daemon}
rules:
  - {apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [list, watch]}
  - {apiGroups: [''], resources: [services, secrets, configmaps, nodes, pods], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
  - {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
  - {apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sluice-look}
rules: [{nonResourceURLs: [/sluice/dashboard], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: sluice-follow}
rules: [{nonResourceURLs: [/sluice/tail], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sluice-daemon}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice-daemon}
subjects: [{kind: ServiceAccount, name: daemon, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sluice-look}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice-look}
subjects:
  - {kind: ServiceAccount, name: operator, namespace: default}
  - {kind: ServiceAccount, name: viewer, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: sluice-follow}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: sluice-follow}
subjects: [{kind: ServiceAccount, name: operator, namespace: default}]
";
