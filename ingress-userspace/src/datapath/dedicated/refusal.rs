//! Why a device may not leave the host: a node that cannot be reached any more cannot be repaired either.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::path::Path;

use super::super::netlink::Link;

/// Why a device stays in the host. Follows the name of the device in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such device, neither in the host nor in the ingress netns.
    Missing,
    /// `--uplink` names it too.
    IsUplink,
    /// Its frames are not those of Ethernet.
    NoEthernet,
    /// Its driver moves all devices of a radio or none.
    Wireless,
    /// The kernel never moves devices of its kind.
    Immutable,
    /// It is a port or member of another device.
    BelongsTo(String),
    /// The cluster reaches the node by this address.
    HasNodeAddress(IpAddr),
    /// The host has no other default route of this IP version.
    HasOnlyDefaultRoute(&'static str),
    /// Clients could not reach it.
    HasNoAddress,
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "does not exist"),
            Self::IsUplink => write!(
                f,
                "is also named by --uplink, whose devices stay in the host"
            ),
            Self::NoEthernet => write!(f, "is no Ethernet device"),
            Self::Wireless => write!(f, "is a wireless device"),
            Self::Immutable => write!(
                f,
                "cannot leave its network namespace: the kernel calls its kind netns-immutable, \
                 as bridges and bonds are"
            ),
            Self::BelongsTo(other) => write!(f, "belongs to device `{other}`"),
            Self::HasNodeAddress(address) => {
                write!(
                    f,
                    "has the address {address}, by which the cluster reaches this node"
                )
            }
            Self::HasOnlyDefaultRoute(version) => write!(
                f,
                "has the host's only default route over {version}: give the host another one first"
            ),
            Self::HasNoAddress => write!(f, "has no address by which clients could reach it"),
        }
    }
}

/// The facts that the decision depends on.
pub(super) struct Facts<'a> {
    /// The device.
    pub(super) link: &'a Link,
    /// Its global addresses, or those of an earlier record.
    pub(super) addresses: &'a BTreeSet<IpAddr>,
    /// The device that it belongs to, if it belongs to one.
    pub(super) controller: Option<&'a str>,
    /// Devices (ifindex) with default routes in the table `main`, over IPv4 and over IPv6.
    pub(super) default_routes: &'a [BTreeSet<u32>; 2],
    /// Devices that stay in the host.
    pub(super) uplinks: &'a [String],
    /// Addresses by which the cluster reaches the node.
    pub(super) node_addresses: &'a [IpAddr],
    /// Whether the device is a radio's.
    pub(super) is_wireless: bool,
}

impl Facts<'_> {
    /// The first reason why the device has to stay; `None` if it may move.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.uplinks.contains(&self.link.name) {
            return Some(Refusal::IsUplink);
        }
        if !self.link.is_ethernet {
            return Some(Refusal::NoEthernet);
        }
        if self.is_wireless {
            return Some(Refusal::Wireless);
        }
        if self.link.is_immutable {
            return Some(Refusal::Immutable);
        }
        if let Some(controller) = self.controller {
            return Some(Refusal::BelongsTo(controller.to_owned()));
        }
        let of_node = self
            .node_addresses
            .iter()
            .find(|ip| self.addresses.contains(ip));
        if let Some(address) = of_node {
            return Some(Refusal::HasNodeAddress(*address));
        }
        for (version, devices) in ["IPv4", "IPv6"].into_iter().zip(self.default_routes) {
            if devices.contains(&self.link.index) && devices.len() == 1 {
                return Some(Refusal::HasOnlyDefaultRoute(version));
            }
        }
        self.addresses.is_empty().then_some(Refusal::HasNoAddress)
    }
}

/// Whether the device of this name is a radio's.
pub(super) fn is_wireless(name: &str) -> bool {
    Path::new("/sys/class/net")
        .join(name)
        .join("phy80211")
        .exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            index: 3,
            name: "eth1".to_owned(),
            mac: vec![2, 0, 0, 0, 0, 1],
            mtu: 1500,
            peer_netns: None,
            is_ethernet: true,
            is_netkit: false,
            is_immutable: false,
            controller: None,
            vlan: None,
        }
    }

    /// The refusal of a device that may move, but for what `change` changes.
    fn refusal(change: impl FnOnce(&mut Link, &mut Facts<'_>)) -> Option<Refusal> {
        let addresses = BTreeSet::from([IpAddr::from([198, 51, 100, 7])]);
        let default_routes = [BTreeSet::from([2, 3]), BTreeSet::from([2])];
        let plain = link();
        let mut changed = link();
        let mut facts = Facts {
            link: &plain,
            addresses: &addresses,
            controller: None,
            default_routes: &default_routes,
            uplinks: &[],
            node_addresses: &[],
            is_wireless: false,
        };
        change(&mut changed, &mut facts);
        Facts {
            link: &changed,
            ..facts
        }
        .refusal()
    }

    #[test]
    fn a_device_beside_the_hosts_own_may_move() {
        assert_eq!(refusal(|_, _| {}), None);
    }

    #[test]
    fn a_device_that_the_kernel_does_not_move_is_refused() {
        assert_eq!(
            refusal(|link, _| link.is_ethernet = false),
            Some(Refusal::NoEthernet)
        );
        assert_eq!(
            refusal(|link, _| link.is_immutable = true),
            Some(Refusal::Immutable)
        );
        assert_eq!(
            refusal(|_, facts| facts.is_wireless = true),
            Some(Refusal::Wireless)
        );
        assert_eq!(
            refusal(|_, facts| facts.controller = Some("bond0")),
            Some(Refusal::BelongsTo("bond0".to_owned()))
        );
    }

    #[test]
    fn a_device_that_the_node_needs_is_refused() {
        let address = IpAddr::from([198, 51, 100, 7]);
        let node_addresses = [address];
        let addresses = BTreeSet::from(node_addresses);
        let nothing = [BTreeSet::new(), BTreeSet::new()];
        let only = [BTreeSet::from([3]), BTreeSet::from([2])];
        let link = link();
        let uplinks = ["eth1".to_owned()];
        let facts = |default_routes, uplinks, node_addresses| Facts {
            link: &link,
            addresses: &addresses,
            controller: None,
            default_routes,
            uplinks,
            node_addresses,
            is_wireless: false,
        };
        assert_eq!(facts(&nothing, &[], &[]).refusal(), None);
        assert_eq!(
            facts(&nothing, &[], &node_addresses).refusal(),
            Some(Refusal::HasNodeAddress(address))
        );
        assert_eq!(
            facts(&only, &[], &[]).refusal(),
            Some(Refusal::HasOnlyDefaultRoute("IPv4"))
        );
        assert_eq!(
            facts(&nothing, &uplinks, &[]).refusal(),
            Some(Refusal::IsUplink)
        );
    }

    #[test]
    fn a_device_without_address_is_refused() {
        let addresses = BTreeSet::new();
        let nothing = [BTreeSet::new(), BTreeSet::new()];
        let facts = Facts {
            link: &link(),
            addresses: &addresses,
            controller: None,
            default_routes: &nothing,
            uplinks: &[],
            node_addresses: &[],
            is_wireless: false,
        };
        assert_eq!(facts.refusal(), Some(Refusal::HasNoAddress));
    }
}
