//! Removes what a daemon has left in the kernel that was killed and is not to come back.

use std::io;
use std::path::Path;

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;

use super::netns::Namespace;
use super::pins::remove_pins;
use super::{DatapathError, dedicated, gate, io_error, netlink};

/// Where a daemon keeps its datapath.
#[derive(Clone, Copy, Debug)]
pub struct Remains<'a> {
    /// Directory in bpffs for maps and links.
    pub bpffs: &'a Path,
    /// Name of the ingress netns.
    pub netns: &'a str,
    /// Name of the host side of the gate.
    pub gate: &'a str,
}

impl Remains<'_> {
    /// Detaches all programs and removes maps, gate and ingress netns. Returns what there was, a line
    /// each. Nobody may use them meanwhile.
    ///
    /// # Errors
    ///
    /// An error that says what could not be removed; the rest may be gone then.
    pub async fn remove(self) -> Result<Vec<String>, DatapathError> {
        let host = Namespace::current().map_err(io_error("open the host's netns"))?;
        let (netlink, _) = netlink::Netlink::open(&host).map_err(io_error("reach netlink"))?;
        let mut removed = Vec::new();
        for link in netlink.links().await? {
            // Where the kernel has TCX, links are pinned, and go with their pins.
            let filters = qdisc_detach_program(&link.name, TcAttachType::Ingress, STEER);
            if filters.is_ok() {
                removed.push(format!("the filter `{STEER}` of device `{}`", link.name));
            }
        }
        let ingress = Namespace::open(self.netns).ok();
        let back = dedicated::restore(self.bpffs, &host, &netlink, ingress.as_ref()).await?;
        removed.extend(back.map(|device| {
            format!(
                "device `{device}` from the ingress netns: it is back with its addresses and routes"
            )
        }));
        let pins = std::fs::read_dir(self.bpffs).is_ok_and(|mut entries| entries.next().is_some());
        remove_pins(self.bpffs).map_err(io_error("remove the pins"))?;
        if pins {
            removed.push(format!(
                "programs and maps pinned in `{}`",
                self.bpffs.display()
            ));
        }
        if netlink.link(self.gate).await?.is_some() {
            gate::close(self.gate, &netlink).await?;
            removed.push(format!("the gate `{}`", self.gate));
        }
        match Namespace::remove(self.netns) {
            Ok(()) => removed.push(format!("the network namespace `{}`", self.netns)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("remove the ingress netns")(error)),
        }
        Ok(removed)
    }
}

/// The name under which clsact filters of ours are attached.
const STEER: &str = "steer";
