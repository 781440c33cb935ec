//! The fields of a response, as a block.
//!
//! No table is kept of what was said before, as other proxies have none: an idle connection has
//! nothing to hold for it, and what a client allows makes no difference. Strings are written as
//! they stand: Huffman code saves about a quarter of their bytes, and takes several times as long
//! as to copy them.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, SET_COOKIE};

use super::static_table::{STATUS_INDEX, name_index, status_index};

/// Says that fields of these blocks refer to no table (RFC 7541 §6.3): the beginning of the first
/// block of a connection. A client that allows less than 4,096 bytes waits for it (RFC 7541 §4.2),
/// and whatever it allows later makes no difference then.
pub fn encode_no_table(block: &mut Vec<u8>) {
    block.push(TABLE_SIZE);
}

/// Appends the field that a response begins with.
pub fn encode_status(status: StatusCode, block: &mut Vec<u8>) {
    if let Some(index) = status_index(status) {
        push_integer(INDEXED, 7, index.into(), block);
    } else {
        push_integer(NOT_INDEXED, 4, STATUS_INDEX.into(), block);
        push_string(status.as_str().as_bytes(), block);
    }
}

/// Appends a field of a response, or a trailer field.
pub fn encode_field(name: &HeaderName, value: &HeaderValue, block: &mut Vec<u8>) {
    // Secrets: nobody who passes them on is to keep them in a table, where they can be guessed
    // (RFC 7541 §7.1.3).
    let pattern = if value.is_sensitive() || *name == SET_COOKIE {
        NEVER_INDEXED
    } else {
        NOT_INDEXED
    };
    if let Some(index) = name_index(name) {
        push_integer(pattern, 4, index.into(), block);
    } else {
        block.push(pattern);
        push_string(name.as_str().as_bytes(), block);
    }
    push_string(value.as_bytes(), block);
}

/// Appends a string as it stands (RFC 7541 §5.2).
fn push_string(text: &[u8], block: &mut Vec<u8>) {
    push_integer(0, 7, text.len(), block);
    block.extend_from_slice(text);
}

/// Appends an integer whose first byte has this many bits of it, after `pattern` (RFC 7541 §5.1).
fn push_integer(pattern: u8, prefix_bits: u32, value: usize, block: &mut Vec<u8>) {
    let prefix_max = u8::MAX >> (u8::BITS - prefix_bits);
    let Some(mut rest) = value.checked_sub(prefix_max.into()) else {
        block.push(pattern | low_byte(value));
        return;
    };
    block.push(pattern | prefix_max);
    while rest >= 0x80 {
        block.push(0x80 | low_byte(rest));
        rest >>= 7;
    }
    block.push(low_byte(rest));
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

// What fields begin with (RFC 7541 §6).
const INDEXED: u8 = 0x80;
const NOT_INDEXED: u8 = 0x00;
const NEVER_INDEXED: u8 = 0x10;

/// A change of the table's size, to 0.
const TABLE_SIZE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &'static str, value: &'static str) -> Vec<u8> {
        let mut block = Vec::new();
        let name = HeaderName::from_static(name);
        encode_field(&name, &HeaderValue::from_static(value), &mut block);
        block
    }

    fn status(code: u16) -> Vec<u8> {
        let mut block = Vec::new();
        encode_status(StatusCode::from_u16(code).unwrap(), &mut block);
        block
    }

    #[test]
    fn usual_statuses_are_of_one_byte() {
        for (code, index) in [
            (200, 8),
            (204, 9),
            (206, 10),
            (304, 11),
            (400, 12),
            (404, 13),
        ] {
            assert_eq!(status(code), [0x80 | index]);
        }
        assert_eq!(status(500), [0x8e]);
        assert_eq!(status(503), b"\x08\x03503");
        assert_eq!(status(103), b"\x08\x03103");
    }

    #[test]
    fn names_are_given_by_their_index_where_they_have_one() {
        assert_eq!(field("content-length", "0"), b"\x0f\x0d\x010");
        assert_eq!(field("accept-charset", ""), b"\x0f\x00\x00");
        assert_eq!(field("www-authenticate", "a"), b"\x0f\x2e\x01a");
        assert_eq!(field("x-b", "a"), b"\x00\x03x-b\x01a");
        assert_eq!(field("content-lengths", "0")[..2], *b"\x00\x0f");
    }

    #[test]
    fn secrets_are_never_indexed() {
        assert_eq!(field("set-cookie", "a"), b"\x1f\x28\x01a");
        let mut block = b"before".to_vec();
        let mut value = HeaderValue::from_static("a");
        value.set_sensitive(true);
        encode_field(&HeaderName::from_static("x-b"), &value, &mut block);
        assert_eq!(block, b"before\x10\x03x-b\x01a");
    }

    #[test]
    fn long_values_have_their_length_in_several_bytes() {
        let value = HeaderValue::from_str(&"a".repeat(1464)).unwrap();
        let mut block = Vec::new();
        encode_field(&HeaderName::from_static("x-b"), &value, &mut block);
        // 1,337 more than the prefix says (RFC 7541 §C.1.2 has it with another prefix).
        assert_eq!(block[..7], *b"\x00\x03x-b\x7f\xb9");
        assert_eq!(block[7], 0x0a);
    }
}
