//! The reader of HTTP/2's field blocks on bytes that a fuzzer thinks of: `cargo xtask fuzz hpack`.
//!
//! The property is that of the tests beside it; what is found here becomes a test there.
#![no_main]

use ingress_wire::hpack::check::{Bounds, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(([cut, table_bytes_max, list_bytes_max], blocks)) = bytes.split_first_chunk() else {
        return;
    };
    let bounds = Bounds {
        table_bytes_max: usize::from(*table_bytes_max) * 32,
        list_bytes_max: usize::from(*list_bytes_max) * 32,
    };
    check(blocks.chunks(usize::from(*cut) + 1), bounds);
});
