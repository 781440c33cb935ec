//! Paths mean what they mean to nginx: the same location is chosen for each of 100,000 pairs of a
//! path and a server with locations, as ingress-nginx writes them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ingress_core::ir::{HostPattern, HostRules, ObjectRef, PathPattern, Rule, RuleOrigin, Target};
use ingress_core::route::{RouteTable, normalise};

const SERVERS: usize = 100;
const LOCATIONS: usize = 12;
const PATHS: usize = 1000;

/// Requests that are under way on one connection.
const BATCH: usize = 50;

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64, Marsaglia 2003.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Segments of locations, and of paths: all that nginx decodes or resolves, and what is alike.
const NAMES: [&str; 8] = ["a", "b", "ab", "a.b", "A", "~a", "a-b", "a_b"];
const SEGMENTS: [&str; 24] = [
    "a", "b", "ab", "a.b", "A", "~a", "a-b", "a_b", "", ".", "..", "...", "%61", "%62", "a%62",
    "%2e", "%2E%2e", "%7Ea", "%41", "a%2Db", "a;x", "a,b", ".a", "a%2eb",
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Location {
    Exact(String),
    Prefix(String),
}

fn location(numbers: &mut Numbers) -> Location {
    let length = numbers.below(4);
    let path = (0..length).fold(String::new(), |path, _| path + "/" + numbers.pick(&NAMES));
    if path.is_empty() {
        return Location::Prefix("/".to_owned());
    }
    if numbers.below(3) == 0 {
        Location::Exact(path)
    } else {
        Location::Prefix(path)
    }
}

fn path(numbers: &mut Numbers) -> String {
    let length = 1 + numbers.below(5);
    let mut path = (0..length).fold(String::new(), |path, _| {
        path + "/" + numbers.pick(&SEGMENTS)
    });
    if numbers.below(6) == 0 {
        path.push_str("?a=/../b");
    }
    path
}

/// A server's locations, each with its number.
fn server(numbers: &mut Numbers) -> Vec<Location> {
    let mut locations: Vec<_> = (0..LOCATIONS).map(|_| location(numbers)).collect();
    locations.sort();
    locations.dedup();
    locations
}

/// The server as ingress-nginx's template writes it.
fn configuration(number: usize, port: u16, locations: &[Location]) -> String {
    let mut text = format!("server {{ listen 127.0.0.1:{port}; server_name s{number}.test;\n");
    let mut write = |kind: &str, path: &str, index: usize| {
        writeln!(
            text,
            "location {kind} \"{path}\" {{ return 200 \"{index}\"; }}"
        )
        .unwrap();
    };
    for (index, location) in locations.iter().enumerate() {
        match location {
            Location::Exact(path) => write("=", path, index),
            Location::Prefix(path) if path == "/" => write("", path, index),
            Location::Prefix(path) => {
                write("", &format!("{path}/"), index);
                // An exact location of the same path counts before it.
                if !locations.contains(&Location::Exact(path.clone())) {
                    write("=", path, index);
                }
            }
        }
    }
    if !locations.contains(&Location::Prefix("/".to_owned())) {
        text.push_str("location / { return 200 \"none\"; }\n");
    }
    text + "}\n"
}

/// The same for our own routes; what a rule is for is told by its origin.
fn table(servers: &[Vec<Location>]) -> RouteTable<usize> {
    let ingress = ObjectRef {
        kind: "Ingress",
        namespace: "default".into(),
        name: "test".into(),
    };
    let mut hosts = BTreeMap::new();
    for (number, locations) in servers.iter().enumerate() {
        let rule = |(index, location): (usize, &Location)| {
            let matches = match location {
                Location::Exact(path) => PathPattern::Exact(path.as_str().into()),
                Location::Prefix(path) => PathPattern::prefix(path),
            };
            Arc::new(Rule {
                matches: matches.into(),
                target: Target::Unavailable,
                policy: Arc::default(),
                origin: RuleOrigin {
                    ingress: ingress.clone(),
                    path: index.to_string().into(),
                },
            })
        };
        let mut rules: Vec<_> = locations.iter().enumerate().map(rule).collect();
        rules.sort_by(|a, b| a.matches.cmp(&b.matches));
        let rules = HostRules {
            rules,
            ..HostRules::default()
        };
        let host = HostPattern::parse(&format!("s{number}.test")).unwrap();
        hosts.insert(host, Arc::new(rules));
    }
    RouteTable::compile(&hosts, None, |_, rule| rule.origin.path.parse().unwrap())
}

/// The number of the location of a path, `none`, or `400`.
fn ours(table: &RouteTable<usize>, host: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap();
    let Ok(path) = normalise(path.as_bytes()) else {
        return "400".to_owned();
    };
    let route = table.find(host, &path);
    route.map_or_else(|| "none".to_owned(), |route| route.payload.to_string())
}

/// nginx, which ends with this.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Nginx {
    fn start(servers: &[Vec<Location>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let all = servers.iter().enumerate();
        let all: String = all
            .map(|(number, locations)| configuration(number, address.port(), locations))
            .collect();
        let root = directory.path().display();
        let text = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; keepalive_requests 1000000; server_names_hash_max_size 4096;\n\
             server_names_hash_bucket_size 128; client_body_temp_path {root}/a;\n\
             proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d;\n\
             scgi_temp_path {root}/e;\n{all}}}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, text).unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx (`cargo xtask setup` installs it)");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nginx does not answer");
            thread::yield_now();
        }
        Self {
            process,
            address,
            _directory: directory,
        }
    }

    /// What it says for each of these paths.
    fn ask(&self, host: &str, paths: &[&String]) -> Vec<String> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut stream = BufReader::new(stream);
        let mut answers = Vec::new();
        for paths in paths.chunks(BATCH) {
            let request = |path: &&String| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let requests: String = paths.iter().map(request).collect();
            stream.get_mut().write_all(requests.as_bytes()).unwrap();
            answers.extend(paths.iter().map(|path| answer(&mut stream, path)));
        }
        answers
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn answer(stream: &mut BufReader<TcpStream>, path: &str) -> String {
    let (mut status, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "no answer for {path}");
        if status.is_empty() {
            line.split(' ').nth(1).unwrap().clone_into(&mut status);
        } else if line == "\r\n" {
            break;
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    if status == "200" {
        String::from_utf8(body).unwrap()
    } else {
        status
    }
}

#[test]
fn the_same_location_is_chosen_as_by_nginx() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let servers: Vec<_> = (0..SERVERS).map(|_| server(&mut numbers)).collect();
    let (table, nginx) = (table(&servers), Nginx::start(&servers));
    let (mut compared, mut located) = (0, 0);
    for (number, locations) in servers.iter().enumerate() {
        let host = format!("s{number}.test");
        let paths: Vec<_> = (0..PATHS).map(|_| path(&mut numbers)).collect();
        // nginx closes the connection after a request that it refuses.
        let expected = |path: &&String| ours(&table, &host, path);
        let (refused, taken): (Vec<_>, Vec<_>) =
            paths.iter().partition(|path| expected(path) == "400");
        let mut answers = nginx.ask(&host, &taken);
        answers.extend(refused.iter().flat_map(|path| nginx.ask(&host, &[*path])));
        for (path, theirs) in taken.iter().chain(&refused).zip(answers) {
            let ours = expected(path);
            assert_eq!(ours, theirs, "{path} among {locations:?}");
            compared += 1;
            located += usize::from(ours.parse::<usize>().is_ok());
        }
    }
    assert!(
        compared >= 100_000 && located >= 20_000,
        "{compared}, {located}"
    );
}
