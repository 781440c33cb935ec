//! Ports of TCP and UDP services: those that the operator gave by flags, then those of ConfigMaps.
//!
//! ingress-nginx's `--tcp-services-configmap`: each key of `data` is a port, its value the service. An
//! entry that can't be served affects itself only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use super::conflict::{BackendUse, Place};
use super::{Options, name, namespace};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{ObjectRef, TcpService, UdpService};
use crate::snapshot::Snapshot;

/// The services of all ports.
pub(super) struct Services<'a> {
    tcp: ByPort<'a, TcpService>,
    udp: ByPort<'a, UdpService>,
}

/// Services by their ports.
type ByPort<'a, S> = BTreeMap<u16, Named<'a, S>>;

/// A service, and the ConfigMap that names it if no flag does.
struct Named<'a, S> {
    service: S,
    config_map: Option<&'a ObjectRef>,
}

impl<'a> Services<'a> {
    /// Those of flags and ConfigMaps.
    pub(super) fn read(
        snapshot: &Snapshot,
        options: &'a Options,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let none = BTreeSet::new();
        let mut tcp = by_flags(&options.tcp_services);
        if let Some(config_map) = &options.tcp_services_from {
            let reserved = &options.reserved_ports;
            add_entries(&mut tcp, config_map, reserved, snapshot, diagnostics);
        }
        let mut udp = by_flags(&options.udp_services);
        if let Some(config_map) = &options.udp_services_from {
            add_entries(&mut udp, config_map, &none, snapshot, diagnostics);
        }
        Self { tcp, udp }
    }

    /// The backends that they name.
    pub(super) fn uses(&self) -> impl Iterator<Item = BackendUse<'_>> {
        let place = |port: &u16, config_map: Option<&'a ObjectRef>| {
            config_map.map_or(Place::Operator, |object| Place::Entry(object, *port))
        };
        let tcp = self.tcp.iter().map(move |(port, named)| BackendUse {
            key: &named.service.backend,
            place: place(port, named.config_map),
        });
        let udp = self.udp.iter().map(move |(port, named)| BackendUse {
            key: &named.service.backend,
            place: place(port, named.config_map),
        });
        tcp.chain(udp)
    }

    /// The services alone.
    pub(super) fn into_parts(self) -> (BTreeMap<u16, TcpService>, BTreeMap<u16, UdpService>) {
        fn services<S>(by_port: ByPort<'_, S>) -> BTreeMap<u16, S> {
            let ports = by_port.into_iter();
            ports.map(|(port, named)| (port, named.service)).collect()
        }
        (services(self.tcp), services(self.udp))
    }
}

fn by_flags<'a, S: Clone>(services: &BTreeMap<u16, S>) -> ByPort<'a, S> {
    let named = |(port, service): (&u16, &S)| {
        let named = Named {
            service: service.clone(),
            config_map: None,
        };
        (*port, named)
    };
    services.iter().map(named).collect()
}

fn add_entries<'a, S>(
    services: &mut ByPort<'a, S>,
    config_map: &'a ObjectRef,
    reserved: &BTreeSet<u16>,
    snapshot: &Snapshot,
    diagnostics: &mut Vec<Diagnostic>,
) where
    S: FromStr<Err: Display>,
{
    let mut report = |field, reason, message| {
        diagnostics.push(Diagnostic {
            object: config_map.clone(),
            field,
            reason,
            message,
        });
    };
    let object = snapshot.config_maps.iter().find(|object| {
        namespace(&object.metadata) == &*config_map.namespace
            && name(&object.metadata) == &*config_map.name
    });
    let Some(object) = object else {
        let message = format!("{config_map} does not exist; it gives no ports");
        return report("data".to_owned(), Reason::ConfigMapNotFound, message);
    };
    for (key, value) in object.data.iter().flatten() {
        match entry(key, value, services, reserved) {
            Ok((port, service)) => {
                let config_map = Some(config_map);
                let named = Named {
                    service,
                    config_map,
                };
                services.insert(port, named);
            }
            Err((reason, message)) => {
                report(
                    format!("data[{key}]"),
                    reason,
                    format!("{message}; not served"),
                );
            }
        }
    }
}

/// Reads one entry, or says why it can't be served beside these services.
fn entry<S>(
    key: &str,
    value: &str,
    services: &ByPort<'_, S>,
    reserved: &BTreeSet<u16>,
) -> Result<(u16, S), (Reason, String)>
where
    S: FromStr<Err: Display>,
{
    let is_number = key.bytes().all(|byte| byte.is_ascii_digit());
    let port = key.parse().ok().filter(|port| is_number && *port != 0);
    let port = port.ok_or_else(|| {
        let message = format!("`{key}` is no port from 1 to 65535");
        (Reason::InvalidPort, message)
    })?;
    let taken = |by: &str| {
        let message = format!("port {port} already belongs to {by}");
        Err((Reason::PortConflict, message))
    };
    if reserved.contains(&port) {
        return taken("this ingress itself");
    }
    match services.get(&port) {
        Some(other) if other.config_map.is_some() => return taken("another entry"),
        Some(_) => return taken("a service that a flag names"),
        None => {}
    }
    match value.trim().parse() {
        Ok(service) => Ok((port, service)),
        Err(error) => Err((Reason::InvalidBackend, format!("`{value}`: {error}"))),
    }
}
