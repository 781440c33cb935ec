//! Asks the processor for memory before it is needed.

/// Asks for the line of the cache that a value begins on.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(value).cast::<i8>();
        // SAFETY: a prefetch reads nothing and never faults (Intel SDM, PREFETCHh), and the address
        // is that of a reference.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

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
