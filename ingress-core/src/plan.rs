//! Which entries the kernel maps should have, and how to get there.
//!
//! The invariant: after every single operation of a difference, each frontend that packets are
//! steered for has a port entry that dispatches them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ingress_common::socket::Port;
use ingress_common::steering::{Address, Frontend, mapped};

/// A port that the node's workers listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerPort {
    /// IP protocol number: 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Port, host byte order.
    pub port: u16,
    /// Listener group, below `LISTENER_GROUPS_MAX`.
    pub group: u32,
}

/// The contents of the steering maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Ports that dispatch knows, with their listener group.
    pub ports: BTreeMap<Port, u32>,
    /// Addresses that upstream connections leave from.
    pub upstream_sources: BTreeSet<Address>,
    /// Destinations that are steered, with their listener group.
    pub frontends: BTreeMap<Frontend, u32>,
}

impl Plan {
    /// Steers `listeners` at each of `addresses`, from which upstream connections leave too, and the TCP
    /// ones of them that `adopted` has at their adopted addresses.
    pub fn new(
        addresses: &BTreeSet<IpAddr>,
        listeners: &[ListenerPort],
        adopted: &BTreeSet<SocketAddr>,
    ) -> Self {
        let mut plan = Self::default();
        for listener in listeners {
            let port = listener.port.to_be_bytes();
            let protocol = listener.protocol;
            plan.ports.insert(
                Port {
                    port,
                    protocol,
                    reserved: 0,
                },
                listener.group,
            );
            let adopted = adopted
                .iter()
                .filter(|frontend| protocol == TCP && frontend.port() == listener.port);
            let adopted = adopted.map(SocketAddr::ip);
            for address in addresses.iter().copied().chain(adopted) {
                let address = to_address(address);
                let frontend = Frontend {
                    address,
                    port,
                    protocol,
                    reserved: 0,
                };
                plan.frontends.insert(frontend, listener.group);
            }
        }
        plan.upstream_sources = addresses
            .iter()
            .map(|address| to_address(*address))
            .collect();
        plan
    }

    /// The same, and what clients send to its ports at `addresses` is ours too: addresses that no
    /// connection to an endpoint leaves from.
    #[must_use]
    pub fn with_frontends(mut self, addresses: &BTreeSet<IpAddr>) -> Self {
        for (port, group) in self.ports.clone() {
            for address in addresses {
                let frontend = Frontend {
                    address: to_address(*address),
                    port: port.port,
                    protocol: port.protocol,
                    reserved: 0,
                };
                self.frontends.insert(frontend, group);
            }
        }
        self
    }

    /// Carries out one operation.
    pub fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::SetPort(port, group) => drop(self.ports.insert(port, group)),
            Operation::RemovePort(port) => drop(self.ports.remove(&port)),
            Operation::AddUpstreamSource(address) => drop(self.upstream_sources.insert(address)),
            Operation::RemoveUpstreamSource(address) => {
                self.upstream_sources.remove(&address);
            }
            Operation::SetFrontend(frontend, group) => drop(self.frontends.insert(frontend, group)),
            Operation::RemoveFrontend(frontend) => drop(self.frontends.remove(&frontend)),
        }
    }
}

/// IP protocol number.
const TCP: u8 = 6;

/// One change of one map entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Dispatch this port to this listener group.
    SetPort(Port, u32),
    /// Dispatch this port no more.
    RemovePort(Port),
    /// Steer replies to this address.
    AddUpstreamSource(Address),
    /// Steer replies to this address no more.
    RemoveUpstreamSource(Address),
    /// Steer this frontend to this listener group.
    SetFrontend(Frontend, u32),
    /// Steer this frontend no more.
    RemoveFrontend(Frontend),
}

/// The operations that turn `from` into `to`: what is steered gains its support first and loses
/// it last.
pub fn diff(from: &Plan, to: &Plan) -> Vec<Operation> {
    let mut operations = Vec::new();
    operations.extend(set(&from.ports, &to.ports).map(|(k, v)| Operation::SetPort(k, v)));
    let added = to.upstream_sources.difference(&from.upstream_sources);
    operations.extend(added.map(|address| Operation::AddUpstreamSource(*address)));
    let frontends = set(&from.frontends, &to.frontends);
    operations.extend(frontends.map(|(k, v)| Operation::SetFrontend(k, v)));
    let frontends = removed(&from.frontends, &to.frontends);
    operations.extend(frontends.map(Operation::RemoveFrontend));
    let gone = from.upstream_sources.difference(&to.upstream_sources);
    operations.extend(gone.map(|address| Operation::RemoveUpstreamSource(*address)));
    operations.extend(removed(&from.ports, &to.ports).map(Operation::RemovePort));
    operations
}

/// An address as the kernel maps have it: IPv4 is mapped into IPv6.
pub fn to_address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn set<K: Ord + Copy>(
    from: &BTreeMap<K, u32>,
    to: &BTreeMap<K, u32>,
) -> impl Iterator<Item = (K, u32)> {
    to.iter()
        .filter(|(k, v)| from.get(*k) != Some(*v))
        .map(|(k, v)| (*k, *v))
}

fn removed<K: Ord + Copy>(
    from: &BTreeMap<K, u32>,
    to: &BTreeMap<K, u32>,
) -> impl Iterator<Item = K> {
    from.keys().filter(|k| !to.contains_key(*k)).copied()
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn plans() -> impl Strategy<Value = Plan> {
        let addresses = btree_set((0u8..4).prop_map(|n| IpAddr::from([10, 0, 0, n])), 0..4);
        let listeners = vec((0u16..4, 0u32..3), 0..4);
        let adopted = btree_set((0u8..4, 0u16..6), 0..6);
        (addresses, listeners, adopted).prop_map(|(addresses, listeners, adopted)| {
            let adopted = adopted
                .into_iter()
                .map(|(n, port)| ([10, 0, 1, n], port).into());
            let adopted = adopted.collect();
            let listeners: Vec<_> = listeners
                .into_iter()
                .map(|(port, group)| ListenerPort {
                    protocol: 6,
                    port,
                    group,
                })
                .collect();
            Plan::new(&addresses, &listeners, &adopted)
        })
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_plan_to_the_other(from in plans(), to in plans()) {
            let mut plan = from.clone();
            for operation in diff(&from, &to) {
                plan.apply(operation);
            }
            prop_assert_eq!(plan, to);
        }

        #[test]
        fn at_every_step_each_frontend_has_a_port(from in plans(), to in plans()) {
            let mut plan = from.clone();
            for operation in diff(&from, &to) {
                plan.apply(operation);
                for frontend in plan.frontends.keys() {
                    let port = Port {
                        port: frontend.port,
                        protocol: frontend.protocol,
                        reserved: 0,
                    };
                    prop_assert!(plan.ports.contains_key(&port));
                }
            }
        }
    }

    #[test]
    fn equal_plans_need_no_operation() {
        let addresses = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
        let plan = Plan::new(
            &addresses,
            &[ListenerPort {
                protocol: 6,
                port: 80,
                group: 0,
            }],
            &BTreeSet::new(),
        );
        assert_eq!(diff(&plan, &plan), []);
        assert_eq!(plan.frontends.len(), 1);
    }

    #[test]
    fn an_address_of_a_device_inside_is_a_frontend_and_no_connection_leaves_from_it() {
        let listener = ListenerPort {
            protocol: TCP,
            port: 443,
            group: 2,
        };
        let inner = BTreeSet::from([IpAddr::from([192, 0, 2, 8])]);
        let plan = Plan::new(&BTreeSet::new(), &[listener], &BTreeSet::new());
        let plan = plan.with_frontends(&inner);
        let frontend = plan.frontends.iter().next().unwrap();
        assert_eq!(frontend.0.address, to_address([192, 0, 2, 8].into()));
        assert_eq!(*frontend.1, 2);
        assert_eq!(plan.upstream_sources, BTreeSet::new());
    }

    #[test]
    fn an_adopted_address_is_steered_for_its_ports_alone_and_no_connection_leaves_from_it() {
        let listener = |protocol, port, group| ListenerPort {
            protocol,
            port,
            group,
        };
        let listeners = [
            listener(TCP, 80, 1),
            listener(TCP, 443, 2),
            listener(17, 53, 3),
        ];
        let adopted = [
            "192.0.2.8:80",
            "192.0.2.8:53",
            "192.0.2.8:22",
            "[2001:db8::8]:443",
        ];
        let adopted = adopted.map(|text| text.parse().unwrap()).into();
        let plan = Plan::new(&BTreeSet::new(), &listeners, &adopted);
        let steered: Vec<_> = plan
            .frontends
            .iter()
            .map(|(frontend, group)| (frontend.address, u16::from_be_bytes(frontend.port), *group))
            .collect();
        let v4 = to_address("192.0.2.8".parse().unwrap());
        let v6 = to_address("2001:db8::8".parse().unwrap());
        assert_eq!(steered, [(v4, 80, 1), (v6, 443, 2)]);
        assert_eq!(plan.upstream_sources, BTreeSet::new());
    }
}
