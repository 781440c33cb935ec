//! The verbs that are not `run`: one file each.

pub mod probe;
pub mod status;
