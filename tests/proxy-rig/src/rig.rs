//! What the tests share: a running proxy, origins that do as they are told, and a raw client.
//!
//! Everything blocks and nothing sleeps: a test waits for bytes, or for a generation.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ingress_core::ir::{
    Backend, BackendKey, BackendPolicy, Config, Endpoint, HostPattern, ObjectRef, PathPattern,
    RequestBuffering, RoutePolicy, Rule, RuleOrigin, ServicePort, Target, UpstreamProtocol,
};
use ingress_userspace::proxy::{
    Datapath, DefaultCertificate, Dial, HostDial, Identity, Listener, Metrics, NoGauge, Peers,
    Scheme, Table, TableHandle, Timeouts, TlsOptions, Worker, WorkerHandle, WorkerOptions,
    WorkerSnapshot, WorkerSpec, listen, listen_datagrams,
};
use socket2::{Domain, Socket, Type};

/// A proxy with one worker.
pub struct Proxy {
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// Where TCP services are.
    pub tcp: SocketAddr,
    /// Where UDP services are.
    pub udp: SocketAddr,
    pub table: TableHandle,
    pub certificate: DefaultCertificate,
    pub worker: WorkerHandle,
}

/// What a test wants otherwise than usual.
pub struct Options {
    pub worker: WorkerOptions,
    pub dial: Arc<dyn Dial>,
    pub tls: TlsOptions,
    pub peers: Peers,
}

impl Options {
    pub fn timeouts(timeouts: Timeouts) -> Self {
        Self::worker(WorkerOptions {
            timeouts,
            ..WorkerOptions::default()
        })
    }

    pub fn worker(worker: WorkerOptions) -> Self {
        Self {
            worker,
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            worker: WorkerOptions::default(),
            dial: Arc::new(HostDial),
            tls: TlsOptions::default(),
            peers: Peers::default(),
        }
    }
}

impl Proxy {
    pub fn start(config: Config) -> Self {
        Self::start_with(config, Options::default())
    }

    pub fn start_with(config: Config, options: Options) -> Self {
        let certificate = DefaultCertificate::generate().unwrap();
        let (table, problems) = Table::build(None, Arc::new(config), 1, &certificate);
        assert_eq!(problems, []);
        let table = TableHandle::new(table, &options.tls).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let [http, https, tcp] = [(); 3].map(|()| listen(any).unwrap());
        let on_loopback = |socket: &TcpListener| {
            SocketAddr::from((Ipv4Addr::LOCALHOST, socket.local_addr().unwrap().port()))
        };
        let addresses = [&http, &https, &tcp].map(on_loopback);
        let udp = listen_datagrams(any).unwrap();
        let udp_port = udp.local_addr().unwrap().port();
        let listener = |socket, scheme| Listener {
            socket,
            scheme,
            datapath: Datapath::Host,
        };
        let worker = Worker::spawn(WorkerSpec {
            index: 0,
            cpu: None,
            listeners: vec![
                listener(http, Some(Scheme::Http)),
                listener(https, Some(Scheme::Https)),
                listener(tcp, None),
            ],
            datagram_sockets: vec![udp],
            table: table.clone(),
            peers: options.peers,
            dial: options.dial,
            gauge: Arc::new(NoGauge),
            options: options.worker,
            prepare: None,
        });
        let worker = worker.unwrap();
        Self {
            http: addresses[0],
            https: addresses[1],
            tcp: addresses[2],
            udp: SocketAddr::from((Ipv4Addr::LOCALHOST, udp_port)),
            table,
            certificate,
            worker,
        }
    }

    /// Publishes a configuration as the next generation and waits until it is served.
    pub fn publish(&self, config: Config) {
        self.publish_unacknowledged(config);
        let generation = self.table.current().generation();
        wait_until("the generation is served", || {
            self.worker.generation() == generation
        });
    }

    pub fn publish_unacknowledged(&self, config: Config) {
        let current = self.table.current();
        let generation = current.generation() + 1;
        let (table, _) = Table::build(
            Some(&current),
            Arc::new(config),
            generation,
            &self.certificate,
        );
        self.table.publish(table);
    }

    pub fn snapshot(&self) -> WorkerSnapshot {
        self.worker.snapshot()
    }

    /// What Prometheus would get.
    pub fn metrics(&self) -> String {
        let identity = Identity {
            class: "class".to_owned(),
            namespace: "namespace".to_owned(),
            pod: "pod".to_owned(),
            ignored_annotations: Vec::new(),
        };
        let workers = std::slice::from_ref(&self.worker);
        Metrics::new(identity, workers, self.table.clone())
            .snapshot()
            .text()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// One `GET` on a connection of its own.
    pub fn get(&self, host: &str, path: &str) -> Reply {
        self.client().get(host, path)
    }
}

/// An address where nobody listens, another each time. Its port is given to nobody who asks for any:
/// one that was free a moment ago may be the next proxy's, which then is its own endpoint.
pub fn dead() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 1, high, low], 1))
}

/// Waits for something that another thread does; panics when it does not.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// A configuration with one prefix rule for each (host, prefix, endpoints).
pub fn config(rules: &[(&str, &str, &[SocketAddr])]) -> Config {
    let mut config = Config::default();
    for (host, prefix, endpoints) in rules {
        let service = format!("{host}{prefix}").replace(['/', '*', '.'], "-");
        let key = Arc::new(BackendKey {
            namespace: "default".into(),
            service: service.into(),
            port: ServicePort::Number(80),
            policy: BackendPolicy::default(),
        });
        let mut endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| Endpoint { address: *address })
            .collect();
        endpoints.sort_unstable();
        let backend = Backend {
            key: Arc::clone(&key),
            protocol: UpstreamProtocol::Http1,
            endpoints,
            draining: Vec::new(),
        };
        config.backends.insert(Arc::clone(&key), Arc::new(backend));
        let entry = config
            .hosts
            .entry(HostPattern::parse(host).unwrap())
            .or_default();
        let rule = rule(prefix, Target::backend(key));
        let rules = &mut Arc::make_mut(entry).rules;
        rules.push(Arc::new(rule));
        rules.sort_by(|a, b| a.matches.cmp(&b.matches));
    }
    config
}

/// The same configuration with another policy for all its rules.
pub fn with_policy(mut config: Config, change: impl Fn(&mut RoutePolicy)) -> Config {
    let hosts = config.hosts.iter();
    let hosts: Vec<_> = hosts
        .map(|(host, rules)| (host.clone(), Arc::clone(rules)))
        .collect();
    for (host, mut rules) in hosts {
        for rule in &mut Arc::make_mut(&mut rules).rules {
            change(Arc::make_mut(&mut Arc::make_mut(rule).policy));
        }
        config.hosts.insert(host, rules);
    }
    config
}

/// The same configuration with request bodies that are streamed from their first byte.
pub fn streaming(config: Config) -> Config {
    with_policy(config, |policy| {
        policy.request_buffering = RequestBuffering::Off;
    })
}

/// A rule for a prefix.
pub fn rule(prefix: &str, target: Target) -> Rule {
    let ingress = ObjectRef {
        kind: "Ingress",
        namespace: "default".into(),
        name: "test".into(),
    };
    Rule {
        matches: PathPattern::prefix(prefix).into(),
        target,
        policy: Arc::default(),
        origin: RuleOrigin {
            ingress,
            path: prefix.into(),
        },
    }
}

/// A server behind the proxy: one thread a connection, running the test's code.
pub struct Origin {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Hands every connection to `serve`.
    pub fn start(serve: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // A client of HTTP/2 may have more connections made at once than the usual 128.
        socket2::SockRef::from(&listener).listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(Client::of(stream.unwrap())));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers every request with its name and, line by line, the head it got.
    pub fn echo(name: &'static str) -> Self {
        Self::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                connection.read_body(&head);
                let body = format!("{name}\n{}", head.text);
                connection.write(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
        })
    }

    /// Answers every request with the body that came with it.
    pub fn repeating() -> Self {
        Self::start(|mut connection| {
            while let Some(head) = connection.read_head() {
                let body = connection.read_body(&head);
                let length = body.len();
                connection.write(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                ));
                connection.write(std::str::from_utf8(&body).unwrap());
            }
        })
    }

    /// Answers every request with these bytes.
    pub fn fixed(answer: &'static str) -> Self {
        Self::start(move |mut connection| {
            while let Some(head) = connection.read_head() {
                connection.read_body(&head);
                connection.write(answer);
            }
        })
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One end of a connection that speaks HTTP/1.1 as literally as a test likes.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// A request or response head.
pub struct Head {
    pub text: String,
}

/// A response.
pub struct Reply {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// From another address of this host.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::of(socket.into())
    }

    /// This end of a connection.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        // A test that would wait for ever fails instead.
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn get(&mut self, host: &str, path: &str) -> Reply {
        self.write(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.read_reply()
    }

    pub fn write(&mut self, text: &str) {
        // An error means that the other side has gone; what the test then reads says so.
        let _ = self.stream.get_mut().write_all(text.as_bytes());
    }

    /// The next head, or `None` at the end of the connection.
    pub fn read_head(&mut self) -> Option<Head> {
        let mut text = String::new();
        loop {
            match self.stream.read_line(&mut text) {
                Ok(0) | Err(_) => return None,
                Ok(_) if text.ends_with("\r\n\r\n") => return Some(Head { text }),
                Ok(_) => {}
            }
        }
    }

    /// The body that follows a head; of a chunked one the data alone.
    pub fn read_body(&mut self, head: &Head) -> Vec<u8> {
        let mut body = Vec::new();
        if head
            .field("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            while let Some(mut chunk) = self.read_chunk().filter(|chunk| !chunk.is_empty()) {
                body.append(&mut chunk);
            }
        } else if let Some(length) = head.field("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).unwrap();
        }
        body
    }

    /// One chunk, empty for the last; `None` if the connection ends first.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.stream.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    pub fn read_reply(&mut self) -> Reply {
        let head = self.read_head().expect("a response");
        let body = self.read_body(&head);
        Reply {
            status: head.status(),
            head,
            body,
        }
    }

    /// Whether the other side has closed and sent nothing before.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl Head {
    pub fn status(&self) -> u16 {
        self.text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of a field that occurs at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.text, name)
    }
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A field of the request as an echo origin saw it.
    pub fn seen(&self, name: &str) -> Option<&str> {
        field(self.text(), name)
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "`{name}` occurs once");
    value
}

/// How long a test waits before it says that something does not happen.
pub const PATIENCE: Duration = Duration::from_secs(20);
