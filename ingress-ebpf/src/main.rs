//! Entry points of the programs, and nothing else: each hands its context to the file that does
//! the work and its outcome to the counters.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod context;
mod dispatch;
mod flood;
mod guard;
mod maps;
mod next_hop;
mod return_path;
mod shortcut;
mod sockets;
mod steer;
mod steered;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, sk_lookup, sk_msg, sock_ops, xdp};
use aya_ebpf::programs::{SkLookupContext, SkMsgContext, SockOpsContext, TcContext, XdpContext};
use ingress_common::verdict::{Program, Reason, Verdict};

use crate::shortcut::End;

/// XDP on every uplink: drops what no stack should see, and answers SYNs of a flood.
#[xdp(frags)]
fn guard(ctx: XdpContext) -> u32 {
    let reason = guard::run(&ctx);
    maps::count(Program::Guard, reason);
    match reason.verdict() {
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Redirect => xdp_action::XDP_TX,
    }
}

/// TC ingress on every uplink and every device with local endpoints: steers our flows into the
/// ingress netns.
#[classifier]
fn steer(ctx: TcContext) -> i32 {
    let (reason, action) = steer::run(&ctx);
    maps::count(Program::Steer, reason);
    action
}

/// TC ingress on the host side of the gate: sends what leaves the ingress netns to its next hop.
#[classifier]
fn return_path(ctx: TcContext) -> i32 {
    match return_path::run(&ctx) {
        Ok(action) => {
            maps::count(Program::ReturnPath, Reason::Forwarded);
            action
        }
        Err(reason) => {
            maps::count(Program::ReturnPath, reason);
            NEXT
        }
    }
}

/// sk_lookup in the ingress netns: gives a new connection to a worker.
#[sk_lookup]
fn dispatch(ctx: SkLookupContext) -> u32 {
    let reason = dispatch::run(&ctx);
    maps::count(Program::Dispatch, reason);
    SK_PASS
}

/// `sock_ops` at the root of the cgroups: enrols connections between the proxy and pods of this node.
#[sock_ops]
fn enrol(ctx: SockOpsContext) -> u32 {
    if let Some(reason) = shortcut::enrol(&ctx) {
        maps::count(Program::Shortcut, reason);
    }
    GO_ON
}

/// `sk_msg` of the proxy's enrolled sockets: what the proxy sends to a pod.
#[sk_msg]
fn send_to_pod(ctx: SkMsgContext) -> u32 {
    maps::count(Program::Shortcut, shortcut::send(&ctx, End::Proxy));
    SK_PASS
}

/// `sk_msg` of the pods' enrolled sockets: what a pod sends to the proxy.
#[sk_msg]
fn send_to_proxy(ctx: SkMsgContext) -> u32 {
    maps::count(Program::Shortcut, shortcut::send(&ctx, End::Pod));
    SK_PASS
}

/// What leaves a packet to whoever is asked next: TCX (where this is `TCX_NEXT`) and clsact alike
/// go on to the programs and filters of others, which `TC_ACT_OK` would skip.
const NEXT: i32 = TC_ACT_UNSPEC;

/// `enum sk_action`: go on with the assigned socket, or with the ordinary lookup; with the redirect, or
/// by TCP.
const SK_PASS: u32 = 1;

/// Of a `sock_ops` program: the kernel goes on as it would without it.
const GO_ON: u32 = 1;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets GPL helpers be called by programs whose licence string it knows; this is the
/// GPL-2.0 side of the crate's dual licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
