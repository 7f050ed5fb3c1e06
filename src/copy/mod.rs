//! `copy`: compare, send what the destination lacks, compare again.
//!
//! What the destination holds with another value is a *conflict*: a client may have overwritten it
//! on both sides since it was read, so it is listed and left unless the operator forces it. What is
//! at the destination only is counted and does no harm. An acknowledged write is no proof: only the
//! second comparison is.

mod sender;

use self::sender::Sender;
use crate::compare::{self, Digest, Findings, Missing, Sides, Unit};
use crate::digest::cell::{KeyHash, SeriesHasher};
use crate::digest::set::{self, DigestSet, Leaf, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{self, Decoder, Item};
use crate::line::{Precision, key};
use crate::pipeline::{self, Gate, Permit, Progress, Stage};
use crate::plan::{Namespace, Scope};
use crate::reject::Rejects;
use crate::series::Printable;
use crate::sink::{Ack, Batch, Refusal, Sink};
use crate::source::{Source, for_each_block};
use crate::verify;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Bytes of batches under way at once, over all units.
    pub in_flight_bytes: usize,
    /// Cells of the source in all, where they are known beforehand.
    pub cells: Option<u64>,
    /// Send what the destination holds with another value, too.
    pub overwrite: bool,
    /// Nothing is stored, whatever the sink says: what is sent is only counted.
    pub dry_run: bool,
    /// The source takes writes while it is read.
    pub live: bool,
    /// The destination is a server: it cannot open a shard again whose measurements or fields have names that are not UTF-8.
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
    let (gate, outcome) = (Gate::new(options.in_flight_bytes), Mutex::default());
    let to_send = AtomicU64::new(0);
    let copy = Copy { source, destination, options, rejects, progress, gate, to_send, outcome };
    progress.units(units.len());
    pipeline::for_each(UNITS_OPEN.min(options.jobs), units, |unit| {
        copy.unit(unit)?;
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
    /// Places that were empty and are filled by this copy: whatever stands there, it wrote. Beyond
    /// a limit they are not kept: a value that changes there meanwhile is then a conflict.
    places: HashSet<Place>,
    /// Cells that were rejected.
    rejected: HashSet<KeyHash>,
    /// The source changed since it was sent.
    moving: bool,
}

/// What a comparison found, and what follows from it.
#[derive(Default)]
struct Judged {
    findings: Findings,
    /// Cells of places that were told apart which the destination lacks although nobody rejected
    /// them.
    left: u64,
    /// The destination lacks something that was sent.
    lacks: bool,
    /// Something is to be sent, or was.
    wants: bool,
}

struct Copy<'a> {
    source: &'a dyn Source,
    destination: Destination<'a>,
    options: &'a Options,
    rejects: &'a Rejects,
    progress: &'a dyn Progress,
    gate: Gate,
    /// Cells that were found to be missing so far.
    to_send: AtomicU64,
    outcome: Mutex<Outcome>,
}

impl Copy<'_> {
    fn unit(&self, unit: &Unit) -> Result<()> {
        let sink = self.destination.sink;
        let mut ours = self.digest(Stage::Read, self.source, &unit.source, unit)?;
        let mut theirs = self.digest_destination(unit)?;
        let mut sent = Filled::default();
        let mut judged = self.send_missing(&ours, &theirs, unit, &mut sent)?;
        self.outcome().sent.already_there += judged.findings.counts.matched;
        for round in 1..=ROUNDS_MAX {
            if !judged.wants {
                break;
            }
            sink.close_unit(&unit.destination, unit.window)?;
            if self.destination.reader.is_none() || self.options.dry_run {
                break;
            }
            (theirs, judged) = self.read_back(&ours, unit, &sent)?;
            if !self.options.live {
                break;
            }
            let before = ours.set.total();
            ours = self.digest(Stage::Verify, self.source, &unit.source, unit)?;
            sent.moving = before != ours.set.total();
            judged = self.judge(&ours, &theirs, unit, &sent)?;
            if judged.wants && round < ROUNDS_MAX {
                if sink.reopen_unit(&unit.destination, unit.window)? {
                    theirs = Digest::default();
                }
                judged = self.send_missing(&ours, &theirs, unit, &mut sent)?;
            }
        }
        self.record(judged, &sent)
    }

    /// Compares and sends what is missing.
    fn send_missing(
        &self,
        ours: &Digest,
        theirs: &Digest,
        unit: &Unit,
        sent: &mut Filled,
    ) -> Result<Judged> {
        if theirs.set.total().cells == 0 {
            let findings = Findings::all_missing(ours.set.total());
            let wants = findings.counts.source > 0;
            if wants {
                let everything = Missing { everything: true, ..Missing::default() };
                self.note_places(ours, sent)?;
                self.expect_to_send(findings.counts.source);
                let rejected = self.send(unit, &everything, sent)?;
                self.keep_rejected(sent, rejected)?;
            }
            return Ok(Judged { findings, wants, ..Judged::default() });
        }
        let mut wants = false;
        let findings = self.compare(ours, theirs, unit, false, |missing| {
            if !self.wants(missing, sent) {
                return Ok(());
            }
            wants = true;
            self.keep_places(sent, missing.places.iter().copied());
            let rejected = self.send(unit, missing, sent)?;
            self.keep_rejected(sent, rejected)
        })?;
        Ok(Judged { findings, wants, ..Judged::default() })
    }

    /// Says how many cells there are to be sent, as far as is known by now.
    fn expect_to_send(&self, more: u64) {
        let all = self.to_send.fetch_add(more, Ordering::Relaxed) + more;
        // Without a total of the source, more units may follow.
        if self.options.cells.is_some() {
            self.progress.expect(Stage::Send, all);
        }
    }

    /// Places, or cells, of a unit that are kept in memory.
    fn kept_max(&self) -> usize {
        self.options.compare.memory_max / size_of::<Place>()
    }

    /// Notes all places of the source as filled by this copy. Only where the source takes writes
    /// meanwhile can a value change there.
    fn note_places(&self, ours: &Digest, sent: &mut Filled) -> Result<()> {
        if !self.options.live {
            return Ok(());
        }
        let memory = self.options.compare.memory_max;
        for range in set::ranges(&ours.set, &DigestSet::default(), memory) {
            self.keep_places(sent, ours.set.leaves(range)?.iter().map(Leaf::place));
        }
        Ok(())
    }

    fn keep_places(&self, sent: &mut Filled, places: impl Iterator<Item = Place>) {
        let room = self.kept_max().saturating_sub(sent.places.len());
        sent.places.extend(places.take(room));
    }

    fn keep_rejected(&self, sent: &mut Filled, rejected: HashSet<KeyHash>) -> Result<()> {
        sent.rejected.extend(rejected);
        if sent.rejected.len() <= self.kept_max() {
            return Ok(());
        }
        let what = "the number of cells of one shard group that were rejected".into();
        let limit = ErrorKind::Limit { what, max: format!("{} (by --memory)", self.kept_max()) };
        Err(Error::from(limit).with_next(
            "see the reject file for the reasons; leave measurements out with --exclude, or give a \
             larger --memory",
        ))
    }

    /// Reads the destination again until it shows what was sent: a cluster may lag behind what it
    /// acknowledged. What it then holds is recorded.
    fn read_back(&self, ours: &Digest, unit: &Unit, sent: &Filled) -> Result<(Digest, Judged)> {
        if let Some(cells) = self.options.cells {
            self.progress.expect(Stage::Verify, cells);
        }
        let mut pauses = READ_AGAIN.iter();
        loop {
            let theirs = self.digest_destination(unit)?;
            let judged = self.judge(ours, &theirs, unit, sent)?;
            if let Some(pause) = pauses.next().filter(|_| judged.lacks) {
                std::thread::sleep(*pause);
                continue;
            }
            let (total, sink) = (theirs.set.total(), self.destination.sink);
            sink.record_unit(&unit.destination, unit.window, total, &theirs.types)?;
            return Ok((theirs, judged));
        }
    }

    /// Compares what was sent with what is there, leaving out what was rejected.
    fn judge(&self, ours: &Digest, theirs: &Digest, unit: &Unit, sent: &Filled) -> Result<Judged> {
        let mut judged = Judged::default();
        let drill_missing = !sent.rejected.is_empty();
        judged.findings = self.compare(ours, theirs, unit, drill_missing, |missing| {
            let left = missing.cells.difference(&sent.rejected).count() as u64;
            judged.left += left;
            let lacks = left > 0 || !missing.places.is_empty();
            judged.lacks |= lacks;
            // What is unprovable nobody will ever see at the destination: to send it once is all
            // that can be done.
            judged.wants |= lacks || self.wants_changed(missing, sent);
            Ok(())
        })?;
        Ok(judged)
    }

    fn digest(
        &self,
        stage: Stage,
        side: &dyn Source,
        namespace: &Namespace,
        unit: &Unit,
    ) -> Result<Digest> {
        self.progress.done(stage, 0, 0);
        let counted = |cells| self.progress.done(stage, cells, 0);
        compare::digest(side, namespace, unit.window, &self.options.compare, &counted)
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
        mut each: impl FnMut(&Missing) -> Result<()>,
    ) -> Result<Findings> {
        // Without a reader nothing is held, and nothing is read again.
        let destination = self.destination.reader.unwrap_or(self.source);
        let options = compare::Options {
            drill_missing,
            note_missing: true,
            note_changed: self.options.overwrite || self.options.live,
            ..self.options.compare.clone()
        };
        let sides = Sides { source: self.source, ours, destination, theirs };
        compare::compare(sides, unit, &options, |_, missing| each(missing))
    }

    fn wants(&self, missing: &Missing, sent: &Filled) -> bool {
        !missing.places.is_empty()
            || !missing.unprovable.is_empty()
            || !missing.cells.is_empty()
            || self.wants_changed(missing, sent)
    }

    fn wants_changed(&self, missing: &Missing, sent: &Filled) -> bool {
        let ours = || !missing.partial.is_disjoint(&sent.places);
        !missing.changed.is_empty() && (self.options.overwrite || ours())
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
                let mut push = |batch: Batch| {
                    let permit = self.gate.enter(batch.body.len());
                    push((batch, permit))
                };
                let mut sender = Sender::new(self, unit, (missing, sent), &rejected, &mut push);
                let filter = &self.options.compare.filter;
                let scope = Scope::new(&unit.source, unit.window, filter);
                for_each_block(self.source, &self.source.plan(&scope)?, |block| {
                    sender.block(block)
                })?;
                sender.flush()
            },
            |(batch, _permit): (Batch, Permit<'_>)| self.write(batch, unit, &rejected),
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
    fn record(&self, judged: Judged, sent: &Filled) -> Result<()> {
        let Judged { mut findings, left, .. } = judged;
        let mut outcome = self.outcome();
        if self.destination.reader.is_none() {
            outcome.sent.rejected += sent.rejected.len() as u64;
            findings = Findings::of_source(findings.source);
        } else if self.options.dry_run {
            outcome.sent.rejected += sent.rejected.len() as u64;
        } else {
            let missing = findings.counts.missing_in_destination;
            // With rejected cells every place was told apart.
            let left = if sent.rejected.is_empty() { missing } else { left };
            outcome.sent.rejected += missing.saturating_sub(left);
            if sent.moving {
                findings.counts.missing_in_destination -= left.min(missing);
                findings.counts.unstable += left;
            } else {
                outcome.sent.lost += left;
            }
        }
        outcome.verified.add(findings, self.options.compare.findings_max);
        Ok(())
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
