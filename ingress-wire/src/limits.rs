//! Bounds on what a peer may send before this crate refuses it.

/// Bytes of a response head, or of the trailer fields of a body.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Fields of one head, or after one body.
pub const FIELDS_MAX: usize = 100;

/// Interim responses before a final one.
pub const INTERIM_RESPONSES_MAX: usize = 32;

/// Bytes of the lines between the chunks of one body, beyond their sizes.
pub const CHUNK_LINES_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a request target: `http::Uri` keeps the place of a query in 16 bits.
pub const TARGET_BYTES_MAX: usize = u16::MAX as usize - 1;
