//! The rules of row logs and of the tables made of them.

use super::*;
use crate::block::{Block, Limits, ROWS_MAX};
use crate::window::Window;

fn series(key: &str) -> Arc<Series> {
    Arc::new(Series::new(key.as_bytes().into(), b"m"[..].into(), Vec::new(), true))
}

type Cell<'a> = (&'a str, Value<'a>);

fn log(rows: &[(&str, i64, &[Cell<'_>])]) -> RowLog {
    let mut log = RowLog::default();
    for (key, time, cells) in rows {
        let series = log.add_series(series(key));
        log.begin_row(series, *time);
        for (field, value) in *cells {
            log.push(field.as_bytes(), *value);
        }
    }
    log
}

fn dump(table: &Table, window: Window) -> Vec<String> {
    let mut out = Vec::new();
    for block in table.blocks(window) {
        for (series, rows) in block.runs() {
            for row in rows {
                for column in block.columns() {
                    if let Some(value) = column.get(row) {
                        let field = String::from_utf8_lossy(&column.field);
                        out.push(format!("{series} {} {field} {value:?}", block.times()[row]));
                    }
                }
            }
        }
    }
    out
}

#[test]
fn the_later_write_of_a_cell_wins_and_fields_unite() {
    let table = log(&[
        ("m,h=b", 2, &[("v", Value::Integer(1))]),
        ("m,h=a", 9, &[("v", Value::Integer(2))]),
        ("m,h=b", 2, &[("w", Value::String(b"x"))]),
        ("m,h=b", 1, &[("v", Value::Integer(3))]),
        ("m,h=b", 2, &[("v", Value::Integer(4)), ("v", Value::Integer(5))]),
    ])
    .resolve();
    assert_eq!(table.superseded(), 2);
    assert_eq!(table.cells(), 4);
    assert_eq!(
        dump(&table, Window::ALL),
        [
            "m,h=a 9 v Integer(2)",
            "m,h=b 1 v Integer(3)",
            "m,h=b 2 v Integer(5)",
            "m,h=b 2 w String([120])"
        ]
    );
    assert_eq!(dump(&table, Window { start: 2, end: 9 }).len(), 2);
    assert!(dump(&table, Window { start: 3, end: 9 }).is_empty());
}

#[test]
fn values_of_two_types_are_both_kept() {
    let table =
        log(&[("m", 1, &[("v", Value::Integer(1))]), ("m", 1, &[("v", Value::Float(1.0))])])
            .resolve();
    assert_eq!(table.superseded(), 0);
    assert_eq!(table.cells(), 2);
}

#[test]
fn blocks_stay_within_their_limits_and_lose_no_row() {
    let mut log = RowLog::default();
    let number = log.add_series(series("m"));
    let text = vec![b'x'; 1 << 20];
    for time in 0..200_000 {
        log.begin_row(number, time);
        log.push(b"v", Value::Integer(time));
        if time % 10_000 == 0 {
            log.push(b"text", Value::String(&text));
        }
    }
    let table = log.resolve();
    let blocks: Vec<Block> = table.blocks(Window::ALL).collect();
    assert!(blocks.iter().all(|block| block.rows() <= ROWS_MAX));
    let times: Vec<i64> = blocks.iter().flat_map(|block| block.times().to_vec()).collect();
    assert_eq!(times, (0..200_000).collect::<Vec<_>>());
    assert_eq!(blocks.iter().map(Block::cells).sum::<u64>(), table.cells());
}

#[test]
fn the_series_of_a_block_count_towards_its_bytes() {
    let mut log = RowLog::default();
    for host in 0..5_000 {
        let number = log.add_series(series(&format!("m,h={host:04}")));
        log.begin_row(number, 1);
        log.push(b"v", Value::Integer(host));
    }
    let table = log.resolve();
    for bytes_max in [0, 10_000, 100_000, usize::MAX] {
        let limits = Limits { rows_max: 4_000, bytes_max };
        let blocks: Vec<Block> = table.blocks_within(Window::ALL, limits).collect();
        assert_eq!(blocks.iter().map(Block::rows).sum::<usize>(), 5_000);
        for block in &blocks {
            let series: Vec<_> = block.runs().map(|(series, _)| series.memory()).collect();
            let last = series.last().unwrap();
            assert!(series.iter().sum::<usize>() - last <= bytes_max);
            assert!(block.rows() <= 4_000 && (bytes_max > 0 || block.rows() == 1));
        }
    }
}

#[test]
fn thousands_of_sparse_fields_take_memory_by_cell() {
    let mut log = RowLog::default();
    for row in 0..20_000_i64 {
        let number = log.add_series(series(&format!("m,h={}", row % 7)));
        log.begin_row(number, row);
        log.push(format!("f{}", row % 4_000).as_bytes(), Value::Integer(row));
    }
    assert!(log.memory() < 4 << 20, "{}", log.memory());
    let table = log.resolve();
    let cells: u64 = table.blocks(Window::ALL).map(|block| block.cells()).sum();
    assert_eq!(cells, 20_000);
}
