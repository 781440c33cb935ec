//! Names in certificates as text: RFC 2253, as nginx writes `$ssl_client_s_dn`.

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The name, its last component first.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter_rdn().collect();
    parts.reverse();
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
    text.push_str(short.map_or(&oid, |(_, short)| short));
    text.push('=');
    if let Ok(value) = attribute.as_str() {
        push_escaped(text, value);
    } else {
        text.push('#');
        for byte in attribute.as_slice() {
            push_hex(text, *byte);
        }
    }
}

/// RFC 2253 §2.4; what is no visible ASCII is escaped too, so that it can be in a header.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        let is_special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || index == 0 && byte == b'#'
            || (index == 0 || index == last) && byte == b' ';
        let is_visible = matches!(byte, b' '..=b'~');
        if is_special || !is_visible {
            text.push('\\');
        }
        if is_visible {
            text.push(char::from(byte));
        } else {
            push_hex(text, byte);
        }
    }
}

/// Two hexadecimal digits.
pub(crate) fn push_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 0xf] {
        text.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
    }
}

/// OpenSSL's short names of attributes.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &str) -> String {
        let mut text = String::new();
        push_escaped(&mut text, value);
        text
    }

    #[test]
    fn values_are_escaped_as_rfc_2253_wants() {
        for (value, expected) in [
            ("plain", "plain"),
            ("a,b", "a\\,b"),
            ("#1 ", "\\#1\\ "),
            (" x", "\\ x"),
            ("\u{e9}\r\n", "\\C3\\A9\\0D\\0A"),
            ("", ""),
        ] {
            assert_eq!(escaped(value), expected);
        }
    }
}
