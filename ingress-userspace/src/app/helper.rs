//! The helper process: it alone keeps the privileges that the datapath takes (to load programs, enter
//! namespaces, change devices and make transparent sockets) once the daemon has started.
//!
//! The daemon, which parses what clients send, starts the helper before anything else and then gives
//! those privileges up. The two speak over a socketpair: requests of `protocol.rs`, in frames of
//! `channel.rs`, with descriptors beside them. The helper listens on no address, and reads nothing
//! else but the node's own network configuration.
//!
//! Either ends when the other does: the helper leaves everything in the kernel as it is, for the next
//! daemon to adopt; the daemon lets its requests end and exits with an error.

mod channel;
mod claim;
mod client;
mod difference;
mod protocol;
mod server;
mod sockets;

pub(super) use claim::Claim;
pub(super) use client::{Datapath, Event, Helper, Opened};
pub(super) use server::serve;
