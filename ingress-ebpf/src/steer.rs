//! steer: carries packets of our flows into the ingress netns, past the host's netfilter hooks.
//!
//! Everything else goes to the host stack untouched. Which is which says `decide`; here is what
//! follows from it.

use aya_ebpf::helpers::{bpf_redirect_peer, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use ingress_common::steering::Settings;
use ingress_common::verdict::{Program, Reason, Verdict};
use ingress_ebpf::decide::{self, Scope};
use ingress_ebpf::parse::{self, Fragment, Headers, Network};

use crate::NEXT;
use crate::context::{SkbPacket, skb, skb_ptr};
use crate::maps::{self, FRAGMENTS, KernelTables};

/// Judges one packet and does what follows.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> (Reason, i32) {
    let settings = match maps::settings() {
        Ok(settings) => settings,
        Err(reason) => return (reason, NEXT),
    };
    if skb(ctx).pkt_type != PACKET_HOST {
        return (Reason::OtherHost, NEXT);
    }
    let Some(scope) = maps::scope(skb(ctx).ifindex) else {
        return (Reason::NotReady, NEXT);
    };
    let mut headers = Headers::NONE;
    let read = read_network(ctx, &mut headers).and_then(|()| read_transport(ctx, &mut headers));
    if let Err(reason) = read {
        return (reason, NEXT);
    }
    let reason = judge(ctx, &headers, scope, settings);
    (reason, act(ctx, settings, &headers, reason))
}

/// A function of its own, as the next two are: what it needs of the 512 bytes of stack is free
/// again when it returns.
#[inline(never)]
fn read_network(ctx: &TcContext, headers: &mut Headers) -> Result<(), Reason> {
    let packet = SkbPacket(ctx);
    headers.link = parse::link(&packet)?;
    headers.network = parse::network(&packet, headers.link)?;
    Ok(())
}

#[inline(never)]
fn read_transport(ctx: &TcContext, headers: &mut Headers) -> Result<(), Reason> {
    let Headers {
        network, transport, ..
    } = headers;
    parse::read_transport(&SkbPacket(ctx), network, transport)
}

#[inline(never)]
fn judge(ctx: &TcContext, headers: &Headers, scope: Scope, settings: &Settings) -> Reason {
    let tables = KernelTables {
        ctx,
        version: headers.network.version,
        ingress: settings.ingress_netns,
    };
    let reason = decide::steer(
        &headers.network,
        &headers.transport,
        scope,
        settings,
        &tables,
    );
    if reason.verdict() == Verdict::Redirect {
        remember_fragment(&headers.network);
    }
    reason
}

#[inline(always)]
fn act(ctx: &TcContext, settings: &Settings, headers: &Headers, reason: Reason) -> i32 {
    if reason.verdict() != Verdict::Redirect {
        if reason as u32 == Reason::NoListener as u32 {
            leave_to_host(ctx);
        }
        return NEXT;
    }
    strip_tags(ctx, headers.link.payload);
    redirect(settings)
}

/// Has connections of the host be looked for, from this new one on.
#[inline(always)]
fn leave_to_host(ctx: &TcContext) {
    maps::mark_left_to_host();
    if maps::is_worth_words(Program::Steer, Reason::NoListener) {
        info!(
            ctx,
            "steer: nobody listens, a new connection is left to the host"
        );
    }
}

/// Lets later fragments of a steered datagram follow; they have no ports.
#[inline(always)]
fn remember_fragment(network: &Network) {
    if let Fragment::First(_) = network.fragment
        && let Some(datagram) = decide::datagram(network)
    {
        // A full LRU map makes room by itself; an error would only cost this datagram.
        let _ = FRAGMENTS.insert(datagram, 1, 0);
    }
}

/// Removes VLAN tags: the ingress netns has no VLAN devices.
#[inline(always)]
fn strip_tags(ctx: &TcContext, link_bytes: usize) {
    // The outer tag is usually in the metadata of the buffer, where parsing does not see it.
    let mut tags = (link_bytes - 14) / 4;
    if skb(ctx).vlan_present != 0 {
        tags += 1;
    }
    for _ in 0..3 {
        if tags == 0 {
            break;
        }
        // SAFETY: the context is the one that the kernel gave us.
        if unsafe { bpf_skb_vlan_pop(skb_ptr(ctx)) } != 0 {
            break;
        }
        tags -= 1;
    }
}

#[inline(always)]
fn redirect(settings: &Settings) -> i32 {
    // SAFETY: no pointers; the kernel checks the device (5.10+).
    unsafe { bpf_redirect_peer(settings.gate_ifindex, 0) as i32 }
}

/// `linux/if_packet.h`: addressed to this host at the link layer.
const PACKET_HOST: u32 = 0;
