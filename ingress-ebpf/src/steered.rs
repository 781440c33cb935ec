//! Connections that are remembered: most packets belong to one that the ingress netns was found to have a
//! moment ago, so nobody is asked for its socket.
//!
//! The invariant: an entry never outlives its connection into another one of the same addresses and ports,
//! because that begins with a SYN (its answer, where the node began it), which is always judged, and the
//! stack that gets it gets what follows. Otherwise an entry ends after a second, and when the epoch advances.

use aya_ebpf::programs::TcContext;
use ingress_common::cache::{LIFETIME_NS, SteeredConnection};
use ingress_common::steering::Settings;
use ingress_common::verdict::Reason;
use ingress_ebpf::plain::{self, Segment};

use crate::context::{SkbPacket, skb};
use crate::maps::{self, STEERED_CONNECTIONS};

/// Why the ingress netns gets a packet, if it is of a connection that is remembered. A function of its own,
/// as the next one is, for the stack's sake.
#[inline(never)]
pub(crate) fn known(ctx: &TcContext, settings: &Settings, epoch: u32) -> Option<Reason> {
    if skb(ctx).vlan_present != 0 {
        return None;
    }
    let segment = plain::segment(&SkbPacket(ctx))?;
    if segment.opens() {
        return None;
    }
    let entry = STEERED_CONNECTIONS.get(segment.slot(settings.hash_key))?;
    let is_known = is_of(entry, &segment, skb(ctx).ifindex)
        && entry.epoch == epoch
        && maps::coarse_now() < entry.until;
    if !is_known {
        return None;
    }
    Some(if entry.reason == Reason::Upstream as u32 {
        Reason::Upstream
    } else {
        Reason::Frontend
    })
}

/// Remembers why the ingress netns got a packet, or forgets the connection of one that it did not get.
#[inline(never)]
pub(crate) fn remember(ctx: &TcContext, settings: &Settings, epoch: u32, reason: Reason) {
    if skb(ctx).vlan_present != 0 {
        return;
    }
    let Some(segment) = plain::segment(&SkbPacket(ctx)) else {
        return;
    };
    let Some(entry) = STEERED_CONNECTIONS.get_ptr_mut(segment.slot(settings.hash_key)) else {
        return;
    };
    let is_steered =
        reason as u32 == Reason::Frontend as u32 || reason as u32 == Reason::Upstream as u32;
    let (ifindex, now) = (skb(ctx).ifindex, maps::coarse_now());
    // SAFETY: the entry is this CPU's, which runs one program of this kind at a time; all values are integers.
    let known = unsafe { &mut *entry };
    let is_same = is_of(known, &segment, ifindex);
    if !is_steered {
        if is_same {
            known.until = 0;
        }
        return;
    }
    // A flood of SYNs takes nobody's place.
    if segment.opens() && !is_same && known.epoch == epoch && now < known.until {
        return;
    }
    *known = SteeredConnection {
        remote: segment.source,
        local: segment.destination,
        until: now + LIFETIME_NS,
        ports: segment.ports,
        ifindex,
        epoch,
        reason: reason as u32,
    };
}

#[inline(always)]
fn is_of(entry: &SteeredConnection, segment: &Segment, ifindex: u32) -> bool {
    entry.remote == segment.source
        && entry.local == segment.destination
        && entry.ports == segment.ports
        && entry.ifindex == ifindex
}
