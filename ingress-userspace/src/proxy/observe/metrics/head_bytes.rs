//! The bytes of heads, as they are or would be on the wire of HTTP/1.

use http::header::DATE;
use http::{HeaderMap, Request};

use crate::proxy::observe::access_log::entry::FieldCapture;

/// As HTTP/1.1 spells it.
pub(super) fn request_line_bytes<B>(request: &Request<B>) -> u64 {
    let target = request.uri().path_and_query();
    let target_bytes = target.map_or(1, |target| target.as_str().len());
    (request.method().as_str().len() + target_bytes + LINE_BYTES) as u64
}

/// The size of the fields of a head.
pub(crate) struct Fields {
    /// As HTTP/1.1 spells them, with the line that ends them.
    pub(super) bytes: u64,
    pub(super) have_date: bool,
}

impl Fields {
    /// Looks at each of them once, and has an entry of the access log keep what that wants. One
    /// function for all heads, not inlined: what a request runs through once costs as much as it is
    /// long.
    #[inline(never)]
    pub(crate) fn of<'a>(
        headers: &'a HeaderMap,
        mut keeper: Option<&mut FieldCapture<'_, 'a>>,
    ) -> Self {
        let mut bytes = 2;
        let mut have_date = false;
        for (name, value) in headers {
            if let Some(keeper) = &mut keeper {
                keeper.look(name, value);
            }
            bytes += name.as_str().len() + value.len() + FIELD_BYTES;
            have_date |= *name == DATE;
        }
        Self {
            bytes: bytes as u64,
            have_date,
        }
    }
}

/// Two spaces, the version and the end of a request line.
const LINE_BYTES: usize = "  HTTP/1.1\r\n".len();

/// The bytes of a field line beside name and value.
const FIELD_BYTES: usize = ": \r\n".len();
