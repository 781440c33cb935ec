//! Requests of all nodes as they end, for one browser. A browser that reads too slowly misses requests,
//! which are counted, and delays no node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ingress_core::tail::TailFilter;
use tokio::sync::mpsc;

use super::Nodes;
use crate::api::{NodeRequest, TailLine};

/// The requests that one browser follows.
pub(super) struct Followed {
    filter: TailFilter,
    lines: mpsc::Sender<TailLine>,
    dropped: Arc<AtomicU64>,
}

impl Followed {
    /// The line that asks a node for them.
    pub(super) fn request(&self, number: u64) -> NodeRequest {
        NodeRequest::Tail {
            number,
            filter: Box::new(self.filter.clone()),
        }
    }

    pub(super) fn deliver(&self, node: &str, lines: Vec<TailLine>, dropped: u64) {
        let mut missed = dropped;
        for line in lines {
            let line = TailLine {
                node: Some(node.to_owned()),
                ..line
            };
            missed += u64::from(self.lines.try_send(line).is_err());
        }
        self.dropped.fetch_add(missed, Ordering::Relaxed);
    }
}

/// Follows until it is dropped.
pub(in crate::dashboard) struct NodesTail {
    nodes: Arc<Nodes>,
    number: u64,
    lines: mpsc::Receiver<TailLine>,
    dropped: Arc<AtomicU64>,
}

impl NodesTail {
    /// The requests that have come, [`WAITING_MAX`] at most, and how many were missed.
    pub(in crate::dashboard) fn take(&mut self) -> (Vec<TailLine>, u64) {
        let mut taken = Vec::new();
        while let Ok(line) = self.lines.try_recv() {
            taken.push(line);
            if taken.len() >= WAITING_MAX {
                break;
            }
        }
        (taken, self.dropped.swap(0, Ordering::Relaxed))
    }
}

impl Drop for NodesTail {
    fn drop(&mut self) {
        let number = self.number;
        self.nodes.tails().remove(&number);
        self.nodes.tell(&NodeRequest::Untail { number });
    }
}

impl Nodes {
    /// Follows the requests of all nodes that fit.
    pub(in crate::dashboard) fn follow(self: &Arc<Self>, filter: TailFilter) -> NodesTail {
        let (sender, lines) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let followed = Followed {
            filter,
            lines: sender,
            dropped: Arc::clone(&dropped),
        };
        let request = followed.request(number);
        self.tails().insert(number, followed);
        self.tell(&request);
        NodesTail {
            nodes: Arc::clone(self),
            number,
            lines,
            dropped,
        }
    }
}

/// Requests that wait for one browser.
const WAITING_MAX: usize = 1_000;
