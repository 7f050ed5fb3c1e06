//! The nodes behind one client: which one a request goes to, and when.
//!
//! Writes are spread over the nodes that live, each at its own [`Pace`]. Whatever is read comes
//! from one node for as long as that lives, so that what was read fits together even where the
//! nodes do not. A node that fails is left out, and tried again after pauses that grow; where all
//! are left out, the one whose pause ends first is asked, and whoever asks does the waiting.
//!
//! The choice is a state machine without a clock ([`Cluster`]); [`Nodes`] adds the waiting.

use crate::pace::{Change, Outcome, Pace, Request, Start};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Most nodes of one client: as many as `Tried` has bits.
pub const NODES_MAX: usize = 64;
/// Pause before a node that failed is tried again; it doubles from there.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What somebody should know of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Less is asked for from now on; the reason in one word, a status or `timeout` for one.
    BackedOff(String),
    /// More is asked for again.
    Recovers,
    /// A node failed and is left out for now.
    LeftOut {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A node that was left out answers.
    Returned {
        /// The node.
        node: String,
    },
}

/// Who is told.
pub type Listener = Arc<dyn Fn(News) + Send + Sync>;

/// What was made of the nodes, for a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// How often less was asked for, by reason.
    pub backoffs: BTreeMap<String, u64>,
    /// Requests that may be under way at the end, over all nodes.
    pub at_once: usize,
    /// Bytes that a batch should not exceed at the end, where less than usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<usize>,
    /// What each node did, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeSummary>,
}

/// What a node did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeSummary {
    /// Host and port.
    pub node: String,
    /// Writes that it answered.
    pub writes: u64,
    /// How often it was left out.
    pub left_out: u64,
    /// It was left out at the end.
    pub is_out: bool,
}

/// What a request is, as far as nodes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Small, and at nobody's pace.
    Plain,
    /// A query: under way until its reply is read.
    Query,
    /// A write of so many bytes.
    Write(usize),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Node(usize),
    /// Something has to end first, or this time to come.
    Wait(Option<Duration>),
    /// Every node that may answer was tried.
    Nobody,
}

#[derive(Debug)]
struct Node {
    name: String,
    writes: Pace,
    queries: Pace,
    /// It failed, and is left out.
    out: Option<Out>,
    written: u64,
    left_out: u64,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    until: Duration,
    failures: u32,
    /// A request finds out whether it is back.
    on_trial: bool,
}

/// Nodes that were tried for one request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    fn add(&mut self, node: usize) {
        self.0 |= 1 << node;
    }

    fn has(self, node: usize) -> bool {
        self.0 & (1 << node) != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The nodes and what is known of them.
#[derive(Debug)]
struct Cluster {
    nodes: Vec<Node>,
    at_once_max: usize,
    /// Whom reads go to.
    reader: usize,
    /// Who is first among equals for the next write.
    turn: usize,
}

impl Cluster {
    fn new(names: Vec<String>, at_once: usize) -> Self {
        let node = |name| Node {
            name,
            writes: Pace::new(at_once),
            queries: Pace::new(at_once),
            out: None,
            written: 0,
            left_out: 0,
        };
        let nodes = names.into_iter().map(node).collect();
        Self { nodes, at_once_max: at_once, reader: 0, turn: 0 }
    }

    fn choose(&mut self, kind: Kind, now: Duration, tried: Tried) -> Choice {
        let lives = |node: &Node| node.out.is_none();
        let free: Vec<usize> = (0..self.nodes.len()).filter(|&at| !tried.has(at)).collect();
        if let Kind::Write(_) = kind {
            let due = |out: Out| !out.on_trial && out.until <= now;
            if let Some(&at) = free.iter().find(|&&at| self.nodes[at].out.is_some_and(due)) {
                return self.begin(kind, at);
            }
        }
        let living: Vec<usize> =
            free.iter().copied().filter(|&at| lives(&self.nodes[at])).collect();
        if living.is_empty() {
            return self.choose_left_out(kind, &free, tried);
        }
        match kind {
            Kind::Plain | Kind::Query => {
                if !living.contains(&self.reader) {
                    self.reader = living[0];
                }
                let reader = self.reader;
                match self.nodes[reader].queries.may_start(now) {
                    Start::At(then) if kind == Kind::Query => Choice::Wait(Some(then)),
                    Start::Later if kind == Kind::Query => Choice::Wait(None),
                    _ => self.begin(kind, reader),
                }
            }
            Kind::Write(_) => self.choose_writer(kind, now, &living),
        }
    }

    fn choose_writer(&mut self, kind: Kind, now: Duration, living: &[usize]) -> Choice {
        let count = self.nodes.len();
        let start = |at: usize| self.nodes[at].writes.may_start(now);
        let ready = living.iter().copied().filter(|&at| start(at) == Start::Now);
        let from_turn = |at: usize| (at + count - self.turn) % count;
        let least = ready.min_by_key(|&at| (self.nodes[at].writes.under_way(), from_turn(at)));
        if let Some(at) = least {
            self.turn = (at + 1) % count;
            return self.begin(kind, at);
        }
        let held = living.iter().filter_map(|&at| match start(at) {
            Start::At(then) => Some(then),
            Start::Now | Start::Later => None,
        });
        let back = self.nodes.iter().filter_map(|node| node.out.filter(|out| !out.on_trial));
        Choice::Wait(held.chain(back.map(|out| out.until)).min())
    }

    /// No node lives: one is tried all the same, once for a request.
    fn choose_left_out(&mut self, kind: Kind, free: &[usize], tried: Tried) -> Choice {
        let until = |at: &usize| self.nodes[*at].out.map(|out| out.until);
        match free.iter().copied().min_by_key(until) {
            Some(at) if tried.is_empty() => self.begin(kind, at),
            _ => Choice::Nobody,
        }
    }

    fn begin(&mut self, kind: Kind, at: usize) -> Choice {
        let node = &mut self.nodes[at];
        if let Some(out) = &mut node.out {
            out.on_trial = true;
        }
        match kind {
            Kind::Plain => {}
            Kind::Query => node.queries.start(),
            Kind::Write(_) => node.writes.start(),
        }
        Choice::Node(at)
    }

    /// A node answered, whatever it said.
    fn answered(&mut self, at: usize) -> Option<News> {
        let node = &mut self.nodes[at];
        node.out.take().map(|_out| News::Returned { node: node.name.clone() })
    }

    /// A node failed to answer. A single one is never left out: there is nobody else to ask.
    fn failed(&mut self, at: usize, now: Duration, jitter: f64, reason: &str) -> Option<News> {
        if self.nodes.len() == 1 {
            return None;
        }
        let node = &mut self.nodes[at];
        let was = node.out;
        let failures = match was {
            // Requests that failed together are one failure.
            Some(out) if !out.on_trial && now < out.until => return None,
            Some(out) => out.failures.saturating_add(1),
            None => 0,
        };
        let pause = PAUSE_MIN.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX);
        let pause = pause / 2 + (pause / 2).mul_f64(jitter.clamp(0.0, 1.0));
        node.out = Some(Out { until: now + pause, failures, on_trial: false });
        if was.is_some() {
            return None;
        }
        node.left_out += 1;
        Some(News::LeftOut { node: node.name.clone(), reason: reason.to_owned() })
    }

    fn end(
        &mut self,
        at: usize,
        kind: Kind,
        started: Duration,
        now: Duration,
        outcome: &Outcome,
    ) -> Option<News> {
        let node = &mut self.nodes[at];
        let change = match kind {
            Kind::Plain => None,
            Kind::Query => node.queries.end(Request { started, bytes: 0 }, now, outcome),
            Kind::Write(bytes) => {
                node.written += u64::from(matches!(outcome, Outcome::Answered));
                node.writes.end(Request { started, bytes }, now, outcome)
            }
        };
        change.map(News::from)
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        let mut batch = usize::MAX;
        for node in &self.nodes {
            for (why, count) in node.writes.backoffs().iter().chain(node.queries.backoffs()) {
                *summary.backoffs.entry(why.clone()).or_default() += count;
            }
            summary.at_once += node.writes.at_once();
            batch = batch.min(node.writes.batch_bytes());
        }
        // Whoever sends sends no more than that over all nodes.
        summary.at_once = summary.at_once.min(self.at_once_max);
        summary.batch_bytes = Some(batch).filter(|&batch| batch != usize::MAX);
        if self.nodes.len() > 1 {
            summary.nodes.extend(self.nodes.iter().map(|node| NodeSummary {
                node: node.name.clone(),
                writes: node.written,
                left_out: node.left_out,
                is_out: node.out.is_some(),
            }));
        }
        summary
    }
}

impl From<Change> for News {
    fn from(change: Change) -> Self {
        match change {
            Change::BackedOff { why } => Self::BackedOff(why),
            Change::Recovers => Self::Recovers,
        }
    }
}

/// The nodes of a client, shared by its threads.
pub(super) struct Nodes {
    begun: Instant,
    cluster: Mutex<Cluster>,
    changed: Condvar,
    listener: OnceLock<Listener>,
}

/// A request under way to a node, until it is ended or dropped.
pub(super) struct Under {
    nodes: Arc<Nodes>,
    pub(super) node: usize,
    kind: Kind,
    started: Duration,
    /// How long it had to wait before.
    pub(super) waited: Duration,
    ended: bool,
}

impl Nodes {
    pub(super) fn new(names: Vec<String>, at_once: usize) -> Self {
        Self {
            begun: Instant::now(),
            cluster: Mutex::new(Cluster::new(names, at_once)),
            changed: Condvar::new(),
            listener: OnceLock::new(),
        }
    }

    /// Says whom to tell; the first one said stays.
    pub(super) fn tell(&self, listener: Listener) {
        let _second = self.listener.set(listener);
    }

    pub(super) fn summary(&self) -> Summary {
        self.lock().summary()
    }

    /// Bytes that a batch should not exceed.
    pub(super) fn batch_bytes(&self) -> usize {
        let batches = |node: &Node| node.writes.batch_bytes();
        self.lock().nodes.iter().map(batches).min().unwrap_or(usize::MAX)
    }

    /// Waits until a request may start, and says where; `None` where every node was `tried` that
    /// may answer.
    pub(super) fn enter(self: &Arc<Self>, kind: Kind, tried: &mut Tried) -> Option<Under> {
        let entered = self.begun.elapsed();
        let mut cluster = self.lock();
        loop {
            let now = self.begun.elapsed();
            match cluster.choose(kind, now, *tried) {
                Choice::Node(node) => {
                    tried.add(node);
                    let (nodes, waited) = (Arc::clone(self), now.saturating_sub(entered));
                    return Some(Under { nodes, node, kind, started: now, waited, ended: false });
                }
                Choice::Nobody => return None,
                Choice::Wait(None) => {
                    cluster = self.changed.wait(cluster).unwrap_or_else(PoisonError::into_inner);
                }
                Choice::Wait(Some(then)) => {
                    let wait = then.saturating_sub(now).max(Duration::from_millis(1));
                    let woken = self.changed.wait_timeout(cluster, wait);
                    cluster = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// The node that is read runs no more queries than it runs now.
    pub(super) fn refuse_query(&self, at_once: Option<usize>) {
        let mut cluster = self.lock();
        let reader = cluster.reader;
        let change = cluster.nodes[reader].queries.refuse(self.begun.elapsed(), at_once);
        drop(cluster);
        self.say(change.map(News::from));
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, news: impl IntoIterator<Item = News>) {
        self.changed.notify_all();
        for news in news {
            if let Some(listener) = self.listener.get() {
                listener(news);
            }
        }
    }
}

impl Under {
    /// The node answered; what that says of the pace.
    pub(super) fn end(mut self, outcome: &Outcome) {
        self.finish(outcome, None);
    }

    /// The node answers, and its reply goes on.
    pub(super) fn answers(&self) {
        let returned = self.nodes.lock().answered(self.node);
        self.nodes.say(returned);
    }

    /// The node did not answer: it is left out for now, where there are others.
    pub(super) fn fail(mut self, outcome: &Outcome, reason: &str) {
        self.finish(outcome, Some(reason));
    }

    fn finish(&mut self, outcome: &Outcome, failed: Option<&str>) {
        self.ended = true;
        let now = self.nodes.begun.elapsed();
        let mut cluster = self.nodes.lock();
        let paced = cluster.end(self.node, self.kind, self.started, now, outcome);
        let lived = match failed {
            Some(reason) => cluster.failed(self.node, now, jitter(now), reason),
            None => cluster.answered(self.node),
        };
        drop(cluster);
        self.nodes.say(lived.into_iter().chain(paced));
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(&Outcome::Ended, None);
        }
    }
}

/// A number from 0 to 1.
fn jitter(now: Duration) -> f64 {
    let bits = RandomState::new().hash_one(now) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
