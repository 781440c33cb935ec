//! The dynamic table: fields that a client said before, the newest first (RFC 7541 §2.3.2).
//!
//! Invariant: its size is the sum of its entries' and within its bound. One without entries holds
//! no memory.

use std::collections::VecDeque;

use super::field::Entry;

#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Table {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The entry that came so many entries before the newest.
    pub(super) fn entry(&self, age: usize) -> Option<&Entry> {
        self.entries.get(age)
    }

    /// Adds an entry. Older ones make room; all of them for one that fits into no table of this
    /// size, and is not kept either (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        let Some(bytes_left) = self.bytes_max.checked_sub(bytes) else {
            self.clear();
            return;
        };
        self.evict(bytes_left);
        if self.entries.len() == self.entries.capacity() {
            // Most clients say the same ten or twenty fields for as long as they are there: twice
            // the room, as a deque would take by itself, would be held for nothing.
            self.entries.reserve_exact(4 + self.entries.len() / 4);
        }
        self.bytes += bytes;
        self.entries.push_front(entry);
        self.check();
    }

    /// Changes the bound (RFC 7541 §4.3).
    pub(super) fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.evict(bytes_max);
        if self.entries.is_empty() {
            self.clear();
        }
        self.check();
    }

    fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// Removes the oldest entries until no more than `bytes_left` are left.
    fn evict(&mut self, bytes_left: usize) {
        while self.bytes > bytes_left
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry.bytes();
        }
    }

    fn check(&self) {
        debug_assert!(self.bytes <= self.bytes_max);
        debug_assert_eq!(
            self.bytes,
            self.entries.iter().map(Entry::bytes).sum::<usize>()
        );
    }
}
