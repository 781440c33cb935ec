//! A minimal Pingora proxy: hosts by a hash map, round robin, the fields of ingress-nginx.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use pingora::apps::HttpServerOptions;
use pingora::lb::LoadBalancer;
use pingora::lb::selection::RoundRobin;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

#[derive(Parser)]
struct CommandLine {
    /// Port for HTTP/1.1 and HTTP/2 in cleartext.
    #[arg(long)]
    http: u16,
    /// Port for TLS.
    #[arg(long)]
    https: u16,
    /// Chain and key of the certificate.
    #[arg(long, num_args = 2)]
    certificate: Vec<String>,
    /// File with a line for each host: its name and the number of its backend.
    #[arg(long)]
    hosts: PathBuf,
    /// File with a line for each backend: the addresses of its endpoints.
    #[arg(long)]
    backends: PathBuf,
    /// Whether endpoints speak HTTP/2 in cleartext.
    #[arg(long)]
    grpc: bool,
}

struct Routes {
    hosts: HashMap<String, Arc<LoadBalancer<RoundRobin>>>,
    grpc: bool,
}

fn main() {
    let flags = CommandLine::parse();
    let routes = Routes {
        hosts: read_hosts(&flags.hosts, &flags.backends),
        grpc: flags.grpc,
    };
    let configuration = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 16_000,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, routes);
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    if let Some(logic) = service.app_logic_mut() {
        logic.server_options = Some(options);
    }
    service.add_tcp(&format!("0.0.0.0:{}", flags.http));
    let mut tls = TlsSettings::intermediate(&flags.certificate[0], &flags.certificate[1])
        .expect("the certificate is good");
    tls.enable_h2();
    service.add_tls_with_settings(&format!("0.0.0.0:{}", flags.https), None, tls);
    server.add_service(service);
    server.run_forever();
}

fn read_hosts(hosts: &Path, backends: &Path) -> HashMap<String, Arc<LoadBalancer<RoundRobin>>> {
    let backends = fs::read_to_string(backends).expect("the backends can be read");
    let backends: Vec<_> = backends
        .lines()
        .map(|line| LoadBalancer::try_from_iter(line.split(' ')).expect("addresses are good"))
        .map(Arc::new)
        .collect();
    let hosts = fs::read_to_string(hosts).expect("the hosts can be read");
    hosts
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(host, number)| {
            let number: usize = number.parse().expect("a backend has a number");
            (host.to_owned(), Arc::clone(&backends[number]))
        })
        .collect()
}

/// The host that a request is for.
fn host_of(request: &RequestHeader) -> &str {
    let field = request.headers.get(http::header::HOST);
    let field = field.and_then(|value| value.to_str().ok());
    let host = request.uri.host().or(field).unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

#[async_trait]
impl ProxyHttp for Routes {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let backend = self.hosts.get(host_of(session.req_header()));
        let endpoint = backend.and_then(|backend| backend.select(b"", 16));
        let endpoint = endpoint.ok_or_else(|| Error::new(ErrorType::HTTPStatus(404)))?;
        let mut peer = HttpPeer::new(endpoint, false, String::new());
        if self.grpc {
            peer.options.set_http_version(2, 2);
        }
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        let address = session.client_addr().and_then(|address| address.as_inet());
        let address = address.map(|address| address.ip().to_string()).unwrap_or_default();
        let host = host_of(session.req_header()).to_owned();
        let local = session.server_addr().and_then(|address| address.as_inet());
        let port = local.map(|address| address.port().to_string()).unwrap_or_default();
        let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let scheme = if is_tls { "https" } else { "http" };
        // The client's connection is no concern of the endpoint's.
        if request.headers.get("upgrade").is_none() {
            request.remove_header("connection");
        }
        let id = format!("{:032x}", rand::random::<u128>());
        request.insert_header("x-request-id", id)?;
        request.insert_header("x-real-ip", &address)?;
        request.insert_header("x-forwarded-for", &address)?;
        request.insert_header("x-forwarded-host", &host)?;
        request.insert_header("x-forwarded-port", &port)?;
        request.insert_header("x-forwarded-proto", scheme)?;
        request.insert_header("x-forwarded-scheme", scheme)?;
        request.insert_header("x-scheme", scheme)?;
        Ok(())
    }
}
