//! Links, addresses, routes and rules of one network namespace, by rtnetlink.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink messages have dozens of attributes, and kernels add more"
)]

mod configuration;
mod link;
mod rules;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::NetkitMode;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    Handle, LinkNetkit, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder,
    new_multicast_connection,
};
use thiserror::Error;

pub(super) use self::configuration::{Configuration, Place};
pub(super) use self::link::Link;
use super::netns::Namespace;

/// Why the kernel's network configuration can't be read or changed.
#[derive(Debug, Error)]
#[error("failed to {attempt}")]
pub struct NetlinkError {
    attempt: String,
    source: rtnetlink::Error,
}

impl NetlinkError {
    /// Whether the kernel found the request invalid (`EINVAL`).
    pub(super) fn is_invalid(&self) -> bool {
        match &self.source {
            rtnetlink::Error::NetlinkError(message) => message.raw_code() == -libc::EINVAL,
            _ => false,
        }
    }
}

/// An address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// ifindex.
    pub device: u32,
    /// The address.
    pub ip: IpAddr,
    /// Whether it was added as one of a network, rather than by itself, as virtual addresses are.
    pub has_network: bool,
    /// Whether the kernel lets no new connection leave from it.
    pub is_deprecated: bool,
}

/// Where the host would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through this device (ifindex).
    Device(u32),
    /// To itself.
    Local,
    /// Nowhere.
    None,
}

/// A connection to the kernel, bound to one network namespace for good.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Connects inside `namespace`; the stream yields what the kernel reports about links, addresses,
    /// neighbours, routes and rules.
    ///
    /// Has to be called on a tokio runtime.
    pub fn open(
        namespace: &Namespace,
    ) -> io::Result<(
        Self,
        impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>,
    )> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, messages) = namespace.run(|| {
            let _guard = runtime.enter();
            new_multicast_connection(&[
                MulticastGroup::Link,
                MulticastGroup::Ipv4Ifaddr,
                MulticastGroup::Ipv6Ifaddr,
                MulticastGroup::Ipv4Route,
                MulticastGroup::Ipv6Route,
                MulticastGroup::Ipv4Rule,
                MulticastGroup::Ipv6Rule,
                MulticastGroup::Neigh,
            ])
        })??;
        runtime.spawn(connection);
        Ok((Self { handle }, messages.map(|(message, _)| message)))
    }

    /// All devices.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links = self.handle.link().get().execute();
        links
            .map_ok(Link::from)
            .try_collect()
            .await
            .map_err(failed("list the devices"))
    }

    /// The device of this name.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self
            .links()
            .await?
            .into_iter()
            .find(|link| link.name == name))
    }

    /// Devices (ifindex) that default routes of the main table leave through.
    pub async fn default_route_devices(&self) -> Result<BTreeSet<u32>, NetlinkError> {
        let mut devices = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let mut routes = Box::pin(self.handle.route().get(question).execute());
            let next = "list the routes";
            while let Some(route) = routes.try_next().await.map_err(failed(next))? {
                let header = &route.header;
                if header.destination_prefix_length == 0 && header.kind == RouteType::Unicast {
                    devices.extend(route.attributes.iter().flat_map(output_devices));
                }
            }
        }
        Ok(devices)
    }

    /// Global addresses of all devices.
    pub async fn addresses(&self) -> Result<Vec<DeviceAddress>, NetlinkError> {
        let mut found = Vec::new();
        let mut messages = Box::pin(self.handle.address().get().execute());
        let next = "list the addresses";
        while let Some(message) = messages.try_next().await.map_err(failed(next))? {
            if message.header.scope != AddressScope::Universe {
                continue;
            }
            // `Local` differs from `Address` on point-to-point links; IPv6 has `Address` only.
            let mut address = None;
            for attribute in message.attributes {
                match attribute {
                    AddressAttribute::Local(local) => address = Some(local),
                    AddressAttribute::Address(other) => address = address.or(Some(other)),
                    _ => {}
                }
            }
            let header = message.header;
            found.extend(address.map(|ip| DeviceAddress {
                device: header.index,
                ip,
                has_network: header.prefix_len < if ip.is_ipv4() { 32 } else { 128 },
                is_deprecated: header.flags.contains(AddressHeaderFlags::Deprecated),
            }));
        }
        Ok(found)
    }

    /// Where a packet to `address` would go.
    pub async fn route(&self, address: IpAddr) -> Route {
        let question = match address {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(v4, 32)
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6, 128)
                .build(),
        };
        let mut answers = Box::pin(self.handle.route().get(question).execute());
        // An unreachable address is an error in this protocol.
        let Ok(Some(route)) = answers.try_next().await else {
            return Route::None;
        };
        match route.header.kind {
            RouteType::Local => Route::Local,
            RouteType::Unicast => route
                .attributes
                .iter()
                .flat_map(output_devices)
                .next()
                .map_or(Route::None, Route::Device),
            _ => Route::None,
        }
    }

    /// Makes a veth pair.
    pub async fn add_veth(&self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        let message = LinkVeth::new(name, peer).build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(failed("make the veth pair"))
    }

    /// Makes a netkit pair that carries IP (kernel 6.7+); device `name` is the primary one, to which
    /// programs are attached.
    pub async fn add_netkit(&self, name: &str, peer: &str) -> Result<(), NetlinkError> {
        let message = LinkNetkit::new(name, peer, NetkitMode::L3).build();
        let added = self.handle.link().add(message).execute().await;
        added.map_err(failed("make the netkit pair"))
    }

    /// Renames a device, moving it to another namespace on the way.
    pub async fn move_link(
        &self,
        index: u32,
        name: &str,
        namespace: &Namespace,
    ) -> Result<(), NetlinkError> {
        use std::os::fd::AsRawFd as _;
        let message = LinkUnspec::new_with_index(index)
            .setns_by_fd(namespace.as_raw_fd())
            .name(name)
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed("move the device"))
    }

    /// Sets a device up, with this MTU where one is given.
    pub async fn set_up(&self, index: u32, mtu: Option<u32>) -> Result<(), NetlinkError> {
        let mut message = LinkUnspec::new_with_index(index).up();
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let set = self.handle.link().set(message.build()).execute().await;
        set.map_err(failed("set the device up"))
    }

    /// Deletes a device.
    pub async fn delete_link(&self, index: u32) -> Result<(), NetlinkError> {
        self.handle
            .link()
            .del(index)
            .execute()
            .await
            .map_err(failed("delete the device"))
    }

    /// Adds the default route through `gateway`, which is reached at `mac` on device `index`.
    pub async fn add_default_route(
        &self,
        index: u32,
        gateway: IpAddr,
        mac: &[u8],
    ) -> Result<(), NetlinkError> {
        let neighbour = self
            .handle
            .neighbours()
            .add(index, gateway)
            .link_layer_address(mac);
        neighbour
            .replace()
            .execute()
            .await
            .map_err(failed("add the gateway's neighbour entry"))?;
        let message = match gateway {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(v4)
                .output_interface(index)
                .onlink()
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(v6)
                .output_interface(index)
                .onlink()
                .build(),
        };
        let added = self.handle.route().add(message).replace().execute().await;
        added.map_err(failed("add the default route"))
    }

    /// Addresses that packets are taken for by a local route of user space through `loopback` (ifindex).
    pub async fn local_addresses(&self, loopback: u32) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let mut addresses = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let mut routes = Box::pin(self.handle.route().get(question).execute());
            let next = "list the local routes";
            while let Some(route) = routes.try_next().await.map_err(failed(next))? {
                let header = &route.header;
                let is_through = |attribute| output_devices(attribute).contains(&loopback);
                if header.kind == RouteType::Local
                    && header.protocol != RouteProtocol::Kernel
                    && route.attributes.iter().any(is_through)
                {
                    addresses.extend(route.attributes.iter().find_map(destination));
                }
            }
        }
        Ok(addresses)
    }

    /// Takes packets for an address, which no device needs to have.
    pub async fn add_local(&self, address: IpAddr, loopback: u32) -> Result<(), NetlinkError> {
        let route = local_route(address, loopback);
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(failed("add a local route"))
    }

    /// Takes them no more.
    pub async fn remove_local(&self, address: IpAddr, loopback: u32) -> Result<(), NetlinkError> {
        let route = local_route(address, loopback);
        let removed = self.handle.route().del(route).execute().await;
        removed.map_err(failed("remove a local route"))
    }
}

fn local_route(address: IpAddr, loopback: u32) -> RouteMessage {
    match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, 32)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .output_interface(loopback)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, 128)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .output_interface(loopback)
            .build(),
    }
}

fn destination(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn output_devices(attribute: &RouteAttribute) -> Vec<u32> {
    match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    }
}

fn failed(attempt: &str) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |source| NetlinkError {
        attempt: attempt.to_owned(),
        source,
    }
}

/// `linux/rtnetlink.h`.
const LOCAL_TABLE: u32 = 255;
