//! Permits to hold large pieces of a response for a client.
//!
//! Bodies move fastest by large reads, but what was read and a client does not take stays in
//! memory. So a response is read in small pieces unless it has one of a bounded number of permits.

use std::cell::Cell;
use std::rc::Rc;

use crate::proxy::runtime::limits::BULK_PERMITS;

/// The permits of one worker.
pub(crate) struct Bulk(Cell<usize>);

impl Bulk {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self(Cell::new(BULK_PERMITS)))
    }

    /// A permit, if one is left.
    pub(crate) fn take(self: &Rc<Self>) -> Option<BulkPermit> {
        let left = self.0.get().checked_sub(1)?;
        self.0.set(left);
        Some(BulkPermit(Rc::clone(self)))
    }
}

/// A permit, until this is dropped.
pub(crate) struct BulkPermit(Rc<Bulk>);

impl Drop for BulkPermit {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let bulk = Bulk::new();
        let all: Vec<_> = (0..BULK_PERMITS).filter_map(|_| bulk.take()).collect();
        assert!(all.len() == BULK_PERMITS && bulk.take().is_none());
        drop(all);
        assert!(bulk.take().is_some());
    }
}
