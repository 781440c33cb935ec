//! dispatch: chooses the worker of a new connection, in the ingress netns.
//!
//! Ports are map entries, so they come and go without a bind. The less loaded of two workers is
//! taken; which two says `choose`.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use ingress_common::socket::{Port, WORKERS_MAX, listener_index};
use ingress_common::verdict::Reason;
use ingress_ebpf::choose::candidates;

use crate::maps::{self, LISTENERS, PORTS};

/// Assigns the connection to a worker's listening socket, if its port is ours.
#[inline(always)]
pub(crate) fn run(ctx: &SkLookupContext) -> Reason {
    // SAFETY: the kernel gives every program a valid context, which the verifier checks.
    let lookup = unsafe { &*ctx.lookup };
    let Ok(settings) = maps::settings() else {
        return Reason::NotReady;
    };
    let port = Port {
        port: (lookup.local_port as u16).to_be_bytes(),
        protocol: lookup.protocol as u8,
        reserved: 0,
    };
    // SAFETY: the value is one aligned word.
    let Some(&group) = (unsafe { PORTS.get(&port) }) else {
        return Reason::NotOurs;
    };
    let workers = settings.workers.clamp(1, WORKERS_MAX);
    let (address, ports) = client(lookup);
    let (first, second) = candidates(address, ports, settings.hash_key, workers);
    let (best, other) = if maps::connections(second) < maps::connections(first) {
        (second, first)
    } else {
        (first, second)
    };
    if assign(ctx, group, best) || assign(ctx, group, other) {
        Reason::Assigned
    } else {
        Reason::NoListener
    }
}

#[inline(always)]
fn assign(ctx: &SkLookupContext, group: u32, worker: u32) -> bool {
    let index = listener_index(group, worker);
    LISTENERS
        .redirect_sk_lookup(ctx, index, BPF_SK_LOOKUP_F_NO_REUSEPORT)
        .is_ok()
}

/// The client's address as four words, and both ports in one.
#[inline(always)]
fn client(lookup: &bpf_sk_lookup) -> ([u32; 4], u32) {
    // The address of the other version reads as 0.
    let [a, b, c, d] = lookup.remote_ip6;
    let address = [a, b, c, d ^ lookup.remote_ip4];
    let ports = (u32::from(lookup.remote_port) << 16) ^ lookup.local_port;
    (address, ports)
}

/// `linux/bpf.h`: the choice stands, whatever reuseport group the socket is in.
const BPF_SK_LOOKUP_F_NO_REUSEPORT: u64 = 2;
