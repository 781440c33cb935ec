//! The addresses and routes of one device, as the kernel reports them: what a device loses when it moves to
//! another network namespace, and what it gets back there.
//!
//! They are kept as netlink messages, as `ip route save` does, so that no attribute is lost.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload, Parseable,
};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LOCAL_TABLE, Netlink, NetlinkError, failed, output_devices};

/// Addresses and routes of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::datapath) struct Configuration {
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
}

/// Where a configuration is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) enum Place {
    /// Each route in the table that it is recorded from; the kernel adds the routes of networks.
    AsRecorded,
    /// All routes, also those of the networks of addresses, in this table.
    Table(u32),
}

impl Configuration {
    /// Addresses that other hosts may know the device by.
    pub(in crate::datapath) fn global_addresses(&self) -> BTreeSet<IpAddr> {
        let global = self.addresses.iter().filter(|address| is_global(address));
        global.filter_map(own_address).collect()
    }

    /// Whether hosts beyond the networks of the device can be reached through it, over IPv4 and over IPv6.
    pub(in crate::datapath) fn has_default_routes(&self) -> [bool; 2] {
        [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
            self.routes.iter().any(|route| {
                route.header.address_family == family && route.header.destination_prefix_length == 0
            })
        })
    }

    /// The messages, in their wire format: addresses, then routes.
    pub(in crate::datapath) fn to_bytes(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let addresses = self.addresses.iter().map(emit).collect();
        (addresses, self.routes.iter().map(emit).collect())
    }

    /// Reads what [`Configuration::to_bytes`] gave; `None` if a message can't be read.
    pub(in crate::datapath) fn from_bytes(
        addresses: &[Vec<u8>],
        routes: &[Vec<u8>],
    ) -> Option<Self> {
        let addresses = addresses
            .iter()
            .map(|bytes| AddressMessage::parse(bytes).ok());
        let routes = routes.iter().map(|bytes| RouteMessage::parse(bytes).ok());
        Some(Self {
            addresses: addresses.collect::<Option<_>>()?,
            routes: routes.collect::<Option<_>>()?,
        })
    }

    /// The same with all routes in the table `main`.
    pub(in crate::datapath) fn in_main_table(mut self) -> Self {
        let main = Place::Table(RouteHeader::RT_TABLE_MAIN.into());
        let routes = std::mem::take(&mut self.routes);
        self.routes = routes
            .into_iter()
            .map(|route| placed_route(route, 0, main))
            .collect();
        self
    }

    /// The recorded configuration, without the addresses that the device has lost since, and with its new ones.
    pub(in crate::datapath) fn following(&self, found: &Self) -> Self {
        let has = |known: &Self, address: &AddressMessage| {
            let mut known = known.addresses.iter();
            known.any(|known| own_address(known) == own_address(address))
        };
        let kept = self.addresses.iter().filter(|address| has(found, address));
        let new = found.addresses.iter().filter(|address| !has(self, address));
        Self {
            addresses: kept.chain(new).cloned().collect(),
            routes: self.routes.clone(),
        }
    }
}

impl Netlink {
    /// Addresses and routes of a device (ifindex), but for the routes that the kernel makes by itself.
    pub(in crate::datapath) async fn configuration(
        &self,
        index: u32,
    ) -> Result<Configuration, NetlinkError> {
        let listed = self.handle.address().get().execute();
        let listed: Vec<AddressMessage> = listed
            .try_collect()
            .await
            .map_err(failed("list the addresses"))?;
        let addresses = listed.into_iter().filter(|address| {
            address.header.index == index && !is_temporary(address) && !is_made_by_kernel(address)
        });
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let listed = self.routes(family).await?.into_iter();
            routes.extend(listed.filter(|route| is_of(route, index)));
        }
        Ok(Configuration {
            addresses: addresses.map(plain_address).collect(),
            routes: routes.into_iter().map(plain_route).collect(),
        })
    }

    /// Devices (ifindex) that default routes of the table `main` leave through, over IPv4 and over IPv6.
    pub(in crate::datapath) async fn default_routes(
        &self,
    ) -> Result<[BTreeSet<u32>; 2], NetlinkError> {
        let mut devices = [BTreeSet::new(), BTreeSet::new()];
        for (family, devices) in [AddressFamily::Inet, AddressFamily::Inet6]
            .into_iter()
            .zip(&mut devices)
        {
            let routes = self.routes(family).await?.into_iter();
            let default = routes.filter(|route| {
                route.header.destination_prefix_length == 0
                    && route.header.kind == RouteType::Unicast
                    && table_of(route) == u32::from(RouteHeader::RT_TABLE_MAIN)
            });
            for route in default {
                devices.extend(route.attributes.iter().flat_map(output_devices));
            }
        }
        Ok(devices)
    }

    async fn routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let listed = self.handle.route().get(question).execute();
        listed
            .try_collect()
            .await
            .map_err(failed("list the routes"))
    }

    /// Gives a device (ifindex) addresses and routes, beside those that it has.
    pub(in crate::datapath) async fn configure(
        &self,
        index: u32,
        configuration: &Configuration,
        place: Place,
    ) -> Result<(), NetlinkError> {
        for address in &configuration.addresses {
            let address = placed_address(address.clone(), index, place);
            let message = RouteNetlinkMessage::NewAddress(address);
            self.put(message).await.map_err(failed("add an address"))?;
        }
        let mut routes: Vec<_> = configuration.routes.clone();
        if let Place::Table(_) = place {
            routes.extend(configuration.addresses.iter().filter_map(network_route));
        }
        // A gateway has to be reachable before routes lead to it.
        routes.sort_by_key(|route| {
            (
                has_gateway(route),
                route.header.destination_prefix_length == 0,
            )
        });
        for route in routes {
            let message = RouteNetlinkMessage::NewRoute(placed_route(route, index, place));
            self.put(message).await.map_err(failed("add a route"))?;
        }
        Ok(())
    }

    /// Adds an object, or replaces it; an object that exists already is not an error.
    pub(super) async fn put(&self, message: RouteNetlinkMessage) -> Result<(), rtnetlink::Error> {
        let is_rule = matches!(message, RouteNetlinkMessage::NewRule(_));
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        request.header.flags |= if is_rule {
            rtnetlink::packet_core::NLM_F_EXCL
        } else {
            NLM_F_REPLACE
        };
        let mut responses = self.handle.clone().request(request)?;
        while let Some(response) = responses.next().await {
            match response.payload {
                NetlinkPayload::Error(error)
                    if error.code.is_some_and(|code| code.get() != -libc::EEXIST) =>
                {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn emit<M: Emitable>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

pub(super) fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(super) fn bits_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `Local` differs from `Address` on point-to-point links; IPv6 has `Address` only.
fn own_address(address: &AddressMessage) -> Option<IpAddr> {
    let local = address
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(local) => Some(*local),
            _ => None,
        });
    local.or_else(|| peer_address(address))
}

fn peer_address(address: &AddressMessage) -> Option<IpAddr> {
    address
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
}

fn is_global(address: &AddressMessage) -> bool {
    address.header.scope == AddressScope::Universe
}

fn flags_of(address: &AddressMessage) -> AddressFlags {
    let flags = address
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
    flags.unwrap_or_else(AddressFlags::empty)
}

/// Whether the kernel made it for privacy (RFC 8981): it would make another one.
fn is_temporary(address: &AddressMessage) -> bool {
    address.header.family == AddressFamily::Inet6
        && flags_of(address).contains(AddressFlags::Secondary)
}

/// Whether the kernel made it as the link-local address of the device: it makes it again.
fn is_made_by_kernel(address: &AddressMessage) -> bool {
    let made = AddressAttribute::Protocol(AddressProtocol::LinkLocal);
    address.attributes.contains(&made)
}

/// Removes attributes that the kernel maintains itself: lifetimes, and results of duplicate address detection.
fn plain_address(mut address: AddressMessage) -> AddressMessage {
    let kept = AddressFlags::Homeaddress | AddressFlags::Noprefixroute | AddressFlags::Mcautojoin;
    let mut flags = flags_of(&address) & kept;
    if address.header.family == AddressFamily::Inet6 {
        // The device had it a moment ago.
        flags |= AddressFlags::Nodad;
    }
    address.header.flags = AddressHeaderFlags::empty();
    address.attributes.retain(|attribute| {
        matches!(
            attribute,
            AddressAttribute::Address(_)
                | AddressAttribute::Local(_)
                | AddressAttribute::Broadcast(_)
                | AddressAttribute::RoutePriority(_)
        )
    });
    address.attributes.push(AddressAttribute::Flags(flags));
    address
}

fn placed_address(mut address: AddressMessage, index: u32, place: Place) -> AddressMessage {
    address.header.index = index;
    if let Place::Table(_) = place {
        let flags = flags_of(&address) | AddressFlags::Noprefixroute;
        let is_flags =
            |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Flags(_));
        address.attributes.retain(|attribute| !is_flags(attribute));
        address.attributes.push(AddressAttribute::Flags(flags));
    }
    address
}

/// Whether an administrator made this route, through this device (ifindex) and no other.
fn is_of(route: &RouteMessage, index: u32) -> bool {
    let is_here = |attribute: &RouteAttribute| *attribute == RouteAttribute::Oif(index);
    let is_shared = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::MultiPath(_));
    route.header.kind == RouteType::Unicast
        && route.header.protocol != RouteProtocol::Kernel
        && table_of(route) != LOCAL_TABLE
        && route.attributes.iter().any(is_here)
        && !route.attributes.iter().any(is_shared)
}

fn table_of(route: &RouteMessage) -> u32 {
    let table = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    table.unwrap_or_else(|| route.header.table.into())
}

fn has_gateway(route: &RouteMessage) -> bool {
    let is_gateway = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_)
        )
    };
    route.attributes.iter().any(is_gateway)
}

/// Removes counters, and nexthop objects, which end with the device.
fn plain_route(mut route: RouteMessage) -> RouteMessage {
    route.header.flags &= RouteFlags::Onlink;
    route.attributes.retain(|attribute| {
        !matches!(
            attribute,
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) | RouteAttribute::NhId(_)
        )
    });
    route
}

fn placed_route(mut route: RouteMessage, index: u32, place: Place) -> RouteMessage {
    let table = match place {
        Place::AsRecorded => table_of(&route),
        Place::Table(table) => table,
    };
    let is_placed = |attribute: &RouteAttribute| {
        matches!(attribute, RouteAttribute::Oif(_) | RouteAttribute::Table(_))
    };
    route.attributes.retain(|attribute| !is_placed(attribute));
    route.attributes.push(RouteAttribute::Oif(index));
    route.attributes.push(RouteAttribute::Table(table));
    route.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    route
}

/// The route that the kernel makes for an address of a network.
fn network_route(address: &AddressMessage) -> Option<RouteMessage> {
    let (own, peer) = (own_address(address)?, peer_address(address)?);
    let bits = address.header.prefix_len;
    if !is_global(address)
        || flags_of(address).contains(AddressFlags::Noprefixroute)
        || bits == bits_of(own) && own == peer
    {
        return None;
    }
    let network = ipnet::IpNet::new(peer, bits).ok()?.network();
    let mut route = RouteMessage::default();
    route.header.address_family = address.header.family;
    route.header.destination_prefix_length = bits;
    route.header.kind = RouteType::Unicast;
    route.header.protocol = RouteProtocol::Kernel;
    let (destination, source) = (to_route(network), to_route(own));
    route
        .attributes
        .push(RouteAttribute::Destination(destination));
    if own.is_ipv4() {
        route.header.scope = RouteScope::Link;
        route.attributes.push(RouteAttribute::PrefSource(source));
    }
    Some(route)
}

fn to_route(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

#[cfg(test)]
mod tests;
