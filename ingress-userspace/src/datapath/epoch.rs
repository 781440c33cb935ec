//! The epoch of what programs remember: advanced whenever the kernel reports that packets may go elsewhere.
//!
//! The invariant: an entry of a program is of the epoch that was in force before it was looked up, so a
//! change that is reported later ends it. What is never reported ends after a second
//! (`ingress_common::cache::LIFETIME_NS`).

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "netlink messages are of dozens of kinds, and kernels add more"
)]

use std::sync::{Arc, Mutex, PoisonError};

use aya::maps::{Array, MapData};
use futures_util::{Stream, StreamExt as _, stream};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::mpsc;
use tracing::warn;

use super::neighbours::Neighbours;

/// The map that programs read it from.
#[derive(Clone)]
pub(super) struct Epoch {
    map: Arc<Mutex<Array<MapData, u32>>>,
}

impl Epoch {
    /// That of a loaded object.
    pub(super) fn new(map: Array<MapData, u32>) -> Self {
        Self {
            map: Arc::new(Mutex::new(map)),
        }
    }

    /// Ends all that programs remember.
    pub(super) fn advance(&self) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let advanced = (map.get(&0, 0)).and_then(|epoch| map.set(0, epoch.wrapping_add(1), 0));
        if let Err(error) = advanced {
            warn!(%error, "failed to advance the epoch of the programs; they notice changes after a second");
        }
    }
}

/// Advances the epoch by what the kernel reports, on a task of its own. The stream yields when devices,
/// addresses, routes or rules have changed.
pub(super) fn follow(
    messages: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + 'static,
    epoch: Epoch,
) -> impl Stream<Item = ()> {
    let (sender, mut changes) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut neighbours = Neighbours::default();
        let mut messages = Box::pin(messages.ready_chunks(MESSAGES_AT_ONCE));
        while let Some(messages) = messages.next().await {
            let mut found = Change::None;
            for message in messages {
                found = found.max(change(message, &mut neighbours));
            }
            if found >= Change::Neighbours {
                epoch.advance();
            }
            // A change that waits stands for this one too.
            if found == Change::Network && sender.try_send(()).is_err() && sender.is_closed() {
                return;
            }
        }
    });
    stream::poll_fn(move |context| changes.poll_recv(context))
}

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    None,
    Neighbours,
    Network,
}

fn change(message: NetlinkMessage<RouteNetlinkMessage>, neighbours: &mut Neighbours) -> Change {
    let is_of_neighbours = match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
            neighbours.note(message)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
            neighbours.forget(message)
        }
        // Messages that were lost may have been about anything.
        _ => return Change::Network,
    };
    if is_of_neighbours {
        Change::Neighbours
    } else {
        Change::None
    }
}

/// Messages that advance the epoch once.
const MESSAGES_AT_ONCE: usize = 256;
