//! The side of endpoints: pools of connections, the choice of an endpoint, HTTP/1.1 and HTTP/2 to it.

pub(crate) mod affinity;
pub(crate) mod connect;
pub(crate) mod connection_sharing;
pub(crate) mod context;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod forwarded;
pub(crate) mod hash_key;
pub(crate) mod health;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod liveness;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod replay_buffer;
pub(crate) mod request_body;
pub(crate) mod response_source;
pub(crate) mod response_timeout;
pub(crate) mod service_client;
pub(crate) mod settings_wait;
pub(crate) mod timeouts;
pub(crate) mod write_batch;
