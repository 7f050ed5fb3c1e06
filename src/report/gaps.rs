//! The report of `gaps`: windows, writers, and what fills them.

use super::text::figure;
use super::{
    Agreement, Context, Digest, Place, Printed, cells, html, incomplete, json, next, place,
};
use crate::compare::Counts;
use crate::error::{ErrorKind, Result};
use crate::gaps::{Bucket, Found, Gap, LOOKED_MAX, Writer, WriterGap};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::verify;
use crate::window::{Window, format_time};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// Windows, and writers, that are printed.
const SHOWN: usize = 20;
/// Windows, and writers, that are listed in JSON.
const LISTED: usize = 10_000;

/// What `gaps` found.
#[derive(Debug, Serialize)]
pub struct Gaps {
    /// Version of this structure.
    pub version: u32,
    /// `gaps`.
    pub command: &'static str,
    /// `gaps`, `no_gaps` or `incomplete`.
    pub verdict: &'static str,
    /// Exit status of the command.
    pub exit_status: u8,
    /// Why the verdict is no better, one reason a line.
    pub reasons: Vec<String>,
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// First nanosecond of the window.
    pub start: i64,
    /// First nanosecond after the window.
    pub end: i64,
    /// Only the window that the operator gave was compared.
    pub partial: bool,
    /// What lies outside of what was compared, one remark a line.
    pub not_covered: Vec<String>,
    /// Cells by class.
    pub counts: Counts,
    /// Nanoseconds that were told apart.
    pub bucket: i64,
    /// Windows in which the destination lacks something or holds something else.
    pub windows: Vec<GapWindow>,
    /// The tag that tells writers apart.
    pub by: String,
    /// When the writers that had a gap were switched to both sides.
    pub switched: Option<Switched>,
    /// Writers that lack something.
    pub writers: Vec<WriterWindow>,
    /// Cells that the destination seems to hold with another time, less than a second away.
    pub shifted: u64,
    /// Digest of all that the source holds in the scope.
    pub source_digest: Digest,
    /// Digest of all that the destination holds in the scope.
    pub destination_digest: Digest,
    /// Seconds from the first byte read to the verdict.
    pub seconds: f64,
    /// The next command to run, where something is wrong.
    pub next: Option<String>,
    /// Places that differ, up to a limit: what the page draws.
    #[serde(skip)]
    pub(super) places: Vec<Place>,
    /// Where the sides agree, of the series that differ.
    #[serde(skip)]
    pub(super) agreement: Agreement,
    /// What was typed behind the program's name.
    #[serde(skip)]
    pub(super) arguments: Vec<String>,
}

/// One window.
#[derive(Debug, Serialize)]
pub struct GapWindow {
    /// Database, as the source names it.
    pub database: String,
    /// Retention policy, as the source names it.
    pub retention_policy: String,
    /// First nanosecond.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
    /// Cells that the destination lacks.
    pub missing: u64,
    /// Cells that it holds with another value or type.
    pub changed: u64,
    /// Cells of hours that differ and that a digest file cannot tell apart.
    #[serde(skip_serializing_if = "super::no_cells")]
    pub unresolved: u64,
}

/// When writers were switched: the ends of their last runs of three buckets or more that only the source
/// holds.
#[derive(Debug, Serialize)]
pub struct Switched {
    /// The first, nanoseconds.
    pub earliest: i64,
    /// The middle one, nanoseconds.
    pub median: i64,
    /// The last, nanoseconds.
    pub latest: i64,
    /// Writers that were switched.
    pub writers: u64,
    /// Writers of which the source holds nothing behind their run, by name.
    pub not_switched: Vec<String>,
    /// Writers at which nobody looked, because there are too many.
    #[serde(skip_serializing_if = "super::no_cells")]
    pub unknown: u64,
}

/// One writer.
#[derive(Debug, Serialize)]
pub struct WriterWindow {
    /// Database, as the source names it.
    pub database: String,
    /// Retention policy, as the source names it.
    pub retention_policy: String,
    /// The value of the tag, printable; absent where its series have no such tag.
    pub writer: Option<String>,
    /// First nanosecond of its first bucket that differs.
    pub start: i64,
    /// First nanosecond after its last one.
    pub end: i64,
    /// The end of its last run that only the source holds.
    pub switched: Option<i64>,
    /// The source holds nothing behind that run.
    pub not_switched: bool,
    /// Cells that the destination lacks.
    pub missing: u64,
    /// Cells that it holds with another value or type.
    pub changed: u64,
    /// Cells that differ behind that run: losses, and no gap.
    pub lost_later: u64,
}

/// Whether something is to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Nothing is missing.
    Nothing,
    /// Something is.
    Wanted,
    /// Something is, and would be there twice.
    Shifted,
}

impl Gaps {
    /// The report of what was found. `writable` says that a copy could fill it.
    #[must_use]
    pub fn of(
        context: Context,
        outcome: &verify::Outcome,
        found: &Found,
        by: &str,
        writable: bool,
    ) -> Self {
        let counts = outcome.counts;
        let mut reasons = incomplete(&context, outcome);
        if counts.source == 0 && counts.destination == 0 {
            reasons.push("the window holds nothing on either side: nothing was compared".into());
        }
        let is_gap = counts.missing_in_destination + counts.changed() + counts.unresolved > 0;
        let (verdict, exit_status) = match (is_gap, reasons.is_empty()) {
            (true, _) => ("gaps", 1),
            (false, true) => ("no_gaps", 0),
            (false, false) => ("incomplete", 3),
        };
        if found.shifted > 0 {
            reasons.push(shifted(found.shifted));
        }
        let fill = writable && counts.missing_in_destination > 0;
        let next = fill.then(|| next::rerun(&context.command, "gaps", Some("--copy"))).flatten();
        let mut windows: Vec<GapWindow> = found.gaps.iter().map(GapWindow::of).collect();
        if found.gaps.is_empty() {
            windows = by_hours(outcome);
        }
        windows.sort_by(|one, two| one.order().cmp(&two.order()));
        windows.truncate(LISTED);
        let listed: u64 =
            windows.iter().map(|one| one.missing + one.changed + one.unresolved).sum();
        let gone = counts.missing_in_destination + counts.changed() + counts.unresolved;
        if listed < gone {
            reasons.push(format!(
                "the windows below are not all: they hold {} of the {} cells that the destination lacks \
                 or holds otherwise",
                figure(listed),
                figure(gone)
            ));
        }
        Self {
            version: 1,
            command: "gaps",
            verdict,
            exit_status,
            reasons,
            source: context.source,
            destination: context.destination,
            start: context.window.start,
            end: context.window.end,
            partial: false,
            not_covered: context.not_covered,
            counts,
            bucket: found.bucket,
            windows,
            by: by.to_owned(),
            switched: Switched::of(&found.writers),
            writers: found.writers.iter().take(LISTED).map(WriterWindow::of).collect(),
            shifted: found.shifted,
            source_digest: Digest::of(outcome.source),
            destination_digest: Digest::of(outcome.destination),
            seconds: context.elapsed.as_secs_f64(),
            next,
            places: outcome.places.iter().map(place).collect(),
            agreement: Agreement::of(outcome),
            arguments: context.command,
        }
    }

    /// The same, where the operator gave the window: what changed outside of it nobody looked for.
    #[must_use]
    pub fn of_a_window_alone(mut self) -> Self {
        self.partial = true;
        self.reasons.push(
            "partial coverage: only the given window was compared; points that came late, were \
             overwritten or deleted outside of it are not seen"
                .into(),
        );
        if self.exit_status == 0 {
            (self.verdict, self.exit_status) = ("incomplete", 3);
        }
        self
    }

    /// The verdict's word.
    pub(super) fn word(&self) -> &'static str {
        match self.verdict {
            "gaps" => "GAPS",
            "no_gaps" => "NO GAPS",
            _ => "INCOMPLETE",
        }
    }

    /// Whether something is to be filled.
    #[must_use]
    pub fn fill(&self, send_shifted: bool) -> Fill {
        match self.counts.missing_in_destination {
            0 => Fill::Nothing,
            _ if self.shifted > 0 && !send_shifted => Fill::Shifted,
            _ => Fill::Wanted,
        }
    }

    /// The same, where nothing was filled although that was asked for.
    #[must_use]
    pub fn refused(mut self) -> Self {
        self.reasons.insert(0, "nothing was copied: points would be there twice".into());
        self.exit_status = 3;
        self.next = Some(
            "exclude these series (--exclude, --tag), or take the doubles with --send-shifted"
                .into(),
        );
        self
    }

    /// The report as it is given out.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn printed(&self) -> Result<Printed> {
        let (text, json) = (self.to_string(), json(self)?);
        let html = html::page_of_gaps(self, None);
        Ok(Printed { text, json, html, exit_status: self.exit_status })
    }

    /// The report with that of the copy that filled what was found; its verdict counts.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn with_copy(&self, copied: &Printed) -> Result<Printed> {
        let parsed: serde_json::Value = serde_json::from_str(&copied.json)
            .map_err(|error| ErrorKind::Data(format!("the report cannot be read: {error}")))?;
        let exit_status = match copied.exit_status {
            0 if self.partial => 3,
            status => status,
        };
        let both = serde_json::json!({
            "command": "gaps", "exit_status": exit_status, "gaps": self, "copy": parsed,
        });
        let found = self.to_string();
        // What follows says what to do next.
        let found = found.lines().filter(|line| !line.starts_with("  next: "));
        let found: String = found.flat_map(|line| [line, "\n"]).collect();
        let text = format!("{found}{}", copied.text);
        let html = html::page_of_gaps(self, Some((&copied.text, exit_status)));
        Ok(Printed { text, json: json(&both)?, html, exit_status })
    }
}

impl GapWindow {
    fn of(gap: &Gap) -> Self {
        Self::new(&gap.namespace, gap.window, gap.cells, 0)
    }

    fn new(namespace: &Namespace, window: Window, cells: Bucket, unresolved: u64) -> Self {
        Self {
            database: namespace.database.clone(),
            retention_policy: namespace.retention_policy.clone(),
            start: window.start,
            end: window.end,
            missing: cells.missing,
            changed: cells.changed,
            unresolved,
        }
    }

    fn order(&self) -> (&str, &str, i64) {
        (&self.database, &self.retention_policy, self.start)
    }
}

/// Hours, days and minutes that differ where a digest file stands for a side, of which no cell is shown;
/// joined where they follow each other or meet.
fn by_hours(outcome: &verify::Outcome) -> Vec<GapWindow> {
    let mut hours: BTreeMap<(&Namespace, i64), (i64, Bucket, u64)> = BTreeMap::new();
    let empty = || (i64::MIN, Bucket::default(), 0);
    for place in &outcome.places {
        let counts = place.counts;
        if counts.missing_in_destination + counts.changed() + counts.unresolved > 0 {
            let hour = hours.entry((&place.namespace, place.window.start)).or_insert_with(empty);
            hour.0 = hour.0.max(place.window.end);
            hour.1.missing += counts.missing_in_destination;
            hour.1.changed += counts.changed();
            hour.2 += counts.unresolved;
        }
    }
    let mut windows: Vec<GapWindow> = Vec::new();
    for ((namespace, start), (end, cells, unresolved)) in hours {
        let here = (&*namespace.database, &*namespace.retention_policy);
        match windows.last_mut() {
            Some(last)
                if last.end >= start && (&*last.database, &*last.retention_policy) == here =>
            {
                last.end = last.end.max(end);
                last.missing += cells.missing;
                last.changed += cells.changed;
                last.unresolved += unresolved;
            }
            _ => windows.push(GapWindow::new(namespace, Window { start, end }, cells, unresolved)),
        }
    }
    windows
}

impl Switched {
    fn of(writers: &[WriterGap]) -> Option<Self> {
        let (not, switched): (Vec<_>, Vec<_>) = writers
            .iter()
            .filter(|writer| writer.switched.is_some())
            .partition(|writer| writer.is_not_switched());
        let mut times: Vec<i64> = switched.iter().filter_map(|writer| writer.switched).collect();
        times.sort_unstable();
        let unknown = switched.iter().filter(|writer| writer.goes_on.is_none()).count() as u64;
        let mut not_switched: Vec<String> = not.iter().map(|one| name(&one.writer)).collect();
        not_switched.sort();
        not_switched.dedup();
        if times.is_empty() && not_switched.is_empty() {
            return None;
        }
        let at = |place: usize| times.get(place).copied().unwrap_or_default();
        Some(Self {
            earliest: at(0),
            median: at(times.len().saturating_sub(1) / 2),
            latest: at(times.len().saturating_sub(1)),
            writers: times.len() as u64,
            not_switched,
            unknown,
        })
    }
}

impl WriterWindow {
    fn of(gap: &WriterGap) -> Self {
        Self {
            database: gap.namespace.database.clone(),
            retention_policy: gap.namespace.retention_policy.clone(),
            writer: gap.writer.as_deref().map(|name| Printable(name).to_string()),
            start: gap.window.start,
            end: gap.window.end,
            switched: gap.switched,
            not_switched: gap.is_not_switched(),
            missing: gap.cells.missing,
            changed: gap.cells.changed,
            lost_later: gap.lost_later,
        }
    }
}

fn name(writer: &Writer) -> String {
    writer.as_deref().map_or_else(|| "(none)".to_owned(), |name| Printable(name).to_string())
}

fn shifted(count: u64) -> String {
    format!(
        "{} seem to be at the destination with another time, less than a second away: clients wrote \
         them without timestamps, and a copy would double them",
        cells(count)
    )
}

impl Display for Gaps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (word, counts) = (self.word(), self.counts);
        writeln!(
            f,
            "{word}   {} of {} cells are missing at the destination   {} windows",
            figure(counts.missing_in_destination),
            figure(counts.source),
            figure(self.windows.len() as u64)
        )?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  {reason}"))?;
        for window in self.windows.iter().take(SHOWN) {
            writeln!(f, "  {window}")?;
        }
        if self.windows.len() > SHOWN {
            let more = figure((self.windows.len() - SHOWN) as u64);
            writeln!(f, "  … and {more} more windows: --report FILE.json lists them")?;
        }
        self.writers(f)?;
        writeln!(f, "  window {}", Window { start: self.start, end: self.end })?;
        self.not_covered.iter().try_for_each(|remark| writeln!(f, "  not covered: {remark}"))?;
        self.next.iter().try_for_each(|next| writeln!(f, "  next: {next}"))
    }
}

impl Gaps {
    fn writers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(switched) = &self.switched {
            if switched.writers > 0 {
                writeln!(
                    f,
                    "  writers by tag {}: {} were switched   earliest {}   median {}   latest {}",
                    self.by,
                    figure(switched.writers),
                    format_time(switched.earliest),
                    format_time(switched.median),
                    format_time(switched.latest)
                )?;
            }
            let names = &switched.not_switched;
            if !names.is_empty() {
                let more = if names.len() > SHOWN { ", …" } else { "" };
                let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
                writeln!(f, "  not yet switched ({}): {shown}{more}", names.len())?;
            }
            if switched.unknown > 0 {
                let unknown = figure(switched.unknown);
                writeln!(
                    f,
                    "  only {LOOKED_MAX} writers were looked at; of {unknown} it is not known"
                )?;
            }
        }
        let lost: u64 = self.writers.iter().map(|writer| writer.lost_later).sum();
        if lost > 0 {
            writeln!(f, "  {} lost apart from these gaps", cells(lost))?;
        }
        Ok(())
    }
}

impl Display for GapWindow {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let namespace = Namespace {
            database: self.database.clone(),
            retention_policy: self.retention_policy.clone(),
        };
        let window = Window { start: self.start, end: self.end };
        write!(f, "{namespace}   {window}   missing {}", figure(self.missing))?;
        if self.changed > 0 {
            write!(f, "   changed {}", figure(self.changed))?;
        }
        if self.unresolved > 0 {
            write!(f, "   in hours that differ {}", figure(self.unresolved))?;
        }
        Ok(())
    }
}
