//! shortcut: carries bytes between the proxy and pods of this node from socket to socket, past TCP,
//! devices and the programs on them.
//!
//! `enrol` (`sock_ops` at the root of the cgroups) puts both ends of a connection into maps when it is
//! established: the proxy's before its peer hears of it, the pod's before `accept(2)` returns it. `send`
//! (`sk_msg`) then puts what an end sends into the receive queue of the other, or leaves it to TCP.
//! Every connection begins, ends and closes by TCP, so that policies are asked about it.
//!
//! Other sockets are never touched: the proxy's end is made in the ingress netns and leads to an
//! endpoint of this node, and the pod's proves that it is the other end.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::sk_msg_md;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_msg_apply_bytes, bpf_setsockopt, bpf_skc_to_tcp_sock,
    bpf_sock_hash_update,
};
use aya_ebpf::maps::SockHash;
use aya_ebpf::programs::{SkMsgContext, SockOpsContext};
use ingress_common::shortcut::{
    ENROLLED_SYN_RETRIES, Flow, FlowSockets, LocalEndpoint, SHORTCUT_PRIORITY, ShortcutSettings,
};
use ingress_common::steering::{Address, mapped};
use ingress_common::verdict::Reason;
use ingress_ebpf::redirect::{Ends, REDIRECTED_BYTES_MAX, Sequence, is_one_connection, judge};

use crate::maps::{
    POD_SOCKETS, PROXY_SOCKETS, SHORTCUT_ENDPOINTS, SHORTCUT_FLOWS, SHORTCUT_SETTINGS,
};

/// Reads both places from a context. The kernel translates each read by its offset in the context, so
/// that a compiler must not merge two of them: they are volatile.
macro_rules! places {
    ($context:expr) => {{
        let context = $context;
        // SAFETY: the kernel gives every program a valid context, and the verifier checks each access.
        unsafe {
            let family = (&raw const (*context).family).read_volatile();
            let v4 = [
                (&raw const (*context).local_ip4).read_volatile(),
                (&raw const (*context).remote_ip4).read_volatile(),
            ];
            let local = (&raw const (*context).local_ip6).cast::<u32>();
            let remote = (&raw const (*context).remote_ip6).cast::<u32>();
            let v6 = [local, remote].map(|words| {
                [
                    words.read_volatile(),
                    words.add(1).read_volatile(),
                    words.add(2).read_volatile(),
                    words.add(3).read_volatile(),
                ]
            });
            let local_port = (&raw const (*context).local_port).read_volatile();
            let remote_port = (&raw const (*context).remote_port).read_volatile();
            let [local, remote] = if family == AF_INET {
                [mapped(v4[0].to_ne_bytes()), mapped(v4[1].to_ne_bytes())]
            } else {
                [address(v6[0]), address(v6[1])]
            };
            // `linux/bpf.h`: the first is in host byte order, the second in network byte order.
            let local = (local, (local_port as u16).to_be_bytes());
            (local, (remote, (u32::from_be(remote_port) as u16).to_be_bytes()))
        }
    }};
}

/// Enrols an end of a connection that is established, and forgets connections that are over. `None`
/// for everything that is not ours.
#[inline(always)]
pub(crate) fn enrol(ctx: &SockOpsContext) -> Option<Reason> {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => enrol_proxy(ctx, settings()?),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => enrol_pod(ctx, settings()?),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == TCP_CLOSE => {
            // Asked for at sockets of the proxy alone.
            let _ = SHORTCUT_FLOWS.remove(&flow(End::Proxy, places!(ctx.ops)));
            None
        }
        _ => None,
    }
}

fn enrol_proxy(ctx: &SockOpsContext, settings: &ShortcutSettings) -> Option<Reason> {
    let flow = flow(End::Proxy, places!(ctx.ops));
    if !is_endpoint(&flow) {
        return None;
    }
    // SAFETY: the context is that of this program, which the helper takes.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if netns != settings.proxy_netns {
        return None;
    }
    let sockets = FlowSockets {
        proxy: address_of_socket(ctx)?,
        pod: 0,
    };
    SHORTCUT_FLOWS.insert(flow, sockets, BPF_ANY).ok()?;
    if insert(ctx, &PROXY_SOCKETS, flow).is_err() || mark(ctx).is_err() {
        let _ = SHORTCUT_FLOWS.remove(&flow);
        return None;
    }
    let _ = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG);
    Some(Reason::ProxyEnrolled)
}

fn enrol_pod(ctx: &SockOpsContext, settings: &ShortcutSettings) -> Option<Reason> {
    let flow = flow(End::Pod, places!(ctx.ops));
    if !is_endpoint(&flow) {
        return None;
    }
    let sockets = SHORTCUT_FLOWS.get_ptr_mut(&flow)?;
    // SAFETY: the pointer is to a value of the map, of which each word is aligned; two connections
    // cannot have the same key at once, so nobody else writes it now.
    let sockets = unsafe { &mut *sockets };
    let proxy = Sequence {
        sends: read(sockets.proxy, settings.written_offset)?,
        receives: read(sockets.proxy, settings.read_offset)?,
    };
    // SAFETY: the kernel gives every program a valid context, and the verifier checks each access.
    let pod = unsafe {
        Sequence {
            sends: (*ctx.ops).snd_nxt,
            receives: (*ctx.ops).rcv_nxt,
        }
    };
    if sockets.pod != 0 || !is_one_connection(proxy, pod) {
        return Some(Reason::PodUnproven);
    }
    let address = address_of_socket(ctx)?;
    insert(ctx, &POD_SOCKETS, flow).ok()?;
    sockets.pod = address;
    Some(Reason::PodEnrolled)
}

/// Which end of a connection a socket is.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// The proxy's.
    Proxy,
    /// The pod's.
    Pod,
}

/// Redirects what an end sends, where it may be.
#[inline(always)]
pub(crate) fn send(ctx: &SkMsgContext, sender: End) -> Reason {
    // SAFETY: as in `enrol_pod`.
    let message = unsafe { &*ctx.msg };
    let flow = flow(sender, places!(ctx.msg));
    let reason = way(message, &flow, sender);
    if reason != Reason::Redirected {
        return reason;
    }
    let receivers = match sender {
        End::Proxy => &POD_SOCKETS,
        End::Pod => &PROXY_SOCKETS,
    };
    if message.size > REDIRECTED_BYTES_MAX {
        // SAFETY: the context is that of this program, which the helper takes.
        unsafe { bpf_msg_apply_bytes(ctx.msg, REDIRECTED_BYTES_MAX) };
    }
    if receivers.redirect_msg(ctx, flow, BPF_F_INGRESS) == SK_PASS {
        Reason::Redirected
    } else {
        // It has left the map, and TCP knows why.
        Reason::NotEnrolled
    }
}

fn way(message: &sk_msg_md, flow: &Flow, sender: End) -> Reason {
    let Some(settings) = settings().filter(|settings| settings.redirects != 0) else {
        return Reason::NotReady;
    };
    if matches!(sender, End::Proxy) && !is_eligible(message) {
        return Reason::NotEligible;
    }
    // SAFETY: a value read while it is written has the pod's socket or 0.
    let Some(sockets) = (unsafe { SHORTCUT_FLOWS.get(flow) }) else {
        return Reason::NotEnrolled;
    };
    let (sender, receiver) = match sender {
        End::Proxy => (sockets.proxy, sockets.pod),
        End::Pod => (sockets.pod, sockets.proxy),
    };
    match ends(sender, receiver, settings) {
        Some(ends) if receiver != 0 => judge(&ends),
        _ => Reason::NotEnrolled,
    }
}

/// Whether the proxy says that this may take the shortcut.
#[inline(always)]
fn is_eligible(message: &sk_msg_md) -> bool {
    // SAFETY: the kernel gives every program a valid context; the socket is checked for null.
    unsafe {
        let socket = message.__bindgen_anon_3.sk;
        !socket.is_null() && (*socket).priority == SHORTCUT_PRIORITY
    }
}

fn ends(sender: u64, receiver: u64, settings: &ShortcutSettings) -> Option<Ends> {
    Some(Ends {
        sender_state: read(sender, settings.state_offset)? as u8,
        receiver_state: read(receiver, settings.state_offset)? as u8,
        written: read(sender, settings.written_offset)?,
        read: read(receiver, settings.read_offset)?,
        unread_bytes: read(receiver, settings.unread_offset)?,
    })
}

/// Reads a word of a socket. The socket may be gone: what is read then belongs to something else, and
/// the map of sockets, which the kernel keeps, has the last word.
#[inline(always)]
fn read(socket: u64, offset: u32) -> Option<u32> {
    // SAFETY: the helper takes any address, and fails where there is no memory.
    unsafe { bpf_probe_read_kernel((socket + u64::from(offset)) as *const u32) }.ok()
}

fn settings() -> Option<&'static ShortcutSettings> {
    SHORTCUT_SETTINGS
        .get(0)
        .filter(|settings| settings.proxy_netns != 0)
}

#[inline(always)]
fn is_endpoint(flow: &Flow) -> bool {
    let endpoint = LocalEndpoint {
        address: flow.pod,
        port: flow.pod_port,
        reserved: [0; 2],
    };
    SHORTCUT_ENDPOINTS.get_ptr(&endpoint).is_some()
}

/// The kernel's address of the socket that the context is about.
#[inline(always)]
fn address_of_socket(ctx: &SockOpsContext) -> Option<u64> {
    // SAFETY: the context is valid, and the helper takes a socket that is not null.
    let socket = unsafe {
        let socket = (*ctx.ops).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        bpf_skc_to_tcp_sock(socket.cast())
    };
    (!socket.is_null()).then_some(socket as u64)
}

#[inline(always)]
fn insert(
    ctx: &SockOpsContext,
    sockets: &'static SockHash<Flow>,
    mut flow: Flow,
) -> Result<(), i64> {
    // SAFETY: the map is a socket hash (a static that the loader replaces by its descriptor) whose key
    // is a flow, and the context is that of this program.
    let result = unsafe {
        bpf_sock_hash_update(
            ctx.ops,
            (&raw const *sockets).cast_mut().cast(),
            (&raw mut flow).cast(),
            BPF_ANY,
        )
    };
    if result == 0 { Ok(()) } else { Err(result) }
}

/// Lets the proxy see that its socket is enrolled.
#[inline(always)]
fn mark(ctx: &SockOpsContext) -> Result<(), i64> {
    let mut retries = ENROLLED_SYN_RETRIES;
    // SAFETY: the context is that of this program, and the value an int of the size that is told.
    let result = unsafe {
        bpf_setsockopt(
            ctx.as_ptr(),
            IPPROTO_TCP,
            TCP_SYNCNT,
            (&raw mut retries).cast(),
            4,
        )
    };
    if result == 0 { Ok(()) } else { Err(result) }
}

/// Address and port, in network byte order.
type Place = (Address, [u8; 2]);

#[inline(always)]
fn flow(end: End, (local, remote): (Place, Place)) -> Flow {
    let ((pod, pod_port), (proxy, proxy_port)) = match end {
        End::Proxy => (remote, local),
        End::Pod => (local, remote),
    };
    Flow {
        pod,
        proxy,
        pod_port,
        proxy_port,
    }
}

#[inline(always)]
fn address(words: [u32; 4]) -> Address {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}

/// `linux/bpf.h`.
const BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: u32 = 4;
const BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: u32 = 5;
const BPF_SOCK_OPS_STATE_CB: u32 = 10;
const BPF_SOCK_OPS_STATE_CB_FLAG: i32 = 1 << 2;
const BPF_ANY: u64 = 0;
const BPF_F_INGRESS: u64 = 1;
const SK_PASS: i64 = 1;
const AF_INET: u32 = 2;
const IPPROTO_TCP: i32 = 6;
const TCP_SYNCNT: i32 = 7;
const TCP_CLOSE: u32 = 7;
