//! What `/metrics` answers: one snapshot for all clients that come within a second, rendered part by
//! part as each of them reads. The app's loop is asked for the state of the datapath while the
//! snapshot is made, and a loop that is busy leaves the state of the snapshot before.
//!
//! Invariant: however many clients scrape, and however slowly they read, no more than
//! [`SNAPSHOTS_MAX`] snapshots and [`PARTS_KEPT`] rendered parts of each are in memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use prometheus::proto::MetricFamily;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::readiness::MetricsSlot;
use super::{AdminRequest, DatapathMetrics};
use crate::proxy::{MetricsFormat, MetricsSnapshot};

/// The snapshot that clients share.
#[derive(Clone)]
pub(super) struct Scrapes {
    metrics: MetricsSlot,
    /// Asks the app's loop.
    questions: mpsc::Sender<AdminRequest>,
    current: Arc<Mutex<Option<Arc<Scrape>>>>,
    room: Arc<Semaphore>,
}

/// Why there are no metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// No worker runs yet.
    Starting,
    /// The values could not be read.
    Failed,
}

/// One snapshot, and the parts of its text that were rendered last.
struct Scrape {
    made: Instant,
    snapshot: MetricsSnapshot,
    /// The part of it that the app's loop gave.
    datapath: Vec<MetricFamily>,
    /// Locked while a part is rendered: threads that render at the same time would each keep
    /// memory for it.
    parts: Mutex<VecDeque<(PartKey, Bytes)>>,
    _permit: OwnedSemaphorePermit,
}

/// A part of one of the texts.
type PartKey = (usize, MetricsFormat);

impl Scrapes {
    pub(super) fn new(metrics: MetricsSlot, questions: mpsc::Sender<AdminRequest>) -> Self {
        Self {
            metrics,
            questions,
            current: Arc::default(),
            room: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }

    /// The body of a response, which notes in `progress` when its client reads.
    pub(super) async fn body(
        &self,
        format: MetricsFormat,
        progress: &Progress,
    ) -> Result<ScrapeBody, Unavailable> {
        let mut current = self.current.lock().await;
        if let Some(scrape) = &*current
            && scrape.made.elapsed() < SNAPSHOT_AGE_MAX
        {
            return Ok(ScrapeBody::new(scrape, format, progress));
        }
        let permit = Arc::clone(&self.room).try_acquire_owned();
        let Ok(permit) = permit else {
            // Slow clients still read older ones: an old snapshot is better than one more.
            let scrape = current.as_ref().ok_or(Unavailable::Failed)?;
            return Ok(ScrapeBody::new(scrape, format, progress));
        };
        let metrics = self.metrics.load().ok_or(Unavailable::Starting)?;
        let counting = spawn_blocking(move || metrics.snapshot());
        let (snapshot, datapath) = tokio::join!(counting, self.datapath());
        let mut snapshot = snapshot.map_err(|_| Unavailable::Failed)?;
        let datapath = match (datapath, &*current) {
            (Some(datapath), _) => datapath.families(),
            (None, Some(last)) => last.datapath.clone(),
            (None, None) => Vec::new(),
        };
        snapshot.extend(datapath.iter().cloned());
        let scrape = Arc::new(Scrape {
            made: Instant::now(),
            snapshot,
            datapath,
            parts: Mutex::default(),
            _permit: permit,
        });
        *current = Some(Arc::clone(&scrape));
        Ok(ScrapeBody::new(&scrape, format, progress))
    }

    /// The state of the datapath; `None` if the app's loop has no time for it.
    async fn datapath(&self) -> Option<DatapathMetrics> {
        let (question, answer) = oneshot::channel();
        let asked = async {
            let sent = self.questions.send(AdminRequest::Datapath(question));
            sent.await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(DATAPATH_TIME_MAX, asked).await.ok()?
    }
}

impl Scrape {
    /// A part of the text, rendered for the first client that reads as far as this.
    async fn part(self: Arc<Self>, key: PartKey) -> Option<Bytes> {
        let mut parts = self.parts.lock().await;
        if let Some((_, text)) = parts.iter().find(|(part, _)| *part == key) {
            return Some(text.clone());
        }
        let rendered = Arc::clone(&self);
        let text = spawn_blocking(move || rendered.snapshot.part(key.0, key.1)).await;
        let text = Bytes::from(text.ok()??);
        if parts.len() == PARTS_KEPT {
            parts.pop_front();
        }
        parts.push_back((key, text.clone()));
        Some(text)
    }
}

/// A part that is being rendered.
type Rendering = Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>;

/// The text of a snapshot, for one client.
pub(super) struct ScrapeBody {
    scrape: Arc<Scrape>,
    format: MetricsFormat,
    next: usize,
    rendering: Option<Rendering>,
    progress: Progress,
}

impl ScrapeBody {
    fn new(scrape: &Arc<Scrape>, format: MetricsFormat, progress: &Progress) -> Self {
        progress.note();
        Self {
            scrape: Arc::clone(scrape),
            format,
            next: 0,
            rendering: None,
            progress: progress.clone(),
        }
    }
}

impl Body for ScrapeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        this.progress.note();
        let part = Arc::clone(&this.scrape).part((this.next, this.format));
        let rendering = this.rendering.get_or_insert_with(|| Box::pin(part));
        let part = ready!(rendering.as_mut().poll(cx));
        this.rendering = None;
        this.next += 1;
        Poll::Ready(part.map(|text| Ok(Frame::data(text))))
    }
}

impl Drop for ScrapeBody {
    fn drop(&mut self) {
        self.progress.end();
    }
}

/// When the client of a connection last took some of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    fn note(&self) {
        self.0.store(milliseconds(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The response goes on until its client leaves.
    pub(super) fn follow(&self) {
        self.0.store(FOLLOWS, Ordering::Relaxed);
    }

    /// Whether the response goes on until its client leaves.
    pub(super) fn is_following(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FOLLOWS
    }

    /// Ends when the client has taken nothing of a response for [`STALL_MAX`].
    pub(super) async fn stalled(&self) {
        loop {
            tokio::time::sleep(STALL_CHECK).await;
            let noted = self.0.load(Ordering::Relaxed);
            if noted != 0
                && noted != FOLLOWS
                && milliseconds().saturating_sub(noted) > STALL_MILLISECONDS_MAX
            {
                return;
            }
        }
    }
}

/// In place of a time: the client may take as long as it likes.
const FOLLOWS: u64 = u64::MAX;

/// Milliseconds since the first call, and one.
fn milliseconds() -> u64 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let elapsed = FIRST.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// For how long clients share a snapshot.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a snapshot waits for the state of the datapath. The helper gives it within milliseconds.
const DATAPATH_TIME_MAX: Duration = Duration::from_millis(250);

/// Snapshots that are read at the same time.
const SNAPSHOTS_MAX: usize = 2;

/// Rendered parts of one snapshot that are kept for further clients: some 3 MiB.
const PARTS_KEPT: usize = 32;

/// For how long a client may take nothing of a response, in milliseconds.
const STALL_MILLISECONDS_MAX: u64 = 5_000;
const STALL_CHECK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath;

    #[tokio::test]
    async fn scrape_does_not_wait_for_a_busy_loop() {
        let (asking, mut questions) = mpsc::channel(1);
        let scrapes = Scrapes::new(MetricsSlot::default(), asking);
        let begun = Instant::now();
        // The first question fills the queue, the second one finds no room.
        for _ in 0..2 {
            assert!(scrapes.datapath().await.is_none());
        }
        assert!(begun.elapsed() < 8 * DATAPATH_TIME_MAX);
        questions.recv().await.unwrap();
        let answering = async {
            let Some(AdminRequest::Datapath(answer)) = questions.recv().await else {
                panic!("another question");
            };
            let metrics = DatapathMetrics {
                mode: "host",
                state: datapath::Status::default(),
                denied_by_admin: 2,
                denied_by_configuration: 0,
                adopted: Vec::new(),
            };
            answer.send(metrics).unwrap();
        };
        let (metrics, ()) = tokio::join!(scrapes.datapath(), answering);
        assert_eq!(metrics.unwrap().denied_by_admin, 2);
    }
}
