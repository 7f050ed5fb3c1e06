//! Laws of blocks and digests: neither order, nor grouping, nor the way in which rows were written
//! changes a digest; the smallest change of any cell does.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;

use gapless::block::log::{RowLog, Table};
use gapless::block::{Block, Limits};
use gapless::digest::grid::Level;
use gapless::digest::join::{BothSides, join};
use gapless::digest::leaf::Leaf;
use gapless::digest::node::Node;
use gapless::digest::set::{Builder, DigestSet, HashRange};
use gapless::line::key;
use gapless::spill::Place;
use gapless::window::{DAY, HOUR, Window};
use line_tools::outcome::Stored;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One cell: series, time, field, value.
type Cell = (u8, i64, u8, Stored);

/// The same with one bit flipped.
fn flipped(stored: &Stored, bit: u32) -> Stored {
    match stored {
        Stored::Float(bits) => Stored::Float(bits ^ (1 << (bit % 64))),
        Stored::Integer(integer) => Stored::Integer(integer ^ (1 << (bit % 64))),
        Stored::Unsigned(unsigned) => Stored::Unsigned(unsigned ^ (1 << (bit % 64))),
        Stored::Boolean(boolean) => Stored::Boolean(!boolean),
        Stored::String(text) if text.is_empty() => Stored::String(vec![0]),
        Stored::String(text) => {
            let mut text = text.clone();
            let at = bit as usize % text.len();
            text[at] ^= 1 << (bit % 8);
            Stored::String(text)
        }
    }
}

fn scalar(field: u8) -> BoxedStrategy<Stored> {
    // A field keeps its type, as on a server.
    match field % 4 {
        0 => any::<u64>().prop_map(Stored::Float).boxed(),
        1 => any::<i64>().prop_map(Stored::Integer).boxed(),
        2 => any::<bool>().prop_map(Stored::Boolean).boxed(),
        _ => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Stored::String).boxed(),
    }
}

fn cells() -> impl Strategy<Value = Vec<Cell>> {
    let time = prop_oneof![-2 * HOUR..2 * HOUR, 0..20_i64];
    let cell = (0..5_u8, time, 0..6_u8).prop_flat_map(|(series, time, field)| {
        scalar(field).prop_map(move |scalar| (series, time, field, scalar))
    });
    // One value a cell: which of several wins is the order's business.
    proptest::collection::vec(cell, 1..60).prop_map(|cells| {
        let unique: BTreeMap<_, _> =
            cells.into_iter().map(|(s, t, f, scalar)| ((s, t, f), scalar)).collect();
        unique.into_iter().map(|((s, t, f), scalar)| (s, t, f, scalar)).collect()
    })
}

fn table(cells: &[Cell]) -> Table {
    let mut log = RowLog::default();
    for (series, time, field, scalar) in cells {
        let series = key::parse(format!("m,h={series}").as_bytes());
        let series = log.add_series(Arc::new(series));
        log.begin_row(series, *time);
        log.push(format!("f{field}").as_bytes(), scalar.value());
    }
    log.resolve()
}

fn blocks(cells: &[Cell]) -> Vec<Block> {
    table(cells).blocks(Window::ALL).collect()
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [Cell]>) -> DigestSet {
    let mut set = Builder::new(usize::MAX, Place::new(None));
    for part in parts {
        for block in blocks(part) {
            set.add_block(&block, |_| true).unwrap();
        }
    }
    set.finish().unwrap()
}

fn leaves(set: &DigestSet) -> Cow<'_, [Leaf]> {
    set.leaves(HashRange::ALL).unwrap()
}

fn differences(one: &DigestSet, two: &DigestSet) -> usize {
    let (one, two) = (leaves(one), leaves(two));
    join(&one, &two).filter(|both| both.source_node() != both.destination_node()).count()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn order_and_grouping_change_nothing(
        (cells, shuffled) in cells().prop_flat_map(|cells| (Just(cells.clone()), Just(cells).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = digest([&cells[..]]);
        let (first, second) = shuffled.split_at(cut.index(shuffled.len()));
        let parts = digest([first, second]);
        prop_assert_eq!(leaves(&whole), leaves(&parts));
        prop_assert_eq!(whole.total(), parts.total());
        // Each cell by itself, as files of one field a line hold it.
        let single = digest(shuffled.chunks(1));
        prop_assert_eq!(leaves(&whole), leaves(&single));
        prop_assert_eq!(whole.total().cells, cells.len() as u64);
    }

    /// Units of other lengths, blocks of other sizes that come in another order, and a budget that
    /// sends leaves to disk.
    #[test]
    fn windows_blocks_and_memory_change_nothing(
        cells in cells(),
        cuts in proptest::collection::vec(-2 * HOUR..2 * HOUR, 0..6),
        rows_max in 1..20_usize,
        bytes_max in 0..2_000_usize,
        memory in prop_oneof![Just(0), 1..2_000_usize],
        from in any::<prop::sample::Index>(),
    ) {
        let table = table(&cells);
        let mut bounds = cuts;
        bounds.extend([Window::ALL.start, Window::ALL.end]);
        bounds.sort_unstable();
        let windows = bounds.windows(2).map(|two| Window { start: two[0], end: two[1] });
        let limits = Limits { rows_max, bytes_max };
        let mut blocks: Vec<Block> =
            windows.flat_map(|window| table.blocks_within(window, limits)).collect();
        let first = from.index(blocks.len());
        blocks.rotate_left(first);
        let mut set = Builder::new(memory, Place::new(None));
        for block in &blocks {
            set.add_block(block, |_| true).unwrap();
        }
        let (whole, parts) = (digest([&cells[..]]), set.finish().unwrap());
        prop_assert_eq!(leaves(&whole), leaves(&parts));
        prop_assert_eq!(whole.total(), parts.total());
        // Each window by itself gives sums that add up.
        let mut sum = Node::default();
        blocks.iter().for_each(|block| sum += gapless::digest::set::sum(block, |_| true));
        prop_assert_eq!(sum, whole.total());
    }

    #[test]
    fn nodes_merge_by_addition(cells in cells(), cut in any::<prop::sample::Index>()) {
        let (first, second) = cells.split_at(cut.index(cells.len()));
        let mut sum = Node::default();
        sum += digest([second]).total();
        sum += digest([first]).total();
        prop_assert_eq!(sum, digest([&cells[..]]).total());
    }

    #[test]
    fn one_bit_of_one_value_changes_the_values_and_not_the_keys(
        cells in cells(), at in any::<prop::sample::Index>(), bit in any::<u32>(),
    ) {
        let mut changed = cells.clone();
        let cell = at.get(&cells).clone();
        let position = cells.iter().position(|other| *other == cell).unwrap();
        changed[position].3 = flipped(&cell.3, bit);
        let (before, after) = (digest([&cells[..]]), digest([&changed[..]]));
        prop_assert_eq!(differences(&before, &after), 1);
        prop_assert_eq!(before.total().keys, after.total().keys);
        prop_assert_ne!(before.total().values, after.total().values);
    }

    #[test]
    fn a_cell_that_is_dropped_doubled_or_moved_is_seen(
        cells in cells(), at in any::<prop::sample::Index>(), shift in prop_oneof![Just(1_i64), Just(-1)],
    ) {
        let before = digest([&cells[..]]);
        let position = at.index(cells.len());
        let mut dropped = cells.clone();
        dropped.remove(position);
        prop_assert!(differences(&before, &digest([&dropped[..]])) > 0);
        let doubled = digest([&cells[..], &cells[position..=position]]);
        prop_assert_eq!(differences(&before, &doubled), 1);
        let mut moved = cells.clone();
        moved[position].1 += shift;
        // Moved onto another cell of the field, it would be superseded: that is another case.
        let place = |cell: &Cell| (cell.0, cell.1, cell.2);
        prop_assume!(cells.iter().all(|other| place(other) != place(&moved[position])));
        prop_assert!(differences(&before, &digest([&moved[..]])) > 0);
    }

    #[test]
    fn an_equal_shift_of_an_even_number_of_rows_is_seen(cells in cells()) {
        // XOR of linear checksums calls this equal.
        let pairs = &cells[..cells.len() / 2 * 2];
        prop_assume!(!pairs.is_empty());
        let shifted: Vec<Cell> =
            pairs.iter().map(|(s, t, f, scalar)| (*s, t + 600, *f, scalar.clone())).collect();
        prop_assert_ne!(digest([pairs]).total(), digest([&shifted[..]]).total());
    }
}

#[test]
fn swapped_series_and_swapped_fields_are_seen() {
    let cell = |series, field, integer| (series, 7, field, Stored::Integer(integer));
    let one = [cell(0, 1, 5), cell(1, 1, 6)];
    let series_swapped = [cell(1, 1, 5), cell(0, 1, 6)];
    assert_ne!(digest([&one[..]]).total(), digest([&series_swapped[..]]).total());
    let two = [cell(0, 1, 5), cell(0, 5, 6)];
    let fields_swapped = [cell(0, 5, 5), cell(0, 1, 6)];
    assert_ne!(digest([&two[..]]).total(), digest([&fields_swapped[..]]).total());
}

/// Rows over two days: of a series with few, of one with one a second, and of one with 20 a second for
/// an hour and a bit.
fn uneven() -> Vec<Cell> {
    let second = HOUR / 3_600;
    let cell = |series, time, value| (series, time, 0, Stored::Integer(value));
    let few = (0..48).map(|hour| cell(0, hour * HOUR + 7, hour));
    let some = (0..4_000).map(|at| cell(1, at * 43 * second, at));
    let many = (0..80_000).map(|at| cell(2, 5 * HOUR + at * second / 20, at));
    few.chain(some).chain(many).collect()
}

/// How a side came to its leaves.
struct Way {
    rows_max: usize,
    memory: usize,
    /// Leaves from which days are folded.
    fold_from: usize,
    /// Two rows at both ends of the dense hour come first, which do not look dense.
    coarse: bool,
}

fn digest_by(way: &Way, cells: &[Cell]) -> DigestSet {
    let set = Builder::new(way.memory, Place::new(None));
    let mut set = set.fold_days(Window::ALL, way.fold_from);
    let is_end =
        |cell: &Cell| cell.0 == 2 && (cell.1 == 5 * HOUR || cell.1 == 6 * HOUR - HOUR / 72_000);
    let (first, rest): (Vec<Cell>, Vec<Cell>) =
        cells.iter().cloned().partition(|cell| way.coarse && is_end(cell));
    let limits = Limits { rows_max: way.rows_max, bytes_max: 1 << 20 };
    for part in [first, rest] {
        for block in table(&part).blocks_within(Window::ALL, limits) {
            set.add_block(&block, |_| true).unwrap();
        }
    }
    set.finish().unwrap()
}

const WAYS: [Way; 5] = [
    Way { rows_max: 65_536, memory: usize::MAX, fold_from: usize::MAX, coarse: false },
    Way { rows_max: 65_536, memory: usize::MAX, fold_from: 0, coarse: false },
    Way { rows_max: 65_536, memory: usize::MAX, fold_from: 0, coarse: true },
    Way { rows_max: 1_000, memory: 0, fold_from: usize::MAX, coarse: false },
    Way { rows_max: 777, memory: 0, fold_from: 0, coarse: true },
];

fn levels(set: &DigestSet) -> [usize; 3] {
    let leaves = leaves(set);
    Level::ALL.map(|level| leaves.iter().filter(|leaf| leaf.bucket().level() == level).count())
}

fn differing(one: &DigestSet, two: &DigestSet) -> Vec<BothSides> {
    let (one, two) = (leaves(one), leaves(two));
    let differs = |both: &BothSides| both.source_node() != both.destination_node();
    join(&one, &two).filter(differs).collect()
}

#[test]
fn sides_that_chose_other_leaves_agree_where_their_cells_do() {
    let cells = uneven();
    let sets: Vec<DigestSet> = WAYS.iter().map(|way| digest_by(way, &cells)).collect();
    assert_eq!(
        levels(&sets[0]),
        [0, 48 + 48 + 1, 60],
        "sparse hours; dense minutes, and what follows"
    );
    assert_eq!(levels(&sets[1]), [2, 48 + 1, 60]);
    assert_eq!(levels(&sets[2]), [2, 48 + 2, 0]);
    for (one, two) in sets.iter().flat_map(|one| sets.iter().map(move |two| (one, two))) {
        assert_eq!(one.total(), two.total());
        let (ours, theirs) = (leaves(one), leaves(two));
        let cells = |of: fn(&BothSides) -> Node| {
            join(&ours, &theirs).map(|both| of(&both).cells).sum::<u64>()
        };
        assert_eq!(cells(BothSides::source_node), one.total().cells, "each cell is in one place");
        assert_eq!(cells(BothSides::destination_node), two.total().cells);
        assert_eq!(differing(one, two).len(), 0);
    }
}

#[test]
fn one_cell_that_is_changed_gone_or_moved_is_found_at_every_level() {
    let cells = uneven();
    let before: Vec<DigestSet> = WAYS.iter().map(|way| digest_by(way, &cells)).collect();
    let of = |series: u8, at: usize| {
        cells.iter().enumerate().filter(|(_, cell)| cell.0 == series).nth(at).unwrap().0
    };
    for (number, at) in
        [of(0, 30), of(1, 2_000), of(2, 40_000), of(2, 75_000)].into_iter().enumerate()
    {
        let (series, time, ..) = cells[at];
        let mut changed = cells.clone();
        match number % 3 {
            0 => changed[at].3 = flipped(&cells[at].3, 5),
            1 => drop(changed.remove(at)),
            _ => changed[at].1 += 1,
        }
        let way = &WAYS[(number + 1) % WAYS.len()];
        let after = digest_by(way, &changed);
        for before in &before {
            let [both] = differing(before, &after)[..] else { panic!("series {series}") };
            assert!(both.place.1.window().contains(time), "{:?}", both.place);
        }
    }
}

#[test]
fn a_day_is_folded_only_where_all_of_it_lies_in_the_window() {
    let cells: Vec<Cell> = (0..72).map(|hour| (0, hour * HOUR, 0, Stored::Integer(hour))).collect();
    let set = Builder::new(usize::MAX, Place::new(None));
    let mut set = set.fold_days(Window { start: 1, end: 2 * DAY + 5 * HOUR }, 0);
    blocks(&cells).iter().for_each(|block| set.add_block(block, |_| true).unwrap());
    let set = set.finish().unwrap();
    assert_eq!(levels(&set), [1, 48, 0]);
    assert_eq!(differences(&set, &digest([&cells[..]])), 0);
}
