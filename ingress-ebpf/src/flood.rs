//! Answers SYNs in the place of the listener while there is a flood of them: with a cookie that the
//! kernel makes for the listener and takes back from it, and out of the device that they came in on.
//!
//! Nothing is allocated and nothing is remembered. A SYN that is out of the ordinary (IP options,
//! extension headers, a source that no client has) is passed, and the listener answers it.

use core::hint::black_box;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{
    bpf_check_mtu, bpf_csum_diff, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie,
    bpf_xdp_store_bytes,
};
use aya_ebpf::programs::XdpContext;
use ingress_common::guard::Mac;
use ingress_common::steering::{Address, mapped};
use ingress_ebpf::packet::Packet as _;
use ingress_ebpf::parse::{self, Version, protocol};
use ingress_ebpf::syn_ack::{self, Header, Node, TCP_BYTES, TCP_BYTES_MAX};

use crate::context::{XdpPacket, tail, words};
use crate::maps::{self, ANSWERING_DEVICES};

/// Makes the SYN-ACK of a SYN to a frontend, in place; false where the listener has to.
///
/// Functions of their own use the 512 bytes of stack one after the other.
#[inline(never)]
pub(crate) fn answer(ctx: &XdpContext, window_scale: u8) -> bool {
    let mut syn = Syn {
        macs: [0; 12],
        version: Version::V4,
        offset: 0,
        payload: 0,
        source: [0; 16],
        destination: [0; 16],
    };
    if !read(ctx, &mut syn) || !is_welcome(&syn.source) {
        return false;
    }
    let bytes = answer_tcp(ctx, &syn, window_scale);
    bytes != 0 && answer_ip(ctx, &syn, bytes) && answer_link(ctx, &syn)
}

/// The headers of a SYN that come before TCP.
struct Syn {
    /// Where the frame goes, and where it comes from.
    macs: [u8; 12],
    version: Version,
    /// Bytes before the IP header.
    offset: usize,
    /// Bytes before the TCP header.
    payload: usize,
    source: Address,
    destination: Address,
}

/// Whether the frame is for the device that it came in on: a switch that does not know where an
/// address is sends frames to everybody.
#[inline(always)]
fn is_for_this_device(ctx: &XdpContext, macs: &[u8; 12]) -> bool {
    // SAFETY: the kernel gives every XDP program a valid context, and the verifier checks the access.
    let device = unsafe { (*ctx.ctx).ingress_ifindex };
    // SAFETY: a value that user space replaces meanwhile costs this packet its answer at most.
    let Some(&own) = (unsafe { ANSWERING_DEVICES.get(&device) }) else {
        return false;
    };
    let to: Mac = [macs[0], macs[1], macs[2], macs[3], macs[4], macs[5]];
    to == own
}

/// Reads the headers before TCP; false if they are out of the ordinary, or the frame is for another device.
#[inline(never)]
fn read(ctx: &XdpContext, syn: &mut Syn) -> bool {
    let packet = XdpPacket(ctx);
    let Ok(link) = parse::link(&packet) else {
        return false;
    };
    if !packet.load_into(0, &mut syn.macs) || !is_for_this_device(ctx, &syn.macs) {
        return false;
    }
    let mut head = [0; IPV4_BYTES];
    if !packet.load_into(link.payload, &mut head) {
        return false;
    }
    syn.offset = link.payload;
    if head[0] == IPV4_WITHOUT_OPTIONS {
        syn.payload = link.payload + IPV4_BYTES;
        syn.source = mapped([head[12], head[13], head[14], head[15]]);
        syn.destination = mapped([head[16], head[17], head[18], head[19]]);
        let is_fragment = head[6] & IPV4_FRAGMENT != 0 || head[7] != 0;
        return head[9] == protocol::TCP && !is_fragment;
    }
    syn.version = Version::V6;
    syn.payload = link.payload + IPV6_BYTES;
    head[0] >> 4 == 6
        && head[6] == protocol::TCP
        && packet.load_into(link.payload + 8, &mut syn.source)
        && packet.load_into(link.payload + 24, &mut syn.destination)
}

/// Whether the listener would get a SYN from this source.
#[inline(always)]
fn is_welcome(source: &Address) -> bool {
    syn_ack::is_unicast(source)
        && maps::settings().is_ok_and(|settings| maps::may_connect(settings, source))
}

/// Turns the TCP header into that of the SYN-ACK. Returns the bytes of the header; 0 where the listener
/// has to answer.
#[inline(never)]
fn answer_tcp(ctx: &XdpContext, syn: &Syn, window_scale: u8) -> usize {
    let mut header: Header = [0; TCP_BYTES_MAX];
    let Some(bytes) = load(ctx, syn.payload, &mut header) else {
        return 0;
    };
    let options = syn_ack::read(&header, bytes);
    let cookie = cookie(ctx, syn, &mut header, bytes);
    if cookie < 0 {
        return 0;
    }
    let node = Node {
        cookie: cookie as u32,
        mss: mss(ctx, syn.version),
        clock_ms: (maps::now() / 1_000_000) as u32,
        window_scale,
    };
    syn_ack::write(&mut header, &options, &node);
    // The pseudo header (RFC 9293 §3.1); what makes a mapped address of one of IPv4 adds nothing.
    let [high, low] = (bytes as u16).to_be_bytes();
    let rest = u32::from_ne_bytes([0, protocol::TCP, high, low]);
    let sum = add(&syn.source, 16, add(&syn.destination, 16, rest));
    let Some(bytes) = checked(bytes) else {
        return 0;
    };
    let sum = add(&header, bytes, sum);
    syn_ack::set_checksum(&mut header, 16, sum);
    // SAFETY: `checked` has bounded `bytes` by the size of the header, all of which is initialised.
    if unsafe { store_from(ctx, syn.payload, header.as_ptr(), bytes) } {
        bytes
    } else {
        0
    }
}

/// The cookie of the listener in the ingress netns; negative where there is no such listener, or where
/// it takes no cookies.
#[inline(never)]
fn cookie(ctx: &XdpContext, syn: &Syn, header: &mut Header, bytes: usize) -> i64 {
    let mut ip = [0; IPV6_BYTES];
    if !XdpPacket(ctx).load_into(syn.offset, &mut ip) {
        return -1;
    }
    let Ok(settings) = maps::settings() else {
        return -1;
    };
    let ports = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
    let (mut tuple, tuple_bytes) = match syn.version {
        Version::V4 => {
            let (remote, local) = (tail(&syn.source), tail(&syn.destination));
            ([remote, local, ports, 0, 0, 0, 0, 0, 0], 12)
        }
        Version::V6 => {
            let [a, b, c, d] = words(&syn.source);
            let [e, f, g, h] = words(&syn.destination);
            ([a, b, c, d, e, f, g, h, ports], 36)
        }
    };
    let Some(bytes) = checked(bytes) else {
        return -1;
    };
    // SAFETY: the tuple is initialised and its size is one of the two that the helper takes; both
    // headers are initialised, and `checked` has bounded the bytes of the second. The reference to the
    // socket is given back here and nowhere else.
    unsafe {
        let socket: *mut bpf_sock = bpf_skc_lookup_tcp(
            ctx.as_ptr(),
            (&raw mut tuple).cast::<bpf_sock_tuple>(),
            tuple_bytes,
            settings.ingress_netns.into(),
            0,
        );
        if socket.is_null() {
            return -1;
        }
        let cookie = bpf_tcp_gen_syncookie(
            socket.cast(),
            ip.as_mut_ptr().cast(),
            IPV6_BYTES as u32,
            header.as_mut_ptr().cast(),
            bytes as u32,
        );
        bpf_sk_release(socket.cast());
        cookie
    }
}

/// The largest segment that this device takes, in bytes.
#[inline(always)]
fn mss(ctx: &XdpContext, version: Version) -> u16 {
    let mut mtu = 0;
    // SAFETY: the length is initialised, and 0 asks for the device of the packet (kernel 5.12+). What
    // the helper finds too big does not matter here.
    let _ = unsafe { bpf_check_mtu(ctx.as_ptr(), 0, &raw mut mtu, 0, 0) };
    let headers = match version {
        Version::V4 => IPV4_BYTES + TCP_BYTES,
        Version::V6 => IPV6_BYTES + TCP_BYTES,
    };
    (mtu as usize)
        .saturating_sub(headers)
        .clamp(MSS_MIN, MSS_MAX) as u16
}

#[inline(never)]
fn answer_ip(ctx: &XdpContext, syn: &Syn, tcp_bytes: usize) -> bool {
    let (source, destination) = (&syn.source, &syn.destination);
    if syn.version == Version::V6 {
        let [high, low] = (tcp_bytes as u16).to_be_bytes();
        let head = [0x60, 0, 0, 0, high, low, protocol::TCP, TTL];
        return store(ctx, syn.offset, &head)
            && store(ctx, syn.offset + 8, destination)
            && store(ctx, syn.offset + 24, source);
    }
    let [high, low] = ((IPV4_BYTES + tcp_bytes) as u16).to_be_bytes();
    let mut ip = [0; IPV4_BYTES];
    (ip[0], ip[2], ip[3]) = (IPV4_WITHOUT_OPTIONS, high, low);
    (ip[6], ip[8], ip[9]) = (IPV4_DO_NOT_FRAGMENT, TTL, protocol::TCP);
    let mut at = 0;
    while at < 4 {
        ip[12 + at] = destination[12 + at];
        ip[16 + at] = source[12 + at];
        at += 1;
    }
    let sum = add(&ip, IPV4_BYTES, 0);
    syn_ack::set_checksum(&mut ip, 10, sum);
    store(ctx, syn.offset, &ip)
}

#[inline(always)]
fn answer_link(ctx: &XdpContext, syn: &Syn) -> bool {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = syn.macs;
    store(ctx, 0, &[g, h, i, j, k, l, a, b, c, d, e, f])
}

/// Adds the first bytes, a multiple of 4, to the sum of a checksum.
#[inline(always)]
fn add<const N: usize>(bytes: &[u8; N], count: usize, sum: u32) -> u32 {
    // SAFETY: the callers' count is at most N, and the helper reads as many bytes only.
    let sum = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            bytes.as_ptr().cast_mut().cast(),
            count as u32,
            sum,
        )
    };
    sum as u32
}

/// Copies a TCP header out, and gives its bytes.
#[inline(always)]
fn load(ctx: &XdpContext, offset: usize, header: &mut Header) -> Option<usize> {
    let [words] = XdpPacket(ctx).load::<1>(offset + 12)?;
    let bytes = checked(usize::from(words >> 4) * 4)?;
    // SAFETY: there is room for 60 bytes.
    let is_loaded = unsafe { XdpPacket(ctx).load_to(offset, header.as_mut_ptr(), bytes) };
    is_loaded.then_some(bytes)
}

/// The bytes of a TCP header, if there may be so many. The verifier has to see the comparison, which the
/// compiler would leave out where it knows better.
#[inline(always)]
fn checked(bytes: usize) -> Option<usize> {
    let bytes = black_box(bytes);
    if bytes > TCP_BYTES_MAX {
        return None;
    }
    // Of one comparison of a difference, verifiers before 6.8 learn nothing about the number itself.
    let bytes = black_box(bytes);
    if bytes < TCP_BYTES {
        return None;
    }
    Some(bytes)
}

#[inline(always)]
fn store<const N: usize>(ctx: &XdpContext, offset: usize, bytes: &[u8; N]) -> bool {
    // SAFETY: there are N bytes, all initialised.
    unsafe { store_from(ctx, offset, bytes.as_ptr(), N) }
}

/// # Safety
///
/// `bytes` has to point to `count` initialised bytes.
#[inline(always)]
unsafe fn store_from(ctx: &XdpContext, offset: usize, bytes: *const u8, count: usize) -> bool {
    // SAFETY: the helper reads the bytes only, and checks the offset against the packet itself
    // (kernel 5.18+).
    let result = unsafe {
        bpf_xdp_store_bytes(
            ctx.as_ptr().cast(),
            offset as u32,
            bytes.cast_mut().cast(),
            count as u32,
        )
    };
    result == 0
}

const MTU_MAX: usize = 65_535;
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
const IPV4_BYTES: usize = 20;
const IPV4_FRAGMENT: u8 = 0x3f;
const IPV4_DO_NOT_FRAGMENT: u8 = 0x40;
const IPV6_BYTES: usize = 40;
/// RFC 9293 §3.7.1.
const MSS_MIN: usize = 536;
const MSS_MAX: usize = MTU_MAX - IPV6_BYTES - TCP_BYTES;
/// Linux's own.
const TTL: u8 = 64;
