//! What all places have in common that hold InfluxDB's own files: a data directory, a backup, a server's
//! snapshot port.
//!
//! Such a place ([`Place`]) says what it holds by its meta store and opens the files of a shard. From
//! then on all are read alike: partitions are the stretches of time of shard groups, which overlap where
//! the shard duration was altered; then they are one partition. Series are seen by the raw keys under
//! which they are stored.

mod absent;
pub mod backup;
mod column;
pub mod directory;
pub mod live;
pub mod log;
pub mod packed;
pub mod reader;
mod remarks;
pub mod shard;
mod shared;
mod spilled;

use self::absent::Absent;
use self::reader::ShardReader;
use self::remarks::Remarks;
use self::shard::Shard;
use crate::error::{Error, ErrorKind, Result};
use crate::line::key;
use crate::meta::{Meta, RetentionPolicy, ShardGroup};
use crate::plan::{Held, Namespace, Partition, RpSettings, Scope};
pub use crate::source::Made;
use crate::source::{Reader, Source};
use crate::tsm::index::Entry;
use crate::tsm::split_key;
use crate::types::FieldTypes;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The server's own database, which is left out unless it is named.
const INTERNAL: &str = "_internal";

/// A place that holds files of a server. Shared by worker threads.
pub trait Place: Send + Sync {
    /// What it is, for people, without secrets.
    fn name(&self) -> String;

    /// What the meta store says.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn meta(&self) -> Result<Arc<Meta>>;

    /// Opens a shard; `None` where the place has no files of it.
    ///
    /// # Errors
    /// Where it cannot be read, or is damaged.
    fn open(&self, namespace: &Namespace, shard: u64) -> Result<Option<Arc<Shard>>>;

    /// When what it holds of a shard was put together, or its meta store where none is named.
    fn made(&self, _shard: Option<(&Namespace, u64)>) -> Option<Made> {
        None
    }

    /// What it says of a shard that the meta store names and of which nothing is there.
    fn absence(&self) -> Absence {
        Absence::Told
    }

    /// False where it was made without a database that the meta store names.
    fn holds(&self, _database: &str) -> bool {
        true
    }

    /// The shards of which something is there, whether the meta store names them or not.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn stored(&self, _namespace: &Namespace) -> Result<BTreeSet<u64>> {
        Ok(BTreeSet::new())
    }

    /// True where it knows when its files were written to.
    fn has_times(&self) -> bool {
        false
    }

    /// When a file of a shard was last written to, nanoseconds since 1970; `None` where there is none.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn touched(&self, _namespace: &Namespace, _shard: u64) -> Result<Option<i64>> {
        Ok(None)
    }

    /// What is there and was not read, one remark a line.
    fn unread(&self) -> Vec<String> {
        Vec::new()
    }

    /// What was read, and a server may take otherwise, one remark a line.
    fn doubts(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What it means where a place has nothing of a shard that the meta store names.
///
/// A server makes groups ahead, one behind the other, also for databases that take no more writes; their
/// directories come with the first write. So most groups without files never had any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The server itself says that there is none.
    Sure,
    /// What is there is listed, or is the server's own: only a group that a write made had files.
    Told,
    /// Nothing tells whether a file was lost.
    Untold,
}

/// A place as a source.
#[derive(Debug)]
pub struct TsmSource<P> {
    place: P,
    /// Database and RP that were asked for; empty where none was.
    wanted: Namespace,
    /// Keys that may be cut elsewhere, and shards that may have been elsewhere.
    doubts: Arc<Remarks>,
    absent: Absent,
}

impl<P: Place> TsmSource<P> {
    /// A source of what is `wanted`: empty names stand for all.
    pub fn new(place: P, wanted: Namespace) -> Self {
        Self { place, wanted, doubts: Arc::default(), absent: Absent::default() }
    }

    /// The place.
    pub fn place(&self) -> &P {
        &self.place
    }

    fn groups_of(&self, namespace: &Namespace) -> Result<Vec<ShardGroup>> {
        let meta = self.place.meta()?;
        let policy = policies(&meta).find(|(name, _)| name == namespace).map(|(_, policy)| policy);
        let Some(policy) = policy else {
            let what = namespace.to_string();
            let place = format!("in {}", self.place.name());
            return Err(ErrorKind::NotFound { what, place }.into());
        };
        let live = policy.groups.iter().filter(|group| group.deleted_at.is_none());
        let mut groups: Vec<ShardGroup> = live.cloned().collect();
        groups.sort_by_key(|group| (group.window().start, group.id));
        Ok(groups)
    }

    /// All that is stored of the groups that meet a window.
    fn shards(&self, namespace: &Namespace, window: Window) -> Result<Vec<Arc<Shard>>> {
        let ids = self.ids(namespace, window)?;
        let opened = ids.into_iter().map(|id| self.shard(namespace, id));
        opened.filter_map(Result::transpose).collect()
    }

    /// Opens a shard; one of which nothing is there is noted.
    fn shard(&self, namespace: &Namespace, id: u64) -> Result<Option<Arc<Shard>>> {
        let opened = self.place.open(namespace, id)?;
        if opened.is_none() {
            self.note_absent(namespace, id)?;
        }
        Ok(opened)
    }

    fn note_absent(&self, namespace: &Namespace, id: u64) -> Result<()> {
        let absence = self.place.absence();
        if absence == Absence::Sure {
            return Ok(());
        }
        let meta = self.place.meta()?;
        let Some((_, policy)) = policies(&meta).find(|(name, _)| name == namespace) else {
            return Ok(());
        };
        let Some(group) = policy.groups.iter().find(|group| group.has(id)) else { return Ok(()) };
        let made = self.place.made(None).map_or_else(now, |made| made.time);
        if group.deleted_at.is_none() && group.window().start < made {
            let lost = absence == Absence::Untold || absent::made_by_write(group, &policy.groups);
            self.absent.note(namespace, id, group.window(), lost);
        }
        Ok(())
    }

    /// Notes the shards whose files are there although the meta store does not name them (any more).
    fn note_strays(&self, namespace: &Namespace) -> Result<()> {
        let groups = self.groups_of(namespace)?;
        for id in self.place.stored(namespace)? {
            if !groups.iter().any(|group| group.has(id)) {
                self.doubts.add(format!(
                    "shard {id} of {namespace}: files are here, and the meta store names no such shard, \
                     or its group was deleted"
                ));
            }
        }
        Ok(())
    }

    /// Databases that the place was made without.
    fn left_out(&self, meta: &Meta) -> BTreeSet<String> {
        let with_groups =
            |policy: &RetentionPolicy| policy.groups.iter().any(|group| group.deleted_at.is_none());
        let databases = meta.databases.iter().filter(|database| {
            database.rps.iter().any(with_groups) && !self.place.holds(&database.name)
        });
        databases.map(|database| database.name.clone()).collect()
    }

    /// The shards of the groups that meet a window, in the order in which they win.
    fn ids(&self, namespace: &Namespace, window: Window) -> Result<Vec<u64>> {
        let mut ids: Vec<u64> = self
            .groups_of(namespace)?
            .iter()
            .filter(|group| group.window().intersect(window).is_some())
            .flat_map(|group| group.shards.iter().map(|shard| shard.id))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Hands every key of the shards that meet a scope to `each`, with the type of its values.
    /// One shard is open at a time.
    fn each_key(&self, scope: &Scope, mut each: impl FnMut(&[u8], FieldType)) -> Result<()> {
        for id in self.ids(&scope.namespace, scope.window)? {
            if let Some(shard) = self.shard(&scope.namespace, id)? {
                each_key_of(&shard, scope.window, &mut each)?;
            }
        }
        Ok(())
    }
}

/// Hands every key of a shard that holds something in a window to `each`.
fn each_key_of(
    shard: &Shard,
    window: Window,
    each: &mut impl FnMut(&[u8], FieldType),
) -> Result<()> {
    for file in &shard.files {
        for key in file.tsm.keys() {
            let key = key.map_err(|damage| file.damaged(damage))?;
            // What a log deleted from itself is not there, wherever it is held.
            let hidden = match &file.deleted {
                Some(_) => file.hidden(key.key)?,
                None => Vec::new(),
            };
            let is_there = |entry: Entry| !hidden.iter().any(|span| span.holds(entry.span));
            if key.meeting(window).any(is_there) {
                each(key.key, key.field_type);
            }
        }
    }
    for (key, points) in shard.log.keys_from(b"") {
        let inside = |time: &i64| window.contains(*time);
        for points in points.iter().filter(|points| points.times.iter().any(inside)) {
            each(key, points.values.field_type());
        }
    }
    Ok(())
}

fn policies(meta: &Meta) -> impl Iterator<Item = (Namespace, &RetentionPolicy)> {
    meta.databases.iter().flat_map(|database| {
        database.rps.iter().map(|policy| {
            let namespace = Namespace {
                database: database.name.clone(),
                retention_policy: policy.name.clone(),
            };
            (namespace, policy)
        })
    })
}

impl<P: Place> Source for TsmSource<P> {
    fn name(&self) -> String {
        self.place.name()
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        let meta = self.place.meta()?;
        let defaults = |namespace: &Namespace| {
            meta.databases.iter().any(|database| {
                database.name == namespace.database
                    && database.default_rp == namespace.retention_policy
            })
        };
        let named = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
        let wanted = |namespace: &Namespace| {
            named(&self.wanted.database, &namespace.database)
                && named(&self.wanted.retention_policy, &namespace.retention_policy)
                && (namespace.database != INTERNAL || self.wanted.database == INTERNAL)
        };
        let left_out = self.left_out(&meta);
        for database in left_out.iter().filter(|name| *name != INTERNAL) {
            self.doubts.add(format!("database {database}: it is not in this backup"));
        }
        let mut held: Vec<Held> = policies(&meta)
            .filter(|(namespace, _)| wanted(namespace) && !left_out.contains(&namespace.database))
            .map(|(namespace, policy)| {
                let settings = RpSettings {
                    duration: Some(policy.duration),
                    shard_duration: Some(policy.shard_duration),
                    replication: Some(policy.replication),
                    default: Some(defaults(&namespace)),
                };
                Held { namespace, settings: Some(settings) }
            })
            .collect();
        held.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        Ok(held)
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        self.note_strays(&scope.namespace)?;
        let windows = united(self.groups_of(&scope.namespace)?.iter().map(ShardGroup::window));
        let windows = windows.into_iter().filter_map(|window| window.intersect(scope.window));
        let partition = |window| Partition::new(&scope.namespace, window, None);
        Ok(windows.map(partition).collect())
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let shards = self.shards(&partition.namespace, partition.window)?;
        Ok(Box::new(ShardReader::new(shards, partition, Arc::clone(&self.doubts))))
    }

    fn field_types(&self, scope: &Scope) -> Result<Option<FieldTypes>> {
        let mut types = FieldTypes::new();
        let mut damaged = None;
        self.each_key(scope, |composite, field_type| {
            let Some((series, field)) = split_key(composite) else {
                damaged.get_or_insert_with(|| composite.to_vec());
                return;
            };
            let series = key::parse(series);
            if scope.filter.admits(&series) {
                let fields = types.entry(series.measurement().into()).or_default();
                let known: &mut Vec<FieldType> = fields.entry(field.into()).or_default();
                if !known.contains(&field_type) {
                    known.push(field_type);
                    known.sort_unstable();
                }
            }
        })?;
        match damaged {
            None => Ok(Some(types)),
            Some(_) => Err(Error::location(self.place.name(), "a key names no field")),
        }
    }

    fn groups(&self, namespace: &Namespace) -> Result<Option<Vec<Window>>> {
        Ok(Some(self.groups_of(namespace)?.iter().map(ShardGroup::window).collect()))
    }

    fn made(&self, wanted: &Namespace, window: Window) -> Option<Made> {
        let meta = self.place.meta().ok()?;
        let is = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
        let inside = policies(&meta).filter(|(namespace, _)| {
            is(&wanted.database, &namespace.database)
                && is(&wanted.retention_policy, &namespace.retention_policy)
        });
        let mut made = Vec::new();
        for (namespace, policy) in inside {
            let meeting = |group: &&ShardGroup| group.window().intersect(window).is_some();
            for shard in policy.groups.iter().filter(meeting).flat_map(|group| &group.shards) {
                made.extend(self.place.made(Some((&namespace, shard.id))));
            }
        }
        made.into_iter().min_by_key(|made| made.time).or_else(|| self.place.made(None))
    }

    fn untouched(&self, namespace: &Namespace, since: i64) -> Result<Option<Vec<Window>>> {
        if !self.place.has_times() {
            return Ok(None);
        }
        let mut touched = Vec::new();
        let groups = self.groups_of(namespace)?;
        for group in &groups {
            // A group that lost its files was touched.
            let mut old = !group.shards.is_empty();
            for shard in &group.shards {
                old &= self.place.touched(namespace, shard.id)?.is_some_and(|time| time < since);
            }
            touched.extend((!old).then_some(group.window()));
        }
        let mut windows = united(groups.iter().map(ShardGroup::window));
        windows.retain(|window| touched.iter().all(|one| one.intersect(*window).is_none()));
        Ok(Some(windows))
    }

    fn unread(&self) -> Vec<String> {
        self.place.unread().into_iter().chain(self.absent.lost()).collect()
    }

    fn doubts(&self) -> Vec<String> {
        let doubts = self.doubts.texts().into_iter().chain(self.place.doubts());
        doubts.chain(self.absent.idle()).collect()
    }

    fn cuts_keys(&self) -> bool {
        true
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

/// Windows in order, those that overlap made one.
fn united(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut united: Vec<Window> = Vec::new();
    for window in windows.filter(|window| !window.is_empty()) {
        match united.last_mut() {
            Some(last) if window.start < last.end => last.end = last.end.max(window.end),
            _ => united.push(window),
        }
    }
    united
}

/// Nanoseconds since 1970, by this machine's clock.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
