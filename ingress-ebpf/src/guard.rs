//! guard: drops malformed TCP to our frontends, what comes from denied networks, and new connections
//! beyond the budget of their source, before a socket buffer is made for it.
//!
//! It never decides routing, and what it does not understand it passes.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use ingress_common::verdict::{Program, Reason, Verdict};
use ingress_ebpf::decide::screen;

use crate::context::XdpPacket;
use crate::maps::{self, KernelFrontends};

/// Judges one packet.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> Reason {
    let reason = screen::guard(&XdpPacket(ctx), &KernelFrontends);
    if reason.verdict() == Verdict::Drop && maps::should_log(Program::Guard, reason) {
        info!(ctx, "guard: dropped a packet, reason {}", reason as u32);
    }
    reason
}
