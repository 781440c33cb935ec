//! The memory that one worker holds for its clients.

use std::rc::Rc;
use std::sync::Arc;

use crate::proxy::runtime::bulk::Bulk;
use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::limits::MemoryLimits;
use crate::proxy::runtime::stalls::Stalls;

/// The permits for large pieces, and the tasks that hold bytes for clients that do not read.
pub(crate) struct ClientMemory {
    pub(crate) bulk: Rc<Bulk>,
    pub(crate) stalls: Rc<Stalls>,
}

impl ClientMemory {
    pub(crate) fn new(limits: MemoryLimits, counters: &Arc<Counters>) -> Self {
        Self {
            bulk: Bulk::new(),
            stalls: Stalls::new(limits.stalled_bytes_max, counters),
        }
    }
}
