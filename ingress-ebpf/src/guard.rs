//! guard: drops malformed TCP to our frontends before a socket buffer is made for it.
//!
//! It never decides routing, and what it does not understand it passes.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use ingress_common::verdict::{Reason, Verdict};
use ingress_ebpf::decide;

use crate::context::XdpPacket;
use crate::maps::KernelTables;

/// Judges one packet.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> Reason {
    let reason = decide::guard(&XdpPacket(ctx), &KernelTables);
    if let Verdict::Drop = reason.verdict() {
        debug!(
            ctx,
            "guard: dropped a malformed packet, reason {}", reason as u32
        );
    }
    reason
}
