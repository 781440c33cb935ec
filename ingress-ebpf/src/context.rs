//! Program contexts as packets: the first bytes where they lie, and any bytes copied out by the kernel's
//! own bounds-checked helpers, which also reach into non-linear buffers.

use core::arch::asm;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{bpf_skb_load_bytes_relative, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};
use ingress_common::steering::Address;
use ingress_ebpf::head::{Head, Linear};
use ingress_ebpf::packet::Packet;

/// A packet at a TC hook, from its Ethernet header.
pub(crate) struct SkbPacket<'a>(pub(crate) &'a TcContext);

impl SkbPacket<'_> {
    /// Copies the bytes from `offset` out; false when the packet ends before.
    #[inline(always)]
    pub(crate) fn load_into<const N: usize>(&self, offset: usize, bytes: &mut [u8; N]) -> bool {
        // SAFETY: there is room for all N bytes.
        unsafe { self.load_to(offset, bytes.as_mut_ptr(), N) }
    }

    /// # Safety
    ///
    /// There has to be room for `count` bytes. They are all written where this is true.
    #[inline(always)]
    unsafe fn load_to(&self, offset: usize, bytes: *mut u8, count: usize) -> bool {
        // From the MAC header, wherever the data starts: after generic XDP it starts behind it.
        // SAFETY: the helper writes all bytes or returns an error, and checks the offset against
        // the packet itself.
        let result = unsafe {
            bpf_skb_load_bytes_relative(
                self.0.as_ptr(),
                offset as u32,
                bytes.cast(),
                count as u32,
                BPF_HDR_START_MAC,
            )
        };
        result == 0
    }
}

impl Packet for SkbPacket<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: there is room for N bytes, which are read only where all were written.
        unsafe {
            if self.load_to(offset, bytes.as_mut_ptr().cast(), N) {
                Some(bytes.assume_init())
            } else {
                None
            }
        }
    }
}

impl Linear for SkbPacket<'_> {
    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        if self.0.data() + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the packet has N bytes there, and nobody moves them before it is changed.
        Some(unsafe { Head::new(self.0.data() as *const u8) })
    }

    #[inline(always)]
    fn linear_bytes(&self) -> usize {
        self.0.data_end() - self.0.data()
    }
}

/// The first `N` bytes of a packet at a TC hook, to write to. The kernel has made sure by then that nobody
/// else has them: programs that write begin with that.
pub(crate) struct WritableHead<'a, const N: usize> {
    start: *mut u8,
    packet: PhantomData<&'a TcContext>,
}

impl<'a, const N: usize> WritableHead<'a, N> {
    /// The first bytes, where they lie one after the other.
    #[inline(always)]
    pub(crate) fn of(ctx: &'a TcContext) -> Option<Self> {
        if ctx.data() + N > ctx.data_end() {
            return None;
        }
        Some(Self {
            start: ctx.data() as *mut u8,
            packet: PhantomData,
        })
    }

    /// Writes the byte at `AT`.
    #[inline(always)]
    pub(crate) fn set_byte<const AT: usize>(&self, value: u8) {
        const { assert!(AT < N) }
        // SAFETY: it is one of the N bytes.
        unsafe { self.start.add(AT).write(value) };
    }

    /// Writes the two bytes from `AT` on.
    #[inline(always)]
    pub(crate) fn set_half<const AT: usize>(&self, value: u16) {
        const { assert!(AT + 2 <= N) }
        // SAFETY: they are of the N bytes. The instruction needs no alignment, which Rust would ask for.
        unsafe {
            asm!(
                "*(u16 *)({start} + {at}) = {value}",
                start = in(reg) self.start,
                at = const AT,
                value = in(reg) u64::from(value),
                options(nostack, preserves_flags),
            );
        }
    }

    /// Writes the four bytes from `AT` on.
    #[inline(always)]
    pub(crate) fn set_word<const AT: usize>(&self, value: u32) {
        const { assert!(AT + 4 <= N) }
        // SAFETY: as above.
        unsafe {
            asm!(
                "*(u32 *)({start} + {at}) = {value}",
                start = in(reg) self.start,
                at = const AT,
                value = in(reg) u64::from(value),
                options(nostack, preserves_flags),
            );
        }
    }
}

/// A packet at the XDP hook.
pub(crate) struct XdpPacket<'a>(pub(crate) &'a XdpContext);

impl XdpPacket<'_> {
    /// Copies the bytes from `offset` out; false when the packet ends before.
    #[inline(always)]
    pub(crate) fn load_into<const N: usize>(&self, offset: usize, bytes: &mut [u8; N]) -> bool {
        // SAFETY: there is room for all N bytes.
        unsafe { self.load_to(offset, bytes.as_mut_ptr(), N) }
    }

    /// # Safety
    ///
    /// There has to be room for `count` bytes. They are all written where this is true.
    #[inline(always)]
    pub(crate) unsafe fn load_to(&self, offset: usize, bytes: *mut u8, count: usize) -> bool {
        // SAFETY: the helper writes all bytes or returns an error, and checks the offset against the
        // packet itself (kernel 5.18+).
        let result = unsafe {
            bpf_xdp_load_bytes(
                self.0.as_ptr().cast(),
                offset as u32,
                bytes.cast(),
                count as u32,
            )
        };
        result == 0
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: there is room for N bytes, which are read only where all were written.
        unsafe {
            if self.load_to(offset, bytes.as_mut_ptr().cast(), N) {
                Some(bytes.assume_init())
            } else {
                None
            }
        }
    }
}

impl Linear for XdpPacket<'_> {
    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        if self.0.data() + N > self.0.data_end() {
            return None;
        }
        // SAFETY: the packet has N bytes there, and nobody moves them before it is changed.
        Some(unsafe { Head::new(self.0.data() as *const u8) })
    }

    #[inline(always)]
    fn linear_bytes(&self) -> usize {
        self.0.data_end() - self.0.data()
    }
}

/// The kernel's buffer behind a TC context.
#[inline(always)]
pub(crate) fn skb_ptr(ctx: &TcContext) -> *mut __sk_buff {
    ctx.skb.skb
}

/// The kernel's buffer behind a TC context, to read its metadata.
#[inline(always)]
pub(crate) fn skb(ctx: &TcContext) -> &__sk_buff {
    // SAFETY: the kernel gives every TC program a valid context, and the verifier checks each
    // access to it.
    unsafe { &*skb_ptr(ctx) }
}

/// The IPv4 address inside a mapped one, as the kernel keeps it: network byte order in memory.
#[inline(always)]
pub(crate) fn tail(address: &Address) -> u32 {
    u32::from_ne_bytes([address[12], address[13], address[14], address[15]])
}

/// The four words of an address, as the kernel keeps them: network byte order in memory.
#[inline(always)]
pub(crate) fn words(address: &Address) -> [u32; 4] {
    let word =
        |i: usize| u32::from_ne_bytes([address[i], address[i + 1], address[i + 2], address[i + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// `linux/bpf.h`, `enum bpf_hdr_start_off`.
const BPF_HDR_START_MAC: u32 = 0;
