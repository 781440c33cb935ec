//! The readers of an endpoint's responses on bytes that a fuzzer thinks of:
//! `cargo xtask fuzz response`.
//!
//! The property is that of the tests beside them; what is found here becomes a test there.
#![no_main]

#[path = "."]
mod proxy {
    #[allow(dead_code, reason = "most of these bounds are for others")]
    #[path = "../../../ingress-userspace/src/proxy/limits.rs"]
    mod limits;

    #[path = "."]
    pub(crate) mod upstream {
        #[path = "../../../ingress-userspace/src/proxy/upstream/check.rs"]
        pub(crate) mod check;
        #[allow(dead_code, reason = "who carries a body asks more of it")]
        #[path = "../../../ingress-userspace/src/proxy/upstream/decode.rs"]
        mod decode;
        #[allow(dead_code, reason = "who reads one response after another asks more of it")]
        #[path = "../../../ingress-userspace/src/proxy/upstream/head.rs"]
        mod head;
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let cuts = bytes.first().copied().unwrap_or(1);
    proxy::upstream::check::check(bytes.get(1..).unwrap_or_default(), cuts.into());
});
