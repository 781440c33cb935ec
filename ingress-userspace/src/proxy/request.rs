//! One request from its head to the end of its response, whatever protocol carried it.

pub(crate) mod attempt;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod filter;
pub(crate) mod grpc_timeout;
pub(crate) mod head;
pub(crate) mod outcome;
pub(crate) mod phases;
pub(crate) mod pick;
pub(crate) mod prepare;
pub(crate) mod replay;
pub(crate) mod response;
pub(crate) mod response_body;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod upgrade;
