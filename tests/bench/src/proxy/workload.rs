//! Workloads: what clients do, and which scene they do it on.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::h2load::{self, Kind};
use super::peer::Subject;
use super::scene::{Backends, Key, Protocol, Scene, host};
use super::stage::Stage;
use super::{rate, websocket};
use crate::wrk::Wrk;
use ingress_tests::load::Reuse;
use ingress_tests::rig::EDGE_V4;

/// Something that clients do, with how it is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) scene: Scene,
    pub(super) load: Load,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// GETs of so many bytes.
    Get(usize, Reuse, Transport),
    /// POSTs of 1 MiB.
    Upload,
    /// A GET of each of many hosts in turn.
    EachHost,
    /// What h2load does.
    H2load(Kind),
    /// GETs at a rate, whether or not the last ones were answered in time.
    Rate,
    /// Messages that come back.
    WebSocket,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    /// How often.
    pub(super) count: u64,
    /// Median microseconds that it took, where the rate is given.
    pub(super) latency: Option<f64>,
}

/// What is below HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Tls,
}

impl Workload {
    /// Does it for `seconds`; gives what was done.
    pub(super) fn run(&self, stage: &Stage, subject: &Subject, seconds: u32) -> Result<Done> {
        let client = &stage.rig.client;
        let place = subject.place();
        let name = host(0);
        let count = match self.load {
            Load::Get(bytes, reuse, Transport::Tcp) => {
                let url = format!("http://{EDGE_V4}:{}/bytes/{bytes}", place.http);
                Wrk::new(&url, &name, reuse).run(client, seconds)
            }
            Load::Get(bytes, reuse, Transport::Tls) => {
                let url = format!("https://{name}:{}/bytes/{bytes}", place.https);
                let (names, openssl) = (stage.names(), stage.rig.path(OPENSSL));
                let mut wrk = Wrk::new(&url, &name, reuse).with_names(&names);
                if self.scene.tickets {
                    // wrk resumes sessions of TLS 1.2 only.
                    fs::write(stage.rig.path(OPENSSL), TLS_12)?;
                    wrk = wrk.with_openssl(&openssl);
                }
                wrk.run(client, seconds)
            }
            Load::Upload => scripted(stage, subject, UPLOAD, seconds),
            Load::EachHost => scripted(stage, subject, &each_host(self.scene.hosts), seconds),
            Load::H2load(kind) => {
                let (port, path) = match kind {
                    Kind::Http2 => (place.h2c, "bytes/1024"),
                    Kind::Grpc => (place.h2c, "bench.Echo/Call"),
                };
                let address = SocketAddr::new(EDGE_V4.parse()?, port);
                let files = &place.directory;
                h2load::run(client, kind, (address, path), &name, files, seconds)
            }
            Load::Rate => {
                let outcome = rate::run(client, (EDGE_V4, place.http), &name, seconds)?;
                return Ok(Done {
                    count: outcome.answered,
                    latency: Some(outcome.latency),
                });
            }
            Load::WebSocket => websocket::run(client, (EDGE_V4, place.http), &name, seconds),
        }?;
        Ok(Done {
            count,
            latency: None,
        })
    }
}

fn scripted(stage: &Stage, subject: &Subject, script: &str, seconds: u32) -> Result<u64> {
    let place = subject.place();
    let file: PathBuf = place.directory.join("load.lua");
    fs::write(&file, script)?;
    let url = format!("http://{EDGE_V4}:{}/", place.http);
    let name = host(0);
    let wrk = Wrk::new(&url, &name, Reuse::KeepAlive);
    wrk.with_script(&file).run(&stage.rig.client, seconds)
}

/// A script that asks at most [`HOSTS_ASKED`] of so many hosts in turn, spread over all. However many
/// hosts there are, it has as many requests: what they take of the cache is no difference.
pub(super) fn each_host(hosts: usize) -> String {
    let asked = hosts.min(HOSTS_ASKED);
    format!(
        "local requests = {{}}\n\
         local next = 0\n\
         function init(args)\n\
           for i = 0, {HOSTS_ASKED} - 1 do\n\
             local host = 'h' .. math.floor(i % {asked} * {hosts} / {asked}) .. '.bench.test'\n\
             requests[i] = wrk.format('GET', '/bytes/1024?' .. i, {{ Host = host }})\n\
           end\n\
         end\n\
         function request()\n\
           next = (next + 1) % {HOSTS_ASKED}\n\
           return requests[next]\n\
         end\n"
    )
}

const UPLOAD: &str = "\
wrk.method = 'POST'
wrk.body = string.rep('x', 1048576)
";

/// Name of a file for OpenSSL.
const OPENSSL: &str = "openssl.cnf";

const TLS_12: &str = "\
openssl_conf = main
[main]
ssl_conf = ssl
[ssl]
system_default = versions
[versions]
MaxProtocol = TLSv1.2
";

/// As many as have traffic at one time.
const HOSTS_ASKED: usize = 1_000;

const fn get(name: &'static str, bytes: usize, reuse: Reuse, transport: Transport) -> Workload {
    Workload {
        name,
        scene: Scene::PLAIN,
        load: Load::Get(bytes, reuse, transport),
    }
}

const fn plain(name: &'static str, load: Load) -> Workload {
    Workload {
        name,
        scene: Scene::PLAIN,
        load,
    }
}

const fn endpoints(name: &'static str, endpoints: usize) -> Workload {
    let scene = Scene {
        backends: Backends::Shared { endpoints },
        ..Scene::PLAIN
    };
    Workload {
        scene,
        ..get(name, 1024, Reuse::KeepAlive, Transport::Tcp)
    }
}

const fn handshake(name: &'static str, key: Key, tickets: bool) -> Workload {
    let scene = Scene {
        key,
        tickets,
        ..Scene::PLAIN
    };
    Workload {
        scene,
        ..get(name, 1024, Reuse::NewConnection, Transport::Tls)
    }
}

pub(super) const KEPT_ALIVE: &str = "1 KiB kept alive";
pub(super) const NEW_CONNECTION: &str = "new connection a request";
pub(super) const MEDIUM: &str = "64 KiB answers";
pub(super) const LARGE: &str = "1 MiB answers";
pub(super) const HTTP2: &str = "HTTP/2, 16 x 16 streams";
pub(super) const TLS: &str = "TLS kept alive";
pub(super) const P256: &str = "full handshake P-256";
pub(super) const RSA: &str = "full handshake RSA-2048";
pub(super) const RATE: &str = "5,000 requests/s";
pub(super) const ROUTES: &str = "routes";
pub(super) const SEEN: &str = "metrics and access log";
pub(super) const ANNOTATIONS: &str = "annotations";
pub(super) const CHANGES: &str = "route changes under load";
pub(super) const MANY_HOSTS: &str = "10,000 hosts with endpoints of their own";

/// All of them; those of one scene stand together.
pub(super) const WORKLOADS: [Workload; 18] = [
    get(KEPT_ALIVE, 1024, Reuse::KeepAlive, Transport::Tcp),
    get(NEW_CONNECTION, 1024, Reuse::NewConnection, Transport::Tcp),
    get(MEDIUM, 64 << 10, Reuse::KeepAlive, Transport::Tcp),
    get(LARGE, 1 << 20, Reuse::KeepAlive, Transport::Tcp),
    plain("1 MiB uploads", Load::Upload),
    plain(HTTP2, Load::H2load(Kind::Http2)),
    get(TLS, 1024, Reuse::KeepAlive, Transport::Tls),
    handshake(P256, Key::P256, false),
    plain("WebSocket echo", Load::WebSocket),
    plain(RATE, Load::Rate),
    handshake("resumed session, TLS 1.2", Key::P256, true),
    handshake(RSA, Key::Rsa2048, false),
    Workload {
        scene: Scene {
            protocol: Protocol::Grpc,
            ..Scene::PLAIN
        },
        ..plain("gRPC unary, 16 x 16 streams", Load::H2load(Kind::Grpc))
    },
    endpoints("1 endpoint", 1),
    endpoints("35 endpoints", 35),
    endpoints("1,000 endpoints", 1_000),
    Workload {
        scene: Scene {
            hosts: 1_000,
            ..Scene::PLAIN
        },
        ..plain("1,000 routes", Load::EachHost)
    },
    Workload {
        scene: Scene {
            hosts: 10_000,
            backends: Backends::Own,
            ..Scene::PLAIN
        },
        ..plain(MANY_HOSTS, Load::EachHost)
    },
];
