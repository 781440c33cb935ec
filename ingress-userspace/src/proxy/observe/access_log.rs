//! The access log: one line for each request that has ended, off the request's path.
//!
//! `template` is what a line looks like, parsed once; `entry` is what one request has to say in
//! it; `buffer` collects requests and their `line`s on each worker (`block`: where they are put
//! together; `time` and `address`: texts that are spelled once), and hands them to a thread that
//! writes, `sink`. A writer that cannot keep up costs lines, which are counted, and no request any
//! time.
//!
//! Invariant: what clients send is escaped, so that nobody writes lines but us, and a template
//! only names what is to be said: nothing of it is executed.

mod address;
mod block;
mod buffer;
pub(crate) mod entry;
mod escape;
mod line;
mod sink;
mod template;
mod time;

pub use sink::{AccessLog, LogWriter, Target};
pub use template::{Escape, Template, TemplateError};

pub(crate) use buffer::LogBuffer;
