//! What the write-ahead log of a shard comes to: the points that are in no TSM file yet, by key.
//!
//! Entries are followed in the order of writing. A deletion takes away only what the log had before
//! it: what it took from TSM files stands in their tombstones.

use super::shard::NO_FIELD;
use crate::error::Damage;
use crate::tsm::wal::{Deletes, Item, Segment, Writes};
use crate::tsm::{Points, Span, Values, split_key};
use crate::value::Value;
use std::collections::HashMap;

/// Bytes that a key takes besides itself.
const KEY_BYTES: usize = 128;

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
    /// The log holds more than it may.
    Full,
}

/// What stood in a segment that no server would read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Places that were passed over.
    pub places: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Log {
    /// Follows a segment, until the log takes more than `memory_max` bytes. With `salvage`, damage is
    /// passed over and counted; what can be read behind it is.
    ///
    /// # Errors
    /// Where the segment is damaged, or zeros stand in it: a server that restarts stops there.
    pub fn replay(
        &mut self,
        segment: &[u8],
        salvage: bool,
        memory_max: usize,
    ) -> Result<(End, Skipped), Damage> {
        let mut segment = Segment::new(segment);
        let mut skipped = Skipped::default();
        loop {
            if self.memory() > memory_max {
                return Ok((End::Full, skipped));
            }
            let before = segment.offset();
            match segment.next_item() {
                Ok(None) => return Ok((End::Whole, skipped)),
                Ok(Some(Item::Write(writes))) => {
                    let whole = self.write(writes);
                    if !whole && !salvage {
                        return Err(Damage::new(before, NO_FIELD));
                    } else if !whole {
                        skipped.add(segment.offset() - before);
                    }
                }
                Ok(Some(Item::Delete(deletes))) => self.delete(deletes),
                Ok(Some(Item::Zeros { offset, length })) => {
                    if !salvage {
                        return Err(Damage::new(
                            offset,
                            format!(
                                "{length} zero bytes in the write-ahead log: a server that restarts \
                                 stops here and loses what follows"
                            ),
                        ));
                    }
                    skipped.add(length);
                }
                Ok(Some(Item::Incomplete { offset, length })) => {
                    return Ok((End::Incomplete(offset, length), skipped));
                }
                Err(damage) if !salvage => return Err(damage),
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

    /// False where a key names no field, and was passed over.
    fn write(&mut self, writes: Writes<'_>) -> bool {
        let mut whole = true;
        for written in writes {
            if split_key(written.key).is_none() {
                whole = false;
                continue;
            }
            let at = self.place(written.key);
            let points = &mut self.keys[at].1;
            if points.last().is_none_or(|last| last.values.field_type() != written.field_type) {
                let values = Values::new(written.field_type);
                points.push(Points { times: Vec::new(), values });
            }
            let Some(points) = points.last_mut() else { continue };
            for (time, value) in written.points() {
                self.bytes += 16;
                points.times.push(time);
                push(&mut points.values, value, &mut self.bytes);
            }
        }
        whole
    }

    fn place(&mut self, key: &[u8]) -> usize {
        if let Some(at) = self.places.get(key) {
            return *at;
        }
        self.bytes += 2 * key.len() + KEY_BYTES;
        self.keys.push((key.into(), Vec::new()));
        self.places.insert(key.into(), self.keys.len() - 1);
        self.keys.len() - 1
    }

    fn delete(&mut self, deletes: Deletes<'_>) {
        for key in deletes.keys() {
            if let Some(at) = self.places.get(key) {
                self.keys[*at].1.iter_mut().for_each(|points| without(points, deletes.span));
            }
        }
    }

    /// Puts the keys in order, and the points of each in that of time, of which the last written
    /// counts. Nothing is replayed after this.
    pub fn finish(&mut self) {
        self.places = HashMap::default();
        self.keys.iter_mut().flat_map(|(_, points)| points).for_each(sort);
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

pub(super) fn push(values: &mut Values, value: Value<'_>, bytes: &mut usize) {
    match (values, value) {
        (Values::Float(values), Value::Float(value)) => values.push(value),
        (Values::Integer(values), Value::Integer(value)) => values.push(value),
        (Values::Unsigned(values), Value::Unsigned(value)) => values.push(value),
        (Values::Boolean(values), Value::Boolean(value)) => values.push(value),
        (Values::String(strings), Value::String(value)) => {
            *bytes += value.len();
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
            push(&mut sorted.values, points.values.get(*at), &mut 0);
        }
    }
    *points = sorted;
}

/// Takes the points of a span away.
pub(super) fn without(points: &mut Points, span: Span) {
    if !points.times.iter().any(|time| span.contains(*time)) {
        return;
    }
    let mut kept = Points { times: Vec::new(), values: Values::new(points.values.field_type()) };
    for (time, value) in points.iter().filter(|(time, _)| !span.contains(*time)) {
        kept.times.push(time);
        push(&mut kept.values, value, &mut 0);
    }
    *points = kept;
}
