//! A leaf: the node of one series and bucket of time, and how leaves become fewer.

use super::cell::SeriesHash;
use super::grid::{Bucket, Level, Place};
use super::node::Node;
use crate::window::{DAY, HOUR, Window};

/// Cells of a series in an hour beyond which that has a leaf for each minute: 1,092 a minute.
pub const DENSE: u64 = 65_536;
/// Cells of a series in a day below which that may have one leaf: fewer than eleven an hour.
pub const SPARSE: u64 = 256;

/// The node of one series and bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Hash of the series' identity.
    pub series: SeriesHash,
    /// Sums over the cells.
    pub node: Node,
    pub(super) minute: i32,
    /// Number of the measurement's name in the set, the level, and what is to be known of the series.
    pub(super) name: Name,
}

impl Leaf {
    /// A leaf whose measurement is not known yet.
    #[must_use]
    pub fn new(place: Place, node: Node, flags: Flags) -> Self {
        Self::named(place, node, Name(Name::UNKNOWN | flags.bits()))
    }

    pub(super) fn named((series, bucket): Place, node: Node, name: Name) -> Self {
        Self { series, node, minute: bucket.minute(), name: name.of_level(bucket.level()) }
    }

    /// A leaf as it was spilled.
    pub(super) fn stored(series: SeriesHash, node: Node, minute: i32, name: Name) -> Self {
        Self { series, node, minute, name }
    }

    /// What is to be known of its names.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags { hidden: self.is_hidden(), cut: self.name.0 & Name::CUT != 0 }
    }

    /// Its stretch of time.
    #[must_use]
    pub fn bucket(&self) -> Bucket {
        let level = self.name.level();
        Bucket::starting(level, self.minute).unwrap_or(Bucket::holding(level, 0))
    }

    /// True where queries of a server cannot show a series of this leaf.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.0 & Name::HIDDEN != 0
    }

    /// By what leaves are sorted and matched.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.series, self.bucket())
    }

    /// True where it stands before another that has nothing in common with it.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        let is_part = self.series == other.series && self.bucket().holds(other.bucket());
        self.place() < other.place() && !is_part
    }

    /// Adds what another leaf of the same series holds.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.node += other.node;
        self.name.0 |= other.name.0 & Name::FLAGS;
    }

    /// The same sum as that of another bucket.
    pub(super) fn of_bucket(self, bucket: Bucket) -> Self {
        Self::named((self.series, bucket), self.node, self.name)
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

/// A measurement's number; in the highest bit whether queries of a server cannot show a series of
/// this leaf ([`crate::series::Series::shown_by_queries`]), in the next whether a cell of it has a name
/// that files may cut elsewhere ([`crate::series::holds_separator`]), in the two below the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) u32);

impl Name {
    pub(super) const HIDDEN: u32 = 1 << 31;
    pub(super) const CUT: u32 = 1 << 30;
    pub(super) const FLAGS: u32 = Self::HIDDEN | Self::CUT;
    const LEVEL_AT: u32 = 28;
    const NUMBER: u32 = (1 << Self::LEVEL_AT) - 1;
    /// The number of a name that is not kept.
    pub(super) const UNKNOWN: u32 = Self::NUMBER;

    pub(super) fn number(self) -> usize {
        (self.0 & Self::NUMBER) as usize
    }

    pub(super) fn level(self) -> Level {
        Level::of((self.0 & !Self::FLAGS) >> Self::LEVEL_AT).unwrap_or(Level::Hour)
    }

    fn of_level(self, level: Level) -> Self {
        Self(self.0 & (Self::FLAGS | Self::NUMBER) | level.code() << Self::LEVEL_AT)
    }

    /// The same flags and level with another number.
    pub(super) fn with_number(self, number: u32) -> Self {
        Self(self.0 & !Self::NUMBER | number & Self::NUMBER)
    }
}

/// Sorts leaves and adds up those of one place, or of places of which one holds the other.
pub(super) fn merge(leaves: &mut Vec<Leaf>) {
    leaves.sort_unstable_by_key(Leaf::place);
    leaves.dedup_by(|later, kept| {
        let is_part = later.series == kept.series && kept.bucket().holds(later.bucket());
        if is_part {
            kept.absorb(later);
        }
        is_part
    });
}

/// Makes one leaf of the minutes of an hour that are not dense. Leaves are merged already; those of
/// `open` are left as they are, since more cells of them may follow.
pub(super) fn fold_minutes(leaves: &mut Vec<Leaf>, open: Option<SeriesHash>) {
    fold(leaves, Level::Hour, |series, _, cells| Some(series) != open && cells <= DENSE);
}

/// Makes one leaf of the hours of a day that are sparse, where all of it lies in `window`.
pub(super) fn fold_days(leaves: &mut Vec<Leaf>, window: Window, open: Option<SeriesHash>) {
    fold(leaves, Level::Day, |series, day, cells| {
        let whole = day.window();
        let inside = whole.intersect(window) == Some(whole) && whole.end - whole.start == DAY;
        Some(series) != open && inside && cells < SPARSE
    });
}

/// Makes one leaf of all that lie in one bucket of a level, where they are `few` together.
fn fold(leaves: &mut Vec<Leaf>, level: Level, few: impl Fn(SeriesHash, Bucket, u64) -> bool) {
    let (mut read, mut kept) = (0, 0);
    while let Some(first) = leaves.get(read).copied() {
        let bucket = first.bucket().within(level);
        let is_part = |leaf: &&Leaf| leaf.series == first.series && bucket.holds(leaf.bucket());
        let parts = leaves[read..].iter().take_while(is_part).count().max(1);
        let cells = leaves[read..read + parts].iter().map(|leaf| leaf.node.cells).sum();
        let is_finer = first.bucket().level() > level;
        if is_finer && few(first.series, bucket, cells) {
            let mut sum = first;
            leaves[read + 1..read + parts].iter().for_each(|leaf| sum.absorb(leaf));
            leaves[kept] = sum.of_bucket(bucket);
            kept += 1;
        } else {
            leaves.copy_within(read..read + parts, kept);
            kept += parts;
        }
        read += parts;
    }
    leaves.truncate(kept);
}

/// True where so many cells within so many nanoseconds would be dense, if they went on for an hour.
/// A single row says nothing: then it is true, since minutes can be folded and hours not be divided.
pub(super) fn is_dense(rows: usize, columns: usize, nanoseconds: i64) -> bool {
    let cells = (rows.saturating_sub(1) as u128).saturating_mul(columns as u128);
    let within = u128::from(nanoseconds.unsigned_abs()).saturating_mul(u128::from(DENSE));
    cells.saturating_mul(u128::from(HOUR.unsigned_abs())) >= within
}
