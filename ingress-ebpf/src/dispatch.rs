//! dispatch: chooses the worker of a new connection, in the ingress netns.
//!
//! Ports are map entries, so they come and go without a bind. The less loaded of two workers is
//! taken; which two is a function of the client's address and port, so that the last ACK of a
//! handshake with a SYN cookie meets the same candidates as its SYN.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::programs::SkLookupContext;
use ingress_common::socket::{Port, WORKERS_MAX, listener_index};
use ingress_common::verdict::Reason;

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
    let (first, second) = candidates(lookup, workers);
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

/// Two workers, different where there are two.
#[inline(always)]
fn candidates(lookup: &bpf_sk_lookup, workers: u32) -> (u32, u32) {
    let address = if lookup.family == AF_INET {
        lookup.remote_ip4
    } else {
        lookup.remote_ip6[0] ^ lookup.remote_ip6[1] ^ lookup.remote_ip6[2] ^ lookup.remote_ip6[3]
    };
    let hash = mix(address ^ (u32::from(lookup.remote_port) << 16) ^ lookup.local_port);
    let first = scale(hash, workers);
    let second = first + 1 + scale(mix(hash), workers - 1);
    (
        first,
        if second < workers {
            second
        } else {
            second - workers
        },
    )
}

/// Maps a hash to `0..n` without a division.
#[inline(always)]
fn scale(hash: u32, n: u32) -> u32 {
    ((u64::from(hash) * u64::from(n)) >> 32) as u32
}

/// The finaliser of `MurmurHash3`: every bit of the input moves every bit of the output.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

const AF_INET: u32 = 2;
/// `linux/bpf.h`: the choice stands, whatever reuseport group the socket is in.
const BPF_SK_LOOKUP_F_NO_REUSEPORT: u64 = 2;
