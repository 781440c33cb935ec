//! Names of fields as their sender has written them.
//!
//! A `HeaderMap` knows names in lower case only. Some clients and endpoints compare names by case,
//! so a message that passes from HTTP/1.1 to HTTP/1.1 keeps them. No list is made of them: the value
//! of a field is a part of the head that it came in, and its name stands before it there.
//!
//! Invariant: only a field that came with the head is written with a name from it. A field that was
//! replaced has another value, and so the sender has no say in how it is written.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// A head, in which names are looked up.
#[derive(Clone, Debug)]
pub struct Spelling(Bytes);

impl Spelling {
    /// Of a head whose fields have values that are parts of these bytes.
    pub(super) fn new(head: Bytes) -> Self {
        Self(head)
    }

    /// The name of a field as it came. In lower case, if the field did not come with this head or
    /// has no value.
    #[inline]
    pub fn name_of<'a>(&'a self, name: &'a HeaderName, value: &HeaderValue) -> &'a [u8] {
        self.find(name, value).unwrap_or(name.as_str().as_bytes())
    }

    /// The bytes before the value. Nothing else can be where they are while this holds the head.
    #[inline]
    fn find(&self, name: &HeaderName, value: &HeaderValue) -> Option<&[u8]> {
        let place = value.as_bytes().as_ptr().addr();
        let offset = place.checked_sub(self.0.as_ptr().addr())?;
        let mut before = self.0.get(..offset)?;
        while let [rest @ .., b' ' | b'\t'] = before {
            before = rest;
        }
        let before = before.strip_suffix(b":")?;
        let name = name.as_str().as_bytes();
        let at = before.len().checked_sub(name.len())?;
        let found = &before[at..];
        found.eq_ignore_ascii_case(name).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a head, by the place of its value.
    fn field(head: &Bytes, name: &'static str, value: &str) -> (HeaderName, HeaderValue) {
        let text = str::from_utf8(head).unwrap();
        let at = text.find(value).unwrap();
        let value = HeaderValue::from_maybe_shared(head.slice(at..at + value.len()));
        (HeaderName::from_static(name), value.unwrap())
    }

    #[test]
    fn names_are_those_of_the_head() {
        let head =
            Bytes::from("GET / HTTP/1.1\r\nSOAPAction: \tone\r\nX-A:two\r\nx-A: three\r\n\r\n");
        let spelling = Spelling::new(head.clone());
        for (name, value, expected) in [
            ("soapaction", "one", "SOAPAction"),
            ("x-a", "two", "X-A"),
            ("x-a", "three", "x-A"),
            // Another name for a value of the head.
            ("x-b", "two", "x-b"),
        ] {
            let (name, value) = field(&head, name, value);
            assert_eq!(spelling.name_of(&name, &value), expected.as_bytes());
        }
    }

    #[test]
    fn a_field_that_was_replaced_has_its_own_name() {
        let head = Bytes::from("X-Real-IP: 192.0.2.1\r\nX-Empty:\r\n\r\n");
        let spelling = Spelling::new(head);
        let name = HeaderName::from_static("x-real-ip");
        for value in ["192.0.2.1", "", "198.51.100.7"] {
            let value = HeaderValue::from_static(value);
            assert_eq!(spelling.name_of(&name, &value), b"x-real-ip");
        }
    }
}
