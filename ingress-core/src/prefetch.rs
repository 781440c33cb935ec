//! Asks the processor for memory before it is needed.

/// Asks for the lines of the cache that a value is on. Give it one that begins a line.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let bytes = std::ptr::from_ref(value).cast::<i8>();
        for offset in (0..size_of::<T>()).step_by(LINE) {
            // SAFETY: a prefetch reads nothing and never faults (Intel SDM, PREFETCHh), and the
            // address is within what is referred to.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.add(offset)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Bytes of a line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_as_it_is() {
        let value = vec![7_u64; 100];
        prefetch(&value[99]);
        prefetch(&());
        assert!(value.iter().all(|word| *word == 7));
    }
}
