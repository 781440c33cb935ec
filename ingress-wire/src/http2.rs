//! HTTP/2 (RFC 9113): frames as they are read and as they wait to be written.
//!
//! Streams, windows and settings are kept by the user of this module.

#[cfg(any(test, feature = "testing"))]
pub mod check;
pub mod frame;
mod frame_reader;
mod send_queue;

pub use frame::Reason;
pub use frame_reader::{FrameReader, Piece};
pub use send_queue::SendQueue;
