//! `sluice detach`: leaves a node without a trace of a daemon that was killed.

use anyhow::{Context as _, Result, bail};

use super::helper::Claim;
use crate::datapath::Remains;
use crate::settings::Paths;

/// Removes programs, maps, gate and ingress netns; returns what there was.
///
/// # Errors
///
/// An error if a daemon has them, or if the kernel refuses.
pub async fn detach(paths: &Paths) -> Result<String> {
    let claim = Claim::take(&paths.bpffs).context("failed to claim the datapath of this node")?;
    let Some(_claim) = claim else {
        bail!("a daemon has the datapath: end it first, it removes everything by itself");
    };
    let remains = Remains {
        bpffs: &paths.bpffs,
        netns: &paths.ingress_netns,
        gate: &paths.gate,
    };
    let removed = remains.remove().await?;
    if removed.is_empty() {
        return Ok("there was nothing to remove\n".to_owned());
    }
    let lines = removed.iter().map(|what| format!("removed {what}\n"));
    Ok(lines.collect())
}
