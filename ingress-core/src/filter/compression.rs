//! Chooses how a response is compressed (RFC 9110 §12.5.3).
//!
//! Source: nginx, `ngx_http_gzip_filter_module`: responses with status 200, 403 and 404, of a listed
//! type, that no one has compressed, to clients that accept it.

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::ir::{Coding, Compression, CompressionMethod};

/// The coding and level for a response to a request with these fields, if it is to be compressed.
/// Sets `Vary` on every response that may be compressed, whether it is or not.
pub fn choose(
    compression: &Compression,
    accepted: Option<&HeaderValue>,
    status: StatusCode,
    fields: &mut HeaderMap,
    length: Option<u64>,
) -> Option<(Coding, u32)> {
    let is_taken = matches!(
        status,
        StatusCode::OK | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
    );
    let is_coded = fields.contains_key(CONTENT_ENCODING) || fields.contains_key(CONTENT_RANGE);
    if !is_taken || is_coded || forbids_changes(fields) {
        return None;
    }
    let media_type = fields.get(CONTENT_TYPE)?.to_str().ok()?;
    let media_type = media_type.split(';').next()?.trim().to_owned();
    let methods = [
        (Coding::Zstd, compression.zstd.as_ref()),
        (Coding::Brotli, compression.brotli.as_ref()),
        (Coding::Gzip, compression.gzip.as_ref()),
    ];
    let takes = |method: &CompressionMethod| method.takes(&media_type, length);
    let mut usable = methods
        .into_iter()
        .filter_map(|(coding, method)| Some((coding, method.filter(|method| takes(method))?)))
        .peekable();
    usable.peek()?;
    fields.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let accepted = accepted.and_then(|value| value.to_str().ok())?;
    // Of codings that the client likes equally the first is taken.
    let mut best: Option<(u32, Coding, u32)> = None;
    for (coding, method) in usable {
        let quality = quality(accepted, coding.name());
        if quality > best.map_or(0, |(quality, _, _)| quality) {
            best = Some((quality, coding, method.level));
        }
    }
    best.map(|(_, coding, level)| (coding, level))
}

/// Changes the head of a response that is compressed.
pub fn apply(coding: Coding, fields: &mut HeaderMap) {
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    fields.remove(CONTENT_LENGTH);
    fields.remove(http::header::ACCEPT_RANGES);
    // The bytes are others now: a strong validator would be wrong (RFC 9110 §8.8.3).
    if let Some(tag) = fields.get(ETAG)
        && !tag.as_bytes().starts_with(b"W/")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        fields.insert(ETAG, weak);
    }
}

/// The field of a request that [`choose`] looks at.
pub fn accepted(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(ACCEPT_ENCODING)
}

/// RFC 9111 §5.2.2.6.
fn forbids_changes(fields: &HeaderMap) -> bool {
    let values = fields.get_all(CACHE_CONTROL).into_iter();
    let mut directives = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    directives.any(|one| one.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
}

/// How much a client likes a coding, in thousandths; 0: not at all.
fn quality(accepted: &str, coding: &str) -> u32 {
    let mut any = 0;
    for item in accepted.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        let weight = weight.map_or(1.0, |weight| weight.trim().parse::<f32>().unwrap_or(0.0));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0 to 1000"
        )]
        let weight = (weight.clamp(0.0, 1.0) * 1000.0) as u32;
        if name.eq_ignore_ascii_case(coding) {
            return weight;
        }
        if name == "*" {
            any = weight;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compression() -> Compression {
        let method = |level, bytes_min| CompressionMethod {
            level,
            bytes_min,
            types: ["text/html".into(), "application/json".into()].into(),
        };
        Compression {
            gzip: Some(method(1, 256)),
            brotli: Some(method(4, 20)),
            zstd: None,
        }
    }

    fn chosen(
        accepted: &str,
        fields: &[(&'static str, &'static str)],
        length: u64,
    ) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let accepted = HeaderValue::from_str(accepted).unwrap();
        let found = choose(
            &compression(),
            Some(&accepted),
            StatusCode::OK,
            &mut headers,
            Some(length),
        );
        found.map(|(coding, _)| coding)
    }

    #[test]
    fn coding_is_the_one_that_the_client_likes_best() {
        let html = [("content-type", "text/html; charset=utf-8")];
        assert_eq!(chosen("gzip, br", &html, 1000), Some(Coding::Brotli));
        assert_eq!(chosen("gzip", &html, 1000), Some(Coding::Gzip));
        assert_eq!(
            chosen("br;q=0.1, gzip;q=0.9", &html, 1000),
            Some(Coding::Gzip)
        );
        assert_eq!(chosen("*", &html, 1000), Some(Coding::Brotli));
        assert_eq!(chosen("br;q=0, *;q=0.5", &html, 1000), Some(Coding::Gzip));
        assert_eq!(chosen("gzip, br", &html, 100), Some(Coding::Brotli));
        for (accepted, fields, length) in [
            ("identity", &html[..], 1000),
            ("gzip;q=0", &html, 1000),
            ("gzip", &html, 100),
            ("gzip", &[("content-type", "image/png")], 1000),
            ("gzip", &[], 1000),
            (
                "gzip",
                &[("content-type", "text/html"), ("content-encoding", "br")],
                1000,
            ),
            (
                "gzip",
                &[
                    ("content-type", "text/html"),
                    ("cache-control", "private, no-transform"),
                ],
                1000,
            ),
        ] {
            assert_eq!(
                chosen(accepted, fields, length),
                None,
                "{accepted} {fields:?}"
            );
        }
    }

    #[test]
    fn head_of_a_compressed_response_has_no_length_and_a_weak_tag() {
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        fields.insert(ETAG, HeaderValue::from_static("\"a\""));
        apply(Coding::Gzip, &mut fields);
        assert_eq!(fields[CONTENT_ENCODING], "gzip");
        assert_eq!(fields[ETAG], "W/\"a\"");
        assert!(!fields.contains_key(CONTENT_LENGTH));
    }
}
