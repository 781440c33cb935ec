//! The state of the datapath, as `sluice status` and the metrics show it.

use serde::{Deserialize, Serialize};

use super::Datapath;
use super::addresses::FrontendAddress;
use super::attach::TcMode;
use super::devices::DeviceStatus;
use super::maps::Count;
use super::shortcut::ShortcutStatus;

/// The state of the datapath, for `sluice status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The programs of the way in and out of the ingress netns.
    pub gate: Option<GateStatus>,
    /// Devices with programs on them.
    pub devices: Vec<DeviceStatus>,
    /// Packets by program and reason.
    pub counters: Vec<Count>,
    /// Addresses that clients reach this node by, without adopted ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frontends: Vec<FrontendAddress>,
    /// Addresses of endpoints that are reached past the host's netfilter hooks.
    pub direct_endpoints: usize,
    /// The shortcut to pods of this node.
    pub shortcut: ShortcutStatus,
    /// Whether there is a flood of SYNs, which the guard answers.
    pub is_flooded: bool,
}

/// What joins the host and the ingress netns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GateStatus {
    /// Name of its device in the host.
    pub device: String,
    /// Name of the ingress netns, in which `dispatch` is attached as sk_lookup.
    pub netns: String,
    /// How `return_path` is attached.
    pub return_path: TcMode,
}

impl Datapath {
    /// What is attached, and what the programs counted.
    pub fn status(&self) -> Status {
        Status {
            gate: Some(GateStatus {
                device: self.settings.gate.clone(),
                netns: self.settings.netns.clone(),
                return_path: self.return_path,
            }),
            devices: self.device_status(),
            counters: self.maps.counts(),
            frontends: self.frontends(),
            direct_endpoints: self.reach.load().direct.len(),
            shortcut: self.shortcut.status(),
            is_flooded: self.flood.is_answered(),
        }
    }

    fn device_status(&self) -> Vec<DeviceStatus> {
        let mut devices = self.devices.status();
        devices.extend(self.dedicated.iter().map(|device| device.status().clone()));
        devices
    }

    fn frontends(&self) -> Vec<FrontendAddress> {
        let mut frontends = self.devices.frontends();
        if let Some(device) = &self.dedicated {
            let given_by = format!("device {}", device.status().name);
            frontends.extend(device.addresses().iter().map(|address| FrontendAddress {
                address: *address,
                given_by: given_by.clone(),
            }));
        }
        frontends
    }
}
