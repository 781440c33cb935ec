//! Packets of the devices that the datapath is attached to. The kernel counts them anyway
//! (`/proc/net/dev`), so looking costs nothing on their way.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Request;
use procfs::net::{DeviceStatus, dev_status};
use serde::Deserialize;

use super::row::{Cell, Row};
use crate::cli::socket;

/// The counters of each device.
pub(super) type Counters = HashMap<String, DeviceStatus>;

/// The counters of the devices that the daemon names.
pub(super) async fn read(run_dir: &Path) -> Result<Counters> {
    let json = socket::fetch(run_dir, Request::get("/status")).await?;
    let status: Status =
        serde_json::from_slice(&json).context("the daemon returned JSON of another version")?;
    let mut counters = dev_status().context("failed to read /proc/net/dev")?;
    let names: Vec<_> = status
        .datapath
        .devices
        .iter()
        .map(|one| &one.name)
        .collect();
    counters.retain(|name, _| names.contains(&name));
    Ok(counters)
}

/// The rates between two looks.
pub(super) fn rates(before: &Counters, after: &Counters, elapsed: Duration) -> Vec<Row> {
    let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
    let rows = after.iter().map(|(name, after)| {
        let before = before.get(name);
        let rate = |of: fn(&DeviceStatus) -> u64| {
            // A device that came meanwhile, or came anew, has no rate yet.
            let earlier = before.map_or_else(|| of(after), of);
            float(of(after).saturating_sub(earlier)) / seconds
        };
        Row {
            name: name.clone(),
            cells: vec![
                Cell::Rate(rate(|one| one.recv_packets)),
                Cell::Rate(rate(|one| one.sent_packets)),
                Cell::Rate(rate(|one| one.recv_drop)),
                Cell::Rate(rate(|one| one.sent_drop)),
                Cell::Rate(rate(|one| one.recv_errs + one.sent_errs)),
                Cell::Bytes(rate(|one| one.recv_bytes)),
                Cell::Bytes(rate(|one| one.sent_bytes)),
            ],
        }
    });
    rows.collect()
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[derive(Deserialize)]
struct Status {
    datapath: Datapath,
}

#[derive(Deserialize)]
struct Datapath {
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(packets: u64) -> Counters {
        let mut all = dev_status().unwrap();
        let mut device = all.remove("lo").unwrap();
        device.recv_packets = packets;
        device.sent_bytes = packets * 100;
        HashMap::from([("eth0".to_owned(), device)])
    }

    #[test]
    fn rates_are_differences_by_the_time_between() {
        let elapsed = Duration::from_secs(2);
        let row = |before: &Counters, after: &Counters| {
            let rows = rates(before, after, elapsed);
            (rows[0].cells[0], rows[0].cells[6])
        };
        let moved = row(&counters(10), &counters(30));
        assert_eq!(moved, (Cell::Rate(10.0), Cell::Bytes(1_000.0)));
        let none = (Cell::Rate(0.0), Cell::Bytes(0.0));
        assert_eq!(row(&counters(30), &counters(10)), none, "it came anew");
        assert_eq!(
            row(&Counters::new(), &counters(10)),
            none,
            "it came meanwhile"
        );
    }
}
