//! The datapath as metric families: its mode, what the programs counted, how they are attached, and the
//! networks that are denied.
//!
//! Invariant: labels are names of programs, reasons, modes and sources, so the number of series is bounded
//! by those lists, whatever packets come.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;

use crate::datapath::{self, DeviceRole, GuardMode, TcMode};
use crate::proxy::family::{LabelPairs, counter, float, gauge, labels};

/// The state of the datapath that a scrape shows.
#[derive(Clone, Debug)]
pub struct DatapathMetrics {
    /// `netns` or `host`.
    pub mode: &'static str,
    /// Devices, counters and direct endpoints; empty with `host`.
    pub state: datapath::Status,
    /// Number of networks that the administrator denies (`sluice deny`).
    pub denied_by_admin: usize,
    /// Number of networks that `block-cidrs` denies.
    pub denied_by_configuration: usize,
    /// The Services whose addresses are adopted.
    pub adopted: Vec<AdoptedService>,
}

/// A Service that `--adopt-service` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Number of addresses and ports that are adopted.
    pub frontends: usize,
    /// Number of its addresses and ports that are not.
    pub problems: usize,
}

impl DatapathMetrics {
    /// The metric families. A counter that is 0 has no series, and a family without series is left out:
    /// the text formats do not allow one.
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = vec![self.mode(), self.packets(), self.denied()];
        if let Some(gate) = &self.state.gate {
            families.push(self.attached(gate.return_path));
            families.push(gauge(
                "sluice_datapath_direct_endpoints",
                "Addresses of endpoints that are reached past the host's netfilter hooks",
                [(LabelPairs::new(), float(self.state.direct_endpoints as u64))],
            ));
        }
        families.extend(self.adopted());
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    fn mode(&self) -> MetricFamily {
        let sample = |mode| {
            let is_this = f64::from(u8::from(mode == self.mode));
            (labels([("mode", mode)]), is_this)
        };
        gauge(
            "sluice_datapath_mode",
            "1 for the datapath of this daemon, 0 for the other one",
            ["netns", "host"].map(sample),
        )
    }

    fn adopted(&self) -> [MetricFamily; 2] {
        let samples = |count: fn(&AdoptedService) -> usize| {
            self.adopted.iter().map(move |service| {
                let (namespace, name) = (&*service.namespace, &*service.name);
                let pairs = labels([("namespace", namespace), ("service", name)]);
                (pairs, float(count(service) as u64))
            })
        };
        [
            gauge(
                "sluice_adopted_frontends",
                "Addresses, each with a port, that are served because a Service has them (--adopt-service)",
                samples(|service| service.frontends),
            ),
            gauge(
                "sluice_adoption_problems",
                "Addresses and ports of a Service of --adopt-service that are not adopted; Events say why",
                samples(|service| service.problems),
            ),
        ]
    }

    fn packets(&self) -> MetricFamily {
        let samples = self.state.counters.iter().map(|count| {
            let pairs = [("program", &*count.program), ("reason", &*count.reason)];
            (labels(pairs), float(count.packets))
        });
        counter(
            "sluice_datapath_packets_total",
            "Packets by eBPF program and by the reason for what became of them; of the shortcut, calls to send",
            samples,
        )
    }

    /// Counts devices by program and attach mode: steer on all of them, the guard on uplinks, `return_path`
    /// on the gate. Every mode has a series, so that alerts see a mode that no device has.
    fn attached(&self, return_path: TcMode) -> MetricFamily {
        let mut counts = BTreeMap::new();
        for mode in [Some(TcMode::Tcx), Some(TcMode::Clsact), None] {
            counts.insert(("steer", tc_name(mode)), 0_u64);
        }
        for mode in [GuardMode::Native, GuardMode::Generic, GuardMode::Off] {
            counts.insert(("guard", guard_name(mode)), 0);
        }
        for mode in [TcMode::Netkit, TcMode::Tcx, TcMode::Clsact] {
            let is_this = u64::from(mode == return_path);
            counts.insert(("return_path", tc_name(Some(mode))), is_this);
        }
        for device in &self.state.devices {
            *counts.entry(("steer", tc_name(device.steer))).or_default() += 1;
            if device.role != DeviceRole::Endpoints {
                *counts
                    .entry(("guard", guard_name(device.guard)))
                    .or_default() += 1;
            }
        }
        let samples = counts.into_iter().map(|((program, mode), count)| {
            let pairs = labels([("mode", mode), ("program", program)]);
            (pairs, float(count))
        });
        gauge(
            "sluice_datapath_devices",
            "Devices by eBPF program and by how it is attached to them; off where it could not be attached",
            samples,
        )
    }

    fn denied(&self) -> MetricFamily {
        let sample = |source, count: usize| (labels([("source", source)]), float(count as u64));
        gauge(
            "sluice_denied_networks",
            "Networks that are denied, by the source of the entry",
            [
                sample("admin", self.denied_by_admin),
                sample("block-cidrs", self.denied_by_configuration),
            ],
        )
    }
}

fn tc_name(mode: Option<TcMode>) -> &'static str {
    match mode {
        Some(TcMode::Auto) => "auto",
        Some(TcMode::Tcx) => "tcx",
        Some(TcMode::Clsact) => "clsact",
        Some(TcMode::Netkit) => "netkit",
        None => "off",
    }
}

fn guard_name(mode: GuardMode) -> &'static str {
    match mode {
        GuardMode::Auto => "auto",
        GuardMode::Native => "native",
        GuardMode::Generic => "generic",
        GuardMode::Off => "off",
    }
}
