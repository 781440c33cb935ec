//! One request from its head to the end of its response, whatever protocol carried it.

pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod error;
pub(crate) mod forward;
pub(crate) mod forwarded;
pub(crate) mod grpc_timeout;
pub(crate) mod head;
pub(crate) mod replay;
pub(crate) mod response;
pub(crate) mod retry;
pub(crate) mod upgrade;
