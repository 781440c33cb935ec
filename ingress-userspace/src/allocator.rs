//! The allocator: mimalloc, asked for what it gives anyway where that is enough.
//!
//! The crate `mimalloc` asks for an alignment each time, and buffers of 8 KiB then take one more
//! byte than fits and a slow path, twice a request. What needs no more than mimalloc's own
//! alignment is asked for without.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

/// To be the global allocator of a program.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every block comes from mimalloc and goes back to it, in whichever way it was asked for
// (`mi_free` and `mi_realloc` take any block of mimalloc's). Without an alignment, mimalloc aligns
// to 16 bytes, blocks of less than that to 8 (`MI_MAX_ALIGN_SIZE`, malloc(3)): what `is_natural`
// lets through. A block that `mi_realloc` moves is aligned like a new one. The rest is what
// `MiMalloc` does, which keeps the contract itself.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            // SAFETY: it takes any size.
            return unsafe { mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            // SAFETY: it takes any size.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the block is mimalloc's.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_natural(size, layout.align()) {
            // SAFETY: the block is mimalloc's, and the caller has not freed it.
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller keeps the contract of `realloc`, and the block is mimalloc's.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Whether a block of this size has this alignment anyway.
const fn is_natural(size: usize, align: usize) -> bool {
    align <= WORD || align <= MAX_ALIGN && size >= MAX_ALIGN
}

/// Of blocks of any size.
const WORD: usize = 8;
/// Of blocks of at least that size (`max_align_t`).
const MAX_ALIGN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_keep_their_bytes() {
        let sizes = (1..200).chain([1000, 1024, 1025, 4096, 8192, 8200, 70_000, 1 << 20]);
        for size in sizes {
            for align in [1, 2, 4, 8, 16, 32, 64, 128, 4096] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                check(layout, 2 * size);
                check(layout, size.div_ceil(2));
            }
        }
    }

    /// Takes a block, makes it another size, and gives it back.
    fn check(layout: Layout, size: usize) {
        // SAFETY: the sizes are not zero; each block is used within its size, by one pointer at a
        // time, and given back with the layout that it has then.
        unsafe {
            let block = Allocator.alloc_zeroed(layout);
            assert!(block.addr().is_multiple_of(layout.align()), "{layout:?}");
            let bytes = std::slice::from_raw_parts_mut(block, layout.size());
            assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
            bytes.fill(7);
            let block = Allocator.realloc(block, layout, size);
            assert!(block.addr().is_multiple_of(layout.align()), "{layout:?}");
            let kept = std::slice::from_raw_parts(block, size.min(layout.size()));
            assert!(kept.iter().all(|byte| *byte == 7), "{layout:?}");
            let resized = Layout::from_size_align(size, layout.align()).expect("a layout");
            Allocator.dealloc(block, resized);
            let block = Allocator.alloc(layout);
            assert!(block.addr().is_multiple_of(layout.align()), "{layout:?}");
            Allocator.dealloc(block, layout);
        }
    }
}
