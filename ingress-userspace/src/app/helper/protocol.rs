//! What the daemon requests of its helper process, and the responses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::difference::Difference;
use crate::datapath;

/// A request to the helper. The helper sends one response to each, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Claim the node's datapath and open it.
    Open(Box<datapath::Settings>),
    /// Make listening TCP sockets in the ingress netns.
    MakeListeners {
        /// Their port.
        port: u16,
        /// Number of sockets, one for each worker.
        count: usize,
    },
    /// Steer new connections at the port to these listening sockets, which come beside the request.
    Listen(u16),
    /// Leave new connections at the port to the host.
    Unlisten(u16),
    /// Forget ports without listeners that have no connections left.
    ForgetDrained,
    /// Bring programs and maps in step with the node and with endpoints.
    Reconcile {
        /// How the addresses of endpoints have changed.
        endpoints: Difference<IpAddr>,
        /// How those that may take the shortcut have changed.
        plain: Difference<SocketAddr>,
        /// How the destinations that Services have and no device has have changed.
        adopted: Difference<SocketAddr>,
    },
    /// Drop what comes from these networks, and from no others, to frontends.
    SetDenied(Vec<datapath::Denied>),
    /// Serve one worker with sockets to connect to endpoints.
    ServeSockets,
    /// Steer no more new connections.
    StopAccepting,
    /// Describe the datapath.
    Status,
    /// Remove the datapath.
    Close,
}

/// The response to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// The datapath is open; the map of connections comes beside this.
    Opened {
        /// Whether there is a shortcut to pods of this node.
        has_shortcut: bool,
    },
    /// The request is carried out; descriptors that it yields come beside this.
    Done,
    /// Another daemon has the datapath.
    Taken,
    /// Programs and maps are in step.
    Reconciled {
        /// How the set of direct endpoints has changed.
        direct: Difference<IpAddr>,
        /// The node's IPv4 address.
        source_v4: Option<Ipv4Addr>,
        /// The node's IPv6 address.
        source_v6: Option<Ipv6Addr>,
    },
    /// This many networks found no room.
    Left(usize),
    /// Whether some ports have connections but no listener.
    Draining(bool),
    /// The state of the datapath.
    Status(Box<datapath::Status>),
    /// The request failed, for this reason.
    Failed(String),
}
