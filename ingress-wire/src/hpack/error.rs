//! Why a field block is not decoded.

use thiserror::Error;

/// The block is not decoded: `COMPRESSION_ERROR` of the connection (RFC 9113 §4.3), but for one that
/// is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The block ends within a field.
    #[error("field block ends within a field")]
    Truncated,
    /// A number is too large.
    #[error("integer in a field block is longer than 32 bits")]
    Integer,
    /// A table has no such entry.
    #[error("no table has a field of index `{0}`")]
    Index(usize),
    /// A table is to be larger than it may be.
    #[error("table of `{bytes}` bytes is larger than the allowed `{bytes_max}`")]
    TableSize {
        /// The size that is wanted.
        bytes: usize,
        /// The largest that may be.
        bytes_max: usize,
    },
    /// A table's size changes after a field.
    #[error("table size changes after a field")]
    LateTableSize,
    /// A string contains the end of a string.
    #[error("Huffman string contains the end-of-string symbol")]
    EndOfString,
    /// A string ends with bits that are not padding.
    #[error("Huffman string has invalid padding")]
    Padding,
    /// No mistake but an attack: some bytes that become very many.
    #[error("fields of a block are far too large")]
    Excess,
}
