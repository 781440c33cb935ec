//! Ingresses that a fuzzer thinks of, translated and compiled: `cargo xtask fuzz translate`.
//!
//! A line is an Ingress, and its fields stand between tabs: host, path, path type, Service, port,
//! and annotations as `key=value`, whose keys are under ingress-nginx's prefix.
//!
//! What must be true of any of them: nothing panics, the order of objects has no say, what is told
//! names a field, and a table that grew from another answers as one that was made at once.
#![no_main]

use std::sync::Arc;

use ingress_core::object::{
    Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, Meta, PathType, ServiceBackend,
};
use ingress_core::route::RouteTable;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, Translator, translate};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = str::from_utf8(bytes) {
        check(text);
    }
});

fn check(text: &str) {
    let lines: Vec<_> = text.lines().take(LINES_MAX).map(fields).collect();
    let ingresses: Vec<_> = (0..)
        .zip(&lines)
        .map(|(n, line)| ingress(n, line))
        .collect();
    let options = Options::default();
    let half = snapshot(&ingresses[..ingresses.len() / 2]);
    let whole = snapshot(&ingresses);
    let reversed: Vec<_> = ingresses.iter().rev().cloned().collect();

    let translation = translate(&whole, &options);
    assert_eq!(translation, translate(&snapshot(&reversed), &options));
    let told = |field: &str| !field.is_empty();
    assert!(translation.diagnostics.iter().all(|one| told(&one.field)));

    let mut translator = Translator::new(options);
    let before = translator.translate(&half);
    assert_eq!(translator.translate(&whole), translation);

    let (before, after) = (&before.config, &translation.config);
    let at_once = RouteTable::compile(&after.hosts, after.default_backend.as_ref(), |_, _| ());
    let grown = RouteTable::compile(&before.hosts, before.default_backend.as_ref(), |_, _| ());
    let changes = after.host_changes(before);
    let grown = grown.with_changes(changes, after.default_backend.as_ref(), |_, _| ());
    for host in lines.iter().map(|line| line[0]) {
        for path in lines.iter().map(|line| line[1]) {
            assert_eq!(at_once.find(host, path), grown.find(host, path));
        }
    }
}

/// The fields of a line, of which those that are named are always there.
fn fields(line: &str) -> Vec<&str> {
    let mut fields: Vec<_> = line.split('\t').collect();
    fields.resize(fields.len().max(NAMED), "");
    fields
}

fn ingress(number: usize, fields: &[&str]) -> Arc<Ingress> {
    let [host, path, path_type, service, port] = fields[..NAMED] else {
        unreachable!("`fields` gives as many");
    };
    let port_number = port.parse().ok();
    let backend = IngressBackend {
        service: Some(ServiceBackend {
            name: service.into(),
            port_name: port_number.is_none().then(|| port.into()),
            port_number,
        }),
        resource: None,
    };
    let path_type = match path_type {
        "Exact" => PathType::Exact,
        "" | "Prefix" => PathType::Prefix,
        "ImplementationSpecific" => PathType::ImplementationSpecific,
        other => PathType::Other(other.into()),
    };
    let annotations = fields[NAMED..].iter().filter_map(|field| {
        let (key, value) = field.split_once('=')?;
        Some((format!("{PREFIX}{key}"), value.to_owned()))
    });
    Arc::new(Ingress {
        meta: Meta {
            namespace: "default".into(),
            name: format!("ingress{number}").into(),
            ..Meta::default()
        },
        annotations: annotations.collect(),
        class: Some("sluice".into()),
        tls: [IngressTls {
            hosts: [host.into()].into(),
            secret_name: Some(service.into()),
        }]
        .into(),
        rules: [IngressRule {
            host: host.into(),
            paths: [IngressPath {
                path: path.into(),
                path_type,
                backend,
            }]
            .into(),
        }]
        .into(),
        ..Ingress::default()
    })
}

fn snapshot(ingresses: &[Arc<Ingress>]) -> Snapshot {
    Snapshot {
        ingresses: ingresses.iter().cloned().collect(),
        ..Snapshot::default()
    }
}

const LINES_MAX: usize = 16;
const NAMED: usize = 5;
const PREFIX: &str = "nginx.ingress.kubernetes.io/";
