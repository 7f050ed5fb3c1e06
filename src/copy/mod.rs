//! `copy`: compare, send what the destination lacks, compare again.
//!
//! What the destination holds with another value is a *conflict*: a client may have overwritten it
//! on both sides since it was read, so it is listed and left unless the operator forces it. Where the
//! client's newer value came to the destination just before the older one that was read, the source
//! holds the newer one and it is sent again (`overtaken`). What is at the destination only is
//! counted and does no harm. An acknowledged write is no proof: only the
//! second comparison is, and only until the destination restarts: it may lose then what it had
//! acknowledged, so that the units proven before are looked at again.

mod aside;
mod ledger;
mod overtaken;
mod sender;
mod sent;

use self::aside::Aside;
pub use self::aside::SUSPECT;
use self::ledger::{Ledger, Proven};
use self::sender::Sender;
pub use self::sent::Sent;
use crate::compare::{self, Cells, Digest, Findings, Missing, Note, Sides, Unit};
use crate::digest::cell::{KeyHash, ValueHash};
use crate::digest::grid::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{self, Done, Journal};
use crate::pipeline::{self, Gate, Permit, Progress, Stage};
use crate::plan::{Namespace, Scope};
use crate::rate::{Limiter, Rate};
use crate::reject::Rejects;
use crate::sink::{Batch, Epoch, Sink};
use crate::source::{Source, for_each_block};
use crate::stop::Stop;
use crate::undo::{Created, UndoList};
use crate::verify;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Pauses before a destination that lacks what it acknowledged is read again.
const READ_AGAIN: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(4)];

/// How often a unit is compared and sent again while its source moves.
const ROUNDS_MAX: u32 = 3;
/// How often cells are sent again that a client overwrote while they were sent.
const OVERTAKEN_MAX: u32 = 20;
/// How often a unit is sent again because the destination restarted.
const RESTARTS_MAX: u32 = 20;

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
    /// Most cells or bytes that are sent a second; repeated requests are not counted.
    pub rate: Option<Rate>,
    /// Cells of the source in all, where they are known beforehand.
    pub cells: Option<u64>,
    /// Send what the destination holds with another value, too.
    pub overwrite: bool,
    /// Nothing is stored, whatever the sink says: what is sent is only counted.
    pub dry_run: bool,
    /// The source takes writes while it is read.
    pub live: bool,
    /// Rows during which the destination died are tried again, in the end and in pieces.
    pub retry_suspects: bool,
    /// The destination is a server: it cannot open a shard again whose measurements or fields have names that are not UTF-8.
    pub server: bool,
}

/// Units that are filled at once: writing to many cold shard groups costs a cluster its memory.
pub const UNITS_OPEN: usize = 2;

/// What a copy is told, and tells, while it runs.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "progress does not ask for Debug")]
pub struct Surroundings<'a> {
    /// Takes the rows that cannot be moved.
    pub rejects: &'a Rejects,
    /// Is told what is done.
    pub progress: &'a dyn Progress,
    /// Says whether to come to an end.
    pub stop: &'a Stop,
    /// Records the units that are proven.
    pub journal: Option<&'a Journal>,
    /// Lists the cells that are created.
    pub listing: Option<&'a UndoList>,
}

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
    /// Units that an earlier run proved, and for which this one sent nothing.
    pub before: u64,
}

/// Copies every unit and proves it.
///
/// # Errors
/// Where a side cannot be read or written, or an end was asked for. What was stored until then
/// stays: copying again sends only what is still lacking.
pub fn run(
    source: &dyn Source,
    destination: Destination<'_>,
    units: &[Unit],
    options: &Options,
    surroundings: Surroundings<'_>,
) -> Result<Outcome> {
    let gate = Gate::new(options.in_flight_bytes);
    let ledger = Mutex::new(Ledger::new(units.len(), options.compare.findings_max));
    let to_send = AtomicU64::new(0);
    let limiter = options.rate.filter(|_| !options.dry_run).map(Limiter::new);
    let alone = RwLock::new(());
    let suspects = Mutex::default();
    let copy = Copy {
        source,
        destination,
        options,
        surroundings,
        gate,
        limiter,
        alone,
        to_send,
        ledger,
        suspects,
    };
    surroundings.progress.units(units.len());
    let numbers: Vec<usize> = (0..units.len()).collect();
    pipeline::for_each(UNITS_OPEN.min(options.jobs), &numbers, |&at| {
        surroundings.stop.check()?;
        copy.take(at, &units[at])?;
        surroundings.progress.unit_done();
        Ok(())
    })?;
    copy.prove_again(units)?;
    Ok(copy.ledger.into_inner().unwrap_or_else(PoisonError::into_inner).into_outcome())
}

/// What was done to one unit so far.
#[derive(Default)]
struct Filled {
    /// What the destination lacked and this copy sent, where the source takes writes: places that were
    /// empty, and cells of others. Beyond a limit they are not kept: a value that changes there
    /// meanwhile is then a conflict.
    own: Arc<Cells>,
    /// Cells of these that the destination holds with a value that the source does not hold any more.
    overtaken: Arc<Cells>,
    /// Cells that were not acknowledged.
    aside: Aside,
    /// The source changed since it was sent.
    moving: bool,
    /// What was sent.
    sent: Sent,
}

/// What the writers of a unit share.
#[derive(Default)]
struct Tally {
    aside: Mutex<Aside>,
    sent: Mutex<Sent>,
}

/// What a comparison found, and what follows from it.
#[derive(Default)]
struct Judged {
    findings: Findings,
    /// Cells of places that were told apart which the destination lacks although nobody rejected
    /// them.
    left: u64,
    /// Cells during which the destination died and which it lacks, or holds with another value.
    suspects: HashSet<KeyHash>,
    /// Cells that this copy sent and that differ, with what the destination holds.
    changed: HashMap<KeyHash, ValueHash>,
    /// The destination lacks something that was sent.
    lacks: bool,
    /// Something is to be sent, or was.
    wants: bool,
}

/// What closes a batch, whichever comes first.
#[derive(Clone, Copy, Debug)]
struct BatchLimits {
    rows: u64,
    cells: u64,
    bytes: usize,
}

struct Copy<'a> {
    source: &'a dyn Source,
    destination: Destination<'a>,
    options: &'a Options,
    surroundings: Surroundings<'a>,
    gate: Gate,
    limiter: Option<Limiter>,
    /// Held together by all who write, and alone by who writes what may kill the destination.
    alone: RwLock<()>,
    /// Cells that were found to be missing so far.
    to_send: AtomicU64,
    ledger: Mutex<Ledger>,
    /// What was suspect in units that are done, by their number: it is not sent again if they are done
    /// once more.
    suspects: Mutex<HashMap<usize, HashSet<KeyHash>>>,
}

impl Copy<'_> {
    /// Does a unit, unless an earlier run proved it and the destination still shows that.
    fn take(&self, at: usize, unit: &Unit) -> Result<()> {
        let done = self.surroundings.journal.and_then(|journal| journal.done(unit));
        let epoch = self.destination.sink.epoch();
        let Some(done) = done else { return self.unit(at, unit) };
        if !self.is_still_there(unit, &done, &epoch)? || !self.is_still_so(unit, &done)? {
            return self.unit(at, unit);
        }
        let proven = Proven {
            counts: done.counts,
            source: done.source_digest,
            destination: done.destination_digest,
            sent: done.sent,
            epoch: epoch.number,
            before: true,
        };
        self.surroundings.progress.done(Stage::Verify, done.counts.destination, 0);
        lock(&self.ledger).enter(at, unit, proven, Findings::default());
        Ok(())
    }

    /// True where the source holds what it held when an earlier run proved the unit. A file is known by
    /// its checksum; of a server that takes writes only reading tells.
    fn is_still_so(&self, unit: &Unit, done: &Done) -> Result<bool> {
        if !self.options.live {
            return Ok(true);
        }
        let ours = self.digest(Stage::Read, self.source, &unit.source, unit)?;
        Ok(ours.set.total() == done.source_digest)
    }

    /// True where the destination holds what an earlier run saw in it. A server is read: it may have
    /// restarted, and somebody may have deleted what was there.
    fn is_still_there(&self, unit: &Unit, done: &Done, epoch: &Epoch) -> Result<bool> {
        let sink = self.destination.sink;
        if let Some(stored) = &done.stored
            && !sink.restore_unit(&unit.destination, unit.window, stored)?
        {
            return Ok(false);
        }
        if !self.options.server && epoch.name.is_some() && epoch.name == done.incarnation {
            return Ok(true);
        }
        let theirs = self.digest_destination(unit)?;
        Ok(theirs.set.total() == done.destination_digest)
    }

    /// Looks again at the units that were proven before the destination restarted, until none is
    /// left: what was acknowledged may be gone.
    fn prove_again(&self, units: &[Unit]) -> Result<()> {
        if self.destination.reader.is_none() || self.options.dry_run {
            return Ok(());
        }
        for _ in 0..RESTARTS_MAX {
            let epoch = self.destination.sink.epoch().number;
            let older = lock(&self.ledger).older_than(epoch);
            if older.is_empty() {
                return Ok(());
            }
            self.surroundings.progress.warn(&format!(
                "the destination restarted, or a connection to it broke: {} partitions that were \
                 proven before are verified again",
                older.len()
            ));
            self.surroundings.progress.stage("verify:restart");
            pipeline::for_each(UNITS_OPEN.min(self.options.jobs), &older, |&at| {
                self.surroundings.stop.check()?;
                let known = lock(&self.ledger).get(at).unwrap_or_default();
                let epoch = self.destination.sink.epoch().number;
                if self.digest_destination(&units[at])?.set.total() == known.destination {
                    lock(&self.ledger).seen_again(at, epoch);
                    return Ok(());
                }
                self.unit(at, &units[at])
            })?;
        }
        let reason = "the destination restarts again and again: what it acknowledges does not stay";
        Err(ErrorKind::Data(reason.into()).into())
    }

    fn unit(&self, at: usize, unit: &Unit) -> Result<()> {
        let sink = self.destination.sink;
        let mut ours = self.digest(Stage::Read, self.source, &unit.source, unit)?;
        let mut epoch = sink.epoch();
        let mut theirs = self.digest_destination(unit)?;
        let mut sent = Filled::default();
        sent.aside.suspects = lock(&self.suspects).get(&at).cloned().unwrap_or_default();
        let mut judged = self.send_missing(&ours, &theirs, unit, &mut sent)?;
        sent.sent.already_there += judged.findings.counts.matched;
        let (mut rounds, mut restarts) = (1, 0);
        let lags = |judged: &Judged| sink.lags() && judged.findings.counts.changed() > 0;
        while judged.wants || lags(&judged) {
            sink.close_unit(&unit.destination, unit.window)?;
            if self.destination.reader.is_none() || self.options.dry_run {
                break;
            }
            let before = std::mem::replace(&mut epoch, sink.epoch());
            (theirs, judged) = self.read_back(&ours, unit, &sent)?;
            let restarted = judged.lacks && sink.epoch() != before && restarts < RESTARTS_MAX;
            if self.options.live {
                judged = self.look_again(&mut ours, &mut theirs, unit, &mut sent)?;
            }
            let overtaken = self.options.server && !sent.overtaken.cells.is_empty();
            let rounds_max = if overtaken { OVERTAKEN_MAX } else { ROUNDS_MAX };
            let again = self.options.live && rounds < rounds_max;
            if !judged.wants || !(restarted || again) {
                break;
            }
            (rounds, restarts) = (rounds + 1, restarts + u32::from(restarted));
            if sink.reopen_unit(&unit.destination, unit.window)? {
                theirs = Digest::default();
            }
            let earlier = sent.sent;
            judged = self.send_missing(&ours, &theirs, unit, &mut sent)?;
            if restarted {
                let repeated = sent.sent.cells - earlier.cells;
                sent.sent = Sent {
                    cells: earlier.cells,
                    repeated: earlier.repeated + repeated,
                    ..sent.sent
                };
            }
        }
        self.record(at, unit, judged, sent, epoch)
    }

    fn sleep(&self, time: Duration) -> Result<()> {
        match self.surroundings.stop.sleep(time) {
            true => Ok(()),
            false => Err(ErrorKind::Interrupted.into()),
        }
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
                let tally = self.send(unit, &everything, sent)?;
                self.keep(sent, tally)?;
            }
            return Ok(Judged { findings, wants, ..Judged::default() });
        }
        let mut wants = false;
        let note = self.note(&sent.overtaken);
        let findings = self.compare(ours, theirs, unit, (false, note), |missing| {
            if !is_wanted(missing) {
                return Ok(());
            }
            wants = true;
            self.keep_places(sent, missing.places.iter());
            self.keep_cells(sent, missing.cells.iter().copied());
            for part in self.parts(missing).iter() {
                let tally = self.send(unit, part, sent)?;
                self.keep(sent, tally)?;
            }
            Ok(())
        })?;
        Ok(Judged { findings, wants, ..Judged::default() })
    }

    /// Says how many cells there are to be sent, as far as is known by now.
    fn expect_to_send(&self, more: u64) {
        let all = self.to_send.fetch_add(more, Ordering::Relaxed) + more;
        // Without a total of the source, more units may follow.
        if self.options.cells.is_some() {
            self.surroundings.progress.expect(Stage::Send, all);
        }
    }

    /// Places, or cells, of a unit that are kept in memory.
    fn kept_max(&self) -> usize {
        self.options.compare.memory_max / size_of::<Place>()
    }

    fn keep(&self, sent: &mut Filled, tally: Tally) -> Result<()> {
        sent.sent += tally.sent.into_inner().unwrap_or_else(PoisonError::into_inner);
        sent.aside.extend(tally.aside.into_inner().unwrap_or_else(PoisonError::into_inner));
        self.bound(&sent.aside)
    }

    /// Keeps what is set aside within memory.
    fn bound(&self, aside: &Aside) -> Result<()> {
        // Requests under way when a destination dies must not reach the limit by themselves.
        let (rejected, suspects) = (aside.rejected.len(), aside.suspects.len());
        if rejected <= self.kept_max()
            && suspects <= 2 * self.kept_max()
            && aside.bytes() <= 4 * self.options.in_flight_bytes
        {
            return Ok(());
        }
        let what = "the number of cells of one shard group that were rejected".into();
        let limit = ErrorKind::Limit { what, max: format!("{} (by --memory)", self.kept_max()) };
        Err(Error::from(limit).with_next(
            "see the reject file for the reasons; leave measurements out with --exclude, or give a \
             larger --memory",
        ))
    }

    /// Reads the destination again until it shows what was sent, and nothing else where it lags: the
    /// nodes of a cluster may differ for a while. What it then holds is recorded.
    fn read_back(&self, ours: &Digest, unit: &Unit, sent: &Filled) -> Result<(Digest, Judged)> {
        if let Some(cells) = self.options.cells {
            self.surroundings.progress.expect(Stage::Verify, cells);
        }
        let mut pauses = READ_AGAIN.iter();
        loop {
            let theirs = self.digest_destination(unit)?;
            let judged = self.judge(ours, &theirs, unit, sent)?;
            let lags = self.destination.sink.lags() && judged.findings.counts.changed() > 0;
            if let Some(pause) = pauses.next().filter(|_| judged.lacks || lags) {
                self.sleep(*pause)?;
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
        let drill_missing = sent.aside.cells() > 0;
        let note = self.note(&sent.own);
        judged.findings = self.compare(ours, theirs, unit, (drill_missing, note), |missing| {
            let left = missing.cells.iter().filter(|cell| !sent.aside.holds(cell)).count() as u64;
            judged.left += left;
            let differ = missing.cells.iter().chain(missing.changed.keys());
            judged
                .suspects
                .extend(differ.filter(|cell| sent.aside.suspects.contains(cell)).copied());
            let lacks = left > 0 || !missing.places.is_empty();
            judged.lacks |= lacks;
            // What is unprovable nobody will ever see at the destination: to send it once is all
            // that can be done.
            judged.wants |= lacks || (self.options.overwrite && !missing.changed.is_empty());
            if !self.options.overwrite {
                let acknowledged = missing.changed.iter().filter(|one| !sent.aside.holds(one.0));
                judged.changed.extend(acknowledged);
            }
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
        self.surroundings.progress.done(stage, 0, 0);
        let counted = |cells| {
            self.surroundings.progress.done(stage, cells, 0);
            self.surroundings.stop.check()
        };
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
        (drill_missing, note_changed): (bool, Note),
        mut each: impl FnMut(&Missing) -> Result<()>,
    ) -> Result<Findings> {
        // Without a reader nothing is held, and nothing is read again.
        let destination = self.destination.reader.unwrap_or(self.source);
        let options = compare::Options {
            drill_missing,
            note_missing: true,
            note_changed,
            ..self.options.compare.clone()
        };
        let sides = Sides { source: self.source, ours, destination, theirs };
        compare::compare(sides, unit, &options, |_, missing| each(missing))
    }

    /// Sends what is missing.
    fn send(&self, unit: &Unit, missing: &Missing, sent: &Filled) -> Result<Tally> {
        self.surroundings.progress.done(Stage::Send, 0, 0);
        let tally = Tally::default();
        let created = match missing.unprovable.is_empty() {
            true => Created::Known,
            false => Created::Perhaps,
        };
        let writers =
            self.options.jobs.div_ceil(UNITS_OPEN).min(self.destination.sink.writers_max());
        pipeline::fan_out(
            writers,
            |push| {
                let mut push = |batch: Batch| {
                    let permit = self.gate.enter(batch.body.len());
                    push((batch, permit))
                };
                let mut sender = Sender::new(self, unit, (missing, sent), &tally.aside, &mut push);
                let filter = &self.options.compare.filter;
                let scope = Scope::new(&unit.source, unit.window, filter);
                for_each_block(self.source, &self.source.plan(&scope)?, |block| {
                    self.surroundings.stop.check()?;
                    sender.block(block)
                })?;
                sender.flush()
            },
            |(batch, _permit): (Batch, Permit<'_>)| {
                self.list(&batch, created)?;
                self.write(batch, unit, &tally)
            },
        )?;
        self.try_suspects(unit, &tally)?;
        Ok(tally)
    }

    /// Enters the unit's last comparison. What is still missing was rejected, or lost, or came to the
    /// source after it was read.
    fn record(
        &self,
        at: usize,
        unit: &Unit,
        judged: Judged,
        filled: Filled,
        epoch: Epoch,
    ) -> Result<()> {
        let Judged { mut findings, left, suspects, .. } = judged;
        let Filled { mut sent, aside, moving, .. } = filled;
        if !aside.suspects.is_empty() {
            lock(&self.suspects).insert(at, aside.suspects.clone());
        }
        if self.destination.reader.is_none() {
            sent.suspects += self.reject_suspects(&aside, unit, &aside.suspects)?;
            sent.rejected += aside.cells() as u64;
            findings = Findings::of_source(findings.source);
        } else if self.options.dry_run {
            sent.rejected += aside.cells() as u64;
        } else {
            let missing = findings.counts.missing_in_destination;
            // With cells set aside every place was told apart.
            let left = if aside.cells() == 0 { missing } else { left };
            // What is there was stored, although the destination died before it said so.
            sent.cells += (aside.suspects.len() as u64).saturating_sub(suspects.len() as u64);
            sent.suspects += self.reject_suspects(&aside, unit, &suspects)?;
            sent.rejected += missing.saturating_sub(left);
            if moving {
                findings.counts.missing_in_destination -= left.min(missing);
                findings.counts.unstable += left;
            } else {
                sent.lost += left;
            }
        }
        let proven = Proven {
            counts: findings.counts,
            source: findings.source,
            destination: findings.destination,
            sent,
            epoch: epoch.number,
            before: false,
        };
        lock(&self.ledger).enter(at, unit, proven, findings);
        self.note_proven(unit, &proven, epoch.name)
    }

    /// Records a unit of which every cell is proven to be at the destination.
    fn note_proven(&self, unit: &Unit, proven: &Proven, incarnation: Option<String>) -> Result<()> {
        let Some(journal) = self.surroundings.journal else { return Ok(()) };
        let Proven { counts, sent, .. } = *proven;
        if counts.matched != counts.source || counts.changed() > 0 || sent.rejected > 0 {
            return Ok(());
        }
        let stored = self.destination.sink.stored_unit(&unit.destination, unit.window)?;
        let done = Done {
            time: journal::now(),
            source_digest: proven.source,
            destination_digest: proven.destination,
            counts,
            sent,
            incarnation,
            stored,
        };
        journal.record(unit, done)
    }

    /// Where a batch is closed, as things are.
    fn batch_limits(&self) -> BatchLimits {
        let options = self.options;
        let (cells, bytes) = self.limiter.as_ref().map_or((u64::MAX, usize::MAX), Limiter::batch);
        let bytes = bytes.min(self.destination.sink.batch_bytes_max());
        BatchLimits { rows: options.batch_rows, cells, bytes: bytes.min(options.batch_bytes) }
    }
}

/// True where there is something to send.
fn is_wanted(missing: &Missing) -> bool {
    !missing.places.is_empty()
        || !missing.unprovable.is_empty()
        || !missing.cells.is_empty()
        || !missing.changed.is_empty()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
