//! The fields of a head, or those after a body (RFC 9112 §5), as ranges of the bytes they came in.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::read_request::RequestError;
use super::syntax::{is_field_value, name_length};

/// Where the names and values of fields are in a head. Owned by the caller, so that its room serves
/// many heads.
#[derive(Debug, Default)]
pub struct FieldRanges(Vec<FieldRange>);

#[derive(Clone, Copy, Debug)]
struct FieldRange {
    name: usize,
    name_end: usize,
    value: usize,
    value_end: usize,
}

/// What [`FieldRanges::read`] has found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Where the empty line ends that ends the fields.
    pub(super) end: usize,
    /// Whether a name has a capital letter.
    pub(super) has_capitals: bool,
}

impl FieldRanges {
    /// Finds the fields in `bytes` from `at` on, and hands each to `note`. `None`: the end has not
    /// come yet.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        mut at: usize,
        fields_max: usize,
        mut note: impl FnMut(&[u8], &[u8]) -> Result<(), RequestError>,
    ) -> Result<Option<Scanned>, RequestError> {
        self.0.clear();
        let mut has_capitals = false;
        while let Some((line, next)) = next_line(bytes, at)? {
            if line.is_empty() {
                return Ok(Some(Scanned {
                    end: next,
                    has_capitals,
                }));
            }
            if self.0.len() == fields_max {
                return Err(RequestError::TooManyFields);
            }
            let (length, is_capitalised) = name_length(line);
            let Some(rest) = line[length..].strip_prefix(b":").filter(|_| length > 0) else {
                return Err(RequestError::Field);
            };
            if !is_field_value(rest) {
                return Err(RequestError::Field);
            }
            has_capitals |= is_capitalised;
            let from = rest.iter().take_while(|byte| is_space(**byte)).count();
            let spaces = rest[from..]
                .iter()
                .rev()
                .take_while(|byte| is_space(**byte));
            let value = &rest[from..rest.len() - spaces.count()];
            note(&line[..length], value)?;
            let value_at = at + length + 1 + from;
            self.0.push(FieldRange {
                name: at,
                name_end: at + length,
                value: value_at,
                value_end: value_at + value.len(),
            });
            at = next;
        }
        Ok(None)
    }

    /// Moves the fields found last into a map. `head` has the bytes they were found in.
    pub(super) fn collect(
        &self,
        head: &Bytes,
        headers: &mut HeaderMap,
    ) -> Result<(), RequestError> {
        headers.reserve(self.0.len());
        for field in &self.0 {
            let name = HeaderName::from_bytes(&head[field.name..field.name_end]);
            let name = name.map_err(|_| RequestError::Field)?;
            let value = head.slice(field.value..field.value_end);
            // SAFETY: `read` has found no control character but tabs in it.
            let value = unsafe { HeaderValue::from_maybe_shared_unchecked(value) };
            let appended = headers.try_append(name, value);
            appended.map_err(|_| RequestError::TooManyFields)?;
        }
        Ok(())
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The line that begins at `at`, without its CRLF, and where the next begins. `None`: its end has
/// not come yet.
#[inline]
pub(super) fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, RequestError> {
    let Some(length) = memchr::memchr(b'\n', &bytes[at..]) else {
        return Ok(None);
    };
    let line = bytes[at..at + length].strip_suffix(b"\r");
    Ok(Some((line.ok_or(RequestError::BareLf)?, at + length + 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &[u8]) -> Result<Option<HeaderMap>, RequestError> {
        let mut ranges = FieldRanges::default();
        let found = ranges.read(text, 0, 3, |_, _| Ok(()))?;
        let Some(found) = found else { return Ok(None) };
        let mut headers = HeaderMap::new();
        ranges.collect(&Bytes::copy_from_slice(&text[..found.end]), &mut headers)?;
        Ok(Some(headers))
    }

    #[test]
    fn values_have_no_spaces_around_them() {
        let headers = fields(b"A: b\r\nc:\t d\te \t\r\nA:\r\n\r\nrest")
            .unwrap()
            .unwrap();
        let all: Vec<_> = headers.get_all("a").iter().collect();
        assert_eq!(all, ["b", ""]);
        assert_eq!(headers["c"], "d\te");
        assert_eq!(fields(b"A: b\r\n\r"), Ok(None));
    }

    #[test]
    fn lines_that_are_no_fields_are_refused() {
        for text in [
            &b"A : b\r\n\r\n"[..],
            b"A\t: b\r\n\r\n",
            b" A: b\r\n\r\n",
            b"A: b\r\n c\r\n\r\n",
            b": b\r\n\r\n",
            b"A\r\n\r\n",
            b"A: \0\r\n\r\n",
            b"A: b\rc\r\n\r\n",
            b"A: b\r\r\n\r\n",
            b"A\xe9: b\r\n\r\n",
        ] {
            assert_eq!(
                fields(text),
                Err(RequestError::Field),
                "{}",
                text.escape_ascii()
            );
        }
        assert_eq!(fields(b"A: b\n\r\n"), Err(RequestError::BareLf));
        assert_eq!(fields(b"A: b\r\n\n"), Err(RequestError::BareLf));
        assert_eq!(
            fields(&b"A: b\r\n".repeat(4)),
            Err(RequestError::TooManyFields)
        );
    }

    proptest! {
        /// `collect` makes values without looking at them again.
        #[test]
        fn values_are_what_the_http_crate_takes(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let line = [b"a:", &text[..], b"\r\n\r\n"].concat();
            if let Ok(Some(headers)) = fields(&line) {
                for value in headers.values() {
                    prop_assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok());
                }
            }
        }
    }
}
