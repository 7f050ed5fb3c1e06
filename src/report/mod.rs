//! The report: what a command found, as one structure from which text, JSON and a page are made.
//!
//! Verdict and exit status are decided here and nowhere else.

mod accounts;
pub mod backup;
mod charts;
pub mod digest_file;
pub mod digests;
pub mod gaps;
mod html;
pub mod inspect;
pub mod next;
mod printed;
pub mod repair;
pub mod runbook;
pub mod schema;
mod stretch;
pub mod text;
mod types;

pub use self::accounts::{Accounts, Expired, ExpiredPolicy, RejectedSeries};
pub use self::charts::{Agreement, Bucket, Timeline};
pub(crate) use self::next::quote;
use self::printed::print_value;
pub use self::printed::{Form, Printed};
pub use self::types::{TypeConflict, TypesDealtWith};

use self::text::figure;

use crate::causes;
use crate::compare::{CellFinding, Class, Counts, OwnedValue, PlaceFinding, Proven, ReadAgain};
use crate::copy;
use crate::digest::node::Node;
use crate::error::{ErrorKind, Result};
use crate::http;
use crate::journal;
use crate::plan::Namespace;
use crate::progress::history::Sample;
use crate::reject;
use crate::series::Printable;
use crate::source::line_file;
use crate::verify;
use crate::window::Window;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a server of two cores stores a second, in whole rows (measured on InfluxDB 1.6.7).
const CELLS_PER_SECOND: u64 = 600_000;
/// Type conflicts that are listed.
const TYPES_MAX: usize = 1_000;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Both sides hold the same cells.
    Identical,
    /// Every cell of the source is at the destination, which holds more.
    Complete,
    /// Every cell of the source is at the destination, some of them cast to another type.
    Cast,
    /// Cells were counted and stored nowhere (`null:`).
    Counted,
    /// Cells were acknowledged, and nobody looked whether they are there.
    Sent,
    /// Nothing was written: what would be sent was counted.
    Planned,
    /// The sides differ.
    Different,
    /// Cells that the destination holds with another value were left.
    Conflicts,
    /// Something could not be moved, compared or proven.
    Incomplete,
    /// Cells were acknowledged and are not there.
    Lost,
}

impl Verdict {
    /// The verdict's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Identical => "IDENTICAL",
            Self::Complete => "COMPLETE",
            Self::Cast => "CAST",
            Self::Counted => "COUNTED",
            Self::Sent => "SENT",
            Self::Planned => "PLAN",
            Self::Different => "DIFFERENT",
            Self::Conflicts => "CONFLICTS",
            Self::Incomplete => "INCOMPLETE",
            Self::Lost => "LOST",
        }
    }

    /// Exit status of the command.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Identical | Self::Complete | Self::Cast | Self::Counted | Self::Planned => 0,
            Self::Different | Self::Conflicts => 1,
            Self::Incomplete | Self::Sent => 3,
            Self::Lost => 4,
        }
    }
}

/// What a command did and found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this structure.
    pub version: u32,
    /// `copy`, `verify` or `repair`.
    pub command: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// Exit status of the command.
    pub exit_status: u8,
    /// Why the verdict is no better, one reason a line.
    pub reasons: Vec<String>,
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// Sides whose certificates were not verified, because the operator asked for that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insecure: Vec<String>,
    /// First nanosecond of the window.
    pub start: i64,
    /// First nanosecond after the window.
    pub end: i64,
    /// What lies outside of what was compared, one remark a line.
    pub not_covered: Vec<String>,
    /// What the destination's retention policies would drop.
    pub expired: Expired,
    /// Statements that created what the destination lacked, with what was chosen in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<String>,
    /// Retention policies whose settings differ between the two sides, one a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings_differ: Vec<String>,
    /// Cells by class, as the last comparison found them.
    pub counts: Counts,
    /// What was read again, to tell cells apart or because a side takes writes.
    pub read_again: ReadAgain,
    /// Cells that differ in places which were judged by their first reading, although a side takes writes.
    #[serde(skip_serializing_if = "no_cells")]
    pub read_once: u64,
    /// What may have caused the differences, one guess a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What was sent; absent for `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<copy::Sent>,
    /// How much was asked of the destination at once, and of which nodes; absent where it is no
    /// server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<http::Summary>,
    /// What became of every cell; absent for `verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Accounts>,
    /// Cells that were set aside for their type before anything was compared.
    #[serde(skip_serializing_if = "no_cells")]
    pub types_rejected: u64,
    /// How long the copy may take; for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Fields whose type the destination could not hold everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<TypeConflict>,
    /// What the source's lines held besides; absent for other sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<line_file::Stats>,
    /// Rows that were rejected, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Where these rows lie, up to a limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected_series: Vec<RejectedSeries>,
    /// Rejected rows of further series, and rejected lines that are no rows.
    #[serde(skip_serializing_if = "no_cells")]
    pub rejected_elsewhere: u64,
    /// The reject file.
    pub reject_file: Option<String>,
    /// The list of what was created; only for `copy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_file: Option<String>,
    /// Digest of all that the source holds in the scope.
    pub source_digest: Digest,
    /// Digest of all that the destination holds in the scope.
    pub destination_digest: Digest,
    /// Places that differ, up to a limit.
    pub places: Vec<Place>,
    /// Cells that differ in places that both sides hold, up to a limit.
    pub cells: Vec<Cell>,
    /// What earlier runs of the same copy did, where a journal told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
    /// What is done about each cell that differs; only for `repair`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<repair::Repair>,
    /// Seconds from the first byte read to the verdict.
    pub seconds: f64,
    /// The next command to run, where something is wrong.
    pub next: Option<String>,
    /// When the report was made, nanoseconds since 1970.
    pub made: i64,
    /// Version of the program.
    pub gapless: &'static str,
    /// What was typed behind the program's name. Secrets are no arguments.
    pub arguments: Vec<String>,
    /// Cells of both sides by time, as far as this run compared them.
    pub timeline: Timeline,
    /// Where the sides agree, of the series that differ elsewhere.
    #[serde(skip)]
    pub agreement: Agreement,
    /// What was done by when.
    pub throughput: Vec<Sample>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn no_cells(cells: &u64) -> bool {
    *cells == 0
}

/// What earlier runs of the same copy did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Resumed {
    /// When the copy was begun, nanoseconds since 1970.
    pub begun: i64,
    /// Partitions that earlier runs proved, and that this one did not read.
    pub proven_before: u64,
    /// Partitions in all.
    pub partitions: u64,
}

/// A digest for people and programs.
#[derive(Debug, Serialize)]
pub struct Digest {
    /// One figure for the whole.
    pub digest: String,
    /// The number of cells and the sums of their hashes.
    #[serde(flatten)]
    pub node: Node,
}

/// A series and bucket of time in which the sides differ.
#[derive(Debug, Serialize)]
pub struct Place {
    /// Database, as the source names it.
    pub database: String,
    /// Retention policy, as the source names it.
    pub retention_policy: String,
    /// Raw series key, printable.
    pub series: String,
    /// First nanosecond.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
    /// Cells by class.
    pub counts: Counts,
    /// What the sums prove of cells that a digest file stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven: Option<Proven>,
    /// It was judged by its first reading, although a side takes writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_once: bool,
}

/// A cell in which the sides differ.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// Database, as the source names it.
    pub database: String,
    /// Retention policy, as the source names it.
    pub retention_policy: String,
    /// Raw series key, printable.
    pub series: String,
    /// Field key, printable.
    pub field: String,
    /// Nanoseconds.
    pub time: i64,
    /// How it differs.
    pub class: Class,
    /// The source's value, as line protocol writes it, printable.
    pub source: Option<String>,
    /// The destination's value.
    pub destination: Option<String>,
}

/// How long a copy may take.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Forecast {
    /// Seconds in all.
    pub seconds: f64,
    /// Cells a second that the destination is assumed to take.
    pub cells_per_second: u64,
}

/// What a copy knows of what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It was read back.
    ReadBack,
    /// It was acknowledged, and not looked at.
    Unseen,
    /// It was only counted.
    Nowhere,
    /// It was counted, and compared with what the destination holds: a dry run.
    Planned,
}

/// What every command knows about itself.
#[derive(Debug)]
pub struct Context {
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// What was typed behind the program's name.
    pub command: Vec<String>,
    /// The window that was asked for, cut to what can be judged.
    pub window: Window,
    /// What lies outside of what was compared.
    pub not_covered: Vec<String>,
    /// What is there and was not read.
    pub unread: Vec<String>,
    /// Only some series were wanted.
    pub filtered: bool,
    /// What the source's lines held besides.
    pub lines: Option<line_file::Stats>,
    /// Rows that were rejected.
    pub rejects: reject::Summary,
    /// How long it took.
    pub elapsed: Duration,
    /// What the destination's retention policies would drop.
    pub expired: Expired,
    /// Sides whose certificates were not verified.
    pub insecure: Vec<String>,
    /// What was done by when.
    pub throughput: Vec<Sample>,
}

/// The report of a `verify`. `writable` says that a copy could put the destination right.
#[must_use]
pub fn of_verify(context: Context, outcome: verify::Outcome, writable: bool) -> Report {
    let counts = outcome.counts;
    let mut reasons = incomplete(&context, &outcome);
    if counts.source == 0 && counts.destination == 0 && context.rejects.rows == 0 {
        reasons.push("the window holds nothing on either side: nothing was compared".into());
    }
    let verdict = if counts.different() + counts.unresolved > 0 {
        if counts.unresolved > 0 {
            reasons.insert(0, unresolved(counts.unresolved));
        }
        if counts.different() > 0 {
            reasons.insert(0, format!("the sides differ in {}", cells(counts.different())));
        }
        Verdict::Different
    } else if reasons.is_empty() {
        Verdict::Identical
    } else {
        Verdict::Incomplete
    };
    let fill = verdict == Verdict::Different && writable && counts.missing_in_destination > 0;
    let next = fill.then(|| next::rerun(&context.command, "copy", None)).flatten();
    let known = counts.missing_in_destination + counts.unresolved;
    if verdict == Verdict::Different && known == 0 {
        reasons.push("the destination lacks nothing: a copy would send nothing".into());
    }
    build("verify", context, outcome, None, verdict, reasons, next)
}

/// The report of a `copy`.
#[must_use]
pub fn of_copy(
    context: Context,
    mut outcome: copy::Outcome,
    types: TypesDealtWith,
    stored: Stored,
) -> Report {
    outcome.sent.rejected += types.counts.rejected;
    let counts = outcome.verified.counts;
    let sent = outcome.sent;
    let mut reasons = match stored {
        Stored::ReadBack => incomplete(&context, &outcome.verified),
        Stored::Planned | Stored::Unseen | Stored::Nowhere => {
            rejected(&context).into_iter().collect()
        }
    };
    if types.fails {
        reasons.push("a copy would stop before it sends anything: see --on-type-conflict".into());
    }
    if counts.source == 0 && context.rejects.rows == 0 {
        reasons.push(nothing(&context));
    }
    if counts.changed() > 0 {
        let changed = cells(counts.changed());
        let what = "have another value or type at the destination and were left";
        reasons.insert(0, format!("{changed} {what}"));
    }
    let complete = reasons.is_empty();
    let verdict = if sent.lost > 0 {
        let lost = cells(sent.lost);
        reasons.insert(0, format!("{lost} were acknowledged by the destination and are not there"));
        Verdict::Lost
    } else if counts.changed() > 0 && stored == Stored::ReadBack {
        Verdict::Conflicts
    } else if !complete && stored != Stored::Planned {
        Verdict::Incomplete
    } else {
        match stored {
            Stored::Planned => Verdict::Planned,
            Stored::Nowhere => Verdict::Counted,
            Stored::Unseen => Verdict::Sent,
            Stored::ReadBack if types.counts.cast > 0 => Verdict::Cast,
            Stored::ReadBack if counts.extra_in_destination > 0 => Verdict::Complete,
            Stored::ReadBack => Verdict::Identical,
        }
    };
    reasons.extend(types.remark());
    if stored == Stored::Unseen {
        reasons.push("nothing was read back: what is stored is not known".into());
    }
    let next = match stored {
        Stored::Unseen => next::rerun(&context.command, "verify", None),
        Stored::Planned => next_of_plan(&types, sent, counts, &context),
        _ => next_of_copy(verdict, counts, sent, &context),
    };
    let accounts = Accounts::of(
        context.lines.as_ref(),
        context.filtered,
        context.expired.cells,
        types.counts.rejected,
        (counts, sent),
    );
    let mut report = build("copy", context, outcome.verified, Some(sent), verdict, reasons, next);
    report.accounts = Some(accounts);
    report.types_rejected = types.counts.rejected;
    report.types = types.conflicts.iter().take(TYPES_MAX).map(TypeConflict::of).collect();
    if stored == Stored::Planned {
        report.forecast = Some(forecast(sent.cells, report.seconds));
        if !complete {
            report.exit_status = Verdict::Incomplete.exit_status();
        }
    }
    report
}

/// Seconds that a copy may take: it sends, reads the source once more than this run did, and reads
/// the destination back.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn forecast(cells: u64, seconds: f64) -> Forecast {
    let sending = cells as f64 / CELLS_PER_SECOND as f64;
    let rate = CELLS_PER_SECOND;
    Forecast { seconds: sending + 2.0 * seconds, cells_per_second: rate }
}

/// What carries a plan out, if there is anything to do.
fn next_of_plan(
    types: &TypesDealtWith,
    sent: copy::Sent,
    counts: Counts,
    context: &Context,
) -> Option<String> {
    let option = if types.fails {
        Some("--on-type-conflict=reject")
    } else if sent.cells == 0 && counts.changed() > 0 {
        Some("--overwrite")
    } else {
        None
    };
    let useful = sent.cells > 0 || option.is_some();
    useful.then(|| next::without(&context.command, &["--dry-run", "-n"], option)).flatten()
}

fn next_of_copy(
    verdict: Verdict,
    counts: Counts,
    sent: copy::Sent,
    context: &Context,
) -> Option<String> {
    let command = next::without_undo_file(&context.command);
    match verdict {
        Verdict::Lost => next::rerun(&command, "copy", None),
        Verdict::Incomplete if sent.suspects > 0 => {
            next::rerun(&command, "copy", Some("--retry-suspects"))
        }
        // The server would refuse another type.
        Verdict::Conflicts if counts.type_changed == 0 => {
            next::rerun(&command, "copy", Some("--overwrite"))
        }
        Verdict::Incomplete if counts.unstable > 0 => next::rerun(&command, "copy", None),
        _ => None,
    }
}

/// Why nothing was compared.
fn nothing(context: &Context) -> String {
    match (context.expired.cells, context.filtered) {
        (0, false) => "the source holds nothing in the window: nothing was compared".into(),
        (0, true) => {
            "nothing in the window matches --measurement, --tag and --exclude: nothing was \
                      compared"
                .into()
        }
        (expired, _) => {
            let cells = cells(expired);
            format!("{cells} older than the destination keeps, and no others: nothing was compared")
        }
    }
}

fn rejected(context: &Context) -> Option<String> {
    match context.rejects.rows {
        0 => None,
        1 => Some("1 row was rejected".into()),
        rows => Some(format!("{} rows were rejected", figure(rows))),
    }
}

/// Why the result is not the whole truth.
fn incomplete(context: &Context, outcome: &verify::Outcome) -> Vec<String> {
    let counts = outcome.counts;
    let mut reasons: Vec<String> = rejected(context).into_iter().collect();
    reasons.extend(context.unread.iter().map(|remark| format!("not read: {remark}")));
    if context.expired.asked_for {
        reasons.extend(context.expired.remarks());
    }
    if counts.unprovable > 0 {
        let cells = cells(counts.unprovable);
        let what = "in series that queries of the server cannot show: unprovable";
        reasons.push(format!("{cells} {what}"));
    }
    if counts.unstable > 0 {
        let cells = cells(counts.unstable);
        let what = "in places that changed while they were read: unstable; run again, or set --end";
        reasons.push(format!("{cells} {what}"));
    }
    if outcome.read_once > 0 {
        let cells = cells(outcome.read_once);
        reasons.push(format!(
            "{cells} differ in places that were read once only, since more than {} differed: they may have \
             been on their way (name a shorter window)",
            figure(verify::PLACES_MAX as u64)
        ));
    }
    let explained = counts.different()
        + counts.unresolved
        + counts.unprovable
        + counts.unstable
        + counts.expired
        > 0;
    if outcome.source != outcome.destination && !explained {
        reasons.push("the digests differ and no cell was found that does: a defect".into());
    }
    reasons
}

fn unresolved(count: u64) -> String {
    let cells = cells(count);
    format!(
        "the sides differ in places with {cells}, which a digest file cannot tell apart: compare with the \
         source itself, or a backup of it"
    )
}

fn cells(count: u64) -> String {
    if count == 1 { "1 cell".to_owned() } else { format!("{} cells", figure(count)) }
}

fn build(
    command: &'static str,
    context: Context,
    outcome: verify::Outcome,
    sent: Option<copy::Sent>,
    verdict: Verdict,
    reasons: Vec<String>,
    next: Option<String>,
) -> Report {
    let mut not_covered = context.not_covered;
    not_covered.extend(context.expired.remarks());
    Report {
        version: 1,
        command,
        verdict,
        exit_status: verdict.exit_status(),
        reasons,
        source: context.source,
        destination: context.destination,
        insecure: context.insecure,
        start: context.window.start,
        end: context.window.end,
        not_covered,
        expired: context.expired,
        created: Vec::new(),
        settings_differ: Vec::new(),
        counts: outcome.counts,
        read_again: outcome.read_again,
        read_once: outcome.read_once,
        causes: causes::of(&outcome),
        sent,
        pace: None,
        accounts: None,
        types_rejected: 0,
        forecast: None,
        types: Vec::new(),
        lines: context.lines,
        rejected_series: context.rejects.series.iter().map(RejectedSeries::of).collect(),
        rejected_elsewhere: context.rejects.elsewhere,
        rejected: context.rejects.reasons,
        reject_file: context.rejects.file.map(|file| file.display().to_string()),
        undo_file: None,
        source_digest: Digest::of(outcome.source),
        destination_digest: Digest::of(outcome.destination),
        places: outcome.places.iter().map(place).collect(),
        cells: outcome.cells.iter().map(cell).collect(),
        resumed: None,
        repair: None,
        seconds: context.elapsed.as_secs_f64(),
        next,
        made: journal::now(),
        gapless: env!("CARGO_PKG_VERSION"),
        arguments: context.command,
        timeline: Timeline::of(&outcome.timeline),
        agreement: Agreement::of(&outcome),
        throughput: context.throughput,
    }
}

/// JSON, ended by a line feed.
fn json(report: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(report)
        .map_err(|error| ErrorKind::Data(format!("the report cannot be written: {error}")))?;
    Ok(text + "\n")
}

/// The names of a namespace, printable.
fn names(database: &str, retention_policy: &str) -> String {
    let (database, retention_policy) = (database.to_owned(), retention_policy.to_owned());
    let names = Namespace { database, retention_policy }.to_string();
    Printable(names.as_bytes()).to_string()
}

impl Digest {
    fn of(node: Node) -> Self {
        Self { digest: node.to_string(), node }
    }
}

fn place(finding: &PlaceFinding) -> Place {
    Place {
        database: finding.namespace.database.clone(),
        retention_policy: finding.namespace.retention_policy.clone(),
        series: finding.series.as_ref().map_or_else(
            || format!("(a series that is gone, hash {:032x})", finding.hash.0),
            ToString::to_string,
        ),
        start: finding.window.start,
        end: finding.window.end,
        counts: finding.counts,
        proven: finding.proven,
        read_once: finding.read_once,
    }
}

fn cell(finding: &CellFinding) -> Cell {
    let value = |value: &Option<OwnedValue>| value.as_ref().map(|value| print_value(value.value()));
    Cell {
        database: finding.namespace.database.clone(),
        retention_policy: finding.namespace.retention_policy.clone(),
        series: finding.series.to_string(),
        field: Printable(&finding.field).to_string(),
        time: finding.time,
        class: finding.class,
        source: value(&finding.source),
        destination: value(&finding.destination),
    }
}

impl Report {
    /// The report as JSON, ended by a line feed.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn json(&self) -> Result<String> {
        json(self)
    }
}
