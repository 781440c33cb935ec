//! The side of clients: accepting, TLS, HTTP/1.1 and HTTP/2 with them.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod context;
pub(crate) mod driver;
pub(crate) mod evictions;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod lingering_close;
pub(crate) mod listen;
pub(crate) mod proxy_protocol;
