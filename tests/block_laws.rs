//! A log of rows gives the blocks that a plain map of cells gives, however the rows come.

#![allow(clippy::unwrap_used, reason = "test code")]

mod line_tools;

use gapless::block::log::RowLog;
use gapless::block::{Block, Limits};
use gapless::line::key;
use gapless::value::FieldType;
use gapless::window::Window;
use line_tools::outcome::Stored;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Series, time, and the cells in the order of writing.
type Row = (u8, i64, Vec<(u8, Stored)>);

fn scalar() -> impl Strategy<Value = Stored> {
    prop_oneof![
        6 => any::<u64>().prop_map(Stored::Float),
        2 => any::<i64>().prop_map(Stored::Integer),
        1 => any::<u64>().prop_map(Stored::Unsigned),
        1 => any::<bool>().prop_map(Stored::Boolean),
        2 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Stored::String),
    ]
}

/// Mostly the same fields of the same types, in one order.
fn cells() -> impl Strategy<Value = Vec<(u8, Stored)>> {
    let usual = (any::<u64>(), any::<i64>(), "[a-z]{0,9}").prop_map(|(float, integer, text)| {
        let text = Stored::String(text.into_bytes());
        vec![(0, Stored::Float(float)), (1, Stored::Integer(integer)), (2, text)]
    });
    prop_oneof![
        4 => usual.clone(),
        2 => (usual, proptest::collection::vec(any::<bool>(), 3)).prop_map(|(cells, kept)| {
            cells.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(cell, _)| cell).collect()
        }),
        2 => proptest::collection::vec((0..6_u8, scalar()), 0..6),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = |times: std::ops::Range<i64>| (0..6_u8, times, cells());
    prop_oneof![
        2 => proptest::collection::vec(row(0..400), 0..200),
        1 => proptest::collection::vec(row(0..12), 0..120),
        // In order of time, as most files are.
        2 => proptest::collection::vec(row(0..400), 0..200).prop_map(|mut rows| {
            rows.sort_by_key(|row| row.1);
            rows
        }),
        1 => proptest::collection::vec(row(0..400), 0..200).prop_map(|mut rows| {
            rows.sort_by_key(|row| (row.0, row.1));
            rows
        }),
    ]
}

fn series_key(series: u8) -> String {
    // Out of order, alike at the beginning, one the beginning of another.
    ["m,h=b", "m,h=a1", "m,h=a", "m", "m,h=a10,r=x", "m,h=a1,r=a_longer_value"][usize::from(series)]
        .into()
}

fn field_key(field: u8) -> &'static str {
    ["usage_user", "usage_uses", "a", "usage_system_of_this_machine", "ab", "eightbyt"]
        [usize::from(field)]
}

fn log(rows: &[Row]) -> RowLog {
    let mut log = RowLog::default();
    for (series, time, cells) in rows {
        let raw = series_key(*series);
        let number = log
            .find_series(raw.as_bytes())
            .unwrap_or_else(|| log.add_series(Arc::new(key::parse(raw.as_bytes()))));
        log.begin_row(number, *time);
        for (field, scalar) in cells {
            log.push(field_key(*field).as_bytes(), scalar.value());
        }
    }
    log
}

/// (Series key, time, field key, type).
type Place = (String, i64, String, FieldType);

fn map_of_blocks(blocks: &[Block]) -> BTreeMap<Place, Stored> {
    let mut map = BTreeMap::new();
    let mut newest = None;
    for block in blocks {
        let mut cells = 0;
        for (series, rows) in block.runs() {
            for row in rows {
                let key = String::from_utf8(series.key().to_vec()).unwrap();
                let time = block.times()[row];
                assert!(newest < Some((key.clone(), time)), "rows are in order and come once");
                newest = Some((key.clone(), time));
                for column in block.columns() {
                    let Some(value) = column.get(row) else { continue };
                    assert_eq!(value.field_type(), column.field_type());
                    let field = String::from_utf8(column.field.to_vec()).unwrap();
                    let place = (key.clone(), time, field, column.field_type());
                    assert_eq!(map.insert(place, Stored::from(value)), None);
                    cells += 1;
                }
            }
        }
        assert_eq!(block.cells(), cells);
    }
    map
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_blocks_of_a_log_hold_the_last_write_of_every_cell(
        rows in rows(),
        start in -5..400_i64,
        length in 0..500_i64,
        rows_max in 1..50_usize,
        bytes_max in 0..5_000_usize,
    ) {
        let mut expected = BTreeMap::new();
        let mut fields = BTreeSet::new();
        let mut superseded = 0;
        for (series, time, cells) in &rows {
            for (field, scalar) in cells {
                let field = field_key(*field).to_owned();
                let field_type = scalar.value().field_type();
                fields.insert((field.clone(), field_type));
                let place = (series_key(*series), *time, field, field_type);
                superseded += u64::from(expected.insert(place, scalar.clone()).is_some());
            }
        }
        let log = log(&rows);
        prop_assert_eq!(log.rows(), rows.len());
        let seen: Vec<_> = log
            .fields()
            .map(|(name, field_type)| (String::from_utf8(name.to_vec()).unwrap(), field_type))
            .collect();
        prop_assert_eq!(seen.len(), fields.len());
        prop_assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), fields);
        let table = log.resolve();
        prop_assert_eq!(table.superseded(), superseded);
        prop_assert_eq!(table.cells(), expected.len() as u64);
        let times: BTreeSet<_> = rows.iter().map(|row| (series_key(row.0), row.1)).collect();
        prop_assert_eq!(table.times(), times.iter().map(|row| row.1).collect::<Vec<_>>());
        let all: Vec<Block> = table.blocks(Window::ALL).collect();
        prop_assert_eq!(map_of_blocks(&all), expected.clone());
        let window = Window { start, end: start + length };
        expected.retain(|place, _| window.contains(place.1));
        let limits = Limits { rows_max, bytes_max };
        let some: Vec<Block> = table.blocks_within(window, limits).collect();
        prop_assert!(some.iter().all(|block| (1..=rows_max).contains(&block.rows())));
        prop_assert_eq!(map_of_blocks(&some), expected);
    }
}
