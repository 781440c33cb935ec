//! One request from its head to the end of its response, whatever protocol carried it.

pub(crate) mod attempt;
pub(crate) mod authenticate;
pub(crate) mod client;
pub(crate) mod connection;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod error_pages;
pub(crate) mod filter;
pub(crate) mod grpc_timeout;
pub(crate) mod head;
pub(crate) mod mirror;
pub(crate) mod outcome;
pub(crate) mod pace;
pub(crate) mod password;
pub(crate) mod phases;
pub(crate) mod pick;
pub(crate) mod prepare;
pub(crate) mod rate_limit;
pub(crate) mod replay;
pub(crate) mod response;
pub(crate) mod response_body;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod service_request;
pub(crate) mod upgrade;
