//! Addresses that the ingress netns takes packets for, although no device there has them ("AnyIP"): a local
//! route each.
//!
//! One policy rule for all would do too, but any rule takes the kernel off its fast route lookup
//! (`fib_has_custom_rules`): 3 lookups for each new connection. A local default route would swallow the
//! answers. The invariant: nothing is steered for an address before it has its route.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::Stream;
use ingress_common::steering::Address;
use ingress_core::plan::Plan;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::gate::{GateError, LOOPBACK, find};
use super::netlink::{Netlink, NetlinkError};
use super::netns::Namespace;

/// The addresses, as the ingress netns has them now.
#[derive(Debug)]
pub(super) struct LocalAddresses {
    inside: Netlink,
    loopback: u32,
    held: BTreeSet<IpAddr>,
}

impl LocalAddresses {
    /// Finds those that an earlier daemon has left. Has to be called on a tokio runtime.
    /// The stream yields what the kernel reports of the ingress netns.
    pub(super) async fn open(
        ingress: &Namespace,
    ) -> Result<
        (
            Self,
            impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>,
        ),
        GateError,
    > {
        let (inside, messages) = Netlink::open(ingress).map_err(GateError::Namespace)?;
        let loopback = find(&inside, LOOPBACK).await?.index;
        let held = inside.local_addresses(loopback).await?;
        let local = Self {
            inside,
            loopback,
            held,
        };
        Ok((local, messages))
    }

    /// The ingress netns.
    pub(super) const fn inside(&self) -> &Netlink {
        &self.inside
    }

    /// Takes packets for what `plan` steers too, but for the addresses that a device inside has.
    pub(super) async fn add(
        &mut self,
        plan: &Plan,
        inner: &BTreeSet<IpAddr>,
    ) -> Result<(), NetlinkError> {
        for address in wanted(plan, inner) {
            if !self.held.contains(&address) {
                self.inside.add_local(address, self.loopback).await?;
                self.held.insert(address);
            }
        }
        Ok(())
    }

    /// Takes packets for nothing but what `plan` steers.
    pub(super) async fn remove_others(
        &mut self,
        plan: &Plan,
        inner: &BTreeSet<IpAddr>,
    ) -> Result<(), NetlinkError> {
        let wanted = wanted(plan, inner);
        for address in self.held.clone() {
            if !wanted.contains(&address) {
                self.inside.remove_local(address, self.loopback).await?;
                self.held.remove(&address);
            }
        }
        Ok(())
    }
}

/// Destinations of packets that are steered, without those that are local anyway.
fn wanted(plan: &Plan, inner: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let frontends = plan.frontends.keys().map(|frontend| frontend.address);
    let sources = plan.upstream_sources.iter().copied();
    let addresses = frontends.chain(sources).map(to_ip);
    addresses
        .filter(|address| !inner.contains(address))
        .collect()
}

fn to_ip(address: Address) -> IpAddr {
    IpAddr::from(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingress_core::plan::ListenerPort;

    #[test]
    fn frontends_and_sources_of_upstream_connections_are_local() {
        let own: BTreeSet<IpAddr> = ["192.0.2.1", "2001:db8::1"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let adopted = BTreeSet::from(["198.51.100.9:443".parse().unwrap()]);
        let none = Plan::new(&own, &[], &adopted);
        assert_eq!(
            wanted(&none, &BTreeSet::new()),
            own,
            "endpoints answer to them"
        );
        let listener = ListenerPort {
            protocol: 6,
            port: 443,
            group: 0,
        };
        let plan = Plan::new(&own, &[listener], &adopted);
        let adopted = "198.51.100.9".parse().unwrap();
        assert!(wanted(&plan, &BTreeSet::new()).contains(&adopted));
        assert_eq!(wanted(&plan, &BTreeSet::new()).len(), 3);
        assert_eq!(
            wanted(&plan, &own).len(),
            1,
            "a device inside has the others"
        );
    }
}
