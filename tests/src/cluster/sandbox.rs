//! Where a pod's containers run: a network namespace of its own, or its node's.

use std::sync::Arc;

use anyhow::Result;

use super::network::{Node, PodAddress};
use crate::host::Host;
use crate::wiring;

/// A pod's place in the network; gone with its namespace and address when this is dropped.
#[derive(Debug)]
pub(super) struct Sandbox {
    node: Arc<Node>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    host: Host,
    device: String,
    address: PodAddress,
}

impl Sandbox {
    /// A place on the node's own network.
    pub(super) fn on_host_network(node: Arc<Node>) -> Self {
        Self { node, own: None }
    }

    /// A network namespace with addresses of the node's range. Takes some tens of milliseconds.
    pub(super) fn create(node: Arc<Node>) -> Result<Self> {
        let address = node.take_address()?;
        let device = node.next_device();
        let host = Host::create(&format!("{}-{device}", node.host.name()))?;
        let (v4, v6) = (address.v4(), address.v6());
        let attached = wiring::attach_pod(&node.host, &host, &device, &v4, &v6);
        let own = Own {
            host,
            device,
            address,
        };
        let sandbox = Self {
            node,
            own: Some(own),
        };
        attached.map(|()| sandbox)
    }

    /// The name of its network namespace.
    pub(super) fn network(&self) -> &str {
        self.own
            .as_ref()
            .map_or(self.node.host.name(), |own| own.host.name())
    }

    /// Its addresses, IPv4 first.
    pub(super) fn addresses(&self) -> Vec<String> {
        match &self.own {
            Some(own) => vec![own.address.v4(), own.address.v6()],
            None => vec![self.node.v4.clone(), self.node.v6.clone()],
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            // A namespace's devices go some time after it; the address may be somebody's by then.
            let _ = self.node.host.ip(&format!("link del {}", own.device));
            drop(own.host);
            self.node.give_back(own.address);
        }
    }
}
