//! Names of fields as their sender has written them.
//!
//! A `HeaderMap` knows names in lower case only. Some clients and endpoints compare names by case,
//! so a message that passes from HTTP/1.1 to HTTP/1.1 keeps them. The head itself remembers them: no
//! list is made of them, and a head without capital letters has no [`Spelling`].

use bytes::Bytes;
use http::HeaderName;

/// The fields of a head as they came.
#[derive(Clone, Debug)]
pub struct Spelling(Bytes);

impl Spelling {
    /// Of lines of fields, from the first to the empty one.
    pub(super) fn new(fields: Bytes) -> Self {
        Self(fields)
    }

    /// A search through the names.
    pub fn names(&self) -> SpelledNames<'_> {
        SpelledNames {
            all: &self.0,
            rest: &self.0,
            steps_left: STEPS_MAX,
        }
    }
}

/// A search through the names of a head, which begins where the last one was found: a map has
/// nearly all of them in the order in which they came.
#[derive(Debug)]
pub struct SpelledNames<'a> {
    all: &'a [u8],
    rest: &'a [u8],
    /// Lines that may still be passed over.
    steps_left: usize,
}

impl<'a> SpelledNames<'a> {
    /// How `name` was spelled; as it is, if it was not among the names.
    #[inline]
    pub fn spelled<'b>(&mut self, name: &'b HeaderName) -> &'b [u8]
    where
        'a: 'b,
    {
        let wanted = name.as_str().as_bytes();
        if let Some(found) = name_of(self.rest, wanted) {
            self.rest = after_line(self.rest);
            return found;
        }
        self.search(wanted).unwrap_or(wanted)
    }

    #[cold]
    fn search(&mut self, wanted: &[u8]) -> Option<&'a [u8]> {
        for from in [self.rest, self.all] {
            let mut lines = from;
            while !lines.is_empty() && self.steps_left > 0 {
                self.steps_left -= 1;
                let found = name_of(lines, wanted);
                lines = after_line(lines);
                if found.is_some() {
                    self.rest = lines;
                    return found;
                }
            }
        }
        None
    }
}

/// The name that `lines` begin with, if it is the one that is looked for.
fn name_of<'a>(lines: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = lines.split_at_checked(wanted.len())?;
    (rest.first() == Some(&b':') && name.eq_ignore_ascii_case(wanted)).then_some(name)
}

fn after_line(lines: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1);
    &lines[end..]
}

/// Lines that all searches in one head pass over: enough for a map whose order has changed a little,
/// and no lever for a client that sends many names which are then not found.
const STEPS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(head: &'static str, names: &[&'static str]) -> Vec<String> {
        let spelling = Spelling::new(Bytes::from_static(head.as_bytes()));
        let mut search = spelling.names();
        let spell = |name: &&'static str| {
            let name = HeaderName::from_static(name);
            String::from_utf8(search.spelled(&name).to_vec()).unwrap()
        };
        names.iter().map(spell).collect()
    }

    const HEAD: &str = "Host: a\r\nSOAPAction: b\r\nX-A: Host:\r\nx-a: c\r\nETag: d\r\n\r\n";

    #[test]
    fn names_are_found_in_any_order() {
        let in_order = ["host", "soapaction", "x-a", "x-a", "etag"];
        let expected = ["Host", "SOAPAction", "X-A", "x-a", "ETag"];
        assert_eq!(spelled(HEAD, &in_order), expected);
        let others = ["etag", "x-new", "host", "x", "x-a", "soapaction"];
        let expected = ["ETag", "x-new", "Host", "x", "X-A", "SOAPAction"];
        assert_eq!(spelled(HEAD, &others), expected);
    }

    #[test]
    fn a_search_ends_after_a_bounded_number_of_lines() {
        let spelling = Spelling::new(Bytes::from("Y: z\r\n".repeat(100)));
        let mut search = spelling.names();
        let unknown = HeaderName::from_static("unknown");
        for _ in 0..1_000 {
            assert_eq!(search.spelled(&unknown), b"unknown");
        }
        assert_eq!(search.steps_left, 0);
    }
}
