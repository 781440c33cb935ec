//! The log of one worker: requests that have ended, which are counted here, and their lines, until
//! they are handed over.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ingress_core::prefetch::prefetch;
use tokio::sync::Notify;

use super::address::Addresses;
use super::block::TooLong;
use super::entry::Entry;
use super::line;
use super::sink::{AccessLog, BLOCK_BYTES, Lines};
use super::template::Template;
use super::time::Clock;
use crate::proxy::observe::metrics::record::{Outcome, RecordFields};
use crate::proxy::runtime::counters::Counters;

/// What a worker logs to.
pub(crate) struct LogBuffer {
    log: AccessLog,
    counters: Arc<Counters>,
    /// Requests without their lines yet, which are written many at a time.
    ended: RefCell<Vec<Rc<RecordFields>>>,
    page: RefCell<Page>,
    /// Blank ones, for requests to come.
    #[expect(clippy::vec_box, reason = "they move in and out by their pointers")]
    blank: RefCell<Vec<Box<Entry>>>,
    returned: Receiver<Box<[u8]>>,
    returns: SyncSender<Box<[u8]>>,
    begun: Notify,
}

/// Lines that are not handed over yet, in a block that has none before the first of them.
#[derive(Default)]
struct Page {
    block: Box<[u8]>,
    /// Bytes of lines.
    length: usize,
    /// Lines.
    count: u64,
    clock: Clock,
    addresses: Addresses,
}

impl LogBuffer {
    pub(crate) fn new(log: AccessLog, counters: Arc<Counters>) -> Self {
        let (returns, returned) = sync_channel(BLOCKS_KEPT);
        Self {
            log,
            counters,
            ended: RefCell::new(Vec::with_capacity(RECORDS_MAX)),
            page: RefCell::default(),
            blank: RefCell::default(),
            returned,
            returns,
            begun: Notify::new(),
        }
    }

    pub(crate) fn template(&self) -> &Template {
        self.log.template()
    }

    /// For a request that has come.
    #[expect(clippy::unnecessary_box_returns, reason = "it moves by its pointer")]
    pub(crate) fn blank(&self) -> Box<Entry> {
        let blank = self.blank.borrow_mut().pop();
        blank.unwrap_or_else(Entry::blank)
    }

    /// Adds a request that has just ended.
    pub(crate) fn push(&self, record: Rc<RecordFields>) {
        if self.ended.borrow().len() >= RECORDS_MAX {
            self.write();
        }
        let mut ended = self.ended.borrow_mut();
        ended.push(record);
        if ended.len() == 1 {
            self.begun.notify_one();
        }
    }

    /// Counts what has ended and writes its lines.
    fn write(&self) {
        let mut ended = self.ended.take();
        let mut page = self.page.borrow_mut();
        for (index, record) in ended.iter().enumerate() {
            if let Some(next) = ended.get(index + 3) {
                prefetch(&**next);
            }
            if let Some(next) = ended.get(index + 2) {
                next.prefetch();
                if let Some(entry) = next.entry() {
                    prefetch(entry);
                }
            }
            if let Some(entry) = ended.get(index + 1).and_then(|next| next.entry()) {
                entry.prefetch();
            }
            let Some((entry, outcome)) = record.entry().zip(record.settle()) else {
                continue;
            };
            if page.block.is_empty() {
                self.begin(&mut page, BLOCK_BYTES);
            }
            if let Err(TooLong { needed }) = page.push(self.template(), entry, &outcome) {
                self.hand_over(&mut page);
                self.begin(&mut page, needed);
                // It fits now.
                let _ = page.push(self.template(), entry, &outcome);
            }
        }
        drop(page);
        for record in ended.drain(..) {
            if let Some(mut entry) = RecordFields::into_entry(record)
                && entry.wipe()
            {
                let mut blank = self.blank.borrow_mut();
                if blank.len() < BLANK_MAX {
                    blank.push(entry);
                }
            }
        }
        // Whatever was let go of may have been the end of another request.
        if self.ended.borrow().is_empty() {
            self.ended.replace(ended);
        }
    }

    /// Has an empty block of at least so many bytes.
    fn begin(&self, page: &mut Page, bytes: usize) {
        let returned = self.returned.try_recv().ok();
        let returned = returned.filter(|block| block.len() >= bytes);
        page.block = returned.unwrap_or_else(|| vec![0; bytes.max(BLOCK_BYTES)].into());
    }

    /// Hands over what there is, or drops it if the writer has too much.
    fn hand_over(&self, page: &mut Page) {
        if page.length == 0 {
            return;
        }
        let lines = Lines {
            block: std::mem::take(&mut page.block),
            length: std::mem::take(&mut page.length),
            returns: self.returns.clone(),
        };
        let count = std::mem::take(&mut page.count);
        match self.log.send(lines) {
            Ok(()) => self.counters.log_lines.add(count),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counters.log_lines_dropped.add(count);
            }
        }
    }

    /// Writes and hands over all that there is.
    pub(crate) fn flush(&self) {
        self.write();
        self.hand_over(&mut self.page.borrow_mut());
    }

    /// Flushes a while after the first request, again and again.
    pub(crate) async fn run(&self) {
        loop {
            self.begun.notified().await;
            tokio::time::sleep(FLUSH_DELAY).await;
            self.flush();
        }
    }
}

impl Page {
    fn push(
        &mut self,
        template: &Template,
        entry: &Entry,
        outcome: &Outcome<'_>,
    ) -> Result<(), TooLong> {
        self.clock.follow(outcome.ended);
        let rest = &mut self.block[self.length..];
        self.length += line::write(
            template,
            entry,
            outcome,
            &self.clock,
            &mut self.addresses,
            rest,
        )?;
        self.count += 1;
        Ok(())
    }
}

/// Requests that wait for their lines to be written.
const RECORDS_MAX: usize = 64;

/// Blank entries that a worker keeps: for as many requests at a time.
const BLANK_MAX: usize = 256;

/// Blocks that a worker keeps beside the one that it fills, to use again what its caches know.
const BLOCKS_KEPT: usize = 1;

/// How late a line may be.
const FLUSH_DELAY: Duration = Duration::from_millis(100);
