//! steer: carries packets of our flows into the ingress netns, past the host's netfilter hooks.
//!
//! Everything else goes to the host stack untouched, but for new connections from networks that may
//! not open any. Which is which says `decide`; here is what follows from it.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_redirect_peer, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use ingress_common::steering::Settings;
use ingress_common::verdict::{Program, Reason, Verdict};
use ingress_ebpf::decide::{self, Scope};
use ingress_ebpf::parse::{self, Fragment, Headers, Network, Tag};

use crate::NEXT;
use crate::context::{SkbPacket, skb, skb_ptr};
use crate::maps::{self, FRAGMENTS, KernelTables};
use crate::steered;

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
    // Before anything is looked up: what changes meanwhile ends what is remembered of it.
    let epoch = maps::epoch();
    if let Some(reason) = steered::known(ctx, settings, epoch) {
        return (reason, redirect(settings));
    }
    let Some(scope) = maps::scope(skb(ctx).ifindex) else {
        return (Reason::NotReady, NEXT);
    };
    let mut headers = Headers::NONE;
    let read = read_link(ctx, &mut headers)
        .and_then(|()| read_network(ctx, &mut headers))
        .and_then(|()| read_transport(ctx, &mut headers));
    if let Err(reason) = read {
        return (reason, NEXT);
    }
    let reason = judge(ctx, &headers, scope, settings);
    steered::remember(ctx, settings, epoch, reason);
    (reason, act(ctx, settings, &headers, reason))
}

/// A function of its own, as the next ones are: what it needs of the 512 bytes of stack is free
/// again when it returns.
#[inline(never)]
fn read_link(ctx: &TcContext, headers: &mut Headers) -> Result<(), Reason> {
    headers.link = parse::link(&SkbPacket(ctx))?;
    Ok(())
}

#[inline(never)]
fn read_network(ctx: &TcContext, headers: &mut Headers) -> Result<(), Reason> {
    parse::read_network(&SkbPacket(ctx), headers.link, &mut headers.network)
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
        settings,
    };
    let [outer, inner] = headers.link.tags;
    if !decide::is_taken(skb(ctx).ifindex, [tag(ctx), outer, inner], &tables) {
        return Reason::ForeignVlan;
    }
    let reason = decide::steer(
        &headers.network,
        &headers.transport,
        scope,
        settings,
        &tables,
    );
    note_fragment(&headers.network, reason);
    reason
}

#[inline(always)]
fn act(ctx: &TcContext, settings: &Settings, headers: &Headers, reason: Reason) -> i32 {
    match reason.verdict() {
        Verdict::Redirect => {
            strip_tags(ctx, headers.link.payload);
            redirect(settings)
        }
        Verdict::Pass => {
            if reason as u32 == Reason::NoListener as u32 {
                leave_to_host(ctx);
            }
            NEXT
        }
        Verdict::Drop => TC_ACT_SHOT,
    }
}

/// Has connections of the host be looked for, from this new one on.
#[inline(always)]
fn leave_to_host(ctx: &TcContext) {
    maps::mark_left_to_host();
    if maps::should_log(Program::Steer, Reason::NoListener) {
        info!(
            ctx,
            "steer: nobody listens, a new connection is left to the host"
        );
    }
}

/// Lets later fragments, which have no ports, go where the first one goes: identifications are used
/// again, so what an earlier datagram has left is forgotten.
#[inline(always)]
fn note_fragment(network: &Network, reason: Reason) {
    if network.fragment == Fragment::First
        && let Some(datagram) = decide::datagram(network)
    {
        // A full LRU map makes room by itself; an error would only cost this datagram.
        if reason.verdict() == Verdict::Redirect {
            // SAFETY: the helper takes no arguments.
            let now = unsafe { bpf_ktime_get_ns() };
            let _ = FRAGMENTS.insert(datagram, now, 0);
        } else {
            let _ = FRAGMENTS.remove(datagram);
        }
    }
}

/// The outer tag, which is usually in the metadata of the buffer, where parsing does not see it.
#[inline(always)]
fn tag(ctx: &TcContext) -> Tag {
    let skb = skb(ctx);
    if skb.vlan_present == 0 {
        return Tag::NONE;
    }
    Tag::new(u16::from_be(skb.vlan_proto as u16), skb.vlan_tci as u16)
}

/// Removes VLAN tags: the ingress netns has no VLAN devices.
#[inline(always)]
fn strip_tags(ctx: &TcContext, link_bytes: usize) {
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
