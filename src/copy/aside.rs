//! What was sent and not acknowledged: rows that a destination refused, and rows during which it
//! died.
//!
//! Rows that are suspect of having killed a server are not sent again: those that the last comparison
//! does not find at the destination go to the reject file. Or, where the operator
//! wants them tried, are kept until everything else of their unit is sent; then they are tried while
//! nothing else is under way, so that no other request is broken off with them. What is kept is
//! bounded: behind that bound they are tried at once.

use super::{Copy, Tally, lock};
use crate::compare::{Missing, Unit};
use crate::digest::cell::{KeyHash, SeriesHasher};
use crate::error::{ErrorKind, Result};
use crate::line::Precision;
use crate::line::decode::{self, Decoder, Item, Row};
use crate::line::key;
use crate::pipeline::Stage;
use crate::reject::Rejected;
use crate::series::Printable;
use crate::sink::{Ack, Batch, Refusal};
use crate::undo::{Created, comment_out};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Why rows during which a server died are not moved.
pub const SUSPECT: &str =
    "the server died while it was sent this row among others: it may be stored or not";

/// Rows of one unit that are set aside.
#[derive(Default)]
pub(super) struct Aside {
    /// Cells that were refused or cannot be sent.
    pub(super) rejected: HashSet<KeyHash>,
    /// Cells during which the destination died.
    pub(super) suspects: HashSet<KeyHash>,
    /// Rows during which it died, to be tried later.
    held: Vec<Batch>,
    /// Lines during which it died, and of which the last comparison tells whether they are stored.
    untold: Vec<Vec<u8>>,
}

impl Aside {
    /// Takes over the cells of another.
    pub(super) fn extend(&mut self, other: Self) {
        self.rejected.extend(other.rejected);
        self.suspects.extend(other.suspects);
        self.untold.extend(other.untold);
    }

    /// Bytes of the lines that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.untold.iter().map(Vec::len).sum()
    }

    /// Number of cells.
    pub(super) fn cells(&self) -> usize {
        self.rejected.len() + self.suspects.len()
    }

    pub(super) fn holds(&self, cell: &KeyHash) -> bool {
        self.rejected.contains(cell) || self.suspects.contains(cell)
    }
}

/// What is missing, whole or in parts that are sent one after the other.
pub(super) enum Parts<'m> {
    Whole(&'m Missing),
    Apart(Box<[Missing; 2]>),
}

impl Parts<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Missing> {
        match self {
            Self::Whole(missing) => std::slice::from_ref(*missing).iter(),
            Self::Apart(both) => both.iter(),
        }
    }
}

/// How much a batch, or a part of it, is.
#[derive(Clone, Copy, Default)]
struct Size {
    rows: u64,
    cells: u64,
    bytes: u64,
}

impl Size {
    fn of(batch: &Batch) -> Self {
        Self { rows: batch.rows, cells: batch.cells, bytes: batch.body.len() as u64 }
    }

    fn add(&mut self, row: &Row<'_>, cells: &[KeyHash]) {
        self.rows += 1;
        self.cells += cells.len() as u64;
        self.bytes += row.text.len() as u64;
    }
}

impl Copy<'_> {
    /// Stores a batch and sets aside what is not acknowledged.
    pub(super) fn write(&self, batch: Batch, unit: &Unit, tally: &Tally) -> Result<()> {
        let size = Size::of(&batch);
        self.keep_to_rate(size)?;
        let ack = {
            let _with_others = self.alone.read().unwrap_or_else(PoisonError::into_inner);
            self.destination.sink.write(batch)?
        };
        self.account(ack, size, unit, tally, self.options.retry_suspects)?;
        let held: usize = lock(&tally.aside).held.iter().map(|batch| batch.body.len()).sum();
        if held > self.options.in_flight_bytes / 2 {
            self.try_suspects(unit, tally)?;
        }
        Ok(())
    }

    /// Lists the cells of a batch before it is sent, where that is wanted.
    pub(super) fn list(&self, batch: &Batch, created: Created) -> Result<()> {
        let Some(listing) = self.surroundings.listing else { return Ok(()) };
        let mut text = Vec::with_capacity(2 * batch.body.len());
        for_each_row(&batch.body, |row, _| {
            comment_out(created, &batch.namespace, row.text, &mut text);
            Ok(())
        })?;
        listing.add(&text)
    }

    /// What is missing, in parts of which each is listed in one way.
    pub(super) fn parts<'m>(&self, missing: &'m Missing) -> Parts<'m> {
        if self.surroundings.listing.is_none() || missing.unprovable.is_empty() {
            return Parts::Whole(missing);
        }
        let known = Missing {
            everything: missing.everything,
            places: missing.places.clone(),
            partial: missing.partial.clone(),
            cells: missing.cells.clone(),
            changed: missing.changed.clone(),
            ..Missing::default()
        };
        let perhaps = Missing { unprovable: missing.unprovable.clone(), ..Missing::default() };
        Parts::Apart(Box::new([known, perhaps]))
    }

    /// Waits for as long as the rate asks for.
    fn keep_to_rate(&self, size: Size) -> Result<()> {
        match &self.limiter {
            Some(limiter)
                if !self.surroundings.stop.sleep(limiter.take(size.cells, size.bytes)) =>
            {
                Err(ErrorKind::Interrupted.into())
            }
            _ => Ok(()),
        }
    }

    /// Sends the rows that were kept, while nothing else is sent.
    pub(super) fn try_suspects(&self, unit: &Unit, tally: &Tally) -> Result<()> {
        let held = std::mem::take(&mut lock(&tally.aside).held);
        if held.is_empty() {
            return Ok(());
        }
        let _alone = self.alone.write().unwrap_or_else(PoisonError::into_inner);
        for batch in held {
            let size = Size::of(&batch);
            self.keep_to_rate(size)?;
            let ack = self.destination.sink.write_suspects(batch)?;
            self.account(ack, size, unit, tally, false)?;
        }
        Ok(())
    }

    /// Counts what was acknowledged, and sets the rest aside: suspects for another try where `hold`
    /// says so, else as rejected.
    fn account(&self, ack: Ack, size: Size, unit: &Unit, tally: &Tally, hold: bool) -> Result<()> {
        let refused = self.set_refused_aside(&ack.refused, unit, &tally.aside)?;
        let suspects = self.set_suspects_aside(ack.suspects, unit, &tally.aside, hold)?;
        self.bound(&lock(&tally.aside))?;
        let less = |all: u64, one: u64, other: u64| all.saturating_sub(one + other);
        let cells = less(size.cells, refused.cells, suspects.cells);
        self.surroundings.progress.done(Stage::Send, cells, size.bytes);
        self.surroundings.progress.retried(ack.retries);
        let mut sent = lock(&tally.sent);
        sent.cells += cells;
        sent.rows += less(size.rows, refused.rows, suspects.rows);
        sent.bytes += size.bytes;
        sent.requests += ack.requests;
        sent.retries += ack.retries;
        Ok(())
    }

    fn set_refused_aside(
        &self,
        refused: &[Refusal],
        unit: &Unit,
        aside: &Mutex<Aside>,
    ) -> Result<Size> {
        let mut size = Size::default();
        let place = format!("refused by {}", unit.destination);
        for refusal in refused {
            for_each_row(&refusal.line, |row, keys| {
                size.add(row, &keys);
                lock(aside).rejected.extend(keys);
                self.reject(unit, row, &place, &refusal.reason)
            })?;
        }
        self.surroundings.progress.rejected(size.rows);
        Ok(size)
    }

    fn set_suspects_aside(
        &self,
        suspects: Vec<u8>,
        unit: &Unit,
        aside: &Mutex<Aside>,
        hold: bool,
    ) -> Result<Size> {
        let mut size = Size::default();
        for_each_row(&suspects, |row, keys| {
            size.add(row, &keys);
            if hold {
                return Ok(());
            }
            lock(aside).suspects.extend(keys);
            Ok(())
        })?;
        if size.rows == 0 {
            return Ok(size);
        }
        let then = if hold { "they are tried last" } else { "they are not sent again" };
        self.surroundings.progress.warn(&format!(
            "the server died while it was sent {} rows of {}: {then}, the others go on",
            size.rows, unit.destination
        ));
        if hold {
            let (namespace, window) = (unit.destination.clone(), unit.window);
            let Size { rows, cells, .. } = size;
            lock(aside).held.push(Batch { namespace, window, body: suspects, rows, cells });
        } else {
            lock(aside).untold.push(suspects);
        }
        Ok(size)
    }

    /// Rejects the suspect rows of which a cell is in `lacking`; the others were stored, although the
    /// destination died before it said so. Gives how many rows were rejected.
    pub(super) fn reject_suspects(
        &self,
        aside: &Aside,
        unit: &Unit,
        lacking: &HashSet<KeyHash>,
    ) -> Result<u64> {
        let mut rows = 0;
        let place = format!("sent to {}", unit.destination);
        for lines in &aside.untold {
            for_each_row(lines, |row, keys| {
                if keys.iter().all(|key| !lacking.contains(key)) {
                    return Ok(());
                }
                rows += 1;
                self.reject(unit, row, &place, SUSPECT)
            })?;
        }
        self.surroundings.progress.rejected(rows);
        Ok(rows)
    }

    fn reject(&self, unit: &Unit, row: &Row<'_>, place: &str, reason: &str) -> Result<()> {
        let (namespace, point) = (&unit.source, Some((row.key, row.time)));
        self.surroundings.rejects.add(&Rejected { namespace, point, place, reason, row: row.text })
    }
}

/// The rows of lines that were sent, with their cells.
fn for_each_row(
    lines: &[u8],
    mut each: impl FnMut(&Row<'_>, Vec<KeyHash>) -> Result<()>,
) -> Result<()> {
    let mut decoder = Decoder::new(decode::Options {
        precision: Precision::Nanoseconds,
        default_time: None,
        line_bytes_max: lines.len() + 1,
    });
    decoder.feed(lines);
    decoder.finish();
    while let Ok(Some(item)) = decoder.next_item() {
        let Item::Row(row) = item else {
            let what = format!("a row that was sent does not decode: {}", Printable(lines));
            return Err(ErrorKind::Data(what).into());
        };
        let mut hasher = SeriesHasher::new(&key::parse(row.key));
        let cells = row
            .fields()
            .map(|(field, value)| hasher.field(field, value.field_type()).key(row.time));
        let cells = cells.collect();
        each(&row, cells)?;
    }
    Ok(())
}
