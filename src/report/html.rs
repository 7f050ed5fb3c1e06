//! The report as a page: one file that needs nothing but itself.
//!
//! No script, no font, no image, and a policy that forbids the browser to load any. Everything from
//! outside is escaped. Whatever the report holds, the page stays below [`BYTES_MAX`]: names are cut,
//! lists and tables end early, and say so. The order is that of the text.

mod axis;
mod escape;
mod gaps;
mod heat;
mod kind;
mod lines;
mod repair;
mod tables;

pub(super) use self::gaps::page as page_of_gaps;

use self::escape::Safe;
use self::lines::moment;
use super::next::quote;
use super::text::{figure, pace_lines, sent_line, share};
use super::{Report, Verdict};
use crate::compare::Counts;
use crate::window::Window;
use std::fmt::{self, Write};

/// A page is smaller than this.
const BYTES_MAX: usize = 2_000_000;
/// Bytes of one remark.
const REMARK_BYTES: usize = 800;
/// Remarks of one list.
const REMARKS_MAX: usize = 40;
/// Bytes of the name of a side.
const SIDE_BYTES: usize = 2_000;
/// Bytes of a command line.
const COMMAND_BYTES: usize = 20_000;
/// Bytes of a text that was kept.
const KEPT_BYTES: usize = 800_000;

const STYLE: &str = include_str!("html/style.css");

/// The page of a report.
pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_page(&mut out, report);
    // The limits of its parts keep it smaller; this holds whatever becomes of them.
    if out.len() < BYTES_MAX {
        out
    } else {
        page_of_text(&report.to_string(), "", report.exit_status)
    }
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let (source, destination) = (&report.source, &report.destination);
    head(out, &format!("{}: {source} → {destination}", report.verdict.word()))?;
    out.write_str(kind::PATTERNS)?;
    verdict(out, report)?;
    out.write_str("<main>\n")?;
    scope(out, report)?;
    counts(out, report)?;
    section_of(out, "causes", "Suspected causes", &report.causes)?;
    differences(out, report)?;
    report.repair.iter().try_for_each(|repair| repair::section(out, repair))?;
    next(out, report.next.as_deref())?;
    course(out, report)?;
    settings(out, report)?;
    digests(out, report)?;
    out.write_str("</main>\n")?;
    foot(out, &format!("gapless {}", report.gapless))
}

/// The page of a report of which only text and JSON were kept.
pub(super) fn page_of_text(text: &str, json: &str, exit_status: u8) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_text(&mut out, text, json, exit_status);
    out
}

fn write_text(out: &mut String, text: &str, json: &str, exit_status: u8) -> fmt::Result {
    let word = text.split_whitespace().next().unwrap_or("Report");
    head(out, word)?;
    let (class, sign) = look(exit_status, DIFFERENT);
    write!(
        out,
        "<header class=\"verdict {class}\"><h1><span class=\"sign\" aria-hidden=\"true\">{sign}</span> \
         {}</h1></header>\n<main>\n",
        Safe(word, 100)
    )?;
    out.write_str("<section><h2>Report</h2><pre>")?;
    lines_of(out, text)?;
    out.write_str(
        "</pre></section>\n<section><h2>For programs</h2><details><summary>JSON</summary><pre>",
    )?;
    lines_of(out, json)?;
    out.write_str("</pre></details></section>\n</main>\n")?;
    foot(out, concat!("gapless ", env!("CARGO_PKG_VERSION")))
}

/// The lines of a text, as far as there is room.
fn lines_of(out: &mut String, text: &str) -> fmt::Result {
    let end = out.len() + KEPT_BYTES;
    for line in text.lines() {
        let Some(room) = end.checked_sub(out.len()) else { return out.write_str("…") };
        writeln!(out, "{}", Safe(line, room))?;
    }
    Ok(())
}

fn head(out: &mut String, title: &str) -> fmt::Result {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Safe(title, REMARK_BYTES)
    )
}

fn foot(out: &mut String, program: &str) -> fmt::Result {
    write!(
        out,
        "<footer><p>{} wrote this page. It loads nothing and runs no script.</p></footer>\n</body>\n\
         </html>\n",
        Safe(program, 100)
    )
}

/// The sign of sides that differ.
const DIFFERENT: &str = "≠";

/// How a verdict looks: its class of style, and a sign that stands beside its word; `bad` is that of
/// none that is good or unsure.
fn look(exit_status: u8, bad: &'static str) -> (&'static str, &'static str) {
    match exit_status {
        0 => ("good", "✓"),
        3 => ("unsure", "!"),
        _ => ("bad", bad),
    }
}

fn verdict(out: &mut String, report: &Report) -> fmt::Result {
    let bad = match report.verdict {
        Verdict::Different | Verdict::Conflicts => DIFFERENT,
        _ => "✗",
    };
    let (class, sign) = look(report.exit_status, bad);
    let (word, lead) = (report.verdict.word(), lead(report));
    banner(out, (class, sign), word, &lead, &report.reasons)
}

/// The top of a page: what came of it, in a word, a line, and reasons.
fn banner(
    out: &mut String,
    (class, sign): (&str, &str),
    word: &str,
    lead: &str,
    reasons: &[String],
) -> fmt::Result {
    write!(
        out,
        "<header class=\"verdict {class}\">\n<h1><span class=\"sign\" aria-hidden=\"true\">{sign}</span> \
         {word}</h1>\n<p class=\"lead\">{lead}</p>\n"
    )?;
    remarks(out, reasons)?;
    out.write_str("</header>\n")
}

/// The verdict's figure.
fn lead(report: &Report) -> String {
    match report.verdict {
        Verdict::Counted | Verdict::Sent | Verdict::Planned => {
            format!("{} cells of the source", figure(report.counts.source))
        }
        _ => format!("{} of the source matched", share(report.counts, report.types_rejected)),
    }
}

fn remarks(out: &mut String, remarks: &[String]) -> fmt::Result {
    if remarks.is_empty() {
        return Ok(());
    }
    out.write_str("<ul>\n")?;
    for remark in remarks.iter().take(REMARKS_MAX) {
        writeln!(out, "<li>{}</li>", Safe(remark, REMARK_BYTES))?;
    }
    if let Some(more) = remarks.len().checked_sub(REMARKS_MAX).filter(|more| *more > 0) {
        writeln!(out, "<li>{} more, in the JSON</li>", figure(more as u64))?;
    }
    out.write_str("</ul>\n")
}

/// A section of remarks, if there are any.
fn section_of(out: &mut String, id: &str, title: &str, list: &[String]) -> fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    writeln!(out, "<section id=\"{id}\"><h2>{title}</h2>")?;
    remarks(out, list)?;
    out.write_str("</section>\n")
}

fn term(out: &mut String, name: &str, value: impl AsRef<str>, max: usize) -> fmt::Result {
    writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Safe(value, max))
}

fn scope(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<section id=\"scope\"><h2>What was compared</h2>\n<dl>\n")?;
    term(out, "Source", &report.source, SIDE_BYTES)?;
    term(out, "Destination", &report.destination, SIDE_BYTES)?;
    let window = Window { start: report.start, end: report.end };
    term(out, "Window (UTC)", window.to_string(), SIDE_BYTES)?;
    term(out, "Report made", moment(report.made), SIDE_BYTES)?;
    term(out, "Time taken", format!("{:.1} s", report.seconds), SIDE_BYTES)?;
    if let Some(resumed) = report.resumed.filter(|resumed| resumed.proven_before > 0) {
        let proven = format!(
            "{} of {} partitions, since {}, and not sent again",
            figure(resumed.proven_before),
            figure(resumed.partitions),
            moment(resumed.begun)
        );
        term(out, "Proven by earlier runs", proven, SIDE_BYTES)?;
    }
    out.write_str("</dl>\n")?;
    not_covered(out, &report.not_covered)?;
    out.write_str("</section>\n")
}

fn not_covered(out: &mut String, list: &[String]) -> fmt::Result {
    out.write_str("<h3>Not covered</h3>\n")?;
    if list.is_empty() {
        out.write_str("<p>Nothing that lies within the window was left out.</p>\n")?;
    }
    remarks(out, list)
}

fn counts(out: &mut String, report: &Report) -> fmt::Result {
    if matches!(report.verdict, Verdict::Counted | Verdict::Sent) {
        return Ok(());
    }
    out.write_str("<section id=\"counts\"><h2>Cells</h2>\n")?;
    bar(out, report.counts)?;
    tables::counts(out, report.counts)?;
    out.write_str("</section>\n")
}

/// One bar of all cells, by class.
fn bar(out: &mut String, counts: Counts) -> fmt::Result {
    let parts = [
        ("matched", "matched", counts.matched),
        ("missing", "missing", counts.missing_in_destination),
        ("changed", "changed", counts.changed()),
        ("extra", "extra", counts.extra_in_destination),
        (
            "unstable",
            "unstable, unprovable or unresolved",
            counts.unstable + counts.unprovable + counts.unresolved,
        ),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(.., cells)| *cells > 0).collect();
    if parts.is_empty() {
        return Ok(());
    }
    let words: Vec<String> =
        parts.iter().map(|(_, words, cells)| format!("{words} {}", figure(*cells))).collect();
    let words = words.join(", ");
    write!(out, "<div class=\"bar\" role=\"img\" aria-label=\"{words}\">")?;
    for (class, name, cells) in &parts {
        let figure = figure(*cells);
        write!(
            out,
            "<span class=\"b-{class}\" style=\"flex:{cells} 0 4px\" title=\"{name} {figure}\"></span>"
        )?;
    }
    write!(out, "</div>\n<p class=\"note\">{words}</p>\n")
}

fn differences(out: &mut String, report: &Report) -> fmt::Result {
    if matches!(report.verdict, Verdict::Counted | Verdict::Sent) {
        return Ok(());
    }
    out.write_str("<section id=\"differences\"><h2>Where the sides differ</h2>\n")?;
    let counts = report.counts;
    if counts.different() + counts.unstable + counts.unresolved == 0 {
        out.write_str("<p>No difference was found.</p>\n")?;
    }
    let kept: u64 = report.places.iter().map(|place| place.counts.different()).sum();
    if kept < counts.different() {
        writeln!(
            out,
            "<p class=\"caution\">Series and hours are known for {} of the {} cells that differ: the others \
             are counted and not kept (--max-differences).</p>",
            figure(kept),
            figure(counts.different())
        )?;
    }
    let window = Window { start: report.start, end: report.end };
    heat::draw(out, &report.places, &report.agreement, window)?;
    lines::cells(out, report)?;
    tables::stretches(out, report)?;
    tables::cells(out, &report.cells)?;
    out.write_str("</section>\n")
}

fn next(out: &mut String, next: Option<&str>) -> fmt::Result {
    let Some(next) = next else { return Ok(()) };
    write!(
        out,
        "<section id=\"next\"><h2>Next command</h2>\n<pre><code>{}</code></pre></section>\n",
        Safe(next, COMMAND_BYTES)
    )
}

fn course(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<section id=\"course\"><h2>How it went</h2>\n")?;
    let mut notes: Vec<String> = report.sent.iter().map(sent_line).collect();
    notes.extend(report.pace.iter().flat_map(pace_lines));
    notes.extend(
        report
            .rejected
            .iter()
            .map(|(reason, rows)| format!("rejected {}: {reason}", figure(*rows))),
    );
    notes.extend(report.reject_file.iter().map(|file| format!("rejected rows are in {file}")));
    notes.extend(
        report.undo_file.iter().map(|file| format!("what was created is listed in {file}")),
    );
    remarks(out, &notes)?;
    lines::throughput(out, report)?;
    out.write_str("</section>\n")
}

fn settings(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<section id=\"settings\"><h2>Settings</h2>\n<pre><code>gapless")?;
    let words: Vec<String> = report.arguments.iter().map(|word| quote(word)).collect();
    writeln!(out, " {}</code></pre>", Safe(words.join(" "), COMMAND_BYTES))?;
    let created = report.created.iter().map(|statement| format!("created: {statement}"));
    let differ = report.settings_differ.iter().map(|line| format!("settings differ: {line}"));
    let notes: Vec<String> = created.chain(differ).collect();
    remarks(out, &notes)?;
    out.write_str("</section>\n")
}

fn digests(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<section id=\"digests\"><h2>Digests</h2>\n<dl>\n")?;
    let (source, destination) = (&report.source_digest.digest, &report.destination_digest.digest);
    term(out, "Source", source, 100)?;
    term(out, "Destination", destination, 100)?;
    out.write_str("</dl>\n")?;
    if matches!(report.verdict, Verdict::Counted | Verdict::Sent | Verdict::Planned) {
        out.write_str("<p>Only the source's is of what was read.</p>\n")?;
    } else if source == destination {
        out.write_str("<p>They are the same.</p>\n")?;
    } else {
        out.write_str("<p>They differ.</p>\n")?;
    }
    out.write_str("</section>\n")
}

#[cfg(test)]
mod tests;
