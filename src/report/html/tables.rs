//! Tables of the page: cells by class, the worst stretches, values that differ.

use super::escape::Safe;
use crate::compare::Counts;
use crate::report::stretch::{Stretch, worst_first};
use crate::report::text::{class_name, figure, named};
use crate::report::{Cell, Report};
use crate::window::format_time;
use std::fmt::{self, Write};

/// Rows that are seen before anything is unfolded.
const ROWS_SHOWN: usize = 20;
/// Rows of a table, and bytes of all of them.
const ROWS_MAX: usize = 1_000;
const BYTES_MAX: usize = 150_000;
/// Bytes of a name or value.
pub(super) const NAME_BYTES: usize = 400;

/// The counts by class.
pub(super) fn counts(out: &mut String, counts: Counts) -> fmt::Result {
    out.write_str(
        "<div class=\"scroll\"><table><caption>Cells by class</caption><thead><tr><th \
         scope=\"col\">Class</th><th scope=\"col\" class=\"n\">Cells</th><th scope=\"col\">What it \
         means</th></tr></thead><tbody>\n",
    )?;
    row(out, "matched", counts.matched)?;
    for (name, count) in named(counts) {
        row(out, name, count)?;
    }
    row(out, "unprovable", counts.unprovable)?;
    writeln!(
        out,
        "</tbody><tfoot><tr><th scope=\"row\">read from the source</th><td class=\"n\">{}</td><td></td></tr>\
         <tr><th scope=\"row\">read from the destination</th><td class=\"n\">{}</td><td></td></tr></tfoot>\
         </table></div>",
        figure(counts.source),
        figure(counts.destination)
    )
}

fn row(out: &mut String, name: &str, count: u64) -> fmt::Result {
    let none = if count == 0 { " class=\"none\"" } else { "" };
    let figure = figure(count);
    let meaning = meaning(name);
    writeln!(
        out,
        "<tr{none}><th scope=\"row\"><code>{name}</code></th><td class=\"n\">{figure}</td><td>{meaning}</td></tr>"
    )
}

/// What a class means. A class without words speaks for itself.
fn meaning(class: &str) -> &'static str {
    match class {
        "matched" => "the same on both sides: series, field, time, type and value, bit for bit",
        "missing_in_destination" => "at the source only",
        "extra_in_destination" => "at the destination only",
        "value_changed" => "on both sides, with another value of the same type",
        "type_changed" => "on both sides, with another type",
        "unstable" => "changed while it was read, so that nothing can be said of it",
        "unprovable" => "one side cannot show it",
        "unresolved" => "in hours that differ, where a digest file cannot tell cells apart",
        "transient" => "differed when it was read first, and agrees since: it was on its way",
        "expired" => "differs, and retention policies reached it meanwhile",
        _ => "",
    }
}

/// The stretches in which the sides differ, those with most differences first.
pub(super) fn stretches(out: &mut String, report: &Report) -> fmt::Result {
    let stretches = worst_first(&report.places);
    if stretches.is_empty() {
        return Ok(());
    }
    let used: Vec<&'static str> = {
        let mut sum = Counts::default();
        stretches.iter().for_each(|one| sum += one.counts);
        named(sum).iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect()
    };
    let mut head = String::from("<th scope=\"col\">Series</th><th scope=\"col\">Time (UTC)</th>");
    for name in &used {
        write!(head, "<th scope=\"col\" class=\"n\">{name}</th>")?;
    }
    out.write_str("<h3>Series and times that differ most</h3>\n")?;
    folded(out, ("Hours in a row of one series", &head), &stretches, |out, stretch| {
        stretch_row(out, stretch, &used)
    })
}

fn stretch_row(out: &mut String, stretch: &Stretch<'_>, used: &[&str]) -> fmt::Result {
    let (start, end) = (format_time(stretch.first.start), format_time(stretch.end));
    write!(
        out,
        "<tr><th scope=\"row\" class=\"key\">{}</th><td>{start} to {end}</td>",
        Safe(stretch.name(), NAME_BYTES)
    )?;
    for (name, count) in named(stretch.counts) {
        if used.contains(&name) {
            write!(out, "<td class=\"n\">{}</td>", figure(count))?;
        }
    }
    out.write_str("</tr>\n")
}

/// Cells that differ, with both values.
pub(super) fn cells(out: &mut String, cells: &[Cell]) -> fmt::Result {
    if cells.is_empty() {
        return Ok(());
    }
    out.write_str("<h3>Both values, where both sides hold that series and hour</h3>\n")?;
    let head = "<th scope=\"col\">Series</th><th scope=\"col\">Field</th><th scope=\"col\">Time \
                (UTC)</th><th scope=\"col\">Class</th><th scope=\"col\">Source</th><th \
                scope=\"col\">Destination</th>";
    folded(out, ("Cells that differ, in order of series and time", head), cells, cell_row)
}

fn cell_row(out: &mut String, cell: &Cell) -> fmt::Result {
    write!(
        out,
        "<tr><th scope=\"row\" class=\"key\">{}</th><td class=\"key\">{}</td><td>{}</td><td>{}</td>",
        Safe(&cell.series, NAME_BYTES),
        Safe(&cell.field, NAME_BYTES),
        format_time(cell.time),
        class_name(cell.class)
    )?;
    value(out, cell.source.as_deref())?;
    value(out, cell.destination.as_deref())?;
    out.write_str("</tr>\n")
}

/// The value of one side.
pub(super) fn value(out: &mut String, value: Option<&str>) -> fmt::Result {
    match value {
        Some(value) => write!(out, "<td class=\"key\">{}</td>", Safe(value, NAME_BYTES)),
        None => out.write_str("<td class=\"nothing\">nothing</td>"),
    }
}

/// A table whose first rows are seen and whose others are unfolded, up to a limit.
pub(super) fn folded<T>(
    out: &mut String,
    (caption, head): (&str, &str),
    rows: &[T],
    mut write_row: impl FnMut(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    let (shown, more) = rows.split_at(rows.len().min(ROWS_SHOWN));
    let more = &more[..more.len().min(ROWS_MAX - ROWS_SHOWN)];
    let end = out.len() + BYTES_MAX;
    let mut written = table(out, caption, head, shown, end, &mut write_row)?;
    if !more.is_empty() {
        writeln!(out, "<details><summary>{} more</summary>", figure(more.len() as u64))?;
        written += table(out, caption, head, more, end, &mut write_row)?;
        out.write_str("</details>\n")?;
    }
    if written < rows.len() {
        let left = figure((rows.len() - written) as u64);
        writeln!(out, "<p>{left} more are not on this page: --report FILE.json lists them.</p>")?;
    }
    Ok(())
}

/// A table of rows, up to where the page may end by now. Returns the number of rows written.
fn table<T>(
    out: &mut String,
    caption: &str,
    head: &str,
    rows: &[T],
    end: usize,
    write_row: &mut impl FnMut(&mut String, &T) -> fmt::Result,
) -> Result<usize, fmt::Error> {
    writeln!(
        out,
        "<div class=\"scroll\"><table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>"
    )?;
    let mut written = 0;
    for row in rows {
        if out.len() >= end {
            break;
        }
        write_row(out, row)?;
        written += 1;
    }
    out.write_str("</tbody></table></div>\n")?;
    Ok(written)
}
