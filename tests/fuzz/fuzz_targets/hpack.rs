//! The reader of HTTP/2's field blocks on bytes that a fuzzer thinks of: `cargo xtask fuzz hpack`.
//!
//! The property is that of the tests beside it; what is found here becomes a test there.
#![no_main]

#[path = "."]
mod hpack {
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/check.rs"]
    pub(crate) mod check;
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/decode.rs"]
    mod decode;
    #[allow(dead_code, reason = "who answers asks more of it")]
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/encode.rs"]
    mod encode;
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/field.rs"]
    mod field;
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/huffman.rs"]
    mod huffman;
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/reader.rs"]
    mod reader;
    #[allow(dead_code, reason = "who answers asks more of it")]
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/static_table.rs"]
    mod static_table;
    #[path = "../../../ingress-userspace/src/proxy/downstream/hpack/table.rs"]
    mod table;
}

use hpack::check::{Bounds, check};

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
