//! What the write-ahead log of a shard comes to: the points that are in no TSM file yet, by key.
//!
//! Entries are followed in the order of writing. A deletion takes away only what the log had before
//! it: what it took from TSM files stands in their tombstones. What does not fit in memory goes to disk
//! as a server puts its cache there (`spilled`): a later file wins, and what was deleted
//! meanwhile is hidden in the earlier ones.

use super::shard::{NO_FIELD, StoredFile};
use super::spilled::{Deleted, Runs};
use crate::error::{Damage, Error, Result};
use crate::spill::Place;
use crate::tsm::wal::{Deletes, Item, Segment, Writes, Written};
use crate::tsm::{FLOAT_END, Points, Span, Values, split_key};
use crate::value::{FieldType, Value};
use std::collections::HashMap;

/// Bytes that a key takes besides itself and its points: its places in a list and a map that grow by
/// doubling, and the heads of what is allocated for it.
const KEY_BYTES: usize = 320;
/// Bytes that the values of one type of a key take besides themselves.
const POINTS_BYTES: usize = 128;
/// Most bytes that go to disk as one run: the index of a file counts 65,535 blocks of a key.
const RUN_MAX: usize = 64 << 20;
/// Why a value is damage that a server would have refused.
const NO_VALUE: &str = "a float that is no number: no server takes it, and no TSM file can hold it";

/// A key and its points: what was written later stands behind.
pub type Logged = (Box<[u8]>, Vec<Points>);

/// Points by key.
#[derive(Debug, Default)]
pub struct Log {
    /// Sorted by key once it is finished.
    keys: Vec<Logged>,
    places: HashMap<Box<[u8]>, usize, foldhash::quality::RandomState>,
    bytes: usize,
}

/// How a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte was an entry.
    Whole,
    /// The last entry is cut short: its offset, and the bytes of it that are there.
    Incomplete(u64, u64),
}

/// What stood in a segment that no server would read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Places that were passed over.
    pub places: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// Why a segment could not be followed.
#[derive(Debug)]
pub enum Failure {
    /// It is damaged.
    Damage(Damage),
    /// What does not fit in memory cannot be put elsewhere.
    Other(Error),
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A log that is being followed, segment by segment.
#[derive(Debug)]
pub struct Replay {
    log: Log,
    runs: Runs,
    /// What was deleted since something went to disk.
    deleted: Deleted,
    memory_max: usize,
}

impl Replay {
    /// Nothing yet. What takes more than `memory_max` bytes goes to `place`.
    #[must_use]
    pub fn new(memory_max: usize, place: Place) -> Self {
        let (log, deleted) = (Log::default(), Deleted::default());
        Self { log, runs: Runs::new(place), deleted, memory_max: memory_max.min(RUN_MAX) }
    }

    /// Follows a segment. With `salvage`, damage is passed over and counted; what can be read behind it
    /// is.
    ///
    /// # Errors
    /// Where the segment is damaged, or zeros stand in it: a server that restarts stops there. Where the
    /// disk cannot be used.
    pub fn follow(&mut self, segment: &[u8], salvage: bool) -> Result<(End, Skipped), Failure> {
        let mut segment = Segment::new(segment);
        let mut skipped = Skipped::default();
        loop {
            let before = segment.offset();
            match segment.next_item() {
                Ok(None) => return Ok((End::Whole, skipped)),
                Ok(Some(Item::Write(writes))) => match self.write(writes)? {
                    Some(fault) if !salvage => return Err(Damage::new(before, fault).into()),
                    Some(_) => skipped.add(segment.offset() - before),
                    None => {}
                },
                Ok(Some(Item::Delete(deletes))) => self.delete(deletes)?,
                Ok(Some(Item::Zeros { offset, length })) => {
                    if !salvage {
                        return Err(zeros(offset, length).into());
                    }
                    skipped.add(length);
                }
                Ok(Some(Item::Incomplete { offset, length })) => {
                    return Ok((End::Incomplete(offset, length), skipped));
                }
                Err(damage) if !salvage => return Err(damage.into()),
                Err(_damage) => match segment.resync() {
                    Some(offset) => skipped.add(offset - before),
                    None => {
                        skipped.add(segment.offset() - before);
                        return Ok((End::Whole, skipped));
                    }
                },
            }
        }
    }

    /// Gives what is wrong with a key or value, all of which were passed over.
    fn write(&mut self, writes: Writes<'_>) -> Result<Option<&'static str>> {
        let mut fault = None;
        for written in writes {
            if let Some(wrong) = unusable(&written) {
                fault = Some(wrong);
                continue;
            }
            let mut points = written.points().peekable();
            while points.peek().is_some() {
                let most = self.memory_max.saturating_sub(self.deleted.memory());
                self.log.append(written.key, written.field_type, &mut points, most);
                self.spill_if_full()?;
            }
        }
        Ok(fault)
    }

    fn delete(&mut self, deletes: Deletes<'_>) -> Result<()> {
        let is_empty = deletes.span.min > deletes.span.max;
        for key in deletes.keys().filter(|_| !is_empty) {
            self.log.delete(key, deletes.span);
            if self.runs.hold(key) {
                self.deleted.add(key, deletes.span);
                self.spill_if_full()?;
            }
        }
        Ok(())
    }

    fn spill_if_full(&mut self) -> Result<()> {
        if self.log.memory() + self.deleted.memory() <= self.memory_max {
            return Ok(());
        }
        let mut log = std::mem::take(&mut self.log);
        log.finish();
        self.runs.add(log.keys, std::mem::take(&mut self.deleted))
    }

    /// What the log comes to: files of what went to disk, of which later ones win, and the rest, which
    /// wins over them.
    ///
    /// # Errors
    /// Where the disk cannot be used.
    pub fn finish(mut self) -> Result<(Vec<StoredFile>, Log)> {
        self.runs.add(Vec::new(), self.deleted)?;
        self.log.finish();
        Ok((self.runs.finish(), self.log))
    }

    /// True where a segment does not end within an entry, or is damaged before its end.
    #[must_use]
    pub fn ends_whole(segment: &[u8]) -> bool {
        let mut segment = Segment::new(segment);
        loop {
            match segment.next_item() {
                Ok(Some(Item::Incomplete { .. })) => return false,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return true,
            }
        }
    }
}

fn zeros(offset: u64, length: u64) -> Damage {
    let reason = format!(
        "{length} zero bytes in the write-ahead log: a server that restarts stops here and loses what \
         follows"
    );
    Damage::new(offset, reason)
}

/// What no server writes.
fn unusable(written: &Written<'_>) -> Option<&'static str> {
    if split_key(written.key).is_none() {
        return Some(NO_FIELD);
    }
    let end = Some(FLOAT_END);
    let is_float = written.field_type == FieldType::Float;
    (is_float && written.points().any(|(_, value)| value.bits() == end)).then_some(NO_VALUE)
}

impl Log {
    /// Appends points of a key until the log takes more than `memory_max` bytes; one at least.
    fn append<'v>(
        &mut self,
        key: &[u8],
        field_type: FieldType,
        all: &mut impl Iterator<Item = (i64, Value<'v>)>,
        memory_max: usize,
    ) {
        let at = self.place(key);
        let of_key = &mut self.keys[at].1;
        if of_key.last().is_none_or(|last| last.values.field_type() != field_type) {
            self.bytes += POINTS_BYTES;
            of_key.push(Points { times: Vec::new(), values: Values::new(field_type) });
        }
        let Some(points) = of_key.last_mut() else { return };
        let before = self.bytes - points.memory().min(self.bytes);
        for (time, value) in all {
            points.times.push(time);
            push(&mut points.values, value);
            self.bytes = before + points.memory();
            if self.bytes > memory_max {
                break;
            }
        }
    }

    fn place(&mut self, key: &[u8]) -> usize {
        if let Some(at) = self.places.get(key) {
            return *at;
        }
        self.bytes += 2 * key.len() + KEY_BYTES;
        self.keys.push((key.into(), Vec::with_capacity(1)));
        self.places.insert(key.into(), self.keys.len() - 1);
        self.keys.len() - 1
    }

    fn delete(&mut self, key: &[u8], span: Span) {
        let Some(at) = self.places.get(key) else { return };
        for points in &mut self.keys[*at].1 {
            self.bytes = self.bytes.saturating_sub(points.memory());
            without(points, span);
            self.bytes += points.memory();
        }
    }

    /// Puts the keys in order, and the points of each in that of time, of which the last written
    /// counts. Nothing is added after this.
    fn finish(&mut self) {
        self.places = HashMap::default();
        for (_, of_key) in &mut self.keys {
            match &mut of_key[..] {
                [points] => sort(points),
                all => *of_key = last_of_each(all, |_| true),
            }
        }
        self.keys.retain(|(_, points)| points.iter().any(|points| !points.is_empty()));
        self.keys.sort_unstable_by(|(one, _), (two, _)| one.cmp(two));
    }

    /// The keys from `key` on, in order.
    #[must_use]
    pub fn keys_from(&self, key: &[u8]) -> &[Logged] {
        &self.keys[self.keys.partition_point(|(known, _)| **known < *key)..]
    }

    /// Bytes this occupies in memory, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

impl Skipped {
    fn add(&mut self, bytes: u64) {
        self.places += 1;
        self.bytes += bytes;
    }
}

pub(super) fn push(values: &mut Values, value: Value<'_>) {
    match (values, value) {
        (Values::Float(values), Value::Float(value)) => values.push(value),
        (Values::Integer(values), Value::Integer(value)) => values.push(value),
        (Values::Unsigned(values), Value::Unsigned(value)) => values.push(value),
        (Values::Boolean(values), Value::Boolean(value)) => values.push(value),
        (Values::String(strings), Value::String(value)) => {
            strings.bytes.extend_from_slice(value);
            strings.ends.push(strings.bytes.len());
        }
        _ => unreachable!("the values of an entry are of its own type"),
    }
}

/// Sorts points by time; of those with one time the last is kept.
fn sort(points: &mut Points) {
    if points.times.is_sorted_by(|one, two| one < two) {
        return;
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|at| points.times[*at]);
    let mut sorted = Points { times: Vec::new(), values: Values::new(points.values.field_type()) };
    for (place, at) in order.iter().enumerate() {
        let time = points.times[*at];
        if order.get(place + 1).is_none_or(|next| points.times[*next] != time) {
            sorted.times.push(time);
            push(&mut sorted.values, points.values.get(*at));
        }
    }
    *points = sorted;
}

/// The last value of each wanted time, by type: what stands behind counts.
pub(super) fn last_of_each(parts: &[Points], wanted: impl Fn(i64) -> bool) -> Vec<Points> {
    let mut places: Vec<(i64, usize, usize)> = Vec::new();
    for (part, points) in parts.iter().enumerate() {
        let times = points.times.iter().enumerate().filter(|(_, time)| wanted(**time));
        places.extend(times.map(|(at, time)| (*time, part, at)));
    }
    places.sort_unstable();
    let mut columns: Vec<Points> = Vec::new();
    for (at, (time, part, point)) in places.iter().enumerate() {
        if places.get(at + 1).is_some_and(|next| next.0 == *time) {
            continue;
        }
        let value = parts[*part].values.get(*point);
        let field_type = value.field_type();
        let known = columns.iter().position(|column| column.values.field_type() == field_type);
        let column = known.unwrap_or_else(|| {
            columns.push(Points { times: Vec::new(), values: Values::new(field_type) });
            columns.len() - 1
        });
        columns[column].times.push(*time);
        push(&mut columns[column].values, value);
    }
    columns
}

/// Takes the points of a span away.
pub(super) fn without(points: &mut Points, span: Span) {
    if !points.times.iter().any(|time| span.contains(*time)) {
        return;
    }
    let mut kept = Points { times: Vec::new(), values: Values::new(points.values.field_type()) };
    for (time, value) in points.iter().filter(|(time, _)| !span.contains(*time)) {
        kept.times.push(time);
        push(&mut kept.values, value);
    }
    *points = kept;
}

#[cfg(test)]
mod tests;
