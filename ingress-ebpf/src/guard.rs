//! guard: drops malformed TCP to our frontends, what comes from denied networks, and new connections
//! beyond the budget of their source, before a socket buffer is made for it.
//!
//! While the daemon says that there is a flood of SYNs, it answers them itself. It never decides
//! routing, and what it does not understand it passes.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use ingress_common::verdict::{Program, Reason, Verdict};
use ingress_ebpf::decide::screen;

use crate::context::XdpPacket;
use crate::flood;
use crate::maps::{self, KernelFrontends};

/// Judges one packet.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> Reason {
    if !maps::is_anybody_denied() && screen::is_ordinary(&XdpPacket(ctx)) {
        return Reason::Accepted;
    }
    let reason = judge(ctx);
    if reason.verdict() == Verdict::Drop && maps::should_log(Program::Guard, reason) {
        info!(ctx, "guard: dropped a packet, reason {}", reason as u32);
    }
    if reason as u32 == Reason::Opening as u32
        && let Some(window_scale) = maps::answering()
        && flood::answer(ctx, window_scale)
    {
        return Reason::SynAnswered;
    }
    reason
}

/// A function of its own, whose part of the 512 bytes of stack is free again when it returns.
#[inline(never)]
fn judge(ctx: &XdpContext) -> Reason {
    screen::guard(&XdpPacket(ctx), &KernelFrontends)
}
