//! What an HTTP/1.1 endpoint is told about a request besides its head, as it is written.
//!
//! A head passes through a map, because much may be asked of it and done to it. What we add to nearly
//! every request need not: nobody looks at it before the endpoint does.

use std::rc::Rc;

use http::HeaderValue;
use ingress_wire::http1::FieldLines;

use crate::proxy::runtime::field::{
    X_FORWARDED_FOR, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_FORWARDED_SCHEME, X_REAL_IP, X_SCHEME,
    scheme_value,
};
use crate::proxy::runtime::random::RequestId;
use crate::proxy::runtime::transport::Scheme;

/// Fields that tell an endpoint who asks and how, as they are written after those of a head. Most of
/// them are the same for all requests of a connection, and none has to pass through a map.
#[derive(Clone)]
pub(crate) struct ForwardedHeaders {
    /// [`of_connection`](Self::of_connection).
    pub(crate) connection: Rc<[u8]>,
    /// Where the head has no `Host`.
    pub(crate) host: Option<HeaderValue>,
    /// The host that was asked for.
    pub(crate) forwarded_host: HeaderValue,
    /// Where the client has given none.
    pub(crate) request_id: Option<RequestId>,
}

impl FieldLines for ForwardedHeaders {
    fn write(&self, text: &mut Vec<u8>) {
        let own = [
            ("host: ", self.host.as_ref().map(HeaderValue::as_bytes)),
            ("x-forwarded-host: ", Some(self.forwarded_host.as_bytes())),
            (
                "x-request-id: ",
                self.request_id.as_ref().map(RequestId::as_slice),
            ),
        ];
        for (name, value) in own {
            if let Some(value) = value {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(value);
                text.extend_from_slice(b"\r\n");
            }
        }
        text.extend_from_slice(&self.connection);
    }

    fn length(&self) -> usize {
        let host = self.host.as_ref().map_or(0, HeaderValue::len);
        self.connection.len() + host + self.forwarded_host.len() + ROOM
    }
}

impl ForwardedHeaders {
    /// Those of them that all requests of a connection have.
    pub(crate) fn of_connection(
        client: &HeaderValue,
        port: &HeaderValue,
        scheme: Scheme,
    ) -> Rc<[u8]> {
        let scheme = scheme_value(scheme);
        let fields = [
            (&X_REAL_IP, client),
            (&X_FORWARDED_FOR, client),
            (&X_FORWARDED_PORT, port),
            (&X_FORWARDED_PROTO, &scheme),
            (&X_FORWARDED_SCHEME, &scheme),
            (&X_SCHEME, &scheme),
        ];
        let mut text = Vec::new();
        for (name, value) in fields {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                text.extend_from_slice(part);
            }
        }
        text.into()
    }
}

/// Bytes of names and ids.
const ROOM: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_for_each_that_is_there() {
        let value = HeaderValue::from_static;
        let mut lines = ForwardedHeaders {
            connection: ForwardedHeaders::of_connection(
                &value("192.0.2.7"),
                &value("443"),
                Scheme::Https,
            ),
            host: None,
            forwarded_host: value("one.test"),
            request_id: None,
        };
        let mut text = Vec::new();
        lines.write(&mut text);
        let expected = "x-forwarded-host: one.test\r\nx-real-ip: 192.0.2.7\r\n\
             x-forwarded-for: 192.0.2.7\r\nx-forwarded-port: 443\r\nx-forwarded-proto: https\r\n\
             x-forwarded-scheme: https\r\nx-scheme: https\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        lines.host = Some(value("one.test"));
        lines.request_id = Some(*b"0123456789abcdef0123456789abcdef");
        let mut text = Vec::new();
        lines.write(&mut text);
        assert!(
            text.starts_with(b"host: one.test\r\nx-forwarded-host: one.test\r\nx-request-id: 0")
        );
        assert!(text.len() <= lines.length());
    }
}
