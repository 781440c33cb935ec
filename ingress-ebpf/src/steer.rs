//! steer: carries packets of our flows into the ingress netns, past the host's netfilter hooks.
//!
//! Everything else goes to the host stack untouched. A connection stays where it began: new ones
//! are steered only while a worker listens, packets of connections that a host listener accepted
//! are left to the host.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_tuple;
use aya_ebpf::helpers::{bpf_redirect_peer, bpf_sk_release, bpf_skb_vlan_pop, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::info;
use ingress_common::steering::Settings;
use ingress_common::verdict::{Program, Reason};
use ingress_ebpf::decide::{self, Destination};
use ingress_ebpf::parse::{self, Fragment, Network, Transport, Version};

use crate::context::{SkbPacket, skb, skb_ptr, tail, words};
use crate::maps::{self, FRAGMENTS, KernelTables};

/// Steers one packet; an error is the reason why it is left to the host.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) -> Result<(Reason, i32), Reason> {
    let settings = maps::settings()?;
    if skb(ctx).pkt_type != PACKET_HOST {
        return Err(Reason::OtherHost);
    }
    let packet = SkbPacket(ctx);
    let link = parse::link(&packet)?;
    let network = parse::network(&packet, link)?;
    let transport = parse::transport(&packet, &network)?;
    let reason = match decide::steer(&network, &transport, settings, &KernelTables) {
        Destination::Host(reason) => return Err(reason),
        Destination::Ingress(reason) => reason,
        Destination::Upstream => {
            let netns = u64::from(settings.ingress_netns);
            if state_of_connection(ctx, &network, &transport, netns).is_none() {
                return Err(Reason::NotOurs);
            }
            Reason::Upstream
        }
        Destination::Frontend { group, opens } => {
            frontend(ctx, &network, &transport, group, opens)?
        }
    };
    remember_fragment(&network);
    strip_tags(ctx, link.payload);
    Ok((reason, redirect(settings)))
}

/// Decides about a packet to a frontend by who serves, or would serve, its connection.
#[inline(always)]
fn frontend(
    ctx: &TcContext,
    network: &Network,
    transport: &Transport,
    group: u32,
    opens: bool,
) -> Result<Reason, Reason> {
    if opens {
        if !maps::is_listening(group) {
            maps::mark_left_to_host();
            if maps::is_worth_words(Program::Steer, Reason::NoListener) {
                info!(
                    ctx,
                    "steer: nobody listens for group {}, left to the host", group
                );
            }
            return Err(Reason::NoListener);
        }
    } else if maps::host_may_have_connections() && is_host_connection(ctx, network, transport) {
        return Err(Reason::HostConnection);
    }
    Ok(Reason::Frontend)
}

/// Whether the host netns has a TCP socket for this very connection.
#[inline(always)]
fn is_host_connection(ctx: &TcContext, network: &Network, transport: &Transport) -> bool {
    let state = state_of_connection(ctx, network, transport, BPF_F_CURRENT_NETNS);
    // One that is over in all but name has nothing to lose, and its client may have begun another
    // with the same port, which is ours.
    state.is_some_and(|state| state != TCP_LISTEN && state != TCP_TIME_WAIT)
}

/// The state of the TCP socket that a netns has for this very connection, or that listens for it.
#[inline(always)]
fn state_of_connection(
    ctx: &TcContext,
    network: &Network,
    transport: &Transport,
    netns: u64,
) -> Option<u32> {
    let Transport::Tcp {
        source,
        destination,
        ..
    } = *transport
    else {
        return None;
    };
    // `bpf_sock_tuple` as words: the addresses, then both ports in one.
    let ports = u32::from_ne_bytes([source[0], source[1], destination[0], destination[1]]);
    let (mut tuple, tuple_bytes) = match network.version {
        Version::V4 => (
            [
                tail(&network.source),
                tail(&network.destination),
                ports,
                0,
                0,
                0,
                0,
                0,
                0,
            ],
            12,
        ),
        Version::V6 => {
            let [a, b, c, d] = words(&network.source);
            let [e, f, g, h] = words(&network.destination);
            ([a, b, c, d, e, f, g, h, ports], 36)
        }
    };
    // SAFETY: the tuple is initialised and its size is one of the two that the helper takes; the
    // socket is released on the one path on which there is one.
    unsafe {
        let socket = bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            (&raw mut tuple).cast::<bpf_sock_tuple>(),
            tuple_bytes,
            netns,
            0,
        );
        if socket.is_null() {
            return None;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        Some(state)
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
/// `linux/bpf.h`: the netns of the device that the packet came in on.
const BPF_F_CURRENT_NETNS: u64 = u64::MAX;
/// `net/tcp_states.h`.
const TCP_TIME_WAIT: u32 = 6;
const TCP_LISTEN: u32 = 10;
