//! A set of digests: one node for each series and bucket of time, sorted by both.
//!
//! Sums are made by the hour; by the minute where an hour of a series is dense
//! ([`super::leaf::DENSE`]). Where there are many leaves, one stands for each day of a series that is
//! sparse ([`super::leaf::SPARSE`]). Two sides may choose otherwise: sums add up, so that they are
//! compared by the longer buckets of the two.
//!
//! A set is made by a [`Builder`] that is shown every block of one side. Where there are more
//! leaves than it may keep, it writes them to disk as sorted runs. Two sets are compared by going
//! through both once, side by side ([`super::join`]), one range of series hashes after the other
//! ([`ranges`]): hashes are uniform, so that ranges of any size can be had. Series are known by
//! their hash; their names are found again where they are needed.

use super::cell::{FieldHasher, SeriesHash, SeriesHasher};
use super::grid::{Bucket, Level, Place, Places};
use super::leaf::{Leaf, Name, fold_days, fold_minutes, is_dense, merge};
use super::node::Node;
use super::sum;
use crate::block::{Block, Column};
use crate::error::Result;
use crate::series::{Series, holds_separator};
use crate::spill::{Place as Directory, SpillFile};
use crate::window::Window;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a leaf on disk.
const LEAF_BYTES: usize = 64;
/// Leaves that are read and checked together.
const GROUP: usize = 1_024;
/// Leaves beyond which days are folded: 4 MiB. Fewer cost little, and say more of where a difference is.
pub const FOLD_FROM: usize = 65_536;
/// Bytes of measurements' names that are kept; series of others have unknown ones.
const NAME_BYTES_MAX: usize = 4 << 20;
/// Bits of a hash by which leaves are counted.
const COUNT_BITS: u32 = 12;

/// The measurements that were met.
#[derive(Debug, Default)]
struct Names {
    list: Vec<Arc<[u8]>>,
    numbers: HashMap<Arc<[u8]>, u32>,
    bytes: usize,
}

impl Names {
    fn number(&mut self, name: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(Name::UNKNOWN);
        if self.bytes + name.len() > NAME_BYTES_MAX || number >= Name::UNKNOWN {
            return Name::UNKNOWN;
        }
        // An entry of each of the two, and the name with its counts.
        self.bytes += name.len() + 96;
        let name: Arc<[u8]> = name.into();
        self.list.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }
}

/// Makes a set of the blocks of one side.
#[derive(Debug)]
pub struct Builder {
    leaves: Vec<Leaf>,
    /// Leaves at which the set is folded, and written to disk if that does not help.
    leaves_max: usize,
    /// Days that lie in it may be folded.
    days: Option<Window>,
    fold_from: usize,
    names: Names,
    directory: Directory,
    runs: Vec<Run>,
    total: Node,
    /// Where strings are put together to be hashed.
    room: Vec<u8>,
}

impl Builder {
    /// A set whose leaves take at most `memory` bytes; what does not fit goes to `directory`.
    #[must_use]
    pub fn new(memory: usize, directory: Directory) -> Self {
        Self {
            leaves: Vec::new(),
            leaves_max: (memory / size_of::<Leaf>()).max(GROUP),
            days: None,
            fold_from: FOLD_FROM,
            names: Names::default(),
            directory,
            runs: Vec::new(),
            total: Node::default(),
            room: Vec::new(),
        }
    }

    /// Lets it fold the sparse days of a window, which holds all that is added, where there are more than
    /// so many leaves ([`FOLD_FROM`]) or not all fit in memory.
    #[must_use]
    pub fn fold_days(mut self, window: Window, from: usize) -> Self {
        (self.days, self.fold_from) = (Some(window), from);
        self
    }

    /// Adds the rows of those series of a block that are wanted.
    ///
    /// # Errors
    /// Where what does not fit in memory cannot be written.
    pub fn add_block(&mut self, block: &Block, wanted: impl Fn(&Series) -> bool) -> Result<()> {
        let mut fields = Vec::with_capacity(block.columns().len());
        let mut name = None;
        let cut: Vec<&Column> =
            block.columns().iter().filter(|column| holds_separator(&column.field)).collect();
        for (series, rows) in block.runs().filter(|(series, _)| wanted(series)) {
            let mut hasher = SeriesHasher::new(series);
            fields.clear();
            let columns = block.columns().iter();
            fields.extend(columns.map(|column| hasher.field(&column.field, column.field_type())));
            // A block has one measurement.
            let number = *name.get_or_insert_with(|| self.names.number(series.measurement()));
            let hidden = if series.shown_by_queries() { 0 } else { Name::HIDDEN };
            let key_is_cut = holds_separator(series.key());
            let mut rest = rows;
            while !rest.is_empty() {
                let bucket = self.bucket(hasher.series(), block, rest.clone());
                let rows = rows_in(block, rest.clone(), bucket);
                rest.start = rows.end;
                let is_set = |column: &&Column| rows.clone().any(|row| column.get(row).is_some());
                let is_cut = key_is_cut || cut.iter().any(is_set);
                let name = Name(number | hidden | if is_cut { Name::CUT } else { 0 });
                let node = sum::rows(block, rows, &fields, &mut self.room);
                self.add_node((hasher.series(), bucket), name, node)?;
            }
        }
        Ok(())
    }

    /// The bucket for the first of some rows of a series.
    fn bucket(&self, series: SeriesHash, block: &Block, rows: Range<usize>) -> Bucket {
        let first = block.times()[rows.start];
        let hour = Bucket::holding(Level::Hour, first);
        let minute = Bucket::holding(Level::Minute, first);
        match self.leaves.last() {
            // As long as its hour goes on.
            Some(last) if last.series == series && hour.holds(last.bucket()) => {
                if last.bucket().level() == Level::Minute { minute } else { hour }
            }
            _ => {
                let rows = rows_in(block, rows, hour);
                let last = block.times()[rows.end - 1];
                let is_dense = is_dense(rows.len(), block.columns().len(), last - first);
                if is_dense { minute } else { hour }
            }
        }
    }

    /// Adds the sum of rows of one place.
    fn add_node(&mut self, place: Place, name: Name, node: Node) -> Result<()> {
        if self.leaves.last().is_none_or(|last| last.place() != place) {
            if self.leaves.len() >= self.leaves_max {
                self.make_room()?;
            }
            self.leaves.push(Leaf::named(place, Node::default(), name));
        }
        if let Some(leaf) = self.leaves.last_mut() {
            leaf.absorb(&Leaf::named(place, node, name));
        }
        self.total += node;
        Ok(())
    }

    /// Adds a leaf that was made elsewhere, of a measurement where that is known. Leaves of one place
    /// are added up.
    ///
    /// # Errors
    /// Where what does not fit in memory cannot be written.
    pub fn add_leaf(&mut self, leaf: &Leaf, measurement: Option<&[u8]>) -> Result<()> {
        if self.leaves.len() >= self.leaves_max {
            self.make_room()?;
        }
        let number = measurement.map_or(Name::UNKNOWN, |name| self.names.number(name));
        self.leaves.push(Leaf { name: leaf.name.with_number(number), ..*leaf });
        self.total += leaf.node;
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        let open = self.leaves.last().map(|leaf| leaf.series);
        merge(&mut self.leaves);
        fold_minutes(&mut self.leaves, open);
        if let Some(window) = self.days.filter(|_| self.leaves.len() > self.leaves_max / 2) {
            fold_days(&mut self.leaves, window, open);
        }
        if self.leaves.len() > self.leaves_max / 2 {
            self.runs.push(Run::write(&self.directory, &self.leaves)?);
            self.leaves.clear();
        }
        Ok(())
    }

    /// The set.
    ///
    /// # Errors
    /// Where what does not fit in memory cannot be written.
    pub fn finish(mut self) -> Result<DigestSet> {
        merge(&mut self.leaves);
        fold_minutes(&mut self.leaves, None);
        let many = self.leaves.len() > self.fold_from || !self.runs.is_empty();
        if let Some(window) = self.days.filter(|_| many) {
            fold_days(&mut self.leaves, window, None);
        }
        if !self.runs.is_empty() && !self.leaves.is_empty() {
            self.runs.push(Run::write(&self.directory, &self.leaves)?);
            self.leaves = Vec::new();
        }
        let Self { leaves, names, runs, days, total, .. } = self;
        Ok(DigestSet { leaves, names: names.list, runs, days, total })
    }
}

/// The rows of one series, sorted by time, that lie in the bucket of the first.
fn rows_in(block: &Block, rows: Range<usize>, bucket: Bucket) -> Range<usize> {
    let times = &block.times()[rows.clone()];
    let next = bucket.window().end;
    // Most runs end within a bucket or two; i64::MAX itself is no start of one.
    let end = match times.last() {
        Some(last) if *last < next => times.len(),
        _ => times.partition_point(|time| *time < next).max(1),
    };
    rows.start..rows.start + end
}

/// The sums of what a block holds of some places, for those of its series that are wanted.
pub fn sums_at(
    block: &Block,
    places: &Places,
    wanted: impl Fn(&Series) -> bool,
    mut each: impl FnMut(Place, Node),
) {
    let mut room = Vec::new();
    for (series, mut rest) in block.runs().filter(|(series, _)| wanted(series)) {
        let mut hasher = SeriesHasher::new(series);
        let hash = hasher.series();
        let mut fields: Option<Vec<FieldHasher>> = None;
        while !rest.is_empty() {
            let first = block.times()[rest.start];
            let place = places.at(hash, first);
            let bucket = place.map_or(Bucket::holding(Level::Minute, first), |place| place.1);
            let rows = rows_in(block, rest.clone(), bucket);
            rest.start = rows.end;
            let Some(place) = place else { continue };
            let fields = fields.get_or_insert_with(|| {
                let columns = block.columns().iter();
                columns.map(|column| hasher.field(&column.field, column.field_type())).collect()
            });
            each(place, sum::rows(block, rows, fields, &mut room));
        }
    }
}

/// The sum over the rows of those series of a block that are wanted.
#[must_use]
pub fn sum(block: &Block, wanted: impl Fn(&Series) -> bool) -> Node {
    let (mut total, mut room) = (Node::default(), Vec::new());
    for (series, rows) in block.runs().filter(|(series, _)| wanted(series)) {
        let mut hasher = SeriesHasher::new(series);
        let columns = block.columns().iter();
        let fields: Vec<FieldHasher> =
            columns.map(|column| hasher.field(&column.field, column.field_type())).collect();
        total += sum::rows(block, rows, &fields, &mut room);
    }
    total
}

/// Digests of what was read from one side.
#[derive(Debug, Default)]
pub struct DigestSet {
    /// Sorted leaves; empty where there are runs.
    leaves: Vec<Leaf>,
    runs: Vec<Run>,
    /// Days that lie in it may be folded, where there are runs.
    days: Option<Window>,
    names: Vec<Arc<[u8]>>,
    total: Node,
}

impl DigestSet {
    /// The sum of all leaves.
    #[must_use]
    pub fn total(&self) -> Node {
        self.total
    }

    /// The leaves of a range, sorted by place.
    ///
    /// # Errors
    /// Where what is on disk cannot be read.
    pub fn leaves(&self, range: HashRange) -> Result<Cow<'_, [Leaf]>> {
        if self.runs.is_empty() {
            let first = self.leaves.partition_point(|leaf| leaf.series < range.first);
            let end = self.leaves.partition_point(|leaf| leaf.series <= range.last);
            return Ok(Cow::Borrowed(&self.leaves[first..end.max(first)]));
        }
        let mut leaves = Vec::new();
        for run in &self.runs {
            run.read(range, &mut leaves)?;
        }
        merge(&mut leaves);
        // Of what one run held in part, more is known now.
        fold_minutes(&mut leaves, None);
        if let Some(window) = self.days {
            fold_days(&mut leaves, window, None);
        }
        Ok(Cow::Owned(leaves))
    }

    /// The measurement of a leaf of this set, unescaped, where it is known.
    #[must_use]
    pub fn measurement(&self, leaf: &Leaf) -> Option<&Arc<[u8]>> {
        self.names.get(leaf.name.number())
    }

    /// Number of leaves by the first bits of their hashes; of several runs, added up.
    fn count(&self, counts: &mut [u64]) {
        let shift = u128::BITS - COUNT_BITS;
        let mut add = |hash: SeriesHash, leaves: u64| {
            if let Some(count) =
                usize::try_from(hash.0 >> shift).ok().and_then(|at| counts.get_mut(at))
            {
                *count += leaves;
            }
        };
        self.leaves.iter().for_each(|leaf| add(leaf.series, 1));
        for run in &self.runs {
            run.groups.iter().for_each(|(first, _)| add(*first, GROUP as u64));
        }
    }
}

/// Series hashes from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    first: SeriesHash,
    last: SeriesHash,
}

impl HashRange {
    /// Every series.
    pub const ALL: Self = Self { first: SeriesHash(0), last: SeriesHash(u128::MAX) };
}

/// Ranges that together hold every series, each with at most about `memory` bytes of leaves of both
/// sets. Where both sets are in memory already, there is one.
#[must_use]
pub fn ranges(one: &DigestSet, two: &DigestSet, memory: usize) -> Vec<HashRange> {
    if one.runs.is_empty() && two.runs.is_empty() {
        return vec![HashRange::ALL];
    }
    let mut counts = vec![0; 1 << COUNT_BITS];
    one.count(&mut counts);
    two.count(&mut counts);
    let leaves_max = (memory / size_of::<Leaf>()) as u64;
    let shift = u128::BITS - COUNT_BITS;
    let (mut ranges, mut first, mut held) = (Vec::new(), 0_u128, 0);
    for (slot, count) in (0_u128..).zip(&counts) {
        if held > 0 && held + count > leaves_max {
            let next = slot << shift;
            ranges.push(HashRange { first: SeriesHash(first), last: SeriesHash(next - 1) });
            (first, held) = (next, 0);
        }
        held += count;
    }
    ranges.push(HashRange { first: SeriesHash(first), last: HashRange::ALL.last });
    ranges
}

/// Sorted leaves on disk.
#[derive(Debug)]
struct Run {
    file: SpillFile,
    /// First hash and checksum of each group of leaves; the last group may be shorter.
    groups: Vec<(SeriesHash, u64)>,
}

impl Run {
    fn write(directory: &Directory, leaves: &[Leaf]) -> Result<Self> {
        let mut run = Self { file: directory.file()?, groups: Vec::new() };
        let mut bytes = Vec::with_capacity(GROUP * LEAF_BYTES);
        for group in leaves.chunks(GROUP) {
            bytes.clear();
            group.iter().for_each(|leaf| encode(leaf, &mut bytes));
            run.file.append(&bytes)?;
            run.groups.extend(group.first().map(|leaf| (leaf.series, xxh3_64(&bytes))));
        }
        Ok(run)
    }

    /// Appends the leaves of a range.
    fn read(&self, range: HashRange, leaves: &mut Vec<Leaf>) -> Result<()> {
        // A series may go on from the group before.
        let first = self.groups.partition_point(|(hash, _)| *hash < range.first).saturating_sub(1);
        let end = self.groups.partition_point(|(hash, _)| *hash <= range.last);
        let mut bytes = Vec::new();
        for (at, (_, checksum)) in self.groups.iter().enumerate().take(end).skip(first) {
            let offset = (at * GROUP * LEAF_BYTES) as u64;
            let length = (self.file.length() - offset).min((GROUP * LEAF_BYTES) as u64);
            bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
            self.file.read(offset, &mut bytes)?;
            if xxh3_64(&bytes) != *checksum {
                return Err(self.file.damaged(offset));
            }
            let inside = |leaf: &Leaf| leaf.series >= range.first && leaf.series <= range.last;
            leaves.extend(bytes.chunks_exact(LEAF_BYTES).map(decode).filter(inside));
        }
        Ok(())
    }
}

fn encode(leaf: &Leaf, out: &mut Vec<u8>) {
    out.extend_from_slice(&leaf.series.0.to_le_bytes());
    let [k0, k1] = leaf.node.keys;
    let [v0, v1] = leaf.node.values;
    for word in [leaf.node.cells, k0, k1, v0, v1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&leaf.bucket().minute().to_le_bytes());
    out.extend_from_slice(&leaf.name.0.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Leaf {
    fn at<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&bytes[start..start + N]);
        out
    }
    let word = |start| u64::from_le_bytes(at(bytes, start));
    let series = SeriesHash(u128::from_le_bytes(at(bytes, 0)));
    let node = Node { cells: word(16), keys: [word(24), word(32)], values: [word(40), word(48)] };
    let name = Name(u32::from_le_bytes(at(bytes, 60)));
    Leaf::stored(series, node, i32::from_le_bytes(at(bytes, 56)), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::log::RowLog;
    use crate::digest::join::hidden_from_queries;
    use crate::line::key;
    use crate::value::Value;
    use crate::window::HOUR;

    /// Blocks of some series with a cell in each of some hours.
    fn blocks(series: u32, hours: i64) -> Vec<Block> {
        let mut log = RowLog::default();
        for number in 0..series {
            let key = format!("m{},host={number}", number % 3);
            let series = log.add_series(Arc::new(key::parse(key.as_bytes())));
            for hour in 0..hours {
                log.begin_row(series, hour * HOUR + i64::from(number));
                log.push(b"f", Value::Integer(hour));
            }
        }
        // Each measurement in blocks of its own, as sources give them.
        log.resolve().blocks(Window::ALL).collect()
    }

    fn set(blocks: &[Block], memory: usize) -> DigestSet {
        let mut builder = Builder::new(memory, Directory::new(Some(std::env::temp_dir())));
        for block in blocks {
            builder.add_block(block, |_| true).unwrap();
        }
        builder.finish().unwrap()
    }

    #[test]
    fn what_is_on_disk_is_the_same_as_what_is_in_memory() {
        let mut blocks = blocks(2_000, 3);
        // Blocks in an order that brings places back.
        blocks.extend(self::blocks(500, 1));
        let (memory, disk) = (set(&blocks, usize::MAX), set(&blocks, 0));
        assert!(memory.runs.is_empty() && disk.runs.len() > 3, "{}", disk.runs.len());
        assert_eq!(memory.total(), disk.total());
        let all = memory.leaves(HashRange::ALL).unwrap();
        assert_eq!(all.len(), 6_000);
        assert_eq!(all, disk.leaves(HashRange::ALL).unwrap());
        let ranges = ranges(&memory, &disk, 100 * size_of::<Leaf>());
        assert!(ranges.len() > 10, "{}", ranges.len());
        let mut one_by_one = Vec::new();
        for range in ranges {
            let leaves = disk.leaves(range).unwrap();
            assert_eq!(leaves, memory.leaves(range).unwrap());
            one_by_one.extend_from_slice(&leaves);
        }
        assert_eq!(one_by_one, *all, "ranges leave nothing out and overlap nowhere");
    }

    #[test]
    fn a_spelling_that_queries_hide_is_known_from_its_leaves() {
        let mut log = RowLog::default();
        for key in [&b"m,a=1"[..], br"m\=x,a=1"] {
            let series = log.add_series(Arc::new(key::parse(key)));
            log.begin_row(series, 0);
            log.push(b"f", Value::Integer(0));
        }
        let blocks: Vec<_> = log.resolve().blocks(Window::ALL).collect();
        let set = set(&blocks, usize::MAX);
        let leaves = set.leaves(HashRange::ALL).unwrap();
        assert_eq!((leaves.len(), hidden_from_queries(&leaves).count()), (2, 1));
    }
}
