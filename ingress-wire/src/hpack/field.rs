//! A field of a block: as whoever decodes it is given it, and as the tables keep it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// A pseudo-header field of a request (RFC 9113 §8.3.1, RFC 8441 §4) or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// `:authority`.
    Authority,
    /// `:method`.
    Method,
    /// `:path`.
    Path,
    /// `:scheme`.
    Scheme,
    /// `:protocol` (RFC 8441 §4).
    Protocol,
    /// `:status`.
    Status,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A pseudo-header field.
    Pseudo(Pseudo, Bytes),
    /// Any other field.
    Header(HeaderName, HeaderValue),
    /// Decodable, but no valid field (RFC 9113 §8.2.1): upper-case or empty name, unknown
    /// pseudo-header, forbidden byte in name or value. The message is malformed, the connection
    /// is not.
    Malformed,
}

/// A field, and all that a table has to know of it.
#[derive(Clone, Debug)]
pub enum Entry {
    Pseudo(Pseudo, Bytes),
    Header(HeaderName, HeaderValue),
    /// Its name may be good, and other fields may refer to it.
    Malformed {
        name: Name,
        value_bytes: usize,
    },
}

/// The name of a field.
#[derive(Clone, Debug)]
pub enum Name {
    Pseudo(Pseudo),
    Header(HeaderName),
    Malformed { bytes: usize },
}

impl Entry {
    pub fn parse(name: Name, value: &[u8]) -> Self {
        let malformed = |name| Self::Malformed {
            name,
            value_bytes: value.len(),
        };
        match name {
            Name::Pseudo(name) if value.iter().all(|byte| is_allowed(*byte)) => {
                Self::Pseudo(name, Bytes::copy_from_slice(value))
            }
            Name::Header(name) => match HeaderValue::from_bytes(value) {
                Ok(value) => Self::Header(name, value),
                Err(_) => malformed(Name::Header(name)),
            },
            Name::Pseudo(_) | Name::Malformed { .. } => malformed(name),
        }
    }

    /// Has whoever passes the field on never index it either (RFC 7541 §6.2.3).
    pub fn never_index(&mut self) {
        if let Self::Header(_, value) = self {
            value.set_sensitive(true);
        }
    }

    /// The size in bytes that it has in a table and in a list.
    pub fn bytes(&self) -> usize {
        let value_bytes = match self {
            Self::Pseudo(_, value) => value.len(),
            Self::Header(_, value) => value.len(),
            Self::Malformed { value_bytes, .. } => *value_bytes,
        };
        field_bytes(self.name_bytes(), value_bytes)
    }

    pub fn name_bytes(&self) -> usize {
        match self {
            Self::Pseudo(name, _) => name.as_str().len(),
            Self::Header(name, _) => name.as_str().len(),
            Self::Malformed { name, .. } => name.bytes(),
        }
    }

    pub fn name(&self) -> Name {
        match self {
            Self::Pseudo(name, _) => Name::Pseudo(*name),
            Self::Header(name, _) => Name::Header(name.clone()),
            Self::Malformed { name, .. } => name.clone(),
        }
    }

    pub fn field(&self) -> Field {
        match self {
            Self::Pseudo(name, value) => Field::Pseudo(*name, value.clone()),
            Self::Header(name, value) => Field::Header(name.clone(), value.clone()),
            Self::Malformed { .. } => Field::Malformed,
        }
    }
}

impl From<Entry> for Field {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Pseudo(name, value) => Self::Pseudo(name, value),
            Entry::Header(name, value) => Self::Header(name, value),
            Entry::Malformed { .. } => Self::Malformed,
        }
    }
}

impl Name {
    pub fn parse(text: &[u8]) -> Self {
        let name = match text {
            [b':', ..] => Pseudo::parse(text).map(Self::Pseudo),
            _ => HeaderName::from_lowercase(text).ok().map(Self::Header),
        };
        name.unwrap_or(Self::Malformed { bytes: text.len() })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Pseudo(name) => name.as_str().len(),
            Self::Header(name) => name.as_str().len(),
            Self::Malformed { bytes } => *bytes,
        }
    }
}

impl Pseudo {
    fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b":authority" => Some(Self::Authority),
            b":method" => Some(Self::Method),
            b":path" => Some(Self::Path),
            b":scheme" => Some(Self::Scheme),
            b":protocol" => Some(Self::Protocol),
            b":status" => Some(Self::Status),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Authority => ":authority",
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Scheme => ":scheme",
            Self::Protocol => ":protocol",
            Self::Status => ":status",
        }
    }
}

/// What a field counts for in a table (RFC 7541 §4.1) and in a list (RFC 9113 §6.5.2).
pub(super) fn field_bytes(name_bytes: usize, value_bytes: usize) -> usize {
    name_bytes + value_bytes + OVERHEAD_BYTES
}

/// Whether a value may have this byte (RFC 9110 §5.5): those of other fields are held to the same
/// by `HeaderValue`.
fn is_allowed(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

const OVERHEAD_BYTES: usize = 32;
