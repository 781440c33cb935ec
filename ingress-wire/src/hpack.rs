//! Field blocks of HTTP/2 (HPACK, RFC 7541), as a server reads and writes them.
//!
//! Pure. `decode` turns a client's block into fields: `reader` takes integers and strings out of
//! it, `huffman` undoes the code of the latter, `static_table` and `table` have the fields that
//! are named by an index. `encode` writes the fields of a response.
//!
//! Invariant: fields are checked where they come in, once. One that a table has is handed out as
//! often as a client names it by cloning what was parsed; and a field that is none is an offence of
//! its message, never of the connection, whose tables stay in step.

#[cfg(any(test, feature = "testing"))]
pub mod check;
mod decode;
mod encode;
mod error;
mod field;
mod huffman;
mod reader;
mod static_table;
mod table;

pub use decode::Decoder;
pub use encode::{encode_field, encode_no_table, encode_status};
pub use error::DecodeError;
pub use field::{Field, Pseudo};

#[cfg(test)]
mod tests;
