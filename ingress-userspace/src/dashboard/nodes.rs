//! The daemons of several nodes behind one dashboard, on the machine of its user. Each node has a link: a
//! command on the node, such as `kubectl exec`, whose input and output carry lines ([`crate::api::NodeLine`]).
//!
//! `view` is what is known of one node and `join` joins all, both pure; `link` keeps a connection; `lines`
//! bounds what a node may send.
//!
//! Invariant: no node is waited for. A look joins what nodes have told so far, and a question gets the
//! answers of those that are in time.

mod join;
mod lines;
mod link;
mod tail;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::join::join;
pub(super) use self::join::{Joined, answers, rows};
pub use self::link::{Connection, Dial};
pub(super) use self::tail::NodesTail;
use self::view::{Health, NodeView};
use crate::api::{NodeLine, NodeRequest, TailLine};

/// Several nodes.
pub struct Nodes {
    known: Mutex<BTreeMap<String, Known>>,
    /// Seconds between two looks.
    pace: watch::Sender<u64>,
    tails: Mutex<HashMap<u64, tail::Followed>>,
    numbers: AtomicU64,
}

/// How a node is reached.
pub enum Target {
    /// By a command or a socket.
    Reach {
        /// Another key is another place, such as the name of a new pod: the link begins anew.
        key: String,
        /// Opens a connection.
        dial: Dial,
    },
    /// Not at all, for a reason.
    Away(String),
}

/// A node and its link.
struct Known {
    view: NodeView,
    key: String,
    link: Option<AbortHandle>,
    phase: Phase,
    /// Questions that wait for their answer, by number.
    pending: HashMap<u64, oneshot::Sender<Result<Value, String>>>,
}

/// The state of a link.
enum Phase {
    /// No line has come yet.
    Opening,
    /// Lines come.
    Open {
        /// When the last one came.
        heard: Instant,
        /// Seconds for which the daemon has not answered the node.
        busy_seconds: u64,
        requests: mpsc::Sender<NodeRequest>,
    },
    /// It failed, for a reason.
    Closed(String),
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            pace: watch::Sender::new(1),
            tails: Mutex::default(),
            numbers: AtomicU64::new(0),
        }
    }
}

impl Nodes {
    /// Reaches these nodes from now on, at most a hundred. Links to nodes whose key is the same go on;
    /// nodes that are not named leave.
    pub fn reach(self: &Arc<Self>, targets: BTreeMap<String, Target>) {
        let mut known = self.known();
        known.retain(|name, node| {
            let stays = targets.contains_key(name);
            if !stays {
                node.unlink();
            }
            stays
        });
        for (name, target) in targets.into_iter().take(NODES_MAX) {
            let node = known.entry(name.clone()).or_insert_with(Known::new);
            match target {
                Target::Away(reason) => {
                    node.unlink();
                    node.key.clear();
                    node.phase = Phase::Closed(reason);
                }
                Target::Reach { key, .. } if node.key == key => {}
                Target::Reach { key, dial } => {
                    node.unlink();
                    node.key = key;
                    node.phase = Phase::Opening;
                    let link = tokio::spawn(link::keep(Arc::clone(self), name, dial));
                    node.link = Some(link.abort_handle());
                }
            }
        }
    }

    /// Ends all links.
    pub fn close(&self) {
        for node in self.known().values_mut() {
            node.unlink();
        }
    }

    /// Sets the interval at which nodes look at their daemons.
    pub(super) fn pace(&self, interval: Duration) {
        let seconds = interval.as_secs();
        self.pace.send_if_modified(|pace| {
            let differs = *pace != seconds;
            *pace = seconds;
            differs
        });
    }

    /// Joins what all nodes have told so far.
    pub(super) fn look(&self, time: String) -> Joined {
        let now = Instant::now();
        let mut known = self.known();
        for node in known.values_mut() {
            node.view.set_health(node.phase.health(now));
        }
        let views: Vec<_> = known
            .iter()
            .map(|(name, node)| (&**name, &node.view))
            .collect();
        join(&views, time)
    }

    /// Asks all nodes for a resource. Gives the answers that are in time, and the reasons why others are
    /// not.
    pub(super) async fn ask(
        &self,
        resource: &str,
        query: &str,
    ) -> (Vec<(String, Value)>, Vec<String>) {
        let mut questions = Vec::new();
        let mut reasons = Vec::new();
        for (name, node) in &mut *self.known() {
            let Phase::Open { requests, .. } = &node.phase else {
                continue;
            };
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let request = NodeRequest::Ask {
                number,
                resource: resource.to_owned(),
                query: query.to_owned(),
            };
            node.pending.retain(|_, waiting| !waiting.is_closed());
            if node.pending.len() >= QUESTIONS_MAX || requests.try_send(request).is_err() {
                reasons.push(format!("{name}: too many questions wait for an answer"));
                continue;
            }
            let (sender, answer) = oneshot::channel();
            node.pending.insert(number, sender);
            questions.push((name.clone(), answer));
        }
        let waits = questions.into_iter().map(async |(name, answer)| {
            let answer = match timeout(ANSWER_TIME_MAX, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("the connection ended".to_owned()),
                Err(_) => Err(format!("no answer in {} s", ANSWER_TIME_MAX.as_secs())),
            };
            (name, answer)
        });
        let mut answers = Vec::new();
        for (name, answer) in join_all(waits).await {
            match answer {
                Ok(answer) => answers.push((name, answer)),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        (answers, reasons)
    }

    /// Takes a line of a node.
    ///
    /// # Errors
    ///
    /// The reason to cut the node off.
    fn take(&self, name: &str, line: NodeLine) -> Result<(), String> {
        let mut known = self.known();
        let Some(node) = known.get_mut(name) else {
            return Err("the node left".to_owned());
        };
        if let Phase::Open {
            heard,
            busy_seconds,
            ..
        } = &mut node.phase
        {
            *heard = Instant::now();
            match &line {
                NodeLine::Busy { seconds } => *busy_seconds = *seconds,
                NodeLine::Look(_) => *busy_seconds = 0,
                NodeLine::Alive
                | NodeLine::Answer { .. }
                | NodeLine::Refusal { .. }
                | NodeLine::Requests { .. } => {}
            }
        }
        match line {
            NodeLine::Look(look) => {
                let taken = node.view.take(*look);
                taken.map_err(|_| "cut off, because it listed too many rows".to_owned())?;
            }
            NodeLine::Answer { number, value } => node.answer(number, Ok(value)),
            NodeLine::Refusal { number, reason } => node.answer(number, Err(reason)),
            NodeLine::Requests {
                number,
                lines,
                dropped,
            } => {
                drop(known);
                self.deliver(number, name, lines, dropped);
            }
            NodeLine::Busy { .. } | NodeLine::Alive => {}
        }
        Ok(())
    }

    /// Hands requests of a node to the browser that follows them.
    fn deliver(&self, number: u64, name: &str, lines: Vec<TailLine>, dropped: u64) {
        if let Some(followed) = self.tails().get(&number) {
            followed.deliver(name, lines, dropped);
        }
    }

    /// The link of a node has a connection: `requests` go to the node.
    fn open(&self, name: &str, requests: mpsc::Sender<NodeRequest>) {
        for (number, followed) in &*self.tails() {
            // The channel is new and has room for all tails.
            let _ = requests.try_send(followed.request(*number));
        }
        if let Some(node) = self.known().get_mut(name) {
            node.view.begin();
            node.phase = Phase::Open {
                heard: Instant::now(),
                busy_seconds: 0,
                requests,
            };
        }
    }

    /// The connection of a node ended for a reason.
    fn lose(&self, name: &str, reason: String) {
        if let Some(node) = self.known().get_mut(name) {
            node.pending.clear();
            node.view.end();
            node.phase = Phase::Closed(reason);
        }
    }

    /// Sends a request to all nodes that have a connection.
    fn tell(&self, request: &NodeRequest) {
        for node in self.known().values() {
            if let Phase::Open { requests, .. } = &node.phase {
                // A node whose channel is full does not read: it is about to be called away.
                let _ = requests.try_send(request.clone());
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tails(&self) -> MutexGuard<'_, HashMap<u64, tail::Followed>> {
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new() -> Self {
        Self {
            view: NodeView::default(),
            key: String::new(),
            link: None,
            phase: Phase::Opening,
            pending: HashMap::new(),
        }
    }

    /// Ends the link, and with it the command on the node.
    fn unlink(&mut self) {
        if let Some(link) = self.link.take() {
            link.abort();
            self.pending.clear();
            self.view.end();
        }
    }

    fn answer(&mut self, number: u64, answer: Result<Value, String>) {
        if let Some(waiting) = self.pending.remove(&number) {
            // Nobody waits any more if the browser left.
            let _ = waiting.send(answer);
        }
    }
}

impl Phase {
    fn health(&self, now: Instant) -> Health {
        match self {
            Self::Opening => Health::Unknown,
            Self::Closed(reason) => Health::Away(reason.clone()),
            Self::Open {
                heard,
                busy_seconds,
                ..
            } => {
                let silence = now.saturating_duration_since(*heard);
                if silence > SLOW_AFTER {
                    Health::Slow(format!("no line for {} s", silence.as_secs()))
                } else if *busy_seconds > 0 {
                    Health::Busy(format!("its daemon has not answered for {busy_seconds} s"))
                } else {
                    Health::Well
                }
            }
        }
    }
}

/// Nodes of one dashboard.
const NODES_MAX: usize = 100;
/// Questions to one node that wait for an answer.
const QUESTIONS_MAX: usize = 16;
/// How long a page waits for the lists of nodes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Nodes send a line a second: one that misses a few is shown as slow.
const SLOW_AFTER: Duration = Duration::from_secs(4);
