//! Looks at the daemon of this node for a dashboard elsewhere: each look carries what has changed since the
//! one before.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::Request;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout};

use crate::admin::{TRAFFIC_BACKENDS, TRAFFIC_HOSTS, TRAFFIC_ROUTES};
use crate::api::{NodeLine, NodeLook, Traffic, TrafficChange};
use crate::cli::socket;
use crate::dashboard::sample;

/// Sends looks at the pace that is asked for, and a line each second between them.
///
/// # Errors
///
/// An error if the daemon cannot be reached.
pub(super) async fn looks(
    run_dir: &Path,
    mut pace: watch::Receiver<Option<Duration>>,
    lines: mpsc::Sender<NodeLine>,
) -> Result<()> {
    let mut known = Known::default();
    let mut answered = Instant::now();
    loop {
        let Ok(interval) = pace.wait_for(Option::is_some).await.map(|pace| *pace) else {
            return Ok(());
        };
        let begun = TokioInstant::now();
        let line = match timeout(LOOK_TIME_MAX, read(run_dir)).await {
            Ok(read) => {
                answered = Instant::now();
                NodeLine::Look(Box::new(known.changes(read?)))
            }
            Err(_) => NodeLine::Busy {
                seconds: answered.elapsed().as_secs().max(1),
            },
        };
        lines.send(line).await?;
        let next = begun + interval.unwrap_or(HEARTBEAT);
        while TokioInstant::now() < next {
            tokio::select! {
                () = sleep_until(next) => {}
                () = sleep(HEARTBEAT) => lines.send(NodeLine::Alive).await?,
                // Another pace holds at once.
                changed = pace.changed() => {
                    if changed.is_err() || *pace.borrow() != interval {
                        break;
                    }
                }
            }
        }
    }
}

/// The state of the daemon at one instant.
struct Told {
    status: Map<String, Value>,
    hosts: Vec<Traffic>,
    backends: Vec<Traffic>,
    routes: Vec<Traffic>,
}

async fn read(run_dir: &Path) -> Result<Told> {
    Ok(Told {
        status: fetch(run_dir, "/status").await?,
        hosts: fetch(run_dir, TRAFFIC_HOSTS).await?,
        backends: fetch(run_dir, TRAFFIC_BACKENDS).await?,
        routes: fetch(run_dir, TRAFFIC_ROUTES).await?,
    })
}

async fn fetch<T: DeserializeOwned>(run_dir: &Path, path: &str) -> Result<T> {
    let json = socket::fetch(run_dir, Request::get(path)).await?;
    serde_json::from_slice(&json).context("the daemon returned invalid JSON")
}

/// The state that the previous look sent.
#[derive(Default)]
struct Known {
    status: Map<String, Value>,
    hosts: HashMap<String, u64>,
    backends: HashMap<String, u64>,
    routes: HashMap<String, u64>,
}

impl Known {
    fn changes(&mut self, told: Told) -> NodeLook {
        let Told {
            status,
            hosts,
            backends,
            routes,
        } = told;
        let sample = sample(&status, &hosts, Timestamp::now().to_string());
        let started_at = status.get("started_at").and_then(Value::as_str);
        let started_at = started_at.unwrap_or_default().to_owned();
        let mut changed = Map::new();
        for (name, value) in status {
            if self.status.get(&name) != Some(&value) {
                self.status.insert(name.clone(), value.clone());
                changed.insert(name, value);
            }
        }
        NodeLook {
            sample,
            started_at,
            status: changed,
            hosts: change(&mut self.hosts, hosts),
            backends: change(&mut self.backends, backends),
            routes: change(&mut self.routes, routes),
        }
    }
}

/// Rows whose numbers differ from those sent before, and the names of rows that have gone.
fn change(sent: &mut HashMap<String, u64>, mut rows: Vec<Traffic>) -> TrafficChange {
    let here: HashSet<&str> = rows.iter().map(|row| &*row.name).collect();
    let mut gone = Vec::new();
    sent.retain(|name, _| {
        let stays = here.contains(&**name);
        if !stays {
            gone.push(name.clone());
        }
        stays
    });
    rows.retain(|row| sent.get(&row.name) != Some(&row.requests));
    sent.extend(rows.iter().map(|row| (row.name.clone(), row.requests)));
    TrafficChange { rows, gone }
}

/// How long the daemon may take to answer.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two lines, however rarely the daemon is looked at.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, requests: u64) -> Traffic {
        Traffic {
            name: name.to_owned(),
            requests,
            ..Traffic::default()
        }
    }

    #[test]
    fn look_carries_what_has_changed_alone() {
        let mut sent = HashMap::new();
        let first = change(&mut sent, vec![row("a", 1), row("b", 1)]);
        assert_eq!(first.rows.len(), 2);
        let second = change(&mut sent, vec![row("a", 2), row("b", 1)]);
        assert_eq!((second.rows, second.gone), (vec![row("a", 2)], vec![]));
        let third = change(&mut sent, vec![row("a", 2)]);
        assert_eq!((third.rows, third.gone), (vec![], vec!["b".to_owned()]));
        let again = change(&mut sent, vec![row("a", 2), row("b", 1)]);
        assert_eq!(again.rows, [row("b", 1)]);
    }

    #[test]
    fn status_is_sent_by_field() {
        let mut known = Known::default();
        let told = |uptime: u64| {
            let status = serde_json::json!({
                "started_at": "then", "state": "ready", "uptime_seconds": uptime,
            });
            Told {
                status: serde_json::from_value(status).unwrap(),
                hosts: Vec::new(),
                backends: Vec::new(),
                routes: Vec::new(),
            }
        };
        assert_eq!(known.changes(told(1)).status.len(), 3);
        let second = known.changes(told(2));
        assert_eq!(second.status.keys().collect::<Vec<_>>(), ["uptime_seconds"]);
        assert_eq!(
            (&*second.started_at, &*second.sample.state),
            ("then", "ready")
        );
    }
}
