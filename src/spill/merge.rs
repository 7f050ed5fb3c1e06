//! Several runs into one: sorted, and each cell once.
//!
//! Runs are given in the order in which they were written, and what is later wins. That is decided
//! by [`RowLog`], as everywhere: the merge only brings the rows of one (series, time) together, in
//! the order of the runs.

use super::Place;
use super::rows::{BLOCK, Entries, Group, Run, RunWriter};
use crate::block::Block;
use crate::block::log::RowLog;
use crate::error::Result;
use crate::series::Series;
use crate::window::Window;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::iter::Peekable;
use std::sync::Arc;

/// Bytes of rows that are resolved together.
const LOG_BYTES: usize = 1 << 20;
/// Most runs that are merged at once, however small they are.
const RUNS_MAX: usize = 64;

/// Makes a series of its raw key.
pub type Parse<'a> = &'a dyn Fn(&[u8]) -> Series;

/// Merges runs into one, in several steps where `memory` does not hold all of them at once.
/// Returns it with the number of cells that later ones replaced.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn merge(
    place: &Place,
    mut runs: Vec<Run>,
    memory: usize,
    parse: Parse<'_>,
) -> Result<(Run, u64)> {
    let mut superseded = 0;
    while runs.len() > 1 {
        let mut merged = Vec::new();
        let mut rest = runs.into_iter().peekable();
        while rest.peek().is_some() {
            let some = some_of(&mut rest, memory);
            let (run, replaced) = merge_once(place, &some, parse)?;
            superseded += replaced;
            merged.push(run);
        }
        runs = merged;
    }
    match runs.pop() {
        Some(run) => Ok((run, superseded)),
        None => Ok((RunWriter::new(place)?.finish()?, superseded)),
    }
}

/// The next runs that can be merged at once: two at least, where there are two.
fn some_of(rest: &mut Peekable<impl Iterator<Item = Run>>, memory: usize) -> Vec<Run> {
    let mut some: Vec<Run> = rest.by_ref().take(2).collect();
    let mut used: usize = some.iter().map(Run::memory).sum();
    while let Some(next) = rest.peek() {
        used += next.memory();
        if used > memory || some.len() == RUNS_MAX {
            break;
        }
        some.extend(rest.next());
    }
    some
}

fn merge_once(place: &Place, runs: &[Run], parse: Parse<'_>) -> Result<(Run, u64)> {
    let mut heap = BinaryHeap::new();
    for (number, run) in runs.iter().enumerate() {
        heap.extend(Cursor::open(number, run, parse)?.map(|cursor| Reverse(Box::new(cursor))));
    }
    let mut output = Output::new(RunWriter::new(place)?);
    while let Some(mut first) = heap.peek_mut() {
        let cursor = &mut first.0;
        output.take(cursor)?;
        if !cursor.advance(parse)? {
            PeekMut::pop(first);
        }
    }
    output.flush()?;
    Ok((output.writer.finish()?, output.superseded))
}

/// A place in a run.
struct Cursor<'a> {
    number: usize,
    entries: Entries<'a>,
    group: Group,
    block: Block,
    /// Series of the row, among the block's.
    series: usize,
    row: usize,
}

impl<'a> Cursor<'a> {
    fn open(number: usize, run: &'a Run, parse: Parse<'_>) -> Result<Option<Self>> {
        // Before everything: no namespace has a smaller number, no bucket a smaller one.
        let first = Group { namespace: 0, bucket: i64::MIN, measurement: Box::default() };
        let (group, block) = (Group::default(), Block::default());
        let entries = run.entries(&first);
        let mut cursor = Self { number, entries, group, block, series: 0, row: 0 };
        Ok(cursor.next_block(parse)?.then_some(cursor))
    }

    fn next_block(&mut self, parse: Parse<'_>) -> Result<bool> {
        // What it held is given back first.
        self.block = Block::default();
        let Some(entry) = self.entries.next_entry()? else { return Ok(false) };
        self.block = entry.block(|key| Arc::new(parse(key)))?;
        self.group = entry.group;
        (self.series, self.row) = (0, 0);
        Ok(true)
    }

    /// Goes on to the next row; false at the end of the run.
    fn advance(&mut self, parse: Parse<'_>) -> Result<bool> {
        self.row += 1;
        if self.row == self.block.rows() {
            return self.next_block(parse);
        }
        self.series += usize::from(self.block.starts()[self.series + 1] == self.row);
        Ok(true)
    }

    fn series(&self) -> &Arc<Series> {
        &self.block.series()[self.series]
    }

    fn time(&self) -> i64 {
        self.block.times()[self.row]
    }

    fn place(&self) -> (&Group, &[u8], i64, usize) {
        (&self.group, self.series().key(), self.time(), self.number)
    }
}

impl Ord for Cursor<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Cursor<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Cursor<'_> {}

/// The merged rows on their way into a run.
struct Output {
    writer: RunWriter,
    group: Group,
    log: RowLog,
    /// The series at hand with its number in the log, and the time of its newest row.
    series: Option<(Arc<Series>, u32)>,
    time: i64,
    superseded: u64,
}

impl Output {
    fn new(writer: RunWriter) -> Self {
        let (group, log) = (Group::default(), RowLog::default());
        Self { writer, group, log, series: None, time: 0, superseded: 0 }
    }

    /// Takes the row at a cursor.
    fn take(&mut self, cursor: &Cursor<'_>) -> Result<()> {
        let (series, time) = (cursor.series(), cursor.time());
        let same_series = |known: &Arc<Series>| known.key() == series.key();
        let is_known = self.series.as_ref().is_some_and(|(known, _)| same_series(known));
        // What belongs to one series and time is resolved together.
        let is_new = !is_known || time != self.time;
        if self.group != cursor.group || is_new && self.log.memory() >= LOG_BYTES {
            self.flush()?;
            self.group.clone_from(&cursor.group);
        }
        let number = match &self.series {
            Some((_, number)) if is_known => *number,
            _ => {
                let number = self.log.add_series(Arc::clone(series));
                self.series = Some((Arc::clone(series), number));
                number
            }
        };
        self.time = time;
        self.log.begin_row(number, time);
        for column in cursor.block.columns() {
            if let Some(value) = column.get(cursor.row) {
                self.log.push(&column.field, value);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.series = None;
        let table = std::mem::take(&mut self.log).resolve();
        self.superseded += table.superseded();
        for block in table.blocks_within(Window::ALL, BLOCK) {
            self.writer.push(&self.group, &block)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    fn parse(key: &[u8]) -> Series {
        Series::new(key.into(), b"m"[..].into(), Vec::new(), true)
    }

    /// A run of rows (series, time, field, value).
    fn run(place: &Place, bucket: i64, rows: &[(&str, i64, &str, i64)]) -> Run {
        let mut log = RowLog::default();
        for (key, time, field, value) in rows {
            let series = log.add_series(Arc::new(parse(key.as_bytes())));
            log.begin_row(series, *time);
            log.push(field.as_bytes(), Value::Integer(*value));
        }
        let mut writer = RunWriter::new(place).unwrap();
        let group = Group { namespace: 0, bucket, measurement: b"m"[..].into() };
        for block in log.resolve().blocks_within(Window::ALL, BLOCK) {
            writer.push(&group, &block).unwrap();
        }
        writer.finish().unwrap()
    }

    fn rows(run: &Run) -> Vec<(i64, String, i64, String, String)> {
        let mut found = Vec::new();
        let mut entries = run.entries(&Group { bucket: i64::MIN, ..Group::default() });
        while let Some(entry) = entries.next_entry().unwrap() {
            let block = entry.block(|key| Arc::new(parse(key))).unwrap();
            for (series, rows) in block.runs() {
                for row in rows {
                    for column in block.columns() {
                        let Some(value) = column.get(row) else { continue };
                        let field = String::from_utf8_lossy(&column.field).into_owned();
                        let value = format!("{value:?}");
                        let time = block.times()[row];
                        found.push((entry.group.bucket, series.to_string(), time, field, value));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn the_later_run_wins_and_rows_unite() {
        let place = Place::new(Some(std::env::temp_dir()));
        for memory in [0, 1 << 30] {
            let runs = vec![
                run(&place, 0, &[("m,a=1", 1, "f", 10), ("m,a=2", 5, "f", 1)]),
                run(&place, 0, &[("m,a=1", 1, "g", 11), ("m,a=1", 2, "f", 12)]),
                run(&place, 7, &[("m,a=1", 9, "f", 13)]),
                run(&place, 0, &[("m,a=1", 1, "f", 14), ("m,a=2", 4, "f", 2)]),
            ];
            let (merged, superseded) = merge(&place, runs, memory, &parse).unwrap();
            assert_eq!(superseded, 1);
            let expected = [
                (0, "m,a=1", 1, "f", 14),
                (0, "m,a=1", 1, "g", 11),
                (0, "m,a=1", 2, "f", 12),
                (0, "m,a=2", 4, "f", 2),
                (0, "m,a=2", 5, "f", 1),
                (7, "m,a=1", 9, "f", 13),
            ];
            let expected = expected.map(|(bucket, key, time, field, value)| {
                (bucket, key.to_owned(), time, field.to_owned(), format!("Integer({value})"))
            });
            let mut found = rows(&merged);
            found.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_run_of_many_chunks_is_read_from_any_group() {
        let place = Place::new(Some(std::env::temp_dir()));
        let mut writer = RunWriter::new(&place).unwrap();
        for bucket in 0..50 {
            let mut log = RowLog::default();
            let series = log.add_series(Arc::new(parse(b"m")));
            for time in 0..2_000 {
                log.begin_row(series, time);
                log.push(b"f", Value::Integer(time ^ bucket));
            }
            let group = Group { namespace: 3, bucket, measurement: b"m"[..].into() };
            for block in log.resolve().blocks_within(Window::ALL, BLOCK) {
                writer.push(&group, &block).unwrap();
            }
        }
        let run = writer.finish().unwrap();
        assert!(run.index.len() > 5, "{}", run.index.len());
        for from in [0, 17, 49, 50] {
            let group = Group { namespace: 3, bucket: from, measurement: Box::default() };
            let mut entries = run.entries(&group);
            let (mut rows, mut first) = (0, None);
            while let Some(entry) = entries.next_entry().unwrap() {
                first.get_or_insert(entry.group.bucket);
                rows += entry.block(|key| Arc::new(parse(key))).unwrap().rows();
            }
            assert_eq!(first, (from < 50).then_some(from));
            assert_eq!(rows, usize::try_from(50 - from).unwrap() * 2_000);
        }
    }
}
