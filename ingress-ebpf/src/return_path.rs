//! return_path: sends what leaves the ingress netns straight to its next hop, past FORWARD and
//! POSTROUTING.
//!
//! It takes a packet only when the answer would come back through steer; otherwise the host stack
//! would see half of a connection, and conntrack calls that invalid. What it does not take is
//! passed to the host stack.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    bpf_fib_lookup as FibLookup, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1,
};
use aya_ebpf::helpers::{bpf_check_mtu, bpf_fib_lookup, bpf_redirect_neigh};
use aya_ebpf::programs::TcContext;
use ingress_common::steering::Settings;
use ingress_common::verdict::Reason;
use ingress_ebpf::parse::{self, Network, Version};

use crate::context::{SkbPacket, skb, tail, words};
use crate::maps::{self, STEERED_DEVICES};
use crate::next_hop;

/// Forwards one packet; an error is the reason why it is left to the host.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> Result<i32, Reason> {
    let settings = maps::settings()?;
    // Before anything is looked up: what changes meanwhile ends what is remembered of it.
    let epoch = maps::epoch();
    if let Some(action) = next_hop::forward(ctx, settings, epoch) {
        return Ok(action);
    }
    by_lookup(ctx, settings, epoch)
}

/// The kernel's own way.
#[inline(always)]
fn by_lookup(ctx: &TcContext, settings: &Settings, epoch: u32) -> Result<i32, Reason> {
    let packet = SkbPacket(ctx);
    let network = parse::link(&packet).and_then(|link| parse::network(&packet, link))?;
    let mut place = MaybeUninit::uninit();
    let route = Route::ask(&mut place, &network, skb(ctx).ifindex);
    let has_neighbour = look_up(ctx, route)?;
    if STEERED_DEVICES.get_ptr(route.ifindex).is_none() {
        return Err(Reason::UnsteeredDevice);
    }
    if has_neighbour {
        next_hop::remember(ctx, settings, epoch, &network, route);
    }
    decrement_ttl(ctx, &network)?;
    Ok(send(route))
}

/// Looks up route and neighbour. Returns true if the neighbour's link-layer address is known.
#[inline(always)]
fn look_up(ctx: &TcContext, route: &mut FibLookup) -> Result<bool, Reason> {
    // SAFETY: the parameters are initialised and of the size that is told.
    let result = unsafe {
        bpf_fib_lookup(
            ctx.as_ptr(),
            &raw mut *route,
            size_of::<FibLookup>() as i32,
            0,
        )
    };
    match result {
        FIB_SUCCESS => fit(ctx, route.ifindex).map(|()| true),
        FIB_NO_NEIGHBOUR => fit(ctx, route.ifindex).map(|()| false),
        FIB_FRAGMENTATION_NEEDED => Err(Reason::TooBig),
        _ => Err(Reason::NoRoute),
    }
}

/// Compares the packet, or each of its segments, with what the next device carries: the lookup
/// does so neither for segments nor while the neighbour is unknown.
#[inline(always)]
pub(crate) fn fit(ctx: &TcContext, ifindex: u32) -> Result<(), Reason> {
    let mut mtu = 0;
    // SAFETY: the length is initialised, and 0 asks for that of the packet (kernel 5.12+).
    let result = unsafe { bpf_check_mtu(ctx.as_ptr(), ifindex, &raw mut mtu, 0, BPF_MTU_CHK_SEGS) };
    // Negative where the kernel can't tell.
    if result > 0 {
        return Err(Reason::TooBig);
    }
    Ok(())
}

/// Counts this node as a router would (RFC 1812 §5.3.1).
#[inline(always)]
fn decrement_ttl(ctx: &TcContext, network: &Network) -> Result<(), Reason> {
    let offset = match network.version {
        Version::V4 => network.offset + 8,
        Version::V6 => network.offset + 7,
    };
    let [ttl]: [u8; 1] = ctx.load(offset).map_err(|_| Reason::Unparsable)?;
    if ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if network.version == Version::V4 {
        // The checksum covers 16-bit words: TTL and protocol are one of them.
        let old = u16::from_ne_bytes([ttl, network.protocol]);
        let new = u16::from_ne_bytes([ttl - 1, network.protocol]);
        ctx.l3_csum_replace(network.offset + 10, old.into(), new.into(), 2)
            .map_err(|_| Reason::Unparsable)?;
    }
    ctx.store(offset, &(ttl - 1), 0)
        .map_err(|_| Reason::Unparsable)
}

#[inline(always)]
fn send(route: &FibLookup) -> i32 {
    let next_hop = if route.family == AF_INET {
        // SAFETY: the lookup wrote the IPv4 member for this family.
        let ipv4_nh = unsafe { route.__bindgen_anon_4.ipv4_dst };
        bpf_redir_neigh__bindgen_ty_1 {
            ipv6_nh: [ipv4_nh, 0, 0, 0],
        }
    } else {
        // SAFETY: the lookup wrote the IPv6 member for this family.
        let ipv6_nh = unsafe { route.__bindgen_anon_4.ipv6_dst };
        bpf_redir_neigh__bindgen_ty_1 { ipv6_nh }
    };
    let mut neighbour = bpf_redir_neigh {
        nh_family: route.family.into(),
        __bindgen_anon_1: next_hop,
    };
    // SAFETY: the parameters are initialised and of the size that is told (kernel 5.10+).
    unsafe {
        bpf_redirect_neigh(
            route.ifindex,
            &raw mut neighbour,
            size_of::<bpf_redir_neigh>() as i32,
            0,
        ) as i32
    }
}

/// The parameters of a route lookup, which the kernel overwrites with its result.
#[repr(C, align(8))]
struct Route(FibLookup);

impl Route {
    /// Fills in the parameters in place, and zeroes them word by word first: LLVM turns other ways to zero
    /// a block into a call of a `memset` that loops over bytes, which took 500 instructions a packet.
    #[inline(always)]
    fn ask<'a>(
        place: &'a mut MaybeUninit<Self>,
        network: &Network,
        ifindex: u32,
    ) -> &'a mut FibLookup {
        const {
            assert!(size_of::<Self>() == 64);
        }
        // SAFETY: eight words are the whole of it, and all zeros is a value of this struct of integers
        // and unions of them.
        let route = unsafe {
            for word in 0..8 {
                place.as_mut_ptr().cast::<u64>().add(word).write_volatile(0);
            }
            &mut place.assume_init_mut().0
        };
        route.l4_protocol = network.protocol;
        route.ifindex = ifindex;
        match network.version {
            Version::V4 => {
                route.family = AF_INET;
                route.__bindgen_anon_3.ipv4_src = tail(&network.source);
                route.__bindgen_anon_4.ipv4_dst = tail(&network.destination);
            }
            Version::V6 => {
                route.family = AF_INET6;
                route.__bindgen_anon_3.ipv6_src = words(&network.source);
                route.__bindgen_anon_4.ipv6_dst = words(&network.destination);
            }
        }
        route
    }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `linux/bpf.h`, `BPF_FIB_LKUP_RET_*`.
const FIB_SUCCESS: i64 = 0;
const FIB_NO_NEIGHBOUR: i64 = 7;
const FIB_FRAGMENTATION_NEEDED: i64 = 8;
/// `linux/bpf.h`.
const BPF_MTU_CHK_SEGS: u64 = 1;
