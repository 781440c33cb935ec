//! `HAProxy`: one thread, connections to endpoints shared by all clients, hosts in a map.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Place, Run};
use crate::proxy::scene::{Protocol, Scene, host};
use crate::proxy::stage::Stage;
use ingress_tests::clock;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    let mut hosts = String::new();
    for number in 0..scene.hosts {
        let _ = writeln!(
            hosts,
            "{} backend{}",
            host(number),
            scene.backend_of(number)
        );
    }
    let map = place.directory.join("hosts.map");
    fs::write(&map, hosts)?;
    let tickets = if scene.tickets { "" } else { " no-tls-tickets" };
    let cache = if scene.tickets { 20_000 } else { 0 };
    let pem = stage.rig.path(&format!("{}.pem", scene.key.name()));
    let mut text = format!(
        "global\n\
         nbthread 1\nmaxconn 8000\ntune.bufsize 65536\n\
         stats socket {}/admin.sock level admin\n\
         tune.ssl.cachesize {cache}\n\
         ssl-default-bind-options ssl-min-ver TLSv1.2{tickets}\n\
         defaults\n\
         mode http\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\n\
         timeout tunnel 1h\nhttp-reuse always\nno log\n\
         frontend main\n\
         bind :{} backlog 4096\nbind :{} backlog 4096 proto h2\n\
         bind :{} backlog 4096 ssl crt {} alpn h2,http/1.1\n\
         {FIELDS}\
         use_backend %[req.hdr(host),field(1,:),lower,map({})]\n",
        place.directory.display(),
        place.http,
        place.h2c,
        place.https,
        pem.display(),
        map.display(),
    );
    let protocol = match scene.protocol {
        Protocol::Http1 => "",
        Protocol::Grpc => " proto h2",
    };
    for (number, addresses) in scene.backends().iter().enumerate() {
        let _ = writeln!(text, "backend backend{number}\nbalance leastconn");
        for (endpoint, address) in addresses.iter().enumerate() {
            let port = scene.port();
            let _ = writeln!(text, "server endpoint{endpoint} {address}:{port}{protocol}");
        }
    }
    fs::write(place.directory.join("haproxy.cfg"), text)?;
    let mut command = run("haproxy");
    command
        .arg("-db")
        .arg("-f")
        .arg(place.directory.join("haproxy.cfg"));
    Ok(command)
}

/// Gives a backend another endpoint by the runtime API; gives when it was told to.
pub(super) fn set_endpoint(
    place: &Place,
    scene: &Scene,
    backend: usize,
    address: &str,
) -> Result<u64> {
    let at = clock::now();
    let mut socket = UnixStream::connect(place.directory.join("admin.sock"))?;
    let port = scene.port();
    writeln!(
        socket,
        "set server backend{backend}/endpoint0 addr {address} port {port}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    ensure!(answer.contains("changed"), "answered `{answer}`");
    Ok(at)
}

const FIELDS: &str = "\
http-request set-header X-Request-ID %[uuid]
http-request set-header X-Real-IP %[src]
http-request set-header X-Forwarded-For %[src]
http-request set-header X-Forwarded-Host %[req.hdr(host)]
http-request set-header X-Forwarded-Port %[dst_port]
http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
http-request set-header X-Forwarded-Proto https if { ssl_fc }
http-request set-header X-Forwarded-Scheme http if !{ ssl_fc }
http-request set-header X-Forwarded-Scheme https if { ssl_fc }
http-request set-header X-Scheme http if !{ ssl_fc }
http-request set-header X-Scheme https if { ssl_fc }
";
