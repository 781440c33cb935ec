//! The gate: the pair of devices between the host and the ingress netns, and what makes the far side a
//! place that every answer leaves through the gate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::debug;

use super::attach::TcMode;
use super::netlink::{Link, Netlink, NetlinkError};
use super::netns::Namespace;
use super::settings::Settings;
use super::sysctl;

/// Why there is no gate.
#[derive(Debug, Error)]
pub enum GateError {
    /// The kernel refused a change to links, routes or rules.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A namespace can't be entered or netlink can't be reached.
    #[error("failed to work inside the ingress network namespace")]
    Namespace(#[source] io::Error),
    /// A sysctl can't be written: usually `/proc/sys` is read-only in this container.
    #[error("failed to set `{key}` (is /proc/sys mounted read-only, and mounting not allowed?)")]
    Sysctl {
        /// Path below `/proc/sys/net`.
        key: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A device vanished while it was set up.
    #[error("device `{0}` does not exist")]
    NoDevice(String),
    /// The kernel does not say where a device leads to.
    #[error("device `{0}` leads to no other network namespace")]
    NoNetns(String),
}

/// First and last local port of upstream connections made in the ingress netns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub min: u16,
    /// Last port, inclusive.
    pub max: u16,
}

/// Makes the gate or adopts the one that is there; gives its host side. It is a netkit pair where the
/// settings say so and the kernel has that, else a veth pair.
pub(super) async fn open(
    settings: &Settings,
    mtu: u32,
    host: &Netlink,
    ingress: &Namespace,
) -> Result<Link, GateError> {
    let (name, ports) = (&*settings.gate, settings.upstream_ports);
    let (inside, _) = Netlink::open(ingress).map_err(GateError::Namespace)?;
    let may_be_netkit = settings.tc == TcMode::Netkit;
    let there = host.link(name).await?;
    let is_fitting = there.is_some_and(|link| may_be_netkit || !link.is_netkit);
    let adopted = is_fitting && inside.link(INSIDE).await?.is_some();
    if !adopted {
        make(name, may_be_netkit, host, &inside, ingress).await?;
    }
    let outer = find(host, name).await?;
    host.set_up(outer.index, Some(mtu)).await?;
    host_sysctls(name)?;
    ingress
        .run(|| ingress_sysctls(ports))
        .map_err(GateError::Namespace)??;
    let inner = find(&inside, INSIDE).await?;
    let loopback = find(&inside, LOOPBACK).await?;
    inside.set_up(loopback.index, None).await?;
    inside.set_up(inner.index, Some(mtu)).await?;
    for gateway in [GATEWAY_V4, GATEWAY_V6] {
        inside
            .add_default_route(inner.index, gateway, &outer.mac)
            .await?;
    }
    debug!(gate = name, adopted, "the gate is open");
    Ok(outer)
}

/// Gives both sides another MTU: what the ingress netns sends has to fit the uplinks.
pub(super) async fn set_mtu(
    name: &str,
    mtu: u32,
    host: &Netlink,
    inside: &Netlink,
) -> Result<(), GateError> {
    let outer = find(host, name).await?;
    let inner = find(inside, INSIDE).await?;
    host.set_up(outer.index, Some(mtu)).await?;
    inside.set_up(inner.index, Some(mtu)).await?;
    Ok(())
}

/// Removes the gate, both sides.
pub(super) async fn close(name: &str, host: &Netlink) -> Result<(), GateError> {
    if let Some(link) = host.link(name).await? {
        host.delete_link(link.index).await?;
    }
    Ok(())
}

async fn make(
    name: &str,
    may_be_netkit: bool,
    host: &Netlink,
    inside: &Netlink,
    ingress: &Namespace,
) -> Result<(), GateError> {
    // Half of a pair is of no use: deleting one side takes the other.
    close(name, host).await?;
    if let Some(link) = inside.link(INSIDE).await? {
        inside.delete_link(link.index).await?;
    }
    let peer = format!("{name}p");
    let is_netkit = may_be_netkit
        && (host.add_netkit(name, &peer).await)
            .inspect_err(|error| debug!(%error, "no netkit here, trying veth"))
            .is_ok();
    if !is_netkit {
        host.add_veth(name, &peer).await?;
    }
    let moving = find(host, &peer).await?;
    host.move_link(moving.index, INSIDE, ingress).await?;
    Ok(())
}

/// Id of the namespace that the gate leads into, as seen from the host's.
pub(super) async fn ingress_netns(name: &str, netlink: &Netlink) -> Result<u32, GateError> {
    let gate = find(netlink, name).await?;
    gate.peer_netns
        .ok_or_else(|| GateError::NoNetns(name.to_owned()))
}

pub(super) async fn find(netlink: &Netlink, name: &str) -> Result<Link, GateError> {
    netlink
        .link(name)
        .await?
        .ok_or_else(|| GateError::NoDevice(name.to_owned()))
}

/// What the routing lookup of return_path asks of the device, and what the host needs to take
/// packets that carry its own addresses as source.
fn host_sysctls(name: &str) -> Result<(), GateError> {
    set(&format!("ipv4/conf/{name}/forwarding"), "1")?;
    set(&format!("ipv4/conf/{name}/accept_local"), "1")?;
    set(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
    if has_ipv6() {
        set(&format!("ipv6/conf/{name}/forwarding"), "1")?;
        set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    }
    Ok(())
}

fn ingress_sysctls(ports: PortRange) -> Result<(), GateError> {
    set("core/somaxconn", "65535")?;
    set("ipv4/tcp_max_syn_backlog", "65535")?;
    set("ipv4/tcp_syncookies", "1")?;
    set("ipv4/tcp_timestamps", "1")?;
    set(
        "ipv4/ip_local_port_range",
        &format!("{} {}", ports.min, ports.max),
    )?;
    for device in ["all", "default", INSIDE] {
        set(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
    }
    // Local routes have the kernel look up the source of each packet without a socket otherwise
    // (`fib_has_custom_local_routes`).
    set(&format!("ipv4/conf/{INSIDE}/accept_local"), "1")?;
    if has_ipv6() {
        set(&format!("ipv6/conf/{INSIDE}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{INSIDE}/accept_ra"), "0")?;
    }
    Ok(())
}

pub(super) fn has_ipv6() -> bool {
    fs::exists("/proc/sys/net/ipv6/conf/all").unwrap_or(false)
}

fn set(key: &str, value: &str) -> Result<(), GateError> {
    sysctl::set(key, value).map_err(|source| GateError::Sysctl {
        key: key.to_owned(),
        source,
    })
}

pub(super) const INSIDE: &str = "eth0";
pub(super) const LOOPBACK: &str = "lo";
/// Next hops that nobody else sees: link-local, and resolved by permanent neighbour entries.
const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 77, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
