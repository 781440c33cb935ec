//! nginx: one worker, kept-alive upstreams, buffers that hold most answers.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::{Place, Run};
use crate::proxy::scene::{Protocol, Scene, host};
use crate::proxy::stage::Stage;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    write_configuration(stage, scene, place, &scene.backends())?;
    let mut command = run("nginx");
    command.arg("-p").arg(&place.directory);
    command.args(["-c", "nginx.conf", "-g", "daemon off;"]);
    Ok(command)
}

/// Writes, or replaces, its configuration with these endpoints of backends.
pub(super) fn write_configuration(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    backends: &[Vec<String>],
) -> Result<()> {
    let mut text = HEAD.to_owned();
    for (field, value) in FIELDS {
        let _ = writeln!(text, "proxy_set_header {field} {value};");
        let _ = writeln!(text, "grpc_set_header {field} {value};");
    }
    let endpoints: usize = backends.iter().map(Vec::len).sum();
    // Memory is taken for each of them at start.
    let idle = (IDLE_CONNECTIONS_MAX / endpoints)
        .clamp(16, 320)
        .max(2 * backends[0].len());
    for (number, addresses) in backends.iter().enumerate() {
        let _ = writeln!(text, "upstream backend{number} {{");
        for address in addresses {
            let _ = writeln!(text, "server {address}:{};", scene.port());
        }
        let _ = writeln!(text, "keepalive {idle}; keepalive_requests 1000000000; }}");
    }
    let (chain, key) = stage.certificate(scene.key);
    let switch = if scene.tickets { "on" } else { "off" };
    let _ = write!(
        text,
        "ssl_certificate {}; ssl_certificate_key {};\n\
         ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets {switch}; ssl_session_cache off;\n\
         ssl_buffer_size 16k;\n",
        chain.display(),
        key.display(),
    );
    // Who asks for an unknown host must not be served by the first one.
    let _ = writeln!(
        text,
        "server {{ {} return 404; }}",
        listen(place, LISTENING)
    );
    for number in 0..scene.hosts {
        let backend = scene.backend_of(number);
        let pass = match scene.protocol {
            Protocol::Http1 => format!("proxy_pass http://backend{backend};"),
            Protocol::Grpc => format!("grpc_pass grpc://backend{backend};"),
        };
        let _ = writeln!(
            text,
            "server {{ {} server_name {}; location / {{ {pass} }} }}",
            listen(place, ""),
            host(number),
        );
    }
    text.push_str("}\n");
    place.replace("nginx.conf", &text)?;
    Ok(())
}

fn listen(place: &Place, options: &str) -> String {
    let (http, https, h2c) = (place.http, place.https, place.h2c);
    format!("listen {http}{options}; listen {https} ssl{options}; listen {h2c} http2{options};")
}

const LISTENING: &str = " default_server reuseport backlog=4096";
const IDLE_CONNECTIONS_MAX: usize = 16_000;

const HEAD: &str = "\
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log stderr error;
events { worker_connections 16000; }
http {
access_log off;
tcp_nodelay on;
keepalive_timeout 75s;
keepalive_requests 1000000000;
client_max_body_size 0;
client_body_buffer_size 64k;
server_names_hash_max_size 262144;
server_names_hash_bucket_size 128;
map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
proxy_http_version 1.1;
proxy_buffer_size 16k;
proxy_buffers 16 32k;
proxy_busy_buffers_size 128k;
proxy_max_temp_file_size 0;
proxy_request_buffering off;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
";

/// Those of ingress-nginx's template.
const FIELDS: [(&str, &str); 9] = [
    ("Host", "$http_host"),
    ("X-Request-ID", "$request_id"),
    ("X-Real-IP", "$remote_addr"),
    ("X-Forwarded-For", "$remote_addr"),
    ("X-Forwarded-Host", "$http_host"),
    ("X-Forwarded-Port", "$server_port"),
    ("X-Forwarded-Proto", "$scheme"),
    ("X-Forwarded-Scheme", "$scheme"),
    ("X-Scheme", "$scheme"),
];
