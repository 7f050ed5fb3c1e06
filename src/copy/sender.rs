//! Encodes the missing cells of one unit into batches; what cannot be sent goes to the reject file.

use super::aside::Aside;
use super::{BatchLimits, Copy, Filled, lock};
use crate::block::Block;
use crate::compare::{Missing, Unit};
use crate::digest::cell::SeriesHasher;
use crate::error::Result;
use crate::line::encode::Encoder;
use crate::reject::Rejected;
use crate::series::{Printable, Series};
use crate::sink::Batch;
use std::sync::Mutex;

/// Why rows with such names are not sent. Tested on 1.6.7: it acknowledges them and cannot open the
/// shard again after a restart (`proto: ... contains invalid UTF-8`).
const NOT_UTF8: &str = "the name of the measurement or field is not UTF-8: a server may not be able \
    to open the shard again after a restart";

/// Takes the blocks of one unit and pushes batches.
pub(super) struct Sender<'a> {
    copy: &'a Copy<'a>,
    unit: &'a Unit,
    missing: &'a Missing,
    filled: &'a Filled,
    aside: &'a Mutex<Aside>,
    push: &'a mut dyn FnMut(Batch) -> Result<()>,
    body: Vec<u8>,
    rows: u64,
    cells: u64,
    limits: BatchLimits,
}

/// One row of a block, and some of its columns: all where there is no mask.
#[derive(Clone, Copy)]
struct Selection<'b> {
    series: &'b Series,
    row: usize,
    mask: Option<&'b [bool]>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        copy: &'a Copy<'a>,
        unit: &'a Unit,
        (missing, filled): (&'a Missing, &'a Filled),
        aside: &'a Mutex<Aside>,
        push: &'a mut dyn FnMut(Batch) -> Result<()>,
    ) -> Self {
        let (body, limits) = (Vec::new(), copy.batch_limits());
        Self { copy, unit, missing, filled, aside, push, body, rows: 0, cells: 0, limits }
    }

    /// Sends what is missing of a block's rows.
    pub(super) fn block(&mut self, block: &Block) -> Result<()> {
        let filter = &self.copy.options.compare.filter;
        let mut encoder = Encoder::new(block);
        let poison = self.poison(block);
        for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
            let mut hasher = SeriesHasher::new(series);
            for row in rows {
                let Some(mask) = self.wanted(block, row, &mut hasher) else { continue };
                let Some(poison) = &poison else {
                    let all = Selection { series, row, mask: mask.as_deref() };
                    self.row(block, &mut encoder, all, &mut hasher)?;
                    continue;
                };
                let wanted = |column: usize| mask.as_ref().is_none_or(|mask| mask[column]);
                let pick = |poisoned: bool| -> Vec<bool> {
                    poison
                        .iter()
                        .enumerate()
                        .map(|(at, is)| *is == poisoned && wanted(at))
                        .collect()
                };
                let bad = Selection { series, row, mask: Some(&pick(true)) };
                self.reject(block, &mut encoder, bad, &mut hasher, NOT_UTF8)?;
                let good = Selection { series, row, mask: Some(&pick(false)) };
                self.row(block, &mut encoder, good, &mut hasher)?;
            }
        }
        Ok(())
    }

    /// Pushes the rows that wait for a batch to fill.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        let batch = Batch {
            namespace: self.unit.destination.clone(),
            window: self.unit.window,
            body: std::mem::take(&mut self.body),
            rows: std::mem::take(&mut self.rows),
            cells: std::mem::take(&mut self.cells),
        };
        (self.push)(batch)
    }

    /// Columns that a server must not be sent.
    fn poison(&self, block: &Block) -> Option<Vec<bool>> {
        let (series, _) = block.runs().next()?;
        let not_utf8 = |name: &[u8]| std::str::from_utf8(name).is_err();
        let whole = not_utf8(series.measurement());
        let columns: Vec<bool> =
            block.columns().iter().map(|column| whole || not_utf8(&column.field)).collect();
        (self.copy.options.server && columns.contains(&true)).then_some(columns)
    }

    /// Which columns of a row are to be sent: nothing, all of them (`Some(None)`), or those of a
    /// mask. What was set aside before, in the same unit, is not sent again.
    fn wanted(
        &self,
        block: &Block,
        row: usize,
        hasher: &mut SeriesHasher,
    ) -> Option<Option<Vec<bool>>> {
        let missing = self.missing(block, row, hasher)?;
        if self.filled.aside.cells() == 0 {
            return Some(missing);
        }
        let time = block.times()[row];
        let mask = block.columns().iter().enumerate().map(|(at, column)| {
            let key = hasher.field(&column.field, column.field_type()).key(time);
            missing.as_ref().is_none_or(|mask| mask[at]) && !self.filled.aside.holds(&key)
        });
        Some(Some(mask.collect()))
    }

    /// Which columns of a row the destination lacks, in the same form.
    fn missing(
        &self,
        block: &Block,
        row: usize,
        hasher: &mut SeriesHasher,
    ) -> Option<Option<Vec<bool>>> {
        if self.missing.everything {
            return Some(None);
        }
        let time = block.times()[row];
        let series = hasher.series();
        let whole = [&self.missing.places, &self.missing.unprovable];
        if whole.iter().any(|places| places.at(series, time).is_some()) {
            return Some(None);
        }
        self.missing.partial.at(series, time)?;
        let mask = block.columns().iter().map(|column| {
            let key = hasher.field(&column.field, column.field_type()).key(time);
            self.missing.cells.contains(&key) || self.missing.changed.contains_key(&key)
        });
        Some(Some(mask.collect()))
    }

    fn row(
        &mut self,
        block: &Block,
        encoder: &mut Encoder<'_>,
        selection: Selection<'_>,
        hasher: &mut SeriesHasher,
    ) -> Result<()> {
        let Selection { series, row, mask } = selection;
        match encoder.row(series, row, mask, &mut self.body) {
            Ok(0) => Ok(()),
            Ok(cells) => self.count(cells),
            Err(reason) => {
                let columns = self.selected(block, selection);
                if let [_] = columns[..] {
                    return self.reject(block, encoder, selection, hasher, &reason.to_string());
                }
                // One field that cannot be written must not keep the others back.
                for column in columns {
                    let mut only = vec![false; block.columns().len()];
                    only[column] = true;
                    let single = Selection { mask: Some(&only), ..selection };
                    self.row(block, encoder, single, hasher)?;
                }
                Ok(())
            }
        }
    }

    /// Columns of a selection that have a value.
    fn selected(&self, block: &Block, selection: Selection<'_>) -> Vec<usize> {
        let Selection { row, mask, .. } = selection;
        let columns = block.columns().iter().enumerate();
        columns
            .filter(|(at, column)| mask.is_none_or(|mask| mask[*at]) && column.get(row).is_some())
            .map(|(at, _)| at)
            .collect()
    }

    fn count(&mut self, cells: u64) -> Result<()> {
        self.rows += 1;
        self.cells += cells;
        let BatchLimits { rows, cells, bytes } = self.limits;
        if self.rows >= rows || self.cells >= cells || self.body.len() >= bytes {
            self.flush()?;
            self.limits = self.copy.batch_limits();
        }
        Ok(())
    }

    /// Sets the selected cells aside. A row that line protocol cannot express is named in words.
    fn reject(
        &self,
        block: &Block,
        encoder: &mut Encoder<'_>,
        selection: Selection<'_>,
        hasher: &mut SeriesHasher,
        reason: &str,
    ) -> Result<()> {
        let Selection { series, row, mask } = selection;
        let time = block.times()[row];
        let columns = self.selected(block, selection);
        if columns.is_empty() {
            return Ok(());
        }
        let keys = columns.iter().map(|&at| {
            let column = &block.columns()[at];
            hasher.field(&column.field, column.field_type()).key(time)
        });
        lock(self.aside).rejected.extend(keys);
        let mut line = Vec::new();
        if encoder.row(series, row, mask, &mut line).is_err() {
            line.clear();
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let mut place = format!("{}, series {series}, time {time}", self.unit.source);
        if line.is_empty() {
            for at in columns {
                let column = &block.columns()[at];
                let value = column.get(row);
                place.push_str(&format!(", {} {value:?}", Printable(&column.field)));
            }
        }
        self.copy.surroundings.progress.rejected(1);
        let (namespace, point) = (&self.unit.source, Some((series.key(), time)));
        let rejected = Rejected { namespace, point, place: &place, reason, row: line };
        self.copy.surroundings.rejects.add(&rejected)
    }
}
