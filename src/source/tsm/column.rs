//! One field of one series within a stretch of time, put together from everything that is stored of it.

use super::log::{Logged, last_of_each, push, without};
use super::shard::StoredFile;
use crate::block::bulk::Slice;
use crate::error::{Damage, Result};
use crate::tsm::index::{Entry, Key};
use crate::tsm::{Points, Span, Values, split_key};
use crate::value::FieldType;
use crate::window::Window;
use std::ops::Range;
use std::sync::Arc;

/// Where the points of a field are stored, the place that wins last.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    /// The field key, unescaped.
    pub(super) field: Arc<[u8]>,
    places: Vec<Place<'a>>,
}

#[derive(Debug)]
enum Place<'a> {
    File(InFile<'a>),
    Log(&'a Points),
}

/// One key of a series in one place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// In a file.
    File(&'a StoredFile, Key<'a>),
    /// In a log.
    Log(&'a Logged),
}

impl<'a> Found<'a> {
    /// The composite key.
    pub(super) fn key(&self) -> &'a [u8] {
        match self {
            Self::File(_, key) => key.key,
            Self::Log((key, _)) => key,
        }
    }
}

/// The blocks of a field in one file that meet the window.
#[derive(Debug)]
struct InFile<'a> {
    file: &'a StoredFile,
    key: &'a [u8],
    field_type: FieldType,
    entries: Vec<Entry>,
    hidden: Vec<Span>,
    /// The first entry that is not over.
    at: usize,
}

/// Room for points that is used again: what was allocated for one stretch serves the next.
#[derive(Debug, Default)]
pub(super) struct Pool {
    rooms: Vec<Points>,
    /// Bytes of strings in them.
    bytes: usize,
}

impl Pool {
    fn take(&mut self, field_type: FieldType) -> Points {
        let same = self.rooms.iter().rposition(|points| points.values.field_type() == field_type);
        let mut points = same.map(|at| self.rooms.swap_remove(at)).unwrap_or_default();
        self.bytes -= room_of(&points);
        points.reset(field_type);
        points
    }

    fn put(&mut self, points: Points) {
        let bytes = room_of(&points);
        if self.rooms.len() < BLOCKS && self.bytes + bytes <= ROOM_MAX {
            self.bytes += bytes;
            self.rooms.push(points);
        }
    }

    /// Takes back what was read.
    pub(super) fn put_back(&mut self, cells: Cells) {
        self.put(cells.points);
    }
}

fn room_of(points: &Points) -> usize {
    match &points.values {
        Values::String(all) => all.bytes.capacity(),
        _ => 0,
    }
}

/// The cells of one field and type, in order of time, each time once.
#[derive(Debug)]
pub(super) struct Cells {
    points: Points,
    range: Range<usize>,
}

/// Blocks of a file that are decoded together, over all fields of a series.
const BLOCKS: usize = 64;
/// Most of them that are of one field.
const BLOCKS_OF_FIELD: usize = 16;
/// Bytes that are decoded together, about, over all fields of a series; a block of a field is never cut.
const BYTES: u64 = 4 << 20;
/// Most bytes of strings whose room is used again: those of a block of long strings. Were it given back
/// after each, an allocator would keep several of them.
const ROOM_MAX: usize = 16 << 20;
/// Most points of one field of a file that are decoded together. Blocks of servers hold 1,000.
const POINTS_MAX: usize = 2_000_000;
/// Points of the log that are put into rows together.
const LOGGED: usize = 8_192;

impl<'a> Stored<'a> {
    /// What is stored of all fields of one series; what is found later wins.
    ///
    /// # Errors
    /// Where what went to disk of a log cannot be read.
    pub(super) fn of_series(found: &[Found<'a>], window: Window) -> Result<Vec<Self>> {
        let mut fields: Vec<Self> = Vec::new();
        for one in found {
            let Some((_, field)) = split_key(one.key()) else { continue };
            let at = fields.iter().position(|known| *known.field == *field).unwrap_or_else(|| {
                fields.push(Self { field: field.into(), places: Vec::new() });
                fields.len() - 1
            });
            fields[at].add(*one, window)?;
        }
        Ok(fields)
    }

    fn add(&mut self, found: Found<'a>, window: Window) -> Result<()> {
        match found {
            Found::File(file, key) => {
                let in_file = InFile::new(file, &key, window)?;
                self.places.extend(in_file.map(Place::File));
            }
            Found::Log((_, points)) => self.places.extend(points.iter().map(Place::Log)),
        }
        Ok(())
    }

    /// The end of a stretch from `start`, at most `end`, for which only some blocks of a file are
    /// decoded; the series has so many fields.
    pub(super) fn stretch(&self, start: i64, end: i64, fields: usize) -> i64 {
        let blocks = (BLOCKS / fields.max(1)).clamp(1, BLOCKS_OF_FIELD);
        let bytes = BYTES / fields.max(1) as u64;
        let ends = self.places.iter().filter_map(|place| match place {
            Place::File(file) => {
                file.last_of(start, blocks, bytes).map(|entry| entry.span.max.saturating_add(1))
            }
            Place::Log(points) => logged_until(points, start, bytes),
        });
        let end = ends.fold(end, i64::min).max(start.saturating_add(1));
        self.fitting(Window { start, end }, bytes)
    }

    /// The end of the part of a stretch whose strings take so many bytes, over all files, about; where
    /// blocks overlap, more.
    fn fitting(&self, stretch: Window, bytes: u64) -> i64 {
        let files = self.places.iter().filter_map(|place| match place {
            Place::File(file) if file.field_type == FieldType::String => Some(file),
            _ => None,
        });
        let mut blocks: Vec<(i64, u64)> = files.flat_map(|file| file.begins(stretch)).collect();
        blocks.sort_unstable();
        let mut sum = 0_u64;
        for (at, (begin, size)) in blocks.into_iter().enumerate() {
            sum = sum.saturating_add(size);
            if at > 0 && sum > bytes && begin > stretch.start {
                return begin;
            }
        }
        stretch.end
    }

    /// The cells of a stretch, one column for each type, in room from the pool. Stretches are asked for
    /// in order.
    pub(super) fn cells(&mut self, stretch: Window, pool: &mut Pool) -> Result<Vec<Cells>> {
        let mut parts = Vec::new();
        for place in &mut self.places {
            let points = match place {
                Place::File(file) => file.decode(stretch, pool.take(file.field_type))?,
                Place::Log(points) => inside(points, stretch),
            };
            if points.is_empty() {
                pool.put(points);
            } else {
                parts.push(points);
            }
        }
        if !parts.iter().all(|points| points.times.is_sorted_by(|one, two| one < two)) {
            return Ok(resolved(&parts, stretch));
        }
        let mut parts: Vec<Cells> =
            parts.into_iter().map(|points| Cells::within(points, stretch)).collect();
        parts.retain(|cells| !cells.range.is_empty());
        if parts.is_sorted_by(Cells::goes_before) {
            return Ok(joined(parts, pool).into_iter().collect());
        }
        let parts: Vec<Points> = parts.into_iter().map(|cells| cells.points).collect();
        Ok(resolved(&parts, stretch))
    }
}

impl<'a> InFile<'a> {
    /// The blocks of a key that meet the window and are not deleted as a whole, if there are any.
    fn new(file: &'a StoredFile, key: &Key<'a>, window: Window) -> Result<Option<Self>> {
        let hidden = file.hidden(key.key)?;
        let is_hidden = |entry: &Entry| hidden.iter().any(|span| span.holds(entry.span));
        let entries: Vec<Entry> = key.meeting(window).filter(|entry| !is_hidden(entry)).collect();
        let field_type = key.field_type;
        let key = key.key;
        let in_file = Self { file, key, field_type, entries, hidden, at: 0 };
        Ok((!in_file.entries.is_empty()).then_some(in_file))
    }
}

impl InFile<'_> {
    /// The last block from `start` on that belongs to a stretch of so many blocks and bytes; `None` where
    /// all do.
    fn last_of(&self, start: i64, blocks: usize, bytes: u64) -> Option<&Entry> {
        let left = self.entries[self.at..].iter().filter(|entry| entry.span.max >= start);
        let mut sum = 0_u64;
        let mut last = None;
        for (at, entry) in left.enumerate() {
            sum = sum.saturating_add(self.bytes_of(*entry));
            if at == blocks || (at > 0 && sum > bytes) {
                return last;
            }
            last = Some(entry);
        }
        None
    }

    /// Where each block begins that meets a stretch, and its bytes once it is decoded.
    fn begins(&self, stretch: Window) -> impl Iterator<Item = (i64, u64)> {
        let left = self.entries[self.at..].iter().take_while(move |one| one.span.min < stretch.end);
        let meeting = left.filter(move |one| one.span.max >= stretch.start);
        meeting.map(|one| (one.span.min, self.bytes_of(*one)))
    }

    /// Bytes that a block takes once it is decoded, about. Only strings have to be looked at for that.
    fn bytes_of(&self, entry: Entry) -> u64 {
        match self.field_type {
            FieldType::String => self.file.tsm.decoded_bytes(entry),
            _ => u64::from(entry.size),
        }
    }

    /// The points of all blocks that meet a stretch, in their order, without what was deleted. `points`
    /// is empty, with room.
    fn decode(&mut self, stretch: Window, mut points: Points) -> Result<Points> {
        while self.entries.get(self.at).is_some_and(|entry| entry.span.max < stretch.start) {
            self.at += 1;
        }
        for entry in &self.entries[self.at..] {
            if entry.span.min >= stretch.end {
                break;
            }
            if entry.span.meets(stretch) {
                self.file.append(self.key, *entry, &mut points)?;
                if points.len() > POINTS_MAX {
                    let reason = format!(
                        "more than {POINTS_MAX} points of one field in blocks that overlap in time"
                    );
                    return Err(self.file.damaged(Damage::new(entry.offset, reason)));
                }
            }
        }
        self.hidden.iter().for_each(|span| without(&mut points, *span));
        Ok(points)
    }
}

/// Where a stretch of a log from `start` on ends that takes not many points, nor bytes of strings.
/// `None` where all of it does.
fn logged_until(points: &Points, start: i64, bytes: u64) -> Option<i64> {
    let first = points.times.partition_point(|time| *time < start);
    let mut end = first + LOGGED;
    if let Values::String(strings) = &points.values {
        let before = first.checked_sub(1).map_or(0, |at| strings.ends[at]);
        let fits = |end: &usize| (*end - before) as u64 <= bytes;
        end = end.min(first + strings.ends[first..].partition_point(fits).max(1));
    }
    points.times.get(end).copied()
}

/// The points of a log inside a stretch.
fn inside(points: &Points, stretch: Window) -> Points {
    let start = points.times.partition_point(|time| *time < stretch.start);
    let end = points.times.partition_point(|time| *time < stretch.end);
    let mut cut = Points { times: Vec::new(), values: Values::new(points.values.field_type()) };
    for at in start..end {
        cut.times.push(points.times[at]);
        push(&mut cut.values, points.values.get(at));
    }
    cut
}

/// Parts of one type of which each goes before the next, one behind the other.
fn joined(parts: Vec<Cells>, pool: &mut Pool) -> Option<Cells> {
    let mut parts = parts.into_iter();
    let mut all = parts.next()?;
    for Cells { points, range } in parts {
        all.points.truncate(all.range.end);
        all.points.extend(&points, range);
        pool.put(points);
        all.range.end = all.points.len();
    }
    Some(all)
}

/// The last value of each time, by type.
fn resolved(parts: &[Points], stretch: Window) -> Vec<Cells> {
    let columns = last_of_each(parts, |time| stretch.contains(time));
    columns.into_iter().map(|points| Cells::within(points, stretch)).collect()
}

impl Cells {
    fn within(points: Points, stretch: Window) -> Self {
        let start = points.times.partition_point(|time| *time < stretch.start);
        let end = points.times.partition_point(|time| *time < stretch.end);
        Self { points, range: start..end }
    }

    /// True where these are of the type of the others, and all earlier. Neither is empty.
    fn goes_before(&self, other: &Self) -> bool {
        self.points.values.field_type() == other.points.values.field_type()
            && self.times().last() < other.times().first()
    }

    /// True for strings.
    pub(super) fn are_strings(&self) -> bool {
        matches!(self.points.values, Values::String(_))
    }

    /// The time of the first string that goes beyond so many bytes, but not of the first of all; `None`
    /// where none does.
    pub(super) fn first_beyond(&self, bytes: usize) -> Option<i64> {
        let Values::String(strings) = &self.points.values else { return None };
        let Range { start, end } = self.range;
        let before = start.checked_sub(1).map_or(0, |at| strings.ends[at]);
        let fitting = strings.ends[start..end].partition_point(|end| end - before <= bytes);
        self.times().get(fitting.max(1)).copied()
    }

    /// True where some are earlier than a time.
    pub(super) fn begin_before(&self, time: i64) -> bool {
        self.times().first().is_some_and(|first| *first < time)
    }

    /// Leaves out those that are not earlier than a time, until [`Cells::go_on_to`].
    pub(super) fn stop_at(&mut self, time: i64) {
        self.range.end = self.range.start + self.times().partition_point(|one| *one < time);
    }

    /// Goes on behind those that are in, to the one before `end`.
    pub(super) fn go_on_to(&mut self, end: usize) {
        self.range = self.range.end..end;
    }

    /// The times.
    pub(super) fn times(&self) -> &[i64] {
        &self.points.times[self.range.clone()]
    }

    /// The values, of which [`Cells::range`] are meant.
    pub(super) fn values(&self) -> Slice<'_> {
        match &self.points.values {
            Values::Float(values) => Slice::Float(values),
            Values::Integer(values) => Slice::Integer(values),
            Values::Unsigned(values) => Slice::Unsigned(values),
            Values::Boolean(values) => Slice::Boolean(values),
            Values::String(strings) => Slice::String(&strings.ends, &strings.bytes),
        }
    }

    /// Which of the values are meant.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}
