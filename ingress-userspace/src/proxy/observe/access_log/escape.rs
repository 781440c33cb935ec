//! Makes bytes that somebody else chose safe to stand in a line.

use super::block::Cursor;
use super::template::Escape;

/// Appends a value.
#[inline]
pub(crate) fn push(escape: Escape, value: &[u8], line: &mut Cursor<'_>) {
    if value.is_empty() {
        if escape == Escape::Text {
            line.copy_array([b'-']);
        }
        return;
    }
    push_some(escape, value, line);
}

fn push_some(escape: Escape, value: &[u8], line: &mut Cursor<'_>) {
    let mut rest = value;
    loop {
        let at = plain_bytes(rest);
        line.copy(&rest[..at]);
        if at == rest.len() {
            return;
        }
        match escape {
            Escape::Text => push_hexadecimal(b"\\x", rest[at], line),
            Escape::Json => push_json(rest[at], line),
        }
        rest = &rest[at + 1..];
    }
}

/// How many bytes at the beginning may stand as they are: nearly always all, so that eight are
/// looked at together.
fn plain_bytes(value: &[u8]) -> usize {
    let (words, rest) = value.as_chunks::<8>();
    let is_plain_word = |word: &[u8; 8]| has_only_plain(u64::from_ne_bytes(*word));
    let plain = words.iter().take_while(|word| is_plain_word(word)).count();
    // The last eight, some of them once more.
    if plain == words.len() && value.last_chunk().is_some_and(is_plain_word) {
        return value.len();
    }
    let (from, tail) = match words.get(plain) {
        Some(word) => (plain * 8, &word[..]),
        None => (words.len() * 8, rest),
    };
    from + tail.iter().take_while(|byte| is_plain(**byte)).count()
}

/// `is_plain` of each byte of a word (Bit Twiddling Hacks, "determine if a word has a byte less
/// than n"): never wrong about a word that has none, and exact where no byte is above 127.
fn has_only_plain(word: u64) -> bool {
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let below = |word: u64, bound: u8| word.wrapping_sub(each(bound)) & !word;
    let has = |byte: u8| below(word ^ each(byte), 1);
    let found = word | below(word, b' ') | has(0x7f) | has(b'"') | has(b'\\');
    found & each(0x80) == 0
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// A byte beyond ASCII is a character of Latin-1 (RFC 9110 §5.5 leaves it open), so that a line is
/// valid JSON whatever a client sends.
fn push_json(byte: u8, line: &mut Cursor<'_>) {
    match byte {
        b'"' | b'\\' => line.copy_array([b'\\', byte]),
        _ => push_hexadecimal(b"\\u00", byte, line),
    }
}

fn push_hexadecimal(prefix: &[u8], byte: u8, line: &mut Cursor<'_>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let [high, low] = [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)]);
    line.copy(prefix);
    line.copy_array([high, low]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::block::written;
    use super::*;

    fn escaped(escape: Escape, value: &[u8]) -> String {
        let line = written(|line| push(escape, value, line));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn text_is_escaped_as_nginx_does() {
        let text = |value: &[u8]| escaped(Escape::Text, value);
        assert_eq!(text(b""), "-");
        assert_eq!(text(b"a \"b\"\\\n\xe4"), r"a \x22b\x22\x5C\x0A\xE4");
    }

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_as_good_as_one_by_one(
            value in prop::collection::vec(prop_oneof![8 => b' '..=b'~', 1 => any::<u8>()], 0..40),
        ) {
            let one_by_one = value.iter().take_while(|byte| is_plain(**byte)).count();
            prop_assert_eq!(plain_bytes(&value), one_by_one);
        }

        #[test]
        fn a_value_never_ends_a_line_or_a_string(value in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = escaped(Escape::Text, &value);
            prop_assert!(!text.contains(['\n', '\r', '"']));
            let json = escaped(Escape::Json, &value);
            let read: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
            let latin: String = value.iter().map(|byte| char::from(*byte)).collect();
            prop_assert_eq!(read, latin);
        }
    }
}
