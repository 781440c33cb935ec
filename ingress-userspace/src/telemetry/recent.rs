//! The last lines of the log, kept for `sluice report`.
//!
//! Invariant: at most [`BYTES_MAX`] bytes are kept, and lines are kept whole.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Writes to an output and keeps the last lines. Only the log's own thread writes, so that no code that
/// logs waits for the lock.
pub(super) struct Keeping<W>(pub(super) W);

impl<W: Write> Write for Keeping<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // Kept first, because writing blocks while standard error is not read.
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        keep(&mut recent, lines, BYTES_MAX);
        drop(recent);
        self.0.write_all(lines)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The last lines.
pub fn recent_lines() -> Vec<u8> {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.iter().copied().collect()
}

fn keep(recent: &mut VecDeque<u8>, lines: &[u8], most: usize) {
    recent.extend(lines);
    if recent.len() > most {
        let surplus = recent.len() - most;
        let end = recent.iter().skip(surplus).position(|byte| *byte == b'\n');
        recent.drain(..end.map_or(recent.len(), |end| surplus + end + 1));
    }
}

static RECENT: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

/// Some 1,000 lines.
const BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_give_way_and_lines_stay_whole() {
        let mut recent = VecDeque::new();
        for line in ["one\n", "two\n", "three\n"] {
            keep(&mut recent, line.as_bytes(), 11);
        }
        assert_eq!(recent.make_contiguous(), b"two\nthree\n");
        keep(&mut recent, &[b'x'; 20], 11);
        assert!(
            recent.is_empty(),
            "a line without an end is longer than all that is kept"
        );
    }
}
