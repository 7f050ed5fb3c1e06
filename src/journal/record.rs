//! What stands in a journal: one record a line, in the order in which things happened.

use crate::archive::Span;
use crate::compare::{Counts, Unit};
use crate::copy::Sent;
use crate::digest::node::Node;
use crate::error::{Error, Result};
use crate::plan::Namespace;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `format` says in every journal.
pub(super) const FORMAT: &str = "gapless journal";
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

/// One line of a journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub(super) enum Record {
    /// The first line: what is to be done.
    Begun(Begun),
    /// A process goes on with it.
    Resumed(At),
    /// What was read is no longer what it was: the units before this line do not count.
    SourceChanged(Changed),
    /// A unit is proven.
    Unit(Box<UnitRecord>),
    /// Everything is proven.
    Finished(Box<Proof>),
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) gapless: String,
    pub(super) time: i64,
    pub(super) work: Work,
    pub(super) window: Span,
    pub(super) source: Option<Identity>,
}

/// A time, nanoseconds since 1970 by this machine's clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) time: i64,
}

/// A source that is another one now.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Changed {
    pub(super) time: i64,
    pub(super) source: Identity,
}

/// What the name of an argument ends with that lists nodes.
const NODES: &str = " nodes";

/// The arguments that define the work, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work(BTreeMap<String, String>);

impl Work {
    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the nodes of a side, which may change as long as one stays.
    #[must_use]
    pub fn with_nodes(self, side: &str, nodes: &[String]) -> Self {
        self.with(&format!("{side}{NODES}"), nodes.join(","))
    }

    /// The arguments as one text, by which work is told apart; of nodes one stands for all.
    #[must_use]
    pub fn text(&self) -> String {
        let least = |value: &str| value.split(',').min().unwrap_or_default().to_owned();
        let shown = |name: &str, value: &str| {
            if name.ends_with(NODES) { least(value) } else { value.to_owned() }
        };
        self.0.iter().map(|(name, value)| format!("{name}\0{}\0", shown(name, value))).collect()
    }

    /// What differs from `recorded`, in words.
    pub(super) fn differences(&self, recorded: &Self) -> Vec<String> {
        let names =
            self.0.keys().chain(recorded.0.keys().filter(|name| !self.0.contains_key(*name)));
        let shown = |work: &Self, name: &str| {
            work.0.get(name).filter(|value| !value.is_empty()).cloned().unwrap_or("nothing".into())
        };
        names
            .map(|name| (name, shown(recorded, name), shown(self, name)))
            .filter(|(name, before, now)| {
                let shared = || before.split(',').any(|node| now.split(',').any(|one| one == node));
                before != now && !(name.ends_with(NODES) && shared())
            })
            .map(|(name, before, now)| format!("{name} was {before} and is {now}"))
            .collect()
    }
}

/// By what a file is known again, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// When it was last changed, nanoseconds since 1970.
    pub modified: i64,
    /// Checksum of its content, as `b3sum` prints it.
    pub blake3: String,
}

impl Identity {
    /// True where the content is the same: a copy elsewhere is as good.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size, &self.blake3) == (other.size, &other.blake3)
    }
}

/// A unit and what was found of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UnitRecord {
    pub(super) source: [String; 2],
    pub(super) destination: [String; 2],
    pub(super) window: Span,
    #[serde(flatten)]
    pub(super) done: Done,
}

/// What is known of a unit that is proven.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// When it was read back, nanoseconds since 1970 by this machine's clock.
    pub time: i64,
    /// What the source held.
    pub source_digest: Node,
    /// What the destination held.
    pub destination_digest: Node,
    /// Cells by class.
    pub counts: Counts,
    /// What was sent for it.
    pub sent: Sent,
    /// Which run of the destination showed it; `None` where that is not known.
    pub incarnation: Option<String>,
    /// What the destination needs to go on with it.
    pub stored: Option<serde_json::Value>,
}

/// How a journal ended: what was printed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When, nanoseconds since 1970 by this machine's clock.
    pub time: i64,
    /// The report for people.
    pub text: String,
    /// The report for programs.
    pub json: String,
}

/// By what a unit is known again.
pub(super) type Key = (Namespace, Namespace, Window);

pub(super) fn key(unit: &Unit) -> Key {
    (unit.source.clone(), unit.destination.clone(), unit.window)
}

impl UnitRecord {
    pub(super) fn new(unit: &Unit, done: Done) -> Self {
        let names = |namespace: &Namespace| {
            [namespace.database.clone(), namespace.retention_policy.clone()]
        };
        let (source, destination) = (names(&unit.source), names(&unit.destination));
        Self { source, destination, window: unit.window.into(), done }
    }

    pub(super) fn into_pair(self) -> (Key, Done) {
        let namespace =
            |[database, retention_policy]: [String; 2]| Namespace { database, retention_policy };
        let key = (namespace(self.source), namespace(self.destination), self.window.into());
        (key, self.done)
    }
}

impl Record {
    /// As it stands in the file.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub(super) fn json(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::usage(format!("a record cannot be written: {error}")))
    }
}
