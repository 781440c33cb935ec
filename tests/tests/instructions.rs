//! What work takes in instructions: a change that makes it dearer fails here, on any machine.
//!
//! Programs are built in profile `rig` (optimised, each crate by itself). A bound is a tenth above
//! what was counted when it was written; who makes work cheaper lowers it, who makes it dearer
//! knows what for.

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::callgrind::{self, Counted};
use ingress_tests::host::Process;
use ingress_tests::rig::wait_within;

/// Counts one time of some work: what many times take beyond few.
fn once(work: &str, few: u32, many: u32) -> Result<u64> {
    let program = binary("SLUICE_WORK")?;
    let directory = tempfile::tempdir()?;
    let count = |times: u32| {
        let times = times.to_string();
        callgrind::count(&program, &[work, &times], directory.path())
    };
    let (few_count, many_count) = (count(few)?, count(many)?);
    Ok(many_count.saturating_sub(few_count) / u64::from(many - few))
}

fn binary(variable: &str) -> Result<PathBuf> {
    let path = env::var_os(variable);
    let path = path.with_context(|| format!("${variable} is not set: run `cargo xtask test`"))?;
    Ok(path.into())
}

fn hold(what: &str, counted: u64, bound: u64) -> Result<()> {
    eprintln!("{counted:>9} instructions: {what} (bound {bound})");
    ensure!(counted > 0, "{what}: nothing was counted");
    ensure!(
        counted <= bound,
        "{what} takes {counted} instructions, {bound} are allowed"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: installs valgrind"]
fn a_route_is_found() -> Result<()> {
    hold("route among 10 hosts", once("find-in-10", FEW, MANY)?, FIND)?;
    let among_many = once("find-in-100000", FEW, MANY)?;
    hold("route among 100,000 hosts", among_many, FIND)
}

#[test]
#[ignore = "needs root: installs valgrind"]
fn changes_are_translated_and_compiled() -> Result<()> {
    let work = "change-one-of-10000-hosts";
    hold(
        "routes after a change of a host",
        once(work, 10, 110)?,
        CHANGE_HOST,
    )?;
    let all = once("translate-1000-ingresses", 1, 4)? / 1_000;
    hold("an Ingress with its Service and slice", all, TRANSLATE)?;
    let slice = once("follow-slices-of-1000-services", 10, 110)?;
    hold("a changed slice, 1,000 Ingresses", slice, FOLLOW)
}

#[test]
#[ignore = "needs root: installs valgrind"]
fn a_request_is_carried() -> Result<()> {
    let plain = carried("", &[])?;
    hold("a request of 1 KiB, kept alive", plain, REQUEST)?;
    // What is replaced, checked and counted on the way.
    let fields: Vec<_> = (0..20)
        .map(|number| format!("x-field-{number}: value\r\n"))
        .collect();
    let fields = fields.concat();
    let spoofed = "x-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let full = carried(&format!("{fields}{spoofed}cookie: a=b; c=d\r\n"), &[])?;
    hold(
        "a request with 24 more fields",
        full,
        REQUEST_OF_MANY_FIELDS,
    )
}

#[test]
#[ignore = "needs root: installs valgrind"]
fn annotations_are_obeyed() -> Result<()> {
    let ten = carried("", &TEN)?;
    hold("a request with ten annotations", ten, TEN_ANNOTATIONS)?;
    let authenticated = carried("", &AUTHENTICATION)?;
    hold(
        "a request whose authentication is cached",
        authenticated,
        CACHED_AUTHENTICATION,
    )
}

/// Instructions of the daemon for a request with these further fields, to an Ingress with these annotations.
fn carried(fields: &str, annotations: &[(&str, &str)]) -> Result<u64> {
    let directory = tempfile::tempdir()?;
    let [http, https, metrics, endpoint] = free_ports()?;
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("all.yaml"), objects(endpoint, annotations))?;
    let mut origin = Command::new(binary("SLUICE_ORIGIN")?);
    origin.arg(format!("--listen=127.0.0.1:{endpoint}"));
    let _origin = Process::spawn(origin, &directory.path().join("origin.log"))?;
    let arguments = [
        "run".to_owned(),
        format!("--manifests={}", manifests.display()),
        format!("--run-dir={}", directory.path().join("run").display()),
        "--datapath=host".to_owned(),
        "--workers=1".to_owned(),
        // callgrind opens files from every thread.
        "--confine-workers=false".to_owned(),
        "--access-log=off".to_owned(),
        format!("--http-port={http}"),
        format!("--https-port={https}"),
        format!("--metrics-address=127.0.0.1:{metrics}"),
        "--shutdown-grace-period=0".to_owned(),
    ];
    let daemon = Counted::start(&binary("SLUICE_FAST_BINARY")?, &arguments, directory.path())?;
    let request = format!("GET /bytes/1024 HTTP/1.1\r\nhost: one.test\r\n{fields}\r\n");
    let mut client = None;
    wait_within(START_MAX, "the daemon to serve", || {
        client = Client::connect(http).ok();
        let client = client.as_mut();
        Ok(client.is_some_and(|client| client.ask(&request).is_ok()))
    })?;
    let mut client = client.context("there is a connection")?;
    for _ in 0..WARM_UP {
        client.ask(&request)?;
    }
    let all = daemon.count(|| (0..REQUESTS).try_for_each(|_| client.ask(&request)))?;
    Ok(all / REQUESTS)
}

/// A connection that is kept alive.
struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// An error for any answer but 200 with 1,024 bytes.
    fn ask(&mut self, request: &str) -> Result<()> {
        self.0.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = self.0.read(&mut buffer)?;
            ensure!(read > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..read]);
            let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if head.is_some_and(|end| answer.len() >= end + 4 + 1024) {
                ensure!(
                    answer.starts_with(b"HTTP/1.1 200 "),
                    "not answered with 200"
                );
                return Ok(());
            }
            ensure!(!answer.starts_with(b"HTTP/1.1 4") && !answer.starts_with(b"HTTP/1.1 5"));
        }
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    for _ in 0..N {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listeners.push(TcpListener::bind(any)?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn objects(port: u16, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<_> = annotations
        .iter()
        .map(|(key, value)| {
            let value = value.replace("PORT", &port.to_string());
            format!("nginx.ingress.kubernetes.io/{key}: '{value}'")
        })
        .collect();
    let annotations = annotations.join(", ");
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{ name: one, annotations: {{ {annotations} }} }}
spec:
  rules:
    - host: one.test
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{ service: {{ name: one, port: {{ number: 80 }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{ name: one }}
spec: {{ ports: [{{ name: main, port: 80 }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: one, labels: {{ kubernetes.io/service-name: one }} }}
addressType: IPv4
ports: [{{ name: main, port: {port} }}]
endpoints: [{{ addresses: [127.0.0.1] }}]
"
    )
}

/// Under valgrind everything takes fifty times as long.
const START_MAX: Duration = Duration::from_mins(3);
const WARM_UP: u64 = 200;
const REQUESTS: u64 = 1_000;

/// So many that a table which takes a percent more to build is no part of the figure.
const MANY: u32 = 401_000;
const FEW: u32 = 1_000;
const FIND: u64 = 800;
const CHANGE_HOST: u64 = 42_000;
// Counted: 36,800, with the owners of hosts, the policies of routes, logins and more than twice as many
// annotation keys.
const TRANSLATE: u64 = 38_000;
const FOLLOW: u64 = 290_000;
// Counted: 33,500, with authentication, limits, mirrors and gathered bodies among the phases: their
// futures are part of each request's, which is moved once into the heap.
const REQUEST: u64 = 36_300;
// Counted: 75,800.
const REQUEST_OF_MANY_FIELDS: u64 = 82_800;
// Counted: 45,500, which is 12,100 more than without annotations.
const TEN_ANNOTATIONS: u64 = 50_000;
// Counted: 42,800, which is 9,400 more.
const CACHED_AUTHENTICATION: u64 = 47_100;

const TEN: [(&str, &str); 10] = [
    ("proxy-body-size", "8m"),
    ("proxy-read-timeout", "120"),
    ("whitelist-source-range", "127.0.0.0/8,192.0.2.0/24"),
    ("limit-rps", "1000000"),
    ("limit-connections", "10000"),
    ("enable-cors", "true"),
    ("cors-allow-origin", "https://app.one.test"),
    ("upstream-vhost", "inner.one.test"),
    ("x-forwarded-prefix", "/shop"),
    ("affinity", "cookie"),
];
const AUTHENTICATION: [(&str, &str); 3] = [
    ("auth-url", "http://127.0.0.1:PORT/bytes/1"),
    ("auth-cache-key", "$remote_addr$http_authorization"),
    ("auth-cache-duration", "200 10m"),
];
