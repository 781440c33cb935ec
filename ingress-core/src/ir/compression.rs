//! Which responses are compressed, and how.

use std::sync::Arc;

/// Which responses are compressed, for clients that accept it.
///
/// Source: ingress-nginx, ConfigMap keys `use-gzip`, `gzip-*`, `enable-brotli` and `brotli-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// By gzip (RFC 1952).
    pub gzip: Option<CompressionMethod>,
    /// By Brotli (RFC 7932).
    pub brotli: Option<CompressionMethod>,
    /// By Zstandard (RFC 8878).
    pub zstd: Option<CompressionMethod>,
}

/// Which responses one method compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressionMethod {
    /// How hard it tries.
    pub level: u32,
    /// Bytes that a body has to have, where its length is known.
    pub bytes_min: u64,
    /// Media types, in lower case; `*`: all.
    pub types: Arc<[Box<str>]>,
}

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// As Accept-Encoding and Content-Encoding name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

impl CompressionMethod {
    /// Whether it compresses a body of this type and length.
    pub fn takes(&self, media_type: &str, length: Option<u64>) -> bool {
        let is_listed = |listed: &str| listed == "*" || listed.eq_ignore_ascii_case(media_type);
        length.is_none_or(|length| length >= self.bytes_min)
            && self.types.iter().any(|listed| is_listed(listed))
    }
}
