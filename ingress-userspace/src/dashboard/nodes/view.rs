//! The state of one node: the latest look at its daemon, and the sums of the daemon's earlier runs. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::api::{NodeLook, Sample, Traffic, TrafficChange};
use crate::dashboard::sample::add_buckets;

/// Whether a node and its daemon answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::dashboard) enum Health {
    /// Both do.
    Well,
    /// The node answers and its daemon does not, for this reason.
    Busy(String),
    /// The node has not answered for a few seconds.
    Slow(String),
    /// The node does not answer, for this reason.
    Away(String),
    /// The node has not answered yet.
    #[default]
    Unknown,
}

impl Health {
    /// Whether the latest look is still valid.
    pub(super) fn is_reached(&self) -> bool {
        match self {
            Self::Well | Self::Busy(_) | Self::Slow(_) => true,
            Self::Away(_) | Self::Unknown => false,
        }
    }
}

/// The state of a node.
#[derive(Clone, Debug, Default)]
pub(in crate::dashboard) struct NodeView {
    pub(super) health: Health,
    /// Grows whenever the lists of the node may have changed, or its sums have leapt: they went on while
    /// nobody listened.
    pub(super) revision: u64,
    /// The sums of the node's daemon, with those of its earlier runs.
    pub(super) carried: Sums,
    /// The last look; `None` before the first.
    pub(super) last: Option<Seen>,
    /// Whether the next look is the first of a connection, and so complete.
    is_fresh: bool,
}

/// The last look at a daemon.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    started_at: String,
    pub(super) sample: Sample,
    pub(super) status: Map<String, Value>,
    pub(super) sums: Sums,
    /// Bytes of the names of all rows.
    name_bytes: usize,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    /// Only fields that are sums are read.
    pub(super) sample: Sample,
    pub(super) hosts: Rows,
    pub(super) backends: Rows,
    pub(super) routes: Rows,
}

/// Rows of traffic by their name.
pub(super) type Rows = BTreeMap<String, Traffic>;

/// A node has told more than is kept of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl NodeView {
    /// Begins a connection: its first look is complete.
    pub(super) fn begin(&mut self) {
        self.is_fresh = true;
        self.revision += 1;
    }

    /// Ends a connection: the numbers stay, and grow no longer.
    pub(super) fn end(&mut self) {
        self.revision += 1;
    }

    pub(super) fn set_health(&mut self, health: Health) {
        self.health = health;
    }

    /// Takes a look.
    ///
    /// # Errors
    ///
    /// [`TooMuch`] beyond [`ROWS_MAX`] rows or [`NAME_BYTES_MAX`] bytes of their names.
    pub(super) fn take(&mut self, look: NodeLook) -> Result<(), TooMuch> {
        let NodeLook {
            sample,
            started_at,
            status,
            hosts,
            backends,
            routes,
        } = look;
        let mut seen = self.last.take().unwrap_or_default();
        if seen.started_at != started_at {
            self.carried.add(&seen.sums);
            self.carried.cut();
            self.revision += 1;
            seen = Seen::default();
        } else if self.is_fresh {
            self.revision += 1;
            seen.status.clear();
            seen.sums = Sums::default();
            seen.name_bytes = 0;
        }
        self.is_fresh = false;
        if seen.sample.generation != sample.generation {
            self.revision += 1;
        }
        seen.started_at = started_at;
        seen.status.extend(status);
        seen.sums.sample.clone_from(&sample);
        seen.sample = sample;
        for (rows, change) in [
            (&mut seen.sums.hosts, hosts),
            (&mut seen.sums.backends, backends),
            (&mut seen.sums.routes, routes),
        ] {
            change_rows(rows, change, &mut seen.name_bytes)?;
        }
        self.last = Some(seen);
        Ok(())
    }
}

fn change_rows(
    rows: &mut Rows,
    change: TrafficChange,
    name_bytes: &mut usize,
) -> Result<(), TooMuch> {
    for name in change.gone {
        if rows.remove(&name).is_some() {
            *name_bytes -= name.len();
        }
    }
    for row in change.rows {
        let bytes = row.name.len();
        if row.duration_buckets.len() > BUCKETS_MAX {
            return Err(TooMuch);
        }
        if rows.insert(row.name.clone(), row).is_none() {
            *name_bytes += bytes;
        }
        if rows.len() > ROWS_MAX || *name_bytes > NAME_BYTES_MAX {
            return Err(TooMuch);
        }
    }
    Ok(())
}

impl Sums {
    /// Adds other sums.
    pub(super) fn add(&mut self, more: &Self) {
        let Sample {
            time: _,
            state: _,
            generation: _,
            requests,
            client_errors,
            server_errors,
            requests_open: _,
            connections_accepted,
            connections_open: _,
            tls_handshake_failures,
            cpu_seconds,
            resident_bytes: _,
            duration_buckets,
        } = &more.sample;
        let sums = &mut self.sample;
        sums.requests = sums.requests.saturating_add(*requests);
        sums.client_errors = sums.client_errors.saturating_add(*client_errors);
        sums.server_errors = sums.server_errors.saturating_add(*server_errors);
        sums.connections_accepted = sums
            .connections_accepted
            .saturating_add(*connections_accepted);
        sums.tls_handshake_failures = sums
            .tls_handshake_failures
            .saturating_add(*tls_handshake_failures);
        sums.cpu_seconds += cpu_seconds;
        add_buckets(&mut sums.duration_buckets, duration_buckets);
        add_rows(&mut self.hosts, &more.hosts);
        add_rows(&mut self.backends, &more.backends);
        add_rows(&mut self.routes, &more.routes);
    }

    /// Keeps as many rows as those of one daemon may be.
    fn cut(&mut self) {
        for rows in [&mut self.hosts, &mut self.backends, &mut self.routes] {
            while rows.len() > ROWS_MAX {
                rows.pop_last();
            }
        }
    }
}

fn add_rows(sums: &mut Rows, more: &Rows) {
    for (name, row) in more {
        let Some(sum) = sums.get_mut(name) else {
            sums.insert(name.clone(), row.clone());
            continue;
        };
        sum.requests = sum.requests.saturating_add(row.requests);
        sum.client_errors = sum.client_errors.saturating_add(row.client_errors);
        sum.server_errors = sum.server_errors.saturating_add(row.server_errors);
        sum.received = sum.received.saturating_add(row.received);
        sum.sent = sum.sent.saturating_add(row.sent);
        add_buckets(&mut sum.duration_buckets, &row.duration_buckets);
    }
}

/// Rows of one kind that are kept of a node.
const ROWS_MAX: usize = 100_000;
/// Bytes of the names of all rows of a node.
const NAME_BYTES_MAX: usize = 32 << 20;
/// Buckets of a histogram.
const BUCKETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn look(started_at: &str, requests: u64, rows: &[(&str, u64)]) -> NodeLook {
        let row = |(name, requests): &(&str, u64)| Traffic {
            name: (*name).to_owned(),
            requests: *requests,
            duration_buckets: vec![*requests],
            ..Traffic::default()
        };
        NodeLook {
            sample: Sample {
                requests,
                ..Sample::default()
            },
            started_at: started_at.to_owned(),
            hosts: TrafficChange {
                rows: rows.iter().map(row).collect(),
                gone: Vec::new(),
            },
            ..NodeLook::default()
        }
    }

    fn total(view: &NodeView) -> (u64, Option<u64>) {
        let mut sums = view.carried.clone();
        sums.add(&view.last.as_ref().unwrap().sums);
        let row = sums.hosts.get("a").map(|row| row.requests);
        (sums.sample.requests, row)
    }

    #[test]
    fn sums_go_on_over_a_restart_of_the_daemon_and_over_a_lost_connection() {
        let mut view = NodeView::default();
        view.begin();
        view.take(look("1", 10, &[("a", 4)])).unwrap();
        view.take(look("1", 11, &[("a", 5)])).unwrap();
        assert_eq!(total(&view), (11, Some(5)));
        view.end();
        view.begin();
        view.take(look("1", 12, &[("a", 6)])).unwrap();
        assert_eq!(total(&view), (12, Some(6)));
        view.end();
        view.begin();
        view.take(look("2", 1, &[("a", 1)])).unwrap();
        assert_eq!(total(&view), (13, Some(7)));
    }

    #[test]
    fn revision_grows_with_generations_restarts_and_connections() {
        let mut view = NodeView::default();
        let mut last = view.revision;
        let mut grew = |view: &NodeView| {
            let has = view.revision > last;
            last = view.revision;
            has
        };
        view.begin();
        view.take(look("1", 1, &[])).unwrap();
        assert!(grew(&view));
        view.take(look("1", 2, &[])).unwrap();
        assert!(!grew(&view));
        let mut other = look("1", 2, &[]);
        other.sample.generation = 7;
        view.take(other).unwrap();
        assert!(grew(&view));
        view.end();
        assert!(grew(&view));
    }

    #[test]
    fn rows_that_are_gone_are_forgotten_and_their_number_is_bounded() {
        let mut view = NodeView::default();
        view.begin();
        view.take(look("1", 1, &[("a", 1), ("b", 1)])).unwrap();
        let mut gone = look("1", 1, &[]);
        gone.hosts.gone = vec!["a".to_owned()];
        view.take(gone).unwrap();
        assert_eq!(total(&view), (1, None));
        let names: Vec<_> = (0..=ROWS_MAX).map(|number| number.to_string()).collect();
        let rows: Vec<_> = names.iter().map(|name| (&**name, 1)).collect();
        assert_eq!(view.take(look("1", 1, &rows)), Err(TooMuch));
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(view.take(look("1", 1, &[(&long, 1)])), Err(TooMuch));
    }
}
