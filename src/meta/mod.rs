//! The meta store of InfluxDB 1.x: databases, retention policies, shard groups, users.
//!
//! `meta.db` is one protobuf message without a frame (`services/meta/internal/meta.proto`), here
//! derived field by field, so that no build script runs; fields of later versions are skipped. What
//! is handed out are plain types: times and durations in nanoseconds, UTC, with zero as "none"
//! turned into `None`.
//!
//! The frames in which backups and the snapshot port hand the message over, and the manifest of a
//! portable backup, are [`backup`]'s. Nothing here opens a file.

pub mod backup;
mod message;

use crate::error::Damage;
use crate::window::{TIME_MIN, Window};
use prost::Message;

/// All that a meta store says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The databases, in stored order.
    pub databases: Vec<Database>,
    /// The users, in stored order.
    pub users: Vec<User>,
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Name of the retention policy that takes the writes that name none; may be empty.
    pub default_rp: String,
    /// Its retention policies.
    pub rps: Vec<RetentionPolicy>,
    /// Its continuous queries.
    pub continuous_queries: Vec<ContinuousQuery>,
}

/// A retention policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Its name.
    pub name: String,
    /// How long points are kept, nanoseconds; 0 for ever.
    pub duration: i64,
    /// Length of a shard group, nanoseconds.
    pub shard_duration: i64,
    /// Copies that a cluster keeps.
    pub replication: u32,
    /// Its shard groups, deleted ones too.
    pub groups: Vec<ShardGroup>,
    /// Where writes are forwarded.
    pub subscriptions: Vec<Subscription>,
}

/// A shard group: a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardGroup {
    /// Its number.
    pub id: u64,
    /// First nanosecond, as stored: see [`ShardGroup::window`].
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
    /// When it was deleted; its files may linger.
    pub deleted_at: Option<i64>,
    /// Up to when it takes writes, where a cluster cut it short.
    pub truncated_at: Option<i64>,
    /// Its shards; one in InfluxDB OSS.
    pub shards: Vec<Shard>,
}

/// A shard: a directory of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its number, which is the name of its directory.
    pub id: u64,
    /// The nodes that have it; none in InfluxDB OSS.
    pub owners: Vec<u64>,
}

/// Where the writes to a retention policy are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// `ALL` or `ANY`.
    pub mode: String,
    /// URLs.
    pub destinations: Vec<String>,
}

/// A continuous query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinuousQuery {
    /// Its name.
    pub name: String,
    /// The whole statement, `CREATE CONTINUOUS QUERY … END`.
    pub query: String,
}

/// A user. The hash of the password is no part of it: nothing here has a use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// True where it may do anything.
    pub admin: bool,
    /// What it may do, by database.
    pub privileges: Vec<(String, Privilege)>,
}

/// What a user may do with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Nothing.
    None,
    /// Query.
    Read,
    /// Write.
    Write,
    /// Both.
    All,
}

impl ShardGroup {
    /// True where a shard is one of it.
    #[must_use]
    pub fn has(&self, shard: u64) -> bool {
        self.shards.iter().any(|one| one.id == shard)
    }

    /// The times that it holds, cut to those that a server stores.
    ///
    /// The start of the first group wraps: it would lie before the first time there is, and is
    /// stored behind its own end.
    #[must_use]
    pub fn window(&self) -> Window {
        let start = if self.start > self.end { TIME_MIN } else { self.start.max(TIME_MIN) };
        Window { start, end: self.end }
    }
}

/// Reads the bytes of a `meta.db`.
///
/// # Errors
/// Where they are no such message. A protobuf decoder does not tell where it stopped: the offset is
/// zero, and the reason names the field.
pub fn decode(bytes: &[u8]) -> Result<Meta, Damage> {
    let data = message::Data::decode(bytes)
        .map_err(|error| Damage::new(0, format!("this is no meta store: {error}")))?;
    if bytes.is_empty() {
        return Err(Damage::new(0, "the meta store is empty"));
    }
    data.into_meta().map_err(|reason| Damage::new(0, reason))
}

#[cfg(test)]
mod tests;
