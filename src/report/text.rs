//! The report as text for a terminal or a log: the verdict first, the next command last, and little
//! enough between them that both are seen.

use super::stretch::worst_first;
use super::{Cell, Forecast, Report, TypeConflict, Verdict};
use crate::compare::{Class, Counts, Proven};
use crate::copy::Sent;
use crate::http::Summary;
use crate::window::{Window, format_time};
use std::fmt::{self, Display, Formatter, Write};

/// Stretches of series and time that are listed.
const STRETCHES_SHOWN: usize = 20;
/// Cells that are listed.
const CELLS_SHOWN: usize = 20;
/// Type conflicts that are listed.
const TYPES_SHOWN: usize = 20;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.word();
        let share = match self.verdict {
            Verdict::Counted | Verdict::Sent | Verdict::Planned => {
                format!("{} cells", figure(self.counts.source))
            }
            _ => share(self.counts, self.types_rejected),
        };
        let (minutes, seconds) = split_minutes(self.seconds);
        writeln!(
            f,
            "{verdict}   {} -> {}   {share}   {minutes}:{seconds:04.1}",
            self.source, self.destination
        )?;
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        self.counted(f)?;
        for cause in &self.causes {
            writeln!(f, "  suspected cause: {cause}")?;
        }
        self.differences(f)?;
        self.details(f)?;
        if let Some(next) = &self.next {
            writeln!(f, "  next: {next}")?;
        }
        Ok(())
    }
}

impl Report {
    fn counted(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if matches!(self.verdict, Verdict::Counted | Verdict::Sent) {
            return Ok(());
        }
        let counts = self.counts;
        writeln!(
            f,
            "  matched {}   {}   unprovable {}",
            figure(counts.matched),
            all_classes(counts),
            figure(counts.unprovable)
        )
    }

    fn differences(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let stretches = worst_first(&self.places);
        let mut shown = 0;
        for stretch in stretches.iter().take(STRETCHES_SHOWN) {
            let (name, window) = (stretch.name(), stretch.window());
            let proven = stretch.first.proven.map_or_else(String::new, describe_proven);
            writeln!(f, "  {name}   {window}   {}{proven}", classes(stretch.counts))?;
            let inside = |cell: &&Cell| stretch.holds(cell);
            for cell in self.cells.iter().filter(inside).take(CELLS_SHOWN - shown) {
                writeln!(f, "    {}", describe(cell))?;
                shown += 1;
            }
        }
        if stretches.len() > STRETCHES_SHOWN {
            let more = stretches.len() - STRETCHES_SHOWN;
            writeln!(
                f,
                "  … and at least {} more: --report FILE.html shows them, FILE.json lists them",
                figure(more as u64)
            )?;
        }
        Ok(())
    }

    fn details(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(repair) = &self.repair {
            write!(f, "{repair}")?;
        }
        if let Some(sent) = &self.sent {
            match self.verdict {
                Verdict::Counted => writeln!(f, "  read {} rows", figure(sent.rows))?,
                Verdict::Planned => writeln!(f, "  {}", planned_line(sent))?,
                _ => writeln!(f, "  {}", sent_line(sent))?,
            }
        }
        for line in self.pace.iter().flat_map(pace_lines) {
            writeln!(f, "  {line}")?;
        }
        if let Some(resumed) = self.resumed.filter(|resumed| resumed.proven_before > 0) {
            writeln!(
                f,
                "  {} of {} partitions were proven by earlier runs, since {}, and not sent again",
                figure(resumed.proven_before),
                figure(resumed.partitions),
                format_time(resumed.begun)
            )?;
        }
        for conflict in self.types.iter().take(TYPES_SHOWN) {
            writeln!(f, "  {}", describe_types(conflict))?;
        }
        if self.read_again.places > 0 {
            writeln!(
                f,
                "  read again {} places of a series and time   cells read for that {}",
                figure(self.read_again.places),
                figure(self.read_again.cells)
            )?;
        }
        if let Some(lines) = &self.lines {
            writeln!(
                f,
                "  rows read {}   superseded {}   outside the window {}   rejected {}",
                figure(lines.rows),
                figure(lines.superseded),
                figure(lines.outside_window),
                figure(lines.rejected)
            )?;
            if lines.other_namespaces > 0 {
                let rows = figure(lines.other_namespaces);
                writeln!(f, "  rows of other databases and RPs, left out: {rows}")?;
            }
        }
        self.digests(f)?;
        let window = Window { start: self.start, end: self.end };
        writeln!(f, "  window {window}")?;
        for remark in &self.not_covered {
            writeln!(f, "  not covered: {remark}")?;
        }
        let created = if self.verdict == Verdict::Planned { "would create" } else { "created" };
        for statement in &self.created {
            writeln!(f, "  {created}: {statement}")?;
        }
        for line in &self.settings_differ {
            writeln!(f, "  settings differ: {line}")?;
        }
        for (reason, rows) in &self.rejected {
            writeln!(f, "  rejected {}: {reason}", figure(*rows))?;
        }
        if let Some(file) = &self.reject_file {
            writeln!(f, "  rejected rows are in {file}")?;
        }
        if let Some(file) = &self.undo_file {
            writeln!(f, "  what was created is listed in {file}")?;
        }
        if let Some(Forecast { seconds, cells_per_second }) = self.forecast {
            let (minutes, seconds) = split_minutes(seconds);
            writeln!(
                f,
                "  forecast about {minutes}:{seconds:02.0}, if the destination takes {} cells a second",
                figure(cells_per_second)
            )?;
        }
        Ok(())
    }

    fn digests(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (source, destination) = (&self.source_digest.digest, &self.destination_digest.digest);
        if self.verdict == Verdict::Counted {
            writeln!(f, "  digest {source} of what was read; nothing was stored or compared")
        } else if self.verdict == Verdict::Sent {
            writeln!(f, "  digest {source} of what was read")
        } else if self.verdict == Verdict::Planned {
            writeln!(f, "  digest {source} of what was read; nothing was written")
        } else if self.verdict == Verdict::Cast && source == destination {
            writeln!(f, "  digest {source} on both sides, with what was cast as it was cast")
        } else if source == destination {
            writeln!(f, "  digest {source} on both sides")
        } else {
            writeln!(f, "  digest {source} at the source, {destination} at the destination")
        }
    }
}

fn describe_types(conflict: &TypeConflict) -> String {
    let losing: Vec<String> =
        conflict.losing.iter().map(|(one, count)| format!("{} {one}", figure(*count))).collect();
    let group = Window { start: conflict.start, end: conflict.end };
    format!(
        "types: {} of {} in {}, shard group {group}: {} kept, {} not",
        conflict.field,
        conflict.measurement,
        conflict.namespace,
        conflict.kept,
        losing.join(" and ")
    )
}

fn planned_line(sent: &Sent) -> String {
    format!(
        "would send {} cells in {} rows, {} bytes, {} requests   already there {}   will be refused {}",
        figure(sent.cells),
        figure(sent.rows),
        figure(sent.bytes),
        figure(sent.requests),
        figure(sent.already_there),
        figure(sent.rejected)
    )
}

pub(super) fn sent_line(sent: &Sent) -> String {
    let mut line = format!(
        "sent {} cells in {} rows   already there {}   rejected {}   requests {}",
        figure(sent.cells),
        figure(sent.rows),
        figure(sent.already_there),
        figure(sent.rejected),
        figure(sent.requests)
    );
    for (name, count) in [
        ("retries", sent.retries),
        ("lost", sent.lost),
        ("lost by a restart and repeated", sent.repeated),
    ] {
        if count > 0 {
            // Writing to a String cannot fail.
            let _infallible = write!(line, "   {name} {}", figure(count));
        }
    }
    line
}

/// What there is to say of the pace, where it was not the one that was asked for.
pub(super) fn pace_lines(pace: &Summary) -> Vec<String> {
    let mut lines = Vec::new();
    if !pace.backoffs.is_empty() {
        let reasons: Vec<String> =
            pace.backoffs.iter().map(|(why, count)| format!("{why} {}", figure(*count))).collect();
        let mut line = format!(
            "backed off {} ({})   requests at once at the end {}",
            figure(pace.backoffs.values().sum()),
            reasons.join(", "),
            pace.at_once
        );
        if let Some(bytes) = pace.batch_bytes {
            // Writing to a String cannot fail.
            let _infallible = write!(line, "   bytes of a batch {}", figure(bytes as u64));
        }
        lines.push(line);
    }
    for node in pace.nodes.iter().filter(|node| node.left_out > 0) {
        let out = if node.is_out { "   out at the end" } else { "" };
        lines.push(format!(
            "node {}   writes {}   left out {}{out}",
            node.node,
            figure(node.writes),
            figure(node.left_out)
        ));
    }
    lines
}

/// How much of the source is matched, never rounded up to the whole.
pub(super) fn share(counts: Counts, set_aside: u64) -> String {
    let all = counts.source + set_aside;
    let cells = figure(all);
    if all == 0 {
        return "0 cells".into();
    }
    if counts.matched == all {
        return format!("100 % of {cells} cells");
    }
    // In hundredths of a percent, rounded down.
    let share = u128::from(counts.matched) * 10_000 / u128::from(all);
    format!("{}.{:02} % of {cells} cells", share / 100, share % 100)
}

/// Classes that are shown only where there are cells of them: few commands meet them.
const SELDOM: [&str; 3] = ["unresolved", "transient", "expired"];

pub(super) fn named(counts: Counts) -> [(&'static str, u64); 8] {
    [
        ("missing_in_destination", counts.missing_in_destination),
        ("extra_in_destination", counts.extra_in_destination),
        ("value_changed", counts.value_changed),
        ("type_changed", counts.type_changed),
        ("unstable", counts.unstable),
        ("unresolved", counts.unresolved),
        ("transient", counts.transient),
        ("expired", counts.expired),
    ]
}

/// Every class, but for those that are seldom met where they are empty.
fn all_classes(counts: Counts) -> String {
    let listed =
        named(counts).into_iter().filter(|(name, count)| *count > 0 || !SELDOM.contains(name));
    listed.map(|(name, count)| format!("{name} {}", figure(count))).collect::<Vec<_>>().join("   ")
}

pub(super) fn classes(counts: Counts) -> String {
    let some = named(counts).into_iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{name} {}", figure(count))).collect::<Vec<_>>().join("   ")
}

fn describe_proven(proven: Proven) -> String {
    let at_least = |more: u64, where_| format!("at least {} {where_}", figure(more));
    let what = match proven {
        Proven::ValuesDiffer => "the same cells, at least 1 with another value or type".into(),
        Proven::SameCells => "the others are the same cells, their values are not compared".into(),
        Proven::OtherCells => "as many cells, but other ones".into(),
        Proven::SourceHasMore(more) => at_least(more, "missing in the destination"),
        Proven::DestinationHasMore(more) => at_least(more, "extra in the destination"),
    };
    format!(" ({what})")
}

fn describe(cell: &Cell) -> String {
    let none = || "nothing".to_owned();
    let source = cell.source.clone().unwrap_or_else(none);
    let destination = cell.destination.clone().unwrap_or_else(none);
    let class = class_name(cell.class);
    let time = format_time(cell.time);
    if cell.source.is_none() && cell.destination.is_none() {
        return format!("{} at {time}: {class}, with a value that is not known", cell.field);
    }
    format!("{} at {time}: {class}: source {source}, destination {destination}", cell.field)
}

/// A class as reports name it.
pub(super) fn class_name(class: Class) -> &'static str {
    match class {
        Class::MissingInDestination => "missing_in_destination",
        Class::ExtraInDestination => "extra_in_destination",
        Class::ValueChanged => "value_changed",
        Class::TypeChanged => "type_changed",
    }
}

/// The lines that say what a list of counts or digests does not hold.
pub(super) fn left_out(
    f: &mut Formatter<'_>,
    rejected: u64,
    list: &str,
    not_covered: &[String],
) -> fmt::Result {
    if rejected > 0 {
        writeln!(f, "rejected {}: they are in no {list}", figure(rejected))?;
    }
    not_covered.iter().try_for_each(|remark| writeln!(f, "not covered: {remark}"))
}

/// A count with a comma every three digits.
#[must_use]
pub fn figure(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn split_minutes(seconds: f64) -> (f64, f64) {
    ((seconds / 60.0).floor(), seconds % 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_commas() {
        assert_eq!(figure(0), "0");
        assert_eq!(figure(999), "999");
        assert_eq!(figure(365_509), "365,509");
        assert_eq!(figure(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn a_share_below_the_whole_is_never_called_100_percent() {
        let counts = Counts { source: 1_000_000, matched: 999_999, ..Counts::default() };
        assert_eq!(share(counts, 0), "99.99 % of 1,000,000 cells");
        assert_eq!(
            share(Counts { source: 1, matched: 1, ..Counts::default() }, 1),
            "50.00 % of 2 cells"
        );
    }
}
