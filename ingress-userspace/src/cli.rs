//! The verbs that are not `run`: one file each.

pub mod change;
pub mod check;
pub mod dashboard;
pub mod deny;
pub mod explain;
pub mod listing;
pub mod manual;
mod objects;
pub mod plugin;
pub mod probe;
pub mod ready;
pub mod report;
mod socket;
pub use socket::Unreachable;
pub mod status;
mod table;
pub mod tail;
pub mod top;
