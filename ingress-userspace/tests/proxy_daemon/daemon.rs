//! A daemon in a process of its own, with a directory for its manifests and all that it keeps.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A daemon that runs. Dropping it ends it without notice.
pub(crate) struct Daemon {
    pub(crate) process: Child,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) log: PathBuf,
}

/// Where the daemons of one test keep what they keep.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// File descriptors that a daemon may have, where that matters.
    pub(crate) descriptors: Option<u32>,
    /// The file that takes a daemon into a cgroup, where that matters.
    pub(crate) cgroup: Option<PathBuf>,
}

/// An answer in HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Place {
    /// A place whose manifests lead from `one.test` to `endpoint`.
    pub(crate) fn new(endpoint: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let manifests = directory.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let (ip, port) = (endpoint.ip(), endpoint.port());
        let text = MANIFEST
            .replace("ENDPOINT", &ip.to_string())
            .replace("PORT", &port.to_string());
        std::fs::write(manifests.join("one.yaml"), text).unwrap();
        Self {
            directory,
            http: free_port(),
            https: free_port(),
            descriptors: None,
            cgroup: None,
        }
    }

    /// Changes the manifest.
    pub(crate) fn change(&self, change: impl Fn(&str) -> String) {
        let file = self.directory.path().join("manifests/one.yaml");
        let manifest = std::fs::read_to_string(&file).unwrap();
        let changed = change(&manifest);
        assert_ne!(changed, manifest);
        std::fs::write(&file, changed).unwrap();
    }

    /// Adds an Ingress that sends these hosts to the same Service.
    pub(crate) fn add_hosts(&self, hosts: &[String]) {
        let rule = |host: &String| format!("  - {{host: {host}, http: {{paths: [{PATH}]}}}}\n");
        let rules: String = hosts.iter().map(rule).collect();
        let manifest = format!("{HOSTS}{rules}");
        let file = self.directory.path().join("manifests/hosts.yaml");
        std::fs::write(file, manifest).unwrap();
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Daemon {
        let mut daemon = self.spawn(name, flags);
        let deadline = Instant::now() + PATIENCE;
        while Daemon::try_get(daemon.admin, "/readyz").is_none_or(|answer| answer.status != 200) {
            let ended = daemon.process.try_wait().unwrap();
            assert_eq!(ended, None, "{}", daemon.log());
            assert!(Instant::now() < deadline, "{}", daemon.log());
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// The run directory of a daemon.
    pub(crate) fn run_dir(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Runs a verb against the daemon `a`.
    pub(crate) fn sluice(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(arguments)
            .arg(format!("--run-dir={}", self.run_dir("a")))
            .output()
            .unwrap()
    }

    pub(crate) fn spawn(&self, name: &str, flags: &[&str]) -> Daemon {
        let path = |part: &str| self.directory.path().join(part);
        let log = path(&format!("{name}.log"));
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let limit = match self.descriptors {
            Some(descriptors) => format!("ulimit -n {descriptors} && "),
            None => String::new(),
        };
        let enter = match &self.cgroup {
            Some(file) => format!("echo $$ > {} && ", file.display()),
            None => String::new(),
        };
        let process = Command::new("sh")
            .arg("-c")
            .arg(format!("{enter}{limit}exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_sluice"))
            .args(["run", "--datapath=host"])
            .arg(format!("--manifests={}", path("manifests").display()))
            .arg(format!("--run-dir={}", self.run_dir(name)))
            .arg(format!("--http-port={}", self.http))
            .arg(format!("--https-port={}", self.https))
            .args(flags)
            .env("SLUICE_WORKERS", "1")
            .env("SLUICE_METRICS_ADDRESS", admin.to_string())
            .stdout(std::fs::File::create(path(&format!("{name}.out"))).unwrap())
            .stderr(std::fs::File::create(&log).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, self.http));
        Daemon {
            process,
            http,
            admin,
            log,
        }
    }
}

impl Daemon {
    /// One `GET` on a connection of its own.
    pub(crate) fn get(&self, address: SocketAddr, path: &str) -> Answer {
        let answer = Self::try_get(address, path);
        answer.unwrap_or_else(|| panic!("no answer from {address}: {}", self.log()))
    }

    /// One `GET` for another host.
    pub(crate) fn get_host(&self, address: SocketAddr, host: &str, path: &str) -> Answer {
        let answer = Self::try_get_host(address, host, path);
        answer.unwrap_or_else(|| panic!("no answer from {address}: {}", self.log()))
    }

    /// `None` if nobody answers there.
    pub(crate) fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
        Self::try_get_host(address, "one.test", path)
    }

    fn try_get_host(address: SocketAddr, host: &str, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        read_answer(&mut BufReader::new(stream))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn terminate(&self) {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many file descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(directory).unwrap().count()
    }

    /// Resident memory in KiB, now (`VmRSS:`) or at its largest (`VmHWM:`).
    pub(crate) fn resident_kib(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with(field));
        let number = line.unwrap().split_whitespace().nth(1);
        number.unwrap().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The next answer on a connection, to its end.
pub(crate) fn read_answer(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = read_chunks(stream)?;
    }
    Some(Answer {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head,
        body: String::from_utf8(body).unwrap(),
    })
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// A server that answers every request with `ok`.
pub(crate) fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn serve(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
        if line == "\r\n" {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.get_mut().write_all(answer).is_err() {
                return;
            }
        }
        line.clear();
    }
}

/// Waits for something that another process does; panics when it does not.
pub(crate) fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A port that nobody listens on. Below those that the kernel gives to clients.
pub(crate) fn free_port() -> u16 {
    let mut port = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap();
    loop {
        let is_free = |ip| TcpListener::bind(SocketAddr::new(ip, port)).is_ok();
        if NEXT_PORT.fetch_max(port + 1, std::sync::atomic::Ordering::SeqCst) <= port
            && is_free(Ipv4Addr::UNSPECIFIED.into())
        {
            return port;
        }
        port += 1;
    }
}

static NEXT_PORT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);

/// How long a test waits before it says that something does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const HOSTS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: hosts, namespace: web}
spec:
  rules:
";

const PATH: &str =
    "{path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}";

const MANIFEST: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: web}
spec:
  rules:
  - host: one.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: web, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{port: PORT}]
endpoints: [{addresses: [ENDPOINT]}]
";
