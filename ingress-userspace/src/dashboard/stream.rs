//! Server-Sent Events: what changes on a page, once a second.
//!
//! Invariant: a stream holds two frames of 64 KiB at most, and a client that does not read for
//! [`STALL_MAX`] is ended. A frame says what has changed since the frame before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::feed::{Feed, Look, Watching};
use super::nodes::NodesTail;
use super::topics::{Topic, Topics};
use crate::api::{TailEvent, TailLine, Traffic};
use crate::proxy::TailReader;

/// One stream, before it runs.
pub(super) struct Stream {
    pub(super) topics: Topics,
    /// The requests that the client follows.
    pub(super) tail: Option<Followed>,
    /// The first event.
    pub(super) hello: Value,
    /// The daemon's name in event identifiers.
    pub(super) instance: String,
    pub(super) permit: OwnedSemaphorePermit,
}

/// The requests that a client follows.
pub(super) enum Followed {
    /// Resources of the daemon that serves the dashboard.
    Daemon(TailReader),
    /// Resources of several nodes.
    Nodes(NodesTail),
}

impl Followed {
    /// The requests that have ended since, [`TAIL_REQUESTS_MAX`] at most, and how many are left out.
    fn take(&mut self) -> (Vec<TailLine>, u64) {
        match self {
            Self::Daemon(reader) => {
                let (requests, dropped) = reader.take(usize::MAX);
                let now = (Instant::now(), Timestamp::now());
                let shown = requests.iter().take(TAIL_REQUESTS_MAX);
                let left_out = requests.len() - shown.len();
                let lines = shown.map(|one| TailLine::of(one, now)).collect();
                (lines, dropped + left_out as u64)
            }
            Self::Nodes(tail) => {
                let (mut lines, dropped) = tail.take();
                let left_out = lines.len().saturating_sub(TAIL_REQUESTS_MAX);
                lines.truncate(TAIL_REQUESTS_MAX);
                (lines, dropped + left_out as u64)
            }
        }
    }
}

impl Stream {
    /// Sends events until the client leaves, or does not read.
    pub(super) async fn run(self, feed: &Feed, frames: mpsc::Sender<Bytes>, ended: Arc<Notify>) {
        let mut sender = Sender {
            frames,
            instance: self.instance,
            number: 0,
        };
        let mut changes = Changes::new(self.topics);
        let mut watching = feed.watch();
        let outcome = async {
            sender.send("hello", &self.hello).await?;
            changes.send(&watching.last(), &mut sender).await?;
            follow(&mut watching, self.tail, &mut changes, &mut sender).await
        };
        if outcome.await.is_none() {
            // Whatever is still in the socket's buffer is not worth waiting for.
            ended.notify_one();
        }
        drop(self.permit);
    }
}

/// `None` when the client has left, or does not read.
async fn follow(
    watching: &mut Watching,
    mut tail: Option<Followed>,
    changes: &mut Changes,
    sender: &mut Sender,
) -> Option<()> {
    let mut looks = interval(TAIL_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            look = timeout(HEARTBEAT, watching.next()) => match look {
                Ok(look) => {
                    let look = look?;
                    changes.send(&look, sender).await?;
                }
                Err(_) => sender.frame(": heartbeat\n\n".into()).await?,
            },
            _ = looks.tick(), if tail.is_some() => {
                if let Some(reader) = &mut tail {
                    requests(reader, sender).await?;
                }
            }
            () = sender.frames.closed() => return None,
        }
    }
}

/// Requests that have ended; those beyond the limit are counted.
async fn requests(followed: &mut Followed, sender: &mut Sender) -> Option<()> {
    let (lines, dropped) = followed.take();
    for chunk in lines.chunks(TAIL_CHUNK) {
        sender.send("requests", &chunk).await?;
    }
    if dropped > 0 {
        let event = TailEvent::Dropped { requests: dropped };
        sender.send("dropped", &event).await?;
    }
    Some(())
}

/// The values that a client was sent last: only changes are sent.
struct Changes {
    topics: Topics,
    status: Map<String, Value>,
    hosts: HashMap<String, u64>,
    backends: HashMap<String, u64>,
    routes: HashMap<String, u64>,
}

impl Changes {
    fn new(topics: Topics) -> Self {
        Self {
            topics,
            status: Map::new(),
            hosts: HashMap::new(),
            backends: HashMap::new(),
            routes: HashMap::new(),
        }
    }

    async fn send(&mut self, look: &Look, sender: &mut Sender) -> Option<()> {
        if look.stalled_seconds > 0 {
            let stalled = json!({"seconds": look.stalled_seconds});
            sender.send("stalled", &stalled).await?;
        } else if let Some(sample) = &look.sample {
            sender.send("sample", &**sample).await?;
        }
        if self.topics.contain(Topic::Status) {
            self.send_status(&look.status, sender).await?;
        }
        let wanted = [
            (
                self.topics.contain(Topic::Hosts),
                "hosts",
                &mut self.hosts,
                &look.hosts,
            ),
            (
                self.topics.contain(Topic::Backends),
                "backends",
                &mut self.backends,
                &look.backends,
            ),
            (
                self.topics.contain(Topic::Routes),
                "routes",
                &mut self.routes,
                &look.routes,
            ),
        ];
        for (is_wanted, by, sent, rows) in wanted {
            if is_wanted {
                send_traffic(by, sent, rows, sender).await?;
            }
        }
        Some(())
    }

    /// The fields of the status that differ from those that were sent before.
    async fn send_status(&mut self, now: &Map<String, Value>, sender: &mut Sender) -> Option<()> {
        for (name, value) in now {
            if self.status.get(name) == Some(value) {
                continue;
            }
            self.status.insert(name.clone(), value.clone());
            sender.send("status", &json!({ name: value })).await?;
        }
        Some(())
    }
}

/// The rows that have changed, in frames that are not too large.
async fn send_traffic(
    by: &str,
    sent: &mut HashMap<String, u64>,
    rows: &[Traffic],
    sender: &mut Sender,
) -> Option<()> {
    let changed = rows
        .iter()
        .filter(|row| sent.get(&row.name) != Some(&row.requests));
    let changed: Vec<_> = changed.collect();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for row in changed {
        let more = ROW_BYTES_MAX + row.name.len() * ESCAPED_BYTES_MAX;
        if bytes + more > TRAFFIC_BYTES_MAX && !chunk.is_empty() {
            send_rows(by, sent, &chunk, sender).await?;
            chunk.clear();
            bytes = 0;
        }
        chunk.push(row);
        bytes += more;
    }
    if !chunk.is_empty() {
        send_rows(by, sent, &chunk, sender).await?;
    }
    if sent.len() > rows.len() {
        let here: std::collections::HashSet<&str> = rows.iter().map(|row| &*row.name).collect();
        sent.retain(|name, _| here.contains(&**name));
    }
    Some(())
}

async fn send_rows(
    by: &str,
    sent: &mut HashMap<String, u64>,
    rows: &[&Traffic],
    sender: &mut Sender,
) -> Option<()> {
    let event = json!({"by": by, "rows": rows});
    sender.send("traffic", &event).await?;
    sent.extend(rows.iter().map(|row| (row.name.clone(), row.requests)));
    Some(())
}

/// Writes events.
struct Sender {
    frames: mpsc::Sender<Bytes>,
    instance: String,
    number: u64,
}

impl Sender {
    /// Sends an event. One that is too large for a frame becomes the advice to ask for its resource.
    async fn send(&mut self, event: &str, value: &impl Serialize) -> Option<()> {
        self.number += 1;
        let data = serde_json::to_string(value).ok()?;
        let (event, data) = if data.len() > FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX {
            ("refetch", json!({"resource": event}).to_string())
        } else {
            (event, data)
        };
        let Self {
            instance, number, ..
        } = self;
        let text = format!("id: {instance}-{number}\nevent: {event}\ndata: {data}\n\n");
        self.frame(text.into()).await
    }

    async fn frame(&self, frame: Bytes) -> Option<()> {
        self.frames.send_timeout(frame, STALL_MAX).await.ok()
    }
}

/// Bytes of a frame.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 10;
/// Identifier and name of an event.
const ENVELOPE_BYTES_MAX: usize = 128;
/// Streams at the same time.
pub(super) const STREAMS_MAX: usize = 16;
/// After which a stream without an event gets a comment, so that proxies keep it open.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// For how long a client may leave a frame unread.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the queues of requests.
const TAIL_INTERVAL: Duration = Duration::from_millis(250);
/// Requests that are shown of one look: 200 a second.
const TAIL_REQUESTS_MAX: usize = 50;
/// Requests of one frame: with the longest paths and escapes, some 40 KiB.
const TAIL_CHUNK: usize = 5;
/// Bytes of the rows of one frame, at most.
const TRAFFIC_BYTES_MAX: usize = 60 << 10;
/// Bytes of a row without its name: 17 numbers and the names of its fields.
const ROW_BYTES_MAX: usize = 512;
/// Bytes of a byte as JSON escapes it.
const ESCAPED_BYTES_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(room: usize) -> (Sender, mpsc::Receiver<Bytes>) {
        let (frames, read) = mpsc::channel(room);
        let sender = Sender {
            frames,
            instance: "a".to_owned(),
            number: 0,
        };
        (sender, read)
    }

    fn row(name: String, requests: u64) -> Traffic {
        Traffic {
            name,
            requests,
            duration_buckets: vec![u64::MAX; 12],
            received: u64::MAX,
            sent: u64::MAX,
            ..Traffic::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_does_not_read_is_ended() {
        let (mut sender, frames) = sender(1);
        assert!(sender.send("sample", &1).await.is_some());
        let begun = tokio::time::Instant::now();
        assert!(sender.send("sample", &2).await.is_none());
        assert_eq!(begun.elapsed(), STALL_MAX);
        drop(frames);
    }

    #[tokio::test]
    async fn event_that_is_too_large_becomes_advice_to_ask_for_its_resource() {
        let (mut sender, mut frames) = sender(1);
        let text = "x".repeat(FRAME_BYTES_MAX);
        sender.send("status", &text).await.unwrap();
        let frame = frames.recv().await.unwrap();
        let expected = "id: a-1\nevent: refetch\ndata: {\"resource\":\"status\"}\n\n";
        assert_eq!(frame, expected);
    }

    #[tokio::test]
    async fn rows_are_sent_once_in_frames_of_64_kib_whatever_their_names() {
        let (mut sender, mut frames) = sender(1_000);
        let name = |number: usize| format!("{number}{}", "\u{1}".repeat(number % 700));
        let mut rows: Vec<_> = (0..2_000).map(|number| row(name(number), 1)).collect();
        let mut sent = HashMap::new();
        send_traffic("routes", &mut sent, &rows, &mut sender)
            .await
            .unwrap();
        let mut names = Vec::new();
        while let Ok(frame) = frames.try_recv() {
            assert!(frame.len() <= FRAME_BYTES_MAX, "{}", frame.len());
            let text = str::from_utf8(&frame).unwrap();
            let data = text.split("data: ").nth(1).unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            let rows = data["rows"].as_array().unwrap();
            names.extend(
                rows.iter()
                    .map(|row| row["name"].as_str().unwrap().to_owned()),
            );
        }
        let all: Vec<_> = (0..2_000).map(name).collect();
        assert_eq!(names, all);
        rows[7].requests = 2;
        send_traffic("routes", &mut sent, &rows, &mut sender)
            .await
            .unwrap();
        let frame = frames.try_recv().unwrap();
        assert!(frame.len() < 1_000, "only the row that has changed");
        assert!(frames.try_recv().is_err());
        rows.truncate(3);
        send_traffic("routes", &mut sent, &rows, &mut sender)
            .await
            .unwrap();
        assert_eq!(sent.len(), 3, "rows that have left are forgotten");
    }
}
