//! HTTP/1.1 (RFC 9112): heads, bodies and what connects them.
//!
//! A server reads requests with [`RequestReader`], reads their bodies with [`BodyDecoder`] and writes
//! responses with [`write_response`]. All of them are strict: where two readers could disagree about
//! the end of a message, the message is refused (RFC 9112 §11.2).

mod body;
mod chunk;
mod connection;
mod fields;
mod read_request;
mod request_line;
mod spelling;
mod syntax;
mod target;
mod trailers;
mod write_response;

pub use body::{BodyDecoder, BodyError, Decoded};
pub use chunk::{LAST_CHUNK, write_chunk_size};
pub use connection::{Persistence, connection_options};
pub use fields::FieldRanges;
pub use read_request::{Asks, HeadBounds, RequestError, RequestHead, RequestReader};
pub use request_line::{is_preface, may_become_preface};
pub use spelling::{SpelledNames, Spelling};
pub use target::RawTarget;
pub use trailers::{is_forbidden_trailer, trailer_names, write_trailers};
pub use write_response::{
    Framing, ReasonPhrase, ResponseBodySize, ResponseContext, write_interim, write_response,
};
