//! What stands around the pieces of a chunked body (RFC 9112 §7.1), and how a field is written.

/// The end of a chunked body without fields after it.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the line before a chunk of `size` bytes.
pub fn write_chunk_size(mut size: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    while at == digits.len() || size > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[size & 0xf];
        size >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field.
#[inline]
pub(super) fn push_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for size in [0, 1, 15, 16, 255, 4096, usize::MAX] {
            let mut text = Vec::new();
            write_chunk_size(size, &mut text);
            assert_eq!(text, format!("{size:x}\r\n").into_bytes());
        }
    }
}
