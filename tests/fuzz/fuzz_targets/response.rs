//! The readers of an endpoint's responses on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz response`.
//!
//! The property is that of the tests beside them; what is found here becomes a test there.
#![no_main]

#[path = "."]
mod proxy {
    #[path = "."]
    pub(crate) mod runtime {
        #[allow(dead_code, reason = "the other bounds belong to other code")]
        #[path = "../../../ingress-userspace/src/proxy/runtime/limits.rs"]
        pub(crate) mod limits;
    }

    #[path = "."]
    pub(crate) mod http1 {
        #[path = "../../../ingress-userspace/src/proxy/upstream/http1/check.rs"]
        pub(crate) mod check;
        #[allow(dead_code, reason = "body readers use more of it")]
        #[path = "../../../ingress-userspace/src/proxy/upstream/http1/decode.rs"]
        mod decode;
        #[allow(dead_code, reason = "connections use more of it")]
        #[path = "../../../ingress-userspace/src/proxy/upstream/http1/head.rs"]
        mod head;
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let cuts = bytes.first().copied().unwrap_or(1);
    proxy::http1::check::check(bytes.get(1..).unwrap_or_default(), cuts.into());
});
