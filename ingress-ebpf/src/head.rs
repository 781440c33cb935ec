//! The first bytes of a packet where they lie in memory ("direct packet access").
//!
//! Rust's loads of unaligned words become loads of single bytes on this target, so words are loaded by
//! instructions of eBPF itself, whose loads need no alignment on the machines that we run on. The verifier
//! refuses a program that reads beyond what was compared with the end of the packet.

use core::marker::PhantomData;

/// The first `N` bytes of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, const N: usize> {
    start: *const u8,
    packet: PhantomData<&'a [u8]>,
}

/// A packet whose first bytes may lie one after the other.
pub trait Linear {
    /// The first `N` bytes, if they do.
    fn head<const N: usize>(&self) -> Option<Head<'_, N>>;
    /// Bytes that lie one after the other from the Ethernet header on.
    fn linear_bytes(&self) -> usize;
}

impl Linear for [u8] {
    fn head<const N: usize>(&self) -> Option<Head<'_, N>> {
        let bytes = self.get(..N)?;
        // SAFETY: N bytes, borrowed for as long as the head is.
        Some(unsafe { Head::new(bytes.as_ptr()) })
    }

    fn linear_bytes(&self) -> usize {
        self.len()
    }
}

impl<const N: usize> Head<'_, N> {
    /// # Safety
    ///
    /// There have to be `N` bytes at `start` for as long as this lives.
    #[inline(always)]
    pub const unsafe fn new(start: *const u8) -> Self {
        Self {
            start,
            packet: PhantomData,
        }
    }

    /// The byte at `AT`.
    #[inline(always)]
    #[must_use]
    pub fn byte<const AT: usize>(&self) -> u8 {
        const { assert!(AT < N) }
        // SAFETY: it is one of the N bytes.
        unsafe { load_u8::<AT>(self.start) }
    }

    /// The two bytes from `AT` on, as they are in memory.
    #[inline(always)]
    #[must_use]
    pub fn half<const AT: usize>(&self) -> u16 {
        const { assert!(AT + 2 <= N) }
        // SAFETY: they are of the N bytes.
        unsafe { load_u16::<AT>(self.start) }
    }

    /// The four bytes from `AT` on, as they are in memory.
    #[inline(always)]
    #[must_use]
    pub fn word<const AT: usize>(&self) -> u32 {
        const { assert!(AT + 4 <= N) }
        // SAFETY: they are of the N bytes.
        unsafe { load_u32::<AT>(self.start) }
    }

    /// The eight bytes from `AT` on, as they are in memory.
    #[inline(always)]
    #[must_use]
    pub fn long<const AT: usize>(&self) -> u64 {
        const { assert!(AT + 8 <= N) }
        // SAFETY: they are of the N bytes.
        unsafe { load_u64::<AT>(self.start) }
    }
}

/// Declares how an integer is loaded from some offset behind a pointer.
macro_rules! loads {
    ($($name:ident: $integer:ty, $width:literal;)+) => { $(
        /// # Safety
        ///
        /// The bytes from `AT` on have to be there.
        #[inline(always)]
        unsafe fn $name<const AT: usize>(start: *const u8) -> $integer {
            #[cfg(target_arch = "bpf")]
            // SAFETY: the instruction loads those bytes, and the verifier checks that it may.
            unsafe {
                let value: u64;
                core::arch::asm!(
                    concat!("{value} = *(", $width, " *)({start} + {at})"),
                    value = out(reg) value,
                    start = in(reg) start,
                    at = const AT,
                    options(pure, readonly, nostack, preserves_flags),
                );
                value as $integer
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller has the bytes.
            unsafe {
                start.add(AT).cast::<$integer>().read_unaligned()
            }
        }
    )+ };
}

loads! {
    load_u8: u8, "u8";
    load_u16: u16, "u16";
    load_u32: u32, "u32";
    load_u64: u64, "u64";
}
