//! `copy`: compare, send what the destination lacks, compare again.
//!
//! What the destination holds with another value is a *conflict*: a client may have overwritten it
//! on both sides since it was read, so it is listed and left unless the operator forces it. What is
//! at the destination only is counted and does no harm. An acknowledged write is no proof: only the
//! second comparison is.

mod sender;

use self::sender::Sender;
use crate::compare::{self, Digest, Findings, Missing, Unit};
use crate::digest::cell::{KeyHash, SeriesHasher};
use crate::digest::set::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{self, Decoder, Item};
use crate::line::{Precision, key};
use crate::pipeline::{self, Progress, Stage};
use crate::plan::{Namespace, Scope};
use crate::reject::Rejects;
use crate::series::Printable;
use crate::sink::{Ack, Batch, Refusal, Sink};
use crate::source::{Source, for_each_block};
use crate::verify;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Pauses before a destination that lacks what it acknowledged is read again.
const READ_AGAIN: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(4)];

/// How often a unit is compared and sent again while its source moves.
const ROUNDS_MAX: u32 = 3;

/// How a copy is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is compared, and its limits.
    pub compare: compare::Options,
    /// Requests under way at once, over all units.
    pub jobs: usize,
    /// Most rows of one batch.
    pub batch_rows: u64,
    /// Bytes at which a batch is closed.
    pub batch_bytes: usize,
    /// Send what the destination holds with another value, too.
    pub overwrite: bool,
    /// The source takes writes while it is read.
    pub live: bool,
    /// The destination is a server: it keeps one type for a field and shard group, and cannot open
    /// a shard again whose measurements or fields have names that are not UTF-8.
    pub server: bool,
}

/// Units that are filled at once: writing to many cold shard groups costs a cluster its memory.
pub const UNITS_OPEN: usize = 2;

/// Where a copy goes.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "neither seam asks for Debug")]
pub struct Destination<'a> {
    /// Reads back what is stored; `None` where nothing is.
    pub reader: Option<&'a dyn Source>,
    /// Stores batches.
    pub sink: &'a dyn Sink,
}

/// What became of every cell.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The last comparison of every unit.
    pub verified: verify::Outcome,
    /// What was sent.
    pub sent: Sent,
}

/// What a copy sent.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Sent {
    /// Cells that the destination held before, with the same value.
    pub already_there: u64,
    /// Cells acknowledged by the destination.
    pub cells: u64,
    /// Rows acknowledged by the destination.
    pub rows: u64,
    /// Bytes of line protocol sent.
    pub bytes: u64,
    /// Write requests, repeated ones among them.
    pub requests: u64,
    /// Write requests that were repeated.
    pub retries: u64,
    /// Cells that the destination refused or that cannot be sent.
    pub rejected: u64,
    /// Cells that were acknowledged and are not there.
    pub lost: u64,
}

/// Copies every unit and proves it.
///
/// # Errors
/// Where a side cannot be read or written. What was stored until then stays: copying again sends
/// only what is still lacking.
pub fn run(
    source: &dyn Source,
    destination: Destination<'_>,
    units: &[Unit],
    options: &Options,
    rejects: &Rejects,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let copy = Copy { source, destination, options, rejects, progress, outcome: Mutex::default() };
    progress.units(units.len());
    pipeline::for_each(UNITS_OPEN.min(options.jobs), units, |unit| {
        compare::in_parts(unit, &|unit| copy.unit(unit))?;
        progress.unit_done();
        Ok(())
    })?;
    let mut outcome = copy.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.verified.sort(options.compare.findings_max);
    Ok(outcome)
}

/// What was done to one unit so far.
#[derive(Default)]
struct Filled {
    /// Places that were empty and are filled by this copy: whatever stands there, it wrote.
    places: HashSet<Place>,
    /// Cells that were rejected.
    rejected: HashSet<KeyHash>,
    /// The source changed since it was sent.
    moving: bool,
}

struct Copy<'a> {
    source: &'a dyn Source,
    destination: Destination<'a>,
    options: &'a Options,
    rejects: &'a Rejects,
    progress: &'a dyn Progress,
    outcome: Mutex<Outcome>,
}

impl Copy<'_> {
    fn unit(&self, unit: &Unit) -> Result<()> {
        let mut ours = self.digest(Stage::Read, self.source, &unit.source, unit)?;
        let mut theirs = self.digest_destination(unit)?;
        let mut findings = self.compare(&ours, &theirs, unit, false)?;
        self.outcome().sent.already_there += findings.counts.matched;
        let mut sent = Filled::default();
        for round in 0..ROUNDS_MAX {
            if !self.wants(&findings.missing, &sent) {
                break;
            }
            let sink = self.destination.sink;
            if round > 0 && sink.reopen_unit(&unit.destination, unit.window)? {
                findings = self.compare(&ours, &Digest::default(), unit, false)?;
            }
            self.refuse_type_conflicts(&ours, &theirs, unit)?;
            sent.places.extend(&findings.missing.places);
            sent.rejected.extend(self.send(unit, &findings.missing, &sent)?);
            sink.close_unit(&unit.destination, unit.window)?;
            if self.destination.reader.is_none() {
                break;
            }
            (theirs, findings) = self.read_back(&ours, unit, &sent)?;
            if !self.options.live {
                break;
            }
            let before = ours.set.total();
            ours = self.digest(Stage::Verify, self.source, &unit.source, unit)?;
            sent.moving = before != ours.set.total();
            findings = self.compare_sent(&ours, &theirs, unit, &sent)?;
        }
        self.record(findings, &sent);
        Ok(())
    }

    /// Reads the destination again until it shows what was sent: a cluster may lag behind what it
    /// acknowledged. What it then holds is recorded.
    fn read_back(&self, ours: &Digest, unit: &Unit, sent: &Filled) -> Result<(Digest, Findings)> {
        let mut pauses = READ_AGAIN.iter();
        loop {
            let theirs = self.digest_destination(unit)?;
            let findings = self.compare_sent(ours, &theirs, unit, sent)?;
            let missing = &findings.missing;
            let lacks = !missing.places.is_empty() || !missing.cells.is_empty();
            if let Some(pause) = pauses.next().filter(|_| lacks) {
                std::thread::sleep(*pause);
                continue;
            }
            let (total, sink) = (theirs.set.total(), self.destination.sink);
            sink.record_unit(&unit.destination, unit.window, total, &theirs.types)?;
            return Ok((theirs, findings));
        }
    }

    /// Compares what was sent with what is there, leaving out what was rejected.
    fn compare_sent(
        &self,
        ours: &Digest,
        theirs: &Digest,
        unit: &Unit,
        sent: &Filled,
    ) -> Result<Findings> {
        let mut findings = self.compare(ours, theirs, unit, !sent.rejected.is_empty())?;
        // Nobody will ever see them at the destination: once is all that can be done.
        findings.missing.unprovable.clear();
        findings.missing.cells.retain(|cell| !sent.rejected.contains(cell));
        Ok(findings)
    }

    fn digest(
        &self,
        stage: Stage,
        side: &dyn Source,
        namespace: &Namespace,
        unit: &Unit,
    ) -> Result<Digest> {
        self.progress.done(stage, 0, 0);
        let digest = compare::digest(side, namespace, unit.window, &self.options.compare)?;
        self.progress.done(stage, digest.set.total().cells, 0);
        Ok(digest)
    }

    fn digest_destination(&self, unit: &Unit) -> Result<Digest> {
        match self.destination.reader {
            Some(reader) => self.digest(Stage::Verify, reader, &unit.destination, unit),
            None => Ok(Digest::default()),
        }
    }

    fn compare(
        &self,
        ours: &Digest,
        theirs: &Digest,
        unit: &Unit,
        drill_missing: bool,
    ) -> Result<Findings> {
        // Without a reader nothing is held, and nothing is read again.
        let reader = self.destination.reader.unwrap_or(self.source);
        let options = compare::Options {
            drill_missing,
            note_missing: true,
            note_changed: self.options.overwrite || self.options.live,
            ..self.options.compare.clone()
        };
        compare::compare((self.source, ours), (reader, theirs), unit, &options)
    }

    fn wants(&self, missing: &Missing, sent: &Filled) -> bool {
        !missing.places.is_empty()
            || !missing.unprovable.is_empty()
            || !missing.cells.is_empty()
            || (self.options.overwrite && !missing.changed.is_empty())
            || (!missing.changed.is_empty() && !missing.partial.is_disjoint(&sent.places))
    }

    /// A server keeps the type that comes first; with parallel batches that would be chance.
    fn refuse_type_conflicts(&self, ours: &Digest, theirs: &Digest, unit: &Unit) -> Result<()> {
        if !self.options.server {
            return Ok(());
        }
        let Some(conflict) = ours.types.conflicts_with(&theirs.types).next() else { return Ok(()) };
        let types: Vec<&str> = conflict.types.iter().map(|one| one.name()).collect();
        Err(Error::from(ErrorKind::Data(format!(
            "field {} of measurement {} is {} in one shard group of {} ({}): the server would \
             keep one type and refuse the rest",
            Printable(&conflict.field),
            Printable(&conflict.measurement),
            types.join(" and "),
            unit.destination,
            unit.window,
        )))
        .with_next("make the types agree at the source or the destination, or leave the measurement out with --exclude"))
    }

    /// Sends what is missing; returns the cells that were rejected.
    fn send(&self, unit: &Unit, missing: &Missing, sent: &Filled) -> Result<HashSet<KeyHash>> {
        self.progress.done(Stage::Send, 0, 0);
        let rejected = Mutex::new(HashSet::new());
        let writers =
            self.options.jobs.div_ceil(UNITS_OPEN).min(self.destination.sink.writers_max());
        pipeline::fan_out(
            writers,
            |push| {
                let mut sender = Sender::new(self, unit, (missing, sent), &rejected, push);
                let filter = &self.options.compare.filter;
                let scope = Scope::new(&unit.source, unit.window, filter);
                for_each_block(self.source, &self.source.plan(&scope)?, |block| {
                    sender.block(block)
                })?;
                sender.flush()
            },
            |batch: Batch| self.write(batch, unit, &rejected),
        )?;
        Ok(rejected.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, batch: Batch, unit: &Unit, rejected: &Mutex<HashSet<KeyHash>>) -> Result<()> {
        let (rows, cells, bytes) = (batch.rows, batch.cells, batch.body.len() as u64);
        let Ack { refused, requests, retries } = self.destination.sink.write(batch)?;
        let mut refused_cells = 0;
        for refusal in &refused {
            let place = format!("refused by {}", unit.destination);
            self.rejects.add(&place, &refusal.reason, &refusal.line)?;
            let keys = cells_of(refusal)?;
            refused_cells += keys.len() as u64;
            lock(rejected).extend(keys);
        }
        self.progress.done(Stage::Send, cells - refused_cells.min(cells), bytes);
        self.progress.retried(retries);
        self.progress.rejected(refused.len() as u64);
        let sent = &mut self.outcome().sent;
        sent.cells += cells - refused_cells.min(cells);
        sent.rows += rows - (refused.len() as u64).min(rows);
        sent.bytes += bytes;
        sent.requests += requests;
        sent.retries += retries;
        Ok(())
    }

    /// Adds the unit's last comparison. What is still missing was rejected, or lost, or came to the
    /// source after it was read.
    fn record(&self, mut findings: Findings, sent: &Filled) {
        let mut outcome = self.outcome();
        if self.destination.reader.is_none() {
            outcome.sent.rejected += sent.rejected.len() as u64;
            findings = Findings::of_source(findings.source);
        } else {
            let missing = findings.counts.missing_in_destination;
            // With rejected cells every place was told apart, and `cells` holds those that are
            // missing although nobody rejected them.
            let all = sent.rejected.is_empty();
            let left = if all { missing } else { findings.missing.cells.len() as u64 };
            outcome.sent.rejected += missing.saturating_sub(left);
            if sent.moving {
                findings.counts.missing_in_destination -= left.min(missing);
                findings.counts.unstable += left;
            } else {
                outcome.sent.lost += left;
            }
        }
        outcome.verified.add(findings, self.options.compare.findings_max);
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        lock(&self.outcome)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cells of a row that was refused, found by decoding what was sent.
fn cells_of(refusal: &Refusal) -> Result<Vec<KeyHash>> {
    let mut decoder = Decoder::new(decode::Options {
        precision: Precision::Nanoseconds,
        default_time: None,
        line_bytes_max: refusal.line.len() + 1,
    });
    decoder.feed(&refusal.line);
    decoder.finish();
    let mut keys = Vec::new();
    while let Ok(Some(item)) = decoder.next_item() {
        let Item::Row(row) = item else {
            let line = Printable(&refusal.line);
            return Err(
                ErrorKind::Data(format!("a row that was sent does not decode: {line}")).into()
            );
        };
        let mut hasher = SeriesHasher::new(&key::parse(row.key));
        for (field, value) in row.fields() {
            keys.push(hasher.field(field, value.field_type()).key(row.time));
        }
    }
    Ok(keys)
}
