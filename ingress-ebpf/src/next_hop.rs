//! Next hops that are remembered: most packets leave with an Ethernet header that is known already, past
//! the kernel's lookups of route and neighbour.
//!
//! The kernel probes neighbours that are in use, and sees no use here. So an entry ends after a second, and
//! the next packet goes the kernel's own way (`bpf_redirect_neigh`), by which the kernel sees it. What
//! the kernel itself reports advances the epoch, which ends all entries at once.

use aya_ebpf::bindings::bpf_fib_lookup as FibLookup;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::TcContext;
use ingress_common::cache::{LIFETIME_NS, NextHop};
use ingress_common::steering::Settings;
use ingress_ebpf::parse::Network;
use ingress_ebpf::plain;

use crate::context::{SkbPacket, WritableHead, skb};
use crate::maps::{self, NEXT_HOPS};
use crate::return_path;

/// Forwards a packet whose next hop is known; `None` leaves it, unchanged, to the lookup.
#[inline(always)]
pub(crate) fn forward(ctx: &TcContext, settings: &Settings, epoch: u32) -> Option<i32> {
    let routed = plain::routed(&SkbPacket(ctx))?;
    let hop = NEXT_HOPS.get(routed.slot(settings.hash_key))?;
    let is_known = hop.destination == routed.destination
        && hop.source == routed.source
        && hop.protocol == u16::from(routed.protocol)
        && hop.epoch == epoch
        && maps::coarse_now() < hop.until;
    if !is_known || routed.ttl <= 1 || !fits(ctx, hop) {
        return None;
    }
    match routed.checksum {
        Some(checksum) => {
            let head = WritableHead::<IPV4_END>::of(ctx)?;
            head.set_word::<0>(hop.macs[0]);
            head.set_word::<4>(hop.macs[1]);
            head.set_word::<8>(hop.macs[2]);
            head.set_byte::<22>(routed.ttl - 1);
            head.set_half::<24>(plain::older(checksum));
        }
        None => {
            let head = WritableHead::<IPV6_END>::of(ctx)?;
            head.set_word::<0>(hop.macs[0]);
            head.set_word::<4>(hop.macs[1]);
            head.set_word::<8>(hop.macs[2]);
            head.set_byte::<21>(routed.ttl - 1);
        }
    }
    // SAFETY: no pointers; the kernel checks the device.
    Some(unsafe { bpf_redirect(hop.ifindex, 0) as i32 })
}

/// Whether the next device carries the packet, or each of its segments.
#[inline(always)]
fn fits(ctx: &TcContext, hop: &NextHop) -> bool {
    if skb(ctx).len <= u32::from(hop.mtu) + ETHERNET_BYTES {
        return true;
    }
    skb(ctx).gso_size != 0 && return_path::fit(ctx, hop.ifindex).is_ok()
}

/// Remembers the next hop of a packet that the kernel has found in this epoch, with its neighbour.
#[inline(always)]
pub(crate) fn remember(
    ctx: &TcContext,
    settings: &Settings,
    epoch: u32,
    network: &Network,
    route: &FibLookup,
) {
    // Behind extension headers there is another protocol than the one that `forward` sees.
    let Some(routed) = plain::routed(&SkbPacket(ctx)) else {
        return;
    };
    if routed.protocol != network.protocol {
        return;
    }
    let Some(entry) = NEXT_HOPS.get_ptr_mut(routed.slot(settings.hash_key)) else {
        return;
    };
    // SAFETY: the lookup has written this member.
    let mtu = unsafe { route.__bindgen_anon_1.mtu_result };
    let [d0, d1, d2, d3, d4, d5] = route.dmac;
    let [s0, s1, s2, s3, s4, s5] = route.smac;
    let hop = NextHop {
        source: routed.source,
        destination: routed.destination,
        until: maps::coarse_now() + LIFETIME_NS,
        epoch,
        ifindex: route.ifindex,
        protocol: routed.protocol.into(),
        mtu,
        macs: [
            u32::from_ne_bytes([d0, d1, d2, d3]),
            u32::from_ne_bytes([d4, d5, s0, s1]),
            u32::from_ne_bytes([s2, s3, s4, s5]),
        ],
    };
    // SAFETY: the entry is this CPU's, which runs one of these programs at a time.
    unsafe { *entry = hop };
}

const ETHERNET_BYTES: u32 = 14;
const IPV4_END: usize = 14 + 20;
const IPV6_END: usize = 14 + 40;
