//! Traefik: one core, routers and services in files that it follows.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Place, Run};
use crate::proxy::scene::{Protocol, Scene, host};
use crate::proxy::stage::Stage;

pub(super) fn command(
    stage: &Stage,
    scene: &Scene,
    place: &Place,
    run: &Run<'_>,
) -> Result<Command> {
    let (chain, key) = stage.certificate(scene.key);
    let dynamic = place.directory.join("dynamic");
    fs::create_dir_all(&dynamic)?;
    let certificate = json!({ "certFile": chain, "keyFile": key });
    let tls = json!({
        "stores": { "default": { "defaultCertificate": certificate } },
        "options": { "default": { "disableSessionTickets": !scene.tickets } },
    });
    let mut routers = Map::new();
    for number in 0..scene.hosts {
        let router = |entry: &str| {
            json!({
                "entryPoints": [entry],
                "rule": format!("Host(`{}`)", host(number)),
                "service": format!("backend{}", scene.backend_of(number)),
            })
        };
        routers.insert(format!("http{number}"), router("http"));
        let mut secure = router("https");
        secure["tls"] = json!({});
        routers.insert(format!("https{number}"), secure);
    }
    // JSON is YAML.
    let followed = json!({ "http": { "routers": routers }, "tls": tls });
    fs::write(dynamic.join("routes.yaml"), followed.to_string())?;
    write_services(scene, place, &scene.backends())?;
    let configuration = json!({
        "entryPoints": {
            "http": { "address": format!(":{}", place.http) },
            "https": { "address": format!(":{}", place.https) },
        },
        "providers": { "providersThrottleDuration": "0s", "file": {
            "directory": dynamic, "watch": true,
        } },
        "log": { "level": "ERROR" },
        "serversTransport": { "maxIdleConnsPerHost": 320 },
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
    });
    let file = place.directory.join("traefik.yaml");
    fs::write(&file, configuration.to_string())?;
    let mut command = run(&stage.program("traefik")?);
    command.env("GOMAXPROCS", "1");
    command.arg(format!("--configFile={}", file.display()));
    Ok(command)
}

/// Writes, or replaces, its services with these endpoints; gives when they were there.
pub(super) fn write_services(
    scene: &Scene,
    place: &Place,
    backends: &[Vec<String>],
) -> Result<u64> {
    let scheme = match scene.protocol {
        Protocol::Http1 => "http",
        Protocol::Grpc => "h2c",
    };
    let mut services = Map::new();
    for (number, addresses) in backends.iter().enumerate() {
        let servers: Vec<Value> = addresses
            .iter()
            .map(|address| json!({ "url": format!("{scheme}://{address}:{}", scene.port()) }))
            .collect();
        let balancer = json!({ "loadBalancer": { "servers": servers } });
        services.insert(format!("backend{number}"), balancer);
    }
    let text = json!({ "http": { "services": services } }).to_string();
    place.replace("dynamic/services.yaml", &text)
}
