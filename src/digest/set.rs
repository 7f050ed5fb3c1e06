//! A set of digests: one node for each series and hour, sorted by series hash and hour.
//!
//! A set is made by a [`Builder`] that is shown every block of one side. Where there are more
//! leaves than it may keep, it writes them to disk as sorted runs. Two sets are compared by going
//! through both once, side by side ([`join`]), one range of series hashes after the other
//! ([`ranges`]): hashes are uniform, so that ranges of any size can be had. Series are known by
//! their hash; their names are found again where they are needed.

use super::cell::{FieldHasher, SeriesHash, SeriesHasher};
use super::node::Node;
use super::sum;
use crate::block::{Block, Column};
use crate::error::Result;
use crate::series::{Series, holds_separator};
use crate::spill::{Place as Directory, SpillFile};
use crate::window::HOUR;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Hours since 1970 that a time falls into; times before are in negative hours.
#[must_use]
pub fn hour_of(time: i64) -> i64 {
    time.div_euclid(HOUR)
}

/// The node of one series and hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Hash of the series' identity.
    pub series: SeriesHash,
    /// Sums over the cells.
    pub node: Node,
    /// Hours since 1970; those of all times that 64 bits hold fit.
    hour: i32,
    /// Number of the measurement's name in the set, and what is to be known of the series.
    name: Name,
}

impl Leaf {
    /// True where a cell of it has a name that files may cut elsewhere ([`holds_separator`]).
    #[must_use]
    pub fn may_be_cut(&self) -> bool {
        self.name.0 & Name::CUT != 0
    }

    /// A leaf whose measurement is not known yet.
    #[must_use]
    pub fn new(series: SeriesHash, hour: i32, node: Node, flags: Flags) -> Self {
        Self { series, node, hour, name: Name(Name::UNKNOWN | flags.bits()) }
    }

    /// What is to be known of its names.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags { hidden: self.is_hidden(), cut: self.may_be_cut() }
    }

    /// Hours since 1970.
    #[must_use]
    pub fn hour(&self) -> i32 {
        self.hour
    }

    /// True where queries of a server cannot show a series of this leaf.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.is_hidden()
    }

    /// By what leaves are sorted and matched.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.series, i64::from(self.hour))
    }
}

/// What is to be known of the names in a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Queries of a server cannot show a series of it.
    pub hidden: bool,
    /// Files may cut a name of it elsewhere.
    pub cut: bool,
}

impl Flags {
    fn bits(self) -> u32 {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        bit(self.hidden, Name::HIDDEN) | bit(self.cut, Name::CUT)
    }
}

/// Which leaf: series and hour.
pub type Place = (SeriesHash, i64);

/// A measurement's number; in the highest bit whether queries of a server cannot show a series of
/// this leaf ([`Series::shown_by_queries`]), in the next whether a cell of it has a name that files
/// may cut elsewhere ([`holds_separator`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name(u32);

impl Name {
    const HIDDEN: u32 = 1 << 31;
    const CUT: u32 = 1 << 30;
    const FLAGS: u32 = Self::HIDDEN | Self::CUT;
    /// The number of a name that is not kept.
    const UNKNOWN: u32 = Self::CUT - 1;

    fn number(self) -> usize {
        (self.0 & !Self::FLAGS) as usize
    }

    fn is_hidden(self) -> bool {
        self.0 & Self::HIDDEN != 0
    }
}

/// Bytes of a leaf on disk.
const LEAF_BYTES: usize = 64;
/// Leaves that are read and checked together.
const GROUP: usize = 1_024;
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
            names: Names::default(),
            directory,
            runs: Vec::new(),
            total: Node::default(),
            room: Vec::new(),
        }
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
                let rows = hour_at(block, rest.clone());
                rest.start = rows.end;
                let is_set = |column: &&Column| rows.clone().any(|row| column.get(row).is_some());
                let is_cut = key_is_cut || cut.iter().any(is_set);
                let name = Name(number | hidden | if is_cut { Name::CUT } else { 0 });
                self.add_rows(hasher.series(), name, block, rows, &fields)?;
            }
        }
        Ok(())
    }

    /// Adds rows of one series and hour.
    fn add_rows(
        &mut self,
        series: SeriesHash,
        name: Name,
        block: &Block,
        rows: Range<usize>,
        fields: &[FieldHasher],
    ) -> Result<()> {
        let hour = hour_of(block.times()[rows.start]);
        let hour = i32::try_from(hour).unwrap_or(i32::MAX);
        let is_newest = |last: &Leaf| last.series == series && last.hour == hour;
        if !self.leaves.last().is_some_and(is_newest) {
            if self.leaves.len() >= self.leaves_max {
                self.make_room()?;
            }
            self.leaves.push(Leaf { series, hour, name, node: Node::default() });
        }
        let node = sum::rows(block, rows, fields, &mut self.room);
        if let Some(leaf) = self.leaves.last_mut() {
            leaf.node += node;
            leaf.name.0 |= name.0 & Name::FLAGS;
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
        let name = Name(number | leaf.flags().bits());
        self.leaves.push(Leaf { name, ..*leaf });
        self.total += leaf.node;
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        fold(&mut self.leaves);
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
        fold(&mut self.leaves);
        if !self.runs.is_empty() && !self.leaves.is_empty() {
            self.runs.push(Run::write(&self.directory, &self.leaves)?);
            self.leaves = Vec::new();
        }
        let Self { leaves, names, runs, total, .. } = self;
        Ok(DigestSet { leaves, names: names.list, runs, total })
    }
}

/// The rows of one series, sorted by time, that lie in the hour of the first.
fn hour_at(block: &Block, rows: Range<usize>) -> Range<usize> {
    let times = &block.times()[rows.clone()];
    let hour = hour_of(times[0]);
    let next = (hour + 1).saturating_mul(HOUR);
    // Most runs end within an hour or two; i64::MAX itself is no start of an hour.
    let end = match times.last() {
        Some(last) if *last < next => times.len(),
        _ => times.partition_point(|time| *time < next).max(1),
    };
    rows.start..rows.start + end
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

/// Sorts leaves and adds up those of one place.
fn fold(leaves: &mut Vec<Leaf>) {
    leaves.sort_unstable_by_key(Leaf::place);
    leaves.dedup_by(|later, kept| {
        let same = later.place() == kept.place();
        if same {
            kept.node += later.node;
            kept.name.0 |= later.name.0 & Name::FLAGS;
        }
        same
    });
}

/// Digests of what was read from one side.
#[derive(Debug, Default)]
pub struct DigestSet {
    /// Sorted leaves; empty where there are runs.
    leaves: Vec<Leaf>,
    runs: Vec<Run>,
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
        fold(&mut leaves);
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

/// Series whose identity queries of a server cannot show, or show only in part: those stored under
/// another spelling of their key. Of two series with one identity one is always such a spelling.
pub fn hidden_from_queries(leaves: &[Leaf]) -> impl Iterator<Item = SeriesHash> {
    leaves.iter().filter(|leaf| leaf.name.is_hidden()).map(|leaf| leaf.series)
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
    out.extend_from_slice(&leaf.hour.to_le_bytes());
    out.extend_from_slice(&leaf.name.0.to_le_bytes());
}

fn decode(bytes: &[u8]) -> Leaf {
    fn at<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&bytes[start..start + N]);
        out
    }
    let word = |start| u64::from_le_bytes(at(bytes, start));
    Leaf {
        series: SeriesHash(u128::from_le_bytes(at(bytes, 0))),
        node: Node { cells: word(16), keys: [word(24), word(32)], values: [word(40), word(48)] },
        hour: i32::from_le_bytes(at(bytes, 56)),
        name: Name(u32::from_le_bytes(at(bytes, 60))),
    }
}

/// What the two sides hold in one place.
#[derive(Clone, Copy, Debug)]
pub struct BothSides<'a> {
    /// Series and hour.
    pub place: Place,
    /// What the source holds.
    pub source: Option<&'a Leaf>,
    /// What the destination holds.
    pub destination: Option<&'a Leaf>,
}

impl BothSides<'_> {
    /// The source's node; no cells where it holds nothing.
    #[must_use]
    pub fn source_node(&self) -> Node {
        self.source.map_or_else(Node::default, |leaf| leaf.node)
    }

    /// The destination's node; no cells where it holds nothing.
    #[must_use]
    pub fn destination_node(&self) -> Node {
        self.destination.map_or_else(Node::default, |leaf| leaf.node)
    }

    /// True where both hold something.
    #[must_use]
    pub fn is_on_both(&self) -> bool {
        self.source.is_some() && self.destination.is_some()
    }

    /// What is to be known of the names of either.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let one = |leaf: Option<&Leaf>| leaf.map(Leaf::flags).unwrap_or_default();
        let (ours, theirs) = (one(self.source), one(self.destination));
        Flags { hidden: ours.hidden || theirs.hidden, cut: ours.cut || theirs.cut }
    }

    /// True where a cell of either has a name that files may cut elsewhere.
    #[must_use]
    pub fn may_be_cut(&self) -> bool {
        self.source.into_iter().chain(self.destination).any(Leaf::may_be_cut)
    }
}

/// Goes through two sorted runs of leaves once, side by side, and yields every place.
pub fn join<'a>(
    source: &'a [Leaf],
    destination: &'a [Leaf],
) -> impl Iterator<Item = BothSides<'a>> + 'a {
    let mut source = source.iter().peekable();
    let mut destination = destination.iter().peekable();
    std::iter::from_fn(move || next_place(&mut source, &mut destination))
}

fn next_place<'a, I: Iterator<Item = &'a Leaf>>(
    source: &mut Peekable<I>,
    destination: &mut Peekable<I>,
) -> Option<BothSides<'a>> {
    let order = match (source.peek(), destination.peek()) {
        (None, None) => return None,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(one), Some(two)) => one.place().cmp(&two.place()),
    };
    let one = if order.is_le() { source.next() } else { None };
    let two = if order.is_ge() { destination.next() } else { None };
    Some(BothSides { place: one.or(two)?.place(), source: one, destination: two })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::log::RowLog;
    use crate::line::key;
    use crate::value::Value;
    use crate::window::Window;

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
