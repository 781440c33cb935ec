//! Which bytes may stand where in a head (RFC 9110 §5 and RFC 9112 §3).

/// What a byte is in the name of a field; [`NONE`] ends a name.
const NAME: [u8; 256] = {
    let mut table = [NONE; 256];
    let signs = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < signs.len() {
        table[signs[index] as usize] = PLAIN;
        index += 1;
    }
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_digit() || byte.is_ascii_lowercase() {
            table[byte as usize] = PLAIN;
        } else if byte.is_ascii_uppercase() {
            table[byte as usize] = CAPITAL;
        }
        byte += 1;
    }
    table
};

const NONE: u8 = 0;
const PLAIN: u8 = 1;
const CAPITAL: u8 = 2;

/// How many bytes at the beginning of a line belong to a field's name, and whether any of them is a
/// capital letter.
#[inline]
pub(super) fn name_length(line: &[u8]) -> (usize, bool) {
    let mut seen = 0;
    let mut length = 0;
    for byte in line {
        let class = NAME[usize::from(*byte)];
        if class == NONE {
            break;
        }
        seen |= class;
        length += 1;
    }
    (length, seen & CAPITAL != 0)
}

/// Returns true if `bytes` may be the value of a field: text, spaces and tabs, and bytes beyond
/// ASCII, but no control characters (RFC 9110 §5.5).
#[inline]
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    words
        .iter()
        .all(|word| has_no_controls(*word, 0x20) || word.iter().copied().all(is_value_byte))
        && rest.iter().copied().all(is_value_byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}

/// Returns true if `bytes` may be a request target as clients send it: any visible character and
/// any byte beyond ASCII.
#[inline]
pub(super) fn is_target(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    words.iter().all(|word| has_no_controls(*word, 0x21))
        && rest.iter().all(|byte| *byte > 0x20 && *byte != 0x7f)
}

/// Returns true if none of eight bytes is below `least`, or DEL.
///
/// Looks at all of them at once, by borrows between bytes that happen only if one is too small.
fn has_no_controls(word: [u8; 8], least: u8) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let word = u64::from_ne_bytes(word);
    let is_small = word.wrapping_sub(ONES * u64::from(least)) & !word;
    let other_than_del = word ^ (ONES * 0x7f);
    let is_del = other_than_del.wrapping_sub(ONES) & !other_than_del;
    (is_small | is_del) & TOPS == 0
}

/// Returns true if `bytes` is a method as nginx takes it: capital letters, `-` and `_`.
pub fn is_method(bytes: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    !bytes.is_empty() && bytes.iter().all(is_good)
}

/// Returns true if `bytes` may be the authority of a target or the value of `Host`: the characters
/// of `uri-host [":" port]` (RFC 3986 §3.2.2). `@` would be user information.
pub fn is_authority(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| AUTHORITY[usize::from(*byte)])
}

const AUTHORITY: [bool; 256] = {
    let mut table = [false; 256];
    let signs = b"-._~:[]%!$&'()*+,;=";
    let mut index = 0;
    while index < signs.len() {
        table[signs[index] as usize] = true;
        index += 1;
    }
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] |= byte.is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Reads decimal digits and nothing else; `None` if there are none, or too many for 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let mut bytes = text.iter();
    let first = digit(bytes.next()?)?;
    bytes.try_fold(first, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(byte)?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_end_at_the_first_byte_that_is_no_token() {
        assert_eq!(name_length(b"host: a"), (4, false));
        assert_eq!(name_length(b"X_a-1~: b"), (6, true));
        for line in [&b": a"[..], b" a: b", b"\0", b"\x80: a", b""] {
            assert_eq!(name_length(line), (0, false));
        }
        assert_eq!(name_length(b"a b: c").0, 1);
    }

    #[test]
    fn numbers_are_digits_alone() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0018446744073709551615"), Some(u64::MAX));
        for text in [
            &b""[..],
            b"+1",
            b"-1",
            b"1 ",
            b"0x1",
            b"1_0",
            b"18446744073709551616",
        ] {
            assert_eq!(decimal(text), None);
        }
    }

    proptest! {
        #[test]
        fn words_are_judged_as_their_bytes_are(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(is_field_value(&bytes), bytes.iter().copied().all(is_value_byte));
            let is_visible = |byte: &u8| *byte > 0x20 && *byte != 0x7f;
            prop_assert_eq!(is_target(&bytes), bytes.iter().all(is_visible));
        }

        #[test]
        fn one_control_character_among_text_is_found(
            text in "[ -~\u{e9}\t]{0,40}",
            control in prop::sample::select(vec![0_u8, 1, 8, 10, 13, 31, 127]),
            place in any::<prop::sample::Index>(),
        ) {
            let mut bytes = text.into_bytes();
            prop_assert!(is_field_value(&bytes));
            bytes.insert(place.index(bytes.len() + 1), control);
            prop_assert!(!is_field_value(&bytes));
        }
    }
}
