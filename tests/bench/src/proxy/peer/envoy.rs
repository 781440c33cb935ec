//! Envoy: one worker, strict routing by virtual hosts, clusters in a file that it follows.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Place, Run};
use crate::proxy::scene::{Protocol, Scene, host};
use crate::proxy::stage::Stage;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    let clusters = place.directory.join("clusters.json");
    write_clusters(scene, place, &scene.backends())?;
    let (chain, key) = stage.certificate(scene.key);
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TLS}.DownstreamTlsContext"),
            "disable_stateless_session_resumption": !scene.tickets,
            "disable_stateful_session_resumption": true,
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": { "filename": chain },
                    "private_key": { "filename": key },
                }],
            },
        },
    });
    let hosts: Vec<Value> = (0..scene.hosts)
        .map(|number| virtual_host(scene, number))
        .collect();
    let listener = |name: &str, port: u16, socket: Option<&Value>| {
        let mut chain = json!({ "filters": [filter(&hosts)] });
        if let Some(socket) = socket {
            chain["transport_socket"] = socket.clone();
        }
        json!({
            "name": name,
            "address": { "socket_address": { "address": "0.0.0.0", "port_value": port } },
            "filter_chains": [chain],
        })
    };
    let configuration = json!({
        "node": { "id": "peer", "cluster": "peer" },
        "static_resources": { "listeners": [
            listener("http", place.http, None),
            listener("https", place.https, Some(&tls)),
        ] },
        "dynamic_resources": { "cds_config": {
            "path_config_source": { "path": clusters },
            "resource_api_version": "V3",
        } },
    });
    let file = place.directory.join("envoy.json");
    fs::write(&file, configuration.to_string())?;
    let mut command = run(&stage.program("envoy")?);
    command.args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "warn",
    ]);
    command.arg("--config-path").arg(file);
    Ok(command)
}

/// Writes, or replaces, its clusters with these endpoints; gives when they were there.
pub(super) fn write_clusters(
    scene: &Scene,
    place: &Place,
    backends: &[Vec<String>],
) -> Result<u64> {
    let clusters: Vec<Value> = (0..)
        .zip(backends)
        .map(|(number, addresses)| cluster(scene, number, addresses))
        .collect();
    let text = json!({ "version_info": "0", "resources": clusters }).to_string();
    place.replace("clusters.json", &text)
}

fn cluster(scene: &Scene, number: usize, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| {
            let socket = json!({ "address": address, "port_value": scene.port() });
            json!({ "endpoint": { "address": { "socket_address": socket } } })
        })
        .collect();
    let name = format!("backend{number}");
    let protocol = match scene.protocol {
        Protocol::Http1 => json!({ "http_protocol_options": {} }),
        Protocol::Grpc => json!({ "http2_protocol_options": {} }),
    };
    let options = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": protocol,
    });
    json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 16_000, "max_requests": 16_000, "max_pending_requests": 16_000,
        }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
        },
        "load_assignment": {
            "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }],
        },
    })
}

fn filter(hosts: &[Value]) -> Value {
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{MANAGER}.HttpConnectionManager"),
            "stat_prefix": "main",
            "codec_type": "AUTO",
            "strip_any_host_port": true,
            "use_remote_address": true,
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                },
            }],
            "route_config": {
                "validate_clusters": false,
                "virtual_hosts": hosts,
                "request_headers_to_add": FIELDS.map(|(key, value)| json!({
                    "header": { "key": key, "value": value },
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                })),
            },
        },
    })
}

fn virtual_host(scene: &Scene, number: usize) -> Value {
    json!({
        "name": host(number),
        "domains": [host(number)],
        "routes": [{
            "match": { "prefix": "/" },
            "route": {
                "cluster": format!("backend{}", scene.backend_of(number)), "timeout": "60s",
            },
        }],
    })
}

/// Those of ingress-nginx's template that Envoy does not set by itself.
const FIELDS: [(&str, &str); 5] = [
    ("X-Real-IP", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
    ("X-Forwarded-Host", "%REQ(:AUTHORITY)%"),
    ("X-Forwarded-Port", "%DOWNSTREAM_LOCAL_PORT%"),
    ("X-Forwarded-Scheme", "%REQ(:SCHEME)%"),
    ("X-Scheme", "%REQ(:SCHEME)%"),
];

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3";
