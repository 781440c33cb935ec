//! Replaces texts in response bodies, piece by piece.
//!
//! Source: nginx, `ngx_http_sub_filter_module`: letters of either case are the same, what was replaced is
//! not looked at again, and the first of several texts that begin at one place wins. A body that is
//! compressed, or a part of a body, stays as it is.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LAST_MODIFIED,
};

use crate::ir::Substitution;

/// Whether the body of a response with these fields is changed.
pub fn applies(substitution: &Substitution, fields: &HeaderMap) -> bool {
    let is_coded = fields.contains_key(CONTENT_ENCODING) || fields.contains_key(CONTENT_RANGE);
    let media_type = fields.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let Some(media_type) = media_type
        .and_then(|it| it.split(';').next())
        .filter(|_| !is_coded)
    else {
        return false;
    };
    let media_type = media_type.trim();
    let is_it = |listed: &str| listed == "*" || listed.eq_ignore_ascii_case(media_type);
    is_it("text/html") || substitution.types.iter().any(|listed| is_it(listed))
}

/// Removes the fields that are about the body as the endpoint has sent it.
pub fn apply(substitution: &Substitution, fields: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, ACCEPT_RANGES, ETAG] {
        fields.remove(name);
    }
    if !substitution.keeps_last_modified {
        fields.remove(LAST_MODIFIED);
    }
}

/// Replaces texts in a body that comes in pieces. Keeps at most as many bytes as the longest text has.
#[derive(Debug)]
pub struct Replacer {
    substitution: Arc<Substitution>,
    /// Texts that are not looked for any more.
    is_done: Box<[bool]>,
    /// The start of what may be a text.
    held: Vec<u8>,
}

/// What stands at a place of a body.
enum Found {
    Nothing,
    /// The text of this pair.
    Text(usize),
    /// Maybe a text: the rest of it did not come yet.
    Start,
}

impl Replacer {
    /// For one body.
    pub fn new(substitution: Arc<Substitution>) -> Self {
        Self {
            is_done: vec![false; substitution.pairs.len()].into(),
            substitution,
            held: Vec::new(),
        }
    }

    /// Takes a piece of the body, and appends what can be said of it so far.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        let body = std::mem::take(&mut self.held);
        let kept = self.replace(&body, false, out);
        self.held = kept.to_vec();
    }

    /// Appends the rest of the body.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let body = std::mem::take(&mut self.held);
        self.replace(&body, true, out);
    }

    /// Returns the bytes that have to be looked at again when more has come.
    fn replace<'a>(&mut self, body: &'a [u8], is_last: bool, out: &mut Vec<u8>) -> &'a [u8] {
        let mut rest = body;
        let mut plain = 0;
        while plain < rest.len() {
            match self.find(&rest[plain..]) {
                Found::Nothing => plain += 1,
                Found::Start if is_last => plain += 1,
                Found::Start => {
                    out.extend_from_slice(&rest[..plain]);
                    return &rest[plain..];
                }
                Found::Text(index) => {
                    let (text, replacement) = &self.substitution.pairs[index];
                    out.extend_from_slice(&rest[..plain]);
                    out.extend_from_slice(replacement.as_bytes());
                    rest = &rest[plain + text.len()..];
                    plain = 0;
                    self.is_done[index] = self.substitution.is_once;
                }
            }
        }
        out.extend_from_slice(rest);
        &[]
    }

    fn find(&self, body: &[u8]) -> Found {
        let wanted = self.substitution.pairs.iter().zip(&self.is_done);
        for (index, ((text, _), is_done)) in wanted.enumerate() {
            let text = text.as_bytes();
            let length = text.len().min(body.len());
            if *is_done || !body[..length].eq_ignore_ascii_case(&text[..length]) {
                continue;
            }
            return if length == text.len() {
                Found::Text(index)
            } else {
                Found::Start
            };
        }
        Found::Nothing
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn substitution(pairs: &[(&str, &str)], is_once: bool) -> Arc<Substitution> {
        let pairs = pairs
            .iter()
            .map(|(text, to)| ((*text).into(), (*to).into()));
        Arc::new(Substitution {
            pairs: pairs.collect(),
            is_once,
            types: ["text/css".into()].into(),
            keeps_last_modified: false,
        })
    }

    fn replaced(pieces: &[&[u8]], substitution: &Arc<Substitution>) -> Vec<u8> {
        let mut replacer = Replacer::new(Arc::clone(substitution));
        let mut out = Vec::new();
        for piece in pieces {
            replacer.write(piece, &mut out);
        }
        replacer.finish(&mut out);
        out
    }

    #[test]
    fn texts_are_replaced_once_or_always() {
        let pairs = [("http://", "https://"), ("</head>", "<b></head>")];
        let body = b"HTTP://a http://b </HEAD></head>";
        let all = replaced(&[body], &substitution(&pairs, false));
        assert_eq!(all, b"https://a https://b <b></head><b></head>");
        let once = replaced(&[body], &substitution(&pairs, true));
        assert_eq!(once, b"https://a http://b <b></head></head>");
    }

    #[test]
    fn fields_about_the_old_body_are_removed() {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            (CONTENT_TYPE, "Text/CSS; charset=utf-8"),
            (CONTENT_LENGTH, "5"),
            (ETAG, "\"a\""),
            (LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        let substitution = substitution(&[("a", "b")], true);
        assert!(applies(&substitution, &fields));
        apply(&substitution, &mut fields);
        assert_eq!(fields.len(), 1);
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!applies(&substitution, &fields));
        fields.remove(CONTENT_ENCODING);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        assert!(!applies(&substitution, &fields));
        assert!(!applies(&substitution, &HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_little_is_kept(
            body in "[abAB]{0,80}",
            pairs in prop::collection::vec(("[ab]{1,4}", "[a-d]{0,3}"), 1..4),
            is_once: bool,
            cuts in prop::collection::vec(0_usize..80, 0..6),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|(text, to)| (&**text, &**to)).collect();
            let substitution = substitution(&pairs, is_once);
            let longest = pairs.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let mut replacer = Replacer::new(Arc::clone(&substitution));
            let (mut out, mut start) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([body.len()]) {
                replacer.write(&body.as_bytes()[start..cut], &mut out);
                prop_assert!(replacer.held.len() < longest);
                start = cut;
            }
            replacer.finish(&mut out);
            prop_assert_eq!(out, replaced(&[body.as_bytes()], &substitution));
        }
    }
}
