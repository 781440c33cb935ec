//! Reads the lines of a node. A line has a bound, and so has what a node may send over time: a node that
//! sends more is cut off.

use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Why there is no further line.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The node ended its output.
    #[error("the command on the node ended")]
    Ended,
    /// The connection broke.
    #[error("lost the connection: {0}")]
    Lost(#[from] io::Error),
    /// The node sent more than a daemon has to tell.
    #[error("cut off, because it sent {0}")]
    Flood(String),
}

/// The lines of a node.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    bytes: Budget,
    count: Budget,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        let now = Instant::now();
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
            bytes: Budget::new(BYTES_A_SECOND, now),
            count: Budget::new(LINES_A_SECOND, now),
        }
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the stream ends, or if the node sends too much. A cancelled call loses nothing.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            let read = self.reader.fill_buf().await?;
            if read.is_empty() {
                return Err(Broken::Ended);
            }
            let end = read.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(read.len(), |end| end + 1);
            let text = &read[..end.unwrap_or(read.len())];
            if self.line.len() + text.len() > LINE_BYTES_MAX {
                let text = format!("a line of more than {} MiB", LINE_BYTES_MAX >> 20);
                return Err(Broken::Flood(text));
            }
            self.line.extend_from_slice(text);
            self.reader.consume(taken);
            let now = Instant::now();
            if !self.bytes.spend(taken as u64, now) {
                let text = format!("more than {} MiB a second", BYTES_A_SECOND >> 20);
                return Err(Broken::Flood(text));
            }
            if end.is_none() {
                continue;
            }
            if !self.count.spend(1, now) {
                let text = format!("more than {LINES_A_SECOND} lines a second");
                return Err(Broken::Flood(text));
            }
            return Ok(std::mem::take(&mut self.line));
        }
    }
}

/// A budget: an amount a second, of which [`BURST_SECONDS`] may be spent at once.
#[derive(Debug)]
struct Budget {
    a_second: u64,
    left: u64,
    filled: Instant,
}

impl Budget {
    fn new(a_second: u64, now: Instant) -> Self {
        Self {
            a_second,
            left: a_second * BURST_SECONDS,
            filled: now,
        }
    }

    /// Returns false if too little is left.
    fn spend(&mut self, amount: u64, now: Instant) -> bool {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        let earned = self.a_second.saturating_mul(millis) / 1_000;
        if earned > 0 {
            let most = self.a_second * BURST_SECONDS;
            self.left = self.left.saturating_add(earned).min(most);
            self.filled += Duration::from_millis(millis);
        }
        let is_enough = amount <= self.left;
        self.left = self.left.saturating_sub(amount);
        is_enough
    }
}

/// Bytes of a line: the routes of some 80,000 rules.
const LINE_BYTES_MAX: usize = 32 << 20;
/// Bytes that a node may send, in the mean.
const BYTES_A_SECOND: u64 = 8 << 20;
/// Lines that a node may send, in the mean: looks, answers, and four lines a second for each browser that
/// follows requests.
const LINES_A_SECOND: u64 = 200;
/// Seconds whose budget may be spent at once.
const BURST_SECONDS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_whole_and_the_end_is_told() {
        let mut lines = Lines::new(&b"one\n\ntwo\nrest"[..]);
        for expected in ["one", "", "two"] {
            assert_eq!(lines.next().await.unwrap(), expected.as_bytes());
        }
        assert!(matches!(lines.next().await, Err(Broken::Ended)));
    }

    #[tokio::test]
    async fn line_without_an_end_is_cut_off_at_its_bound() {
        let mut lines = Lines::new(tokio::io::repeat(b'x'));
        let broken = lines.next().await.unwrap_err();
        assert!(broken.to_string().contains("32 MiB"), "{broken}");
        assert!(lines.line.len() <= LINE_BYTES_MAX);
    }

    #[tokio::test]
    async fn node_that_floods_with_short_lines_is_cut_off() {
        let mut lines = Lines::new(tokio::io::repeat(b'\n'));
        let mut read = 0;
        let broken = loop {
            match lines.next().await {
                Ok(_) => read += 1,
                Err(broken) => break broken,
            }
        };
        assert!(broken.to_string().contains("200 lines"), "{broken}");
        assert!((2_000..4_000).contains(&read), "{read}");
    }

    #[test]
    fn budget_comes_back_with_time() {
        let begun = Instant::now();
        let mut budget = Budget::new(100, begun);
        assert!(budget.spend(1_000, begun));
        assert!(!budget.spend(1, begun));
        assert!(budget.spend(50, begun + Duration::from_millis(500)));
        assert!(!budget.spend(1, begun + Duration::from_millis(501)));
        let later = begun + Duration::from_hours(1);
        assert!(budget.spend(1_000, later) && !budget.spend(1, later));
    }
}
