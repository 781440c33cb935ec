//! Compression of responses, by ingress-nginx's keys: `use-gzip`, `gzip-*`, `enable-brotli`,
//! `brotli-*`, and `enable-zstd`, `zstd-*` of our own.

use std::sync::Arc;

use super::{Settings, boolean};
use crate::ir::{Compression, CompressionMethod};

/// The settings for compression, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompressionSettings {
    gzip: MethodSettings,
    brotli: MethodSettings,
    zstd: MethodSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MethodSettings {
    is_on: bool,
    method: CompressionMethod,
}

impl MethodSettings {
    fn new(level: u32, bytes_min: u64, types: &Arc<[Box<str>]>) -> Self {
        Self {
            is_on: false,
            method: CompressionMethod {
                level,
                bytes_min,
                types: Arc::clone(types),
            },
        }
    }

    fn method(&self) -> Option<CompressionMethod> {
        self.is_on.then(|| self.method.clone())
    }
}

impl Default for CompressionSettings {
    fn default() -> Self {
        let types = TYPES.iter().map(|one| (*one).into()).collect();
        Self {
            gzip: MethodSettings::new(1, 256, &types),
            brotli: MethodSettings::new(4, 20, &types),
            zstd: MethodSettings::new(3, 256, &types),
        }
    }
}

impl CompressionSettings {
    /// The pieces together, if there is any compression.
    pub(super) fn compression(&self) -> Option<Arc<Compression>> {
        let compression = Compression {
            gzip: self.gzip.method(),
            brotli: self.brotli.method(),
            zstd: self.zstd.method(),
        };
        let is_any = [&compression.gzip, &compression.brotli, &compression.zstd]
            .iter()
            .any(|method| method.is_some());
        is_any.then(|| Arc::new(compression))
    }
}

type Part = fn(&mut Settings) -> &mut MethodSettings;

macro_rules! readers {
    ($($part:ident, $levels:expr => $enable:ident, $level:ident, $bytes_min:ident, $types:ident;)*) => {$(
        /// Whether it is on.
        pub(super) fn $enable(value: &str, settings: &mut Settings) -> Result<(), String> {
            settings.compression.$part.is_on = boolean(value)?;
            Ok(())
        }

        /// Its level.
        pub(super) fn $level(value: &str, settings: &mut Settings) -> Result<(), String> {
            let part: Part = |settings| &mut settings.compression.$part;
            part(settings).method.level = number(value, $levels)?;
            Ok(())
        }

        /// The shortest body.
        pub(super) fn $bytes_min(value: &str, settings: &mut Settings) -> Result<(), String> {
            settings.compression.$part.method.bytes_min = number(value, 0..=u32::MAX)?.into();
            Ok(())
        }

        /// Media types.
        pub(super) fn $types(value: &str, settings: &mut Settings) -> Result<(), String> {
            settings.compression.$part.method.types = types(value)?;
            Ok(())
        }
    )*};
}

readers! {
    gzip, 1..=9 => use_gzip, gzip_level, gzip_bytes_min, gzip_types;
    brotli, 0..=11 => enable_brotli, brotli_level, brotli_bytes_min, brotli_types;
    zstd, 1..=19 => enable_zstd, zstd_level, zstd_bytes_min, zstd_types;
}

fn number(value: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.trim().parse().ok();
    let number = number.filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (first, last) = range.into_inner();
        format!("`{value}` is not a number from {first} to {last}; ignored")
    })
}

fn types(value: &str) -> Result<Arc<[Box<str>]>, String> {
    let is_type = |word: &str| word == "*" || word.contains('/');
    let words = value.split_whitespace();
    if words.clone().next().is_none() || !words.clone().all(is_type) {
        return Err(format!("`{value}` is not a list of media types; ignored"));
    }
    // nginx always compresses `text/html`.
    let words = words.chain(["text/html"]);
    Ok(words.map(|word| word.to_ascii_lowercase().into()).collect())
}

/// Source: ingress-nginx, default of `gzip-types`, and `text/html`.
const TYPES: &[&str] = &[
    "application/atom+xml",
    "application/javascript",
    "application/json",
    "application/rss+xml",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "application/x-javascript",
    "application/x-web-app-manifest+json",
    "application/xhtml+xml",
    "application/xml",
    "font/opentype",
    "image/svg+xml",
    "image/x-icon",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
    "text/x-component",
];
