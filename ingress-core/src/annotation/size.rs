//! Sizes in bytes, as nginx spells them.

use super::Settings;
use crate::ir::RequestBuffering;

/// Reads a number of bytes, of `k` (1,024 of them), `m` or `g`, in either case.
///
/// Source: nginx, "Configuration file measurement units".
///
/// # Errors
///
/// Returns a message for its author if the text is not a number with such a unit, or too large.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| digits.parse::<u64>().ok()).flatten();
    let size = number.and_then(|number| number.checked_mul(unit));
    size.ok_or_else(|| format!("`{text}` is no size such as 512, 8k, 10m or 1g"))
}

/// Source: ingress-nginx, annotation `proxy-body-size`.
pub(super) fn proxy_body_size(value: &str, settings: &mut Settings) -> Result<(), String> {
    let size = bytes(value).map_err(|message| message + "; ignored")?;
    settings.body_bytes_max = Some(size);
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-request-buffering`.
pub(super) fn proxy_request_buffering(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.request_buffering = match value.trim() {
        "on" => RequestBuffering::On,
        "off" => RequestBuffering::Off,
        _ => return Err(format!("`{value}` is not one of on, off; ignored")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_nginx() {
        for (text, size) in [
            ("0", 0),
            ("512", 512),
            (" 8k ", 8 << 10),
            ("10M", 10 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn invalid_sizes_are_reported() {
        let large = format!("{}g", u64::MAX >> 20);
        for text in ["", "m", "-1", "+1", "1.5m", "1 m", "1t", "1mb", "é", &large] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
