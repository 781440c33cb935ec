//! The SYN-ACK by which the guard answers a SYN in the place of the listener, with a cookie that the
//! listener takes back (RFC 4987 §3.6).
//!
//! The invariant: the answer is as long as the SYN, so that an attacker gains nothing by having it sent to a victim,
//! and offers only what the kernel can read out of the cookie and the timestamp again
//! (`net/ipv4/syncookies.c`, the same from 4.x to 6.18).

use ingress_common::steering::Address;

/// Bytes of a TCP header without options, and with as many as there may be.
pub const TCP_BYTES: usize = 20;
/// See [`TCP_BYTES`].
pub const TCP_BYTES_MAX: usize = 60;

/// A TCP header: as many bytes as it has, then zeros.
pub type Header = [u8; TCP_BYTES_MAX];

/// The options of a SYN that an answer depends on. Plain integers: kernels before 6.3 refuse to move
/// bytes that are not initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// 1 if the client tells its largest segment (RFC 9293 §3.7.1).
    pub has_mss: u8,
    /// 1 if it has a timestamp (RFC 7323 §3).
    pub has_timestamp: u8,
    /// 1 if it takes selective acknowledgements (RFC 2018).
    pub has_sack: u8,
    /// The shift of its windows (RFC 7323 §2), or [`NO_SCALE`].
    pub window_scale: u8,
    /// Its timestamp, network byte order.
    pub timestamp: [u8; 4],
}

/// The part of the answer that depends on this node.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// The cookie, host byte order.
    pub cookie: u32,
    /// The largest segment that this node takes, in bytes.
    pub mss: u16,
    /// The clock of its timestamps, in milliseconds.
    pub clock_ms: u32,
    /// The shift of the windows that its listener will have.
    pub window_scale: u8,
}

/// Reads the options of a SYN whose header has so many bytes: in the orders that Linux, Android, Apple's
/// systems, the BSDs and Windows write them in. Of a client with another order only the first option is
/// known, as if it had sent no other.
///
/// A walk over options of any order has more paths than the kernel's verifier follows.
#[inline(always)]
#[must_use]
pub fn read(header: &Header, bytes: usize) -> Options {
    let mut options = Options {
        has_mss: 0,
        has_timestamp: 0,
        has_sack: 0,
        window_scale: NO_SCALE,
        timestamp: [0; 4],
    };
    if bytes < 24 || header[20] != MSS || header[21] != 4 {
        return options;
    }
    options.has_mss = 1;
    if bytes < 36 {
        return options;
    }
    let is_scale_first = is_scale(header, 24) && bytes >= 40;
    let at = if is_scale_first { 28 } else { 24 };
    if header[at + 2] != TIMESTAMP || header[at + 3] != 10 {
        return options;
    }
    let is_sack_before = header[at] == SACK_PERMITTED && header[at + 1] == 2;
    if !is_sack_before && (header[at] != NOP || header[at + 1] != NOP) {
        return options;
    }
    // Apple's comes last.
    let is_sack_behind = bytes >= 44 && header[40] == SACK_PERMITTED && header[41] == 2;
    options.has_timestamp = 1;
    options.has_sack = (is_sack_before || is_scale_first && is_sack_behind).into();
    options.timestamp = [
        header[at + 4],
        header[at + 5],
        header[at + 6],
        header[at + 7],
    ];
    let scale = if is_scale_first {
        header[27]
    } else if bytes >= 40 && is_scale(header, 36) {
        header[39]
    } else {
        NO_SCALE
    };
    options.window_scale = if scale != NO_SCALE && scale > SCALE_MAX {
        SCALE_MAX
    } else {
        scale
    };
    options
}

/// Whether a window scale stands here, behind a no-operation.
#[inline(always)]
fn is_scale(header: &Header, at: usize) -> bool {
    header[at] == NOP && header[at + 1] == WINDOW_SCALE && header[at + 2] == 3
}

/// Makes the SYN-ACK out of the SYN's header, in place, with a checksum of 0.
#[inline(always)]
pub fn write(header: &mut Header, options: &Options, node: &Node) {
    let [from_high, from_low, to_high, to_low] = [header[0], header[1], header[2], header[3]];
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    copy(header, 0, [to_high, to_low, from_high, from_low]);
    copy(header, 4, node.cookie.to_be_bytes());
    copy(header, 8, sequence.wrapping_add(1).to_be_bytes());
    let [window_high, window_low] = WINDOW.to_be_bytes();
    copy(
        header,
        12,
        [header[12] & 0xf0, SYN_ACK, window_high, window_low],
    );
    // The checksum, which is computed over zeros, and the urgent pointer.
    copy(header, 16, [0; 4]);
    let mut at = TCP_BYTES;
    while at < TCP_BYTES_MAX {
        copy(header, at, [END; 4]);
        at += 4;
    }
    // Without an MSS there is nothing that a client of today would send, and every offer that follows
    // has its place behind it.
    if options.has_mss != 0 {
        let [high, low] = node.mss.to_be_bytes();
        copy(header, 20, [MSS, 4, high, low]);
        if options.has_timestamp != 0 {
            if options.has_sack != 0 {
                copy(header, 24, [SACK_PERMITTED, 2, TIMESTAMP, 10]);
            } else {
                copy(header, 24, [NOP, NOP, TIMESTAMP, 10]);
            }
            copy(header, 28, timestamp(options, node.clock_ms).to_be_bytes());
            copy(header, 32, options.timestamp);
            if options.window_scale != NO_SCALE {
                copy(header, 36, [NOP, WINDOW_SCALE, 3, node.window_scale]);
            }
        }
    }
}

/// Writes the checksum: the complement of a sum of 16-bit words as they lie in memory, as the kernel's
/// `bpf_csum_diff` makes it (RFC 1071).
#[inline(always)]
pub fn set_checksum<const N: usize>(header: &mut [u8; N], at: usize, sum: u32) {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    let [first, second] = (!((twice & 0xffff) as u16)).to_ne_bytes();
    header[at] = first;
    header[at + 1] = second;
}

/// A timestamp that says in its low bits what the client offered: the kernel's `cookie_init_timestamp`.
#[inline(always)]
fn timestamp(options: &Options, clock_ms: u32) -> u32 {
    let offered = u32::from(options.window_scale) | (u32::from(options.has_sack) << SACK_BIT);
    let stamp = (clock_ms & !STAMP_MASK) | offered;
    // It must not be ahead of the clock, or later segments would look old.
    if stamp > clock_ms {
        stamp.wrapping_sub(STAMP_MASK + 1)
    } else {
        stamp
    }
}

#[inline(always)]
fn copy(header: &mut Header, at: usize, bytes: [u8; 4]) {
    header[at] = bytes[0];
    header[at + 1] = bytes[1];
    header[at + 2] = bytes[2];
    header[at + 3] = bytes[3];
}

/// Whether a source may be that of a client: the kernel takes no packet from others.
#[inline(always)]
#[must_use]
pub const fn is_unicast(source: &Address) -> bool {
    let [head, .., v4, _, _, _] = *source;
    if head == 0xff {
        return false;
    }
    if source[10] == 0xff && source[11] == 0xff {
        return v4 != 0 && v4 != 127 && v4 < 224;
    }
    head != 0
}

/// [`Options::window_scale`] of a client that scales no windows: the kernel's `TS_OPT_WSCALE_MASK`.
pub const NO_SCALE: u8 = 15;
/// RFC 7323 §2.3.
const SCALE_MAX: u8 = 14;
/// The largest that has no need of a scale.
const WINDOW: u16 = 65_535;
const SYN_ACK: u8 = 0x12;
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const TIMESTAMP: u8 = 8;
/// Bits of a timestamp that are not the clock's: the kernel's `TSBITS`.
const STAMP_MASK: u32 = 63;
/// The kernel's `TS_OPT_SACK`.
const SACK_BIT: u32 = 4;

#[cfg(test)]
mod tests;
