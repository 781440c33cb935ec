//! Questions to the sockets of the host and of the ingress netns, asked while a packet waits.
//!
//! Each lookup takes a reference to what it finds and gives it back on every path.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie};
use aya_ebpf::programs::TcContext;
use ingress_ebpf::decide::{Connection, Socket, Stack};
use ingress_ebpf::parse::{Network, Version};

use crate::context::{SkbPacket, tail, words};

/// What a stack has for a TCP connection; `ingress` is the id of the ingress netns.
#[inline(never)]
pub(crate) fn state(
    ctx: &TcContext,
    stack: Stack,
    version: Version,
    connection: &Connection,
    ingress: u32,
) -> Option<Socket> {
    let netns = match stack {
        Stack::Host => BPF_F_CURRENT_NETNS,
        Stack::Ingress => u64::from(ingress),
    };
    let socket = look_up(ctx, version, connection, netns);
    if socket.is_null() {
        return None;
    }
    // SAFETY: the lookup gave a socket, whose reference is given back here and nowhere else.
    let state = unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    };
    Some(match state {
        TCP_LISTEN => Socket::Listening,
        TCP_TIME_WAIT => Socket::TimeWait,
        _ => Socket::Open,
    })
}

/// Whether the packet brings back a cookie by which a listener of the ingress netns has answered
/// its connection's SYN. The kernel knows of none unless the listener's queue was full of late.
#[inline(never)]
pub(crate) fn is_cookie_valid(
    ctx: &TcContext,
    network: &Network,
    connection: &Connection,
    ingress: u32,
) -> bool {
    let packet = SkbPacket(ctx);
    let (mut ip, mut tcp) = ([0; IP_BYTES], [0; TCP_BYTES]);
    if !packet.load_into(network.offset, &mut ip) || !packet.load_into(network.payload, &mut tcp) {
        return false;
    }
    let socket = look_up(ctx, network.version, connection, ingress.into());
    if socket.is_null() {
        return false;
    }
    // SAFETY: both headers are initialised and of the sizes that are told, and the reference to
    // the socket is given back here and nowhere else.
    unsafe {
        let result = bpf_tcp_check_syncookie(
            socket.cast(),
            ip.as_mut_ptr().cast(),
            IP_BYTES as u32,
            tcp.as_mut_ptr().cast(),
            TCP_BYTES as u32,
        );
        bpf_sk_release(socket.cast());
        result == 0
    }
}

#[inline(always)]
fn look_up(
    ctx: &TcContext,
    version: Version,
    connection: &Connection,
    netns: u64,
) -> *mut bpf_sock {
    let Connection { remote, local } = connection;
    // `bpf_sock_tuple` as words: the addresses, then both ports in one.
    let ports = u32::from_ne_bytes([remote.port[0], remote.port[1], local.port[0], local.port[1]]);
    let (mut tuple, tuple_bytes) = match version {
        Version::V4 => {
            let (remote, local) = (tail(&remote.address), tail(&local.address));
            ([remote, local, ports, 0, 0, 0, 0, 0, 0], 12)
        }
        Version::V6 => {
            let [a, b, c, d] = words(&remote.address);
            let [e, f, g, h] = words(&local.address);
            ([a, b, c, d, e, f, g, h, ports], 36)
        }
    };
    // SAFETY: the tuple is initialised and its size is one of the two that the helper takes.
    unsafe {
        bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            (&raw mut tuple).cast::<bpf_sock_tuple>(),
            tuple_bytes,
            netns,
            0,
        )
    }
}

/// `linux/bpf.h`: the netns of the device that the packet came in on.
const BPF_F_CURRENT_NETNS: u64 = u64::MAX;
/// `net/tcp_states.h`.
const TCP_TIME_WAIT: u32 = 6;
const TCP_LISTEN: u32 = 10;
/// Of an IPv6 header; IPv4 headers are shorter, but TCP follows.
const IP_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
