//! HTTP/1.1 (RFC 9112): heads, bodies and what connects them.
//!
//! A server reads requests with [`RequestReader`] and writes responses with [`write_response`]; a client
//! writes requests with [`write_request`] and reads responses with [`HeadReader`]. Both read bodies with
//! [`BodyDecoder`]. Where two readers could disagree about the end of a message, the message is refused
//! (RFC 9112 §11.2).

mod body;
#[cfg(any(test, feature = "testing"))]
pub mod check;
mod chunk;
mod connection;
mod fields;
mod read_request;
mod read_response;
mod request_line;
mod spelling;
mod syntax;
mod target;
mod trailers;
mod write_request;
mod write_response;

pub use body::{BodyDecoder, BodyError, Decoded};
pub use chunk::{LAST_CHUNK, write_chunk_size};
pub use connection::Persistence;
pub use fields::FieldRanges;
pub use read_request::{Asks, HeadBounds, RequestError, RequestHead, RequestReader};
pub use read_response::{HeadReader, ResponseError, ResponseHead};
pub use request_line::{is_preface, may_become_preface};
pub use spelling::Spelling;
pub use syntax::{is_authority, is_method};
pub use target::RawTarget;
pub use trailers::{
    is_forbidden_trailer, remove_forbidden_trailers, trailer_names, write_trailers,
};
pub use write_request::{FieldLines, RequestBodySize, RequestContext, write_request};
pub use write_response::{
    Framing, ReasonPhrase, ResponseBodySize, ResponseContext, write_interim, write_response,
};
