//! Conditions on requests, as snippets write them.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::template::Variable;

/// Which requests something applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// By the value of a variable.
    ///
    /// Source: nginx, directive `if`.
    Variable {
        /// The variable.
        variable: Variable,
        /// What its value is compared with.
        test: ValueTest,
        /// Whether the test has to fail.
        is_negated: bool,
    },
    /// By the normalised path.
    ///
    /// Source: nginx, directive `location`.
    Path(PathTest),
}

/// A test of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueTest {
    /// It is neither empty nor `0`.
    IsSet,
    /// It is this text.
    Equals(Box<str>),
    /// An expression is found in it.
    Matches(TextPattern),
}

/// A test of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathTest {
    /// It is this text.
    Equals(Box<str>),
    /// It begins with this text, which need not end where an element ends.
    BeginsWith(Box<str>),
    /// An expression is found in it.
    Matches(TextPattern),
}

/// A regular expression over bytes, in linear time.
#[derive(Clone, Debug)]
pub struct TextPattern {
    text: Arc<str>,
    ignores_case: bool,
    regex: Regex,
}

impl TextPattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// A message for its author if the expression is malformed, too large, or has lookaround or
    /// backreferences, which take more than linear time.
    pub fn new(text: &str, ignores_case: bool) -> Result<Self, String> {
        let regex = RegexBuilder::new(text)
            .case_insensitive(ignores_case)
            .unicode(false)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build();
        let regex = regex.map_err(|error| {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            format!("`{text}` is not a regular expression: {reason}")
        })?;
        Ok(Self {
            text: text.into(),
            ignores_case,
            regex,
        })
    }

    /// Its first match anywhere in a text.
    pub fn captures<'a>(&self, text: &'a [u8]) -> Option<regex::bytes::Captures<'a>> {
        self.regex.captures(text)
    }

    /// How many groups it has, the whole match not counted.
    pub fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.ignores_case) == (&other.text, other.ignores_case)
    }
}

impl Eq for TextPattern {}

/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 256 << 10;
