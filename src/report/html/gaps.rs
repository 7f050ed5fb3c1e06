//! The page of `gaps`: the windows that are missing, by database and retention policy; when writers were
//! switched, and which were not; where the sides differ.

use super::escape::Safe;
use super::tables::{self, NAME_BYTES, folded};
use super::{
    BYTES_MAX, COMMAND_BYTES, DIFFERENT, SIDE_BYTES, banner, bar, foot, head, heat, kind, lines_of,
    look, next, not_covered, page_of_text, quote, remarks, term,
};
use crate::report::gaps::{GapWindow, Gaps, Switched, WriterWindow};
use crate::report::names;
use crate::report::text::figure;
use crate::window::{Window, format_time};
use std::fmt::{self, Write};

/// Bytes behind which no further namespace has a table.
const TABLES_BYTES: usize = 300_000;

/// Characters of the text of what filled the gaps.
const COPIED_CHARACTERS: usize = 32_000;

/// The text of the copy that filled the gaps, and the exit status of both.
type Copied<'a> = (&'a str, u8);

/// The page; with what filled the gaps, where that was done, whose verdict counts.
pub(in crate::report) fn page(gaps: &Gaps, copied: Option<Copied<'_>>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_page(&mut out, gaps, copied);
    // The limits of its parts keep it smaller; this holds whatever becomes of them.
    if out.len() < BYTES_MAX {
        return out;
    }
    let status = copied.map_or(gaps.exit_status, |(_, status)| status);
    page_of_text(&gaps.to_string(), "", status)
}

fn write_page(out: &mut String, gaps: &Gaps, copied: Option<Copied<'_>>) -> fmt::Result {
    let word = match copied {
        Some((text, _)) => text.split_whitespace().next().unwrap_or("COPIED"),
        None => gaps.word(),
    };
    let word = Safe(word, 100).to_string();
    head(out, &format!("{word}: {} → {}", gaps.source, gaps.destination))?;
    out.write_str(kind::PATTERNS)?;
    let status = copied.map_or(gaps.exit_status, |(_, status)| status);
    let lead = format!(
        "{} of {} cells {} missing at the destination, in {}",
        figure(gaps.counts.missing_in_destination),
        figure(gaps.counts.source),
        if copied.is_some() { "were" } else { "are" },
        counted(gaps.windows.len())
    );
    banner(out, look(status, DIFFERENT), &word, &lead, &gaps.reasons)?;
    out.write_str("<main>\n")?;
    scope(out, gaps)?;
    out.write_str("<section id=\"counts\"><h2>Cells</h2>\n")?;
    bar(out, gaps.counts)?;
    tables::counts(out, gaps.counts)?;
    out.write_str("</section>\n")?;
    windows(out, gaps)?;
    writers(out, gaps)?;
    differences(out, gaps)?;
    copied.iter().try_for_each(|(text, _)| filled(out, text))?;
    next(out, gaps.next.as_deref().filter(|_| copied.is_none()))?;
    out.write_str("<section id=\"settings\"><h2>Settings</h2>\n<pre><code>gapless")?;
    let words: Vec<String> = gaps.arguments.iter().map(|word| quote(word)).collect();
    writeln!(out, " {}</code></pre></section>", Safe(words.join(" "), COMMAND_BYTES))?;
    out.write_str("<section id=\"digests\"><h2>Digests</h2>\n<dl>\n")?;
    term(out, "Source", &gaps.source_digest.digest, 100)?;
    term(out, "Destination", &gaps.destination_digest.digest, 100)?;
    out.write_str("</dl></section>\n</main>\n")?;
    foot(out, concat!("gapless ", env!("CARGO_PKG_VERSION")))
}

fn scope(out: &mut String, gaps: &Gaps) -> fmt::Result {
    out.write_str("<section id=\"scope\"><h2>What was compared</h2>\n<dl>\n")?;
    term(out, "Source", &gaps.source, SIDE_BYTES)?;
    term(out, "Destination", &gaps.destination, SIDE_BYTES)?;
    let window = Window { start: gaps.start, end: gaps.end };
    term(out, "Window (UTC)", window.to_string(), SIDE_BYTES)?;
    term(out, "Told apart by", length(gaps.bucket), SIDE_BYTES)?;
    term(out, "Time taken", format!("{:.1} s", gaps.seconds), SIDE_BYTES)?;
    out.write_str("</dl>\n")?;
    not_covered(out, &gaps.not_covered)?;
    out.write_str("</section>\n")
}

/// The windows of each database and retention policy.
fn windows(out: &mut String, gaps: &Gaps) -> fmt::Result {
    out.write_str("<section id=\"gaps\"><h2>Gaps</h2>\n")?;
    if gaps.windows.is_empty() {
        out.write_str("<p>The destination lacks nothing.</p>\n")?;
    }
    let same = |one: &GapWindow, two: &GapWindow| {
        (&one.database, &one.retention_policy) == (&two.database, &two.retention_policy)
    };
    let groups: Vec<&[GapWindow]> = gaps.windows.chunk_by(same).collect();
    let (end, mut written) = (out.len() + TABLES_BYTES, 0);
    for group in &groups {
        let Some(first) = group.first().filter(|_| out.len() < end) else { break };
        written += 1;
        let namespace = names(&first.database, &first.retention_policy);
        let missing: u64 = group.iter().map(|window| window.missing).sum();
        writeln!(
            out,
            "<h3>{}</h3>\n<p>{}, {} cells missing.</p>",
            Safe(namespace, NAME_BYTES),
            counted(group.len()),
            figure(missing)
        )?;
        let head = "<th scope=\"col\">From (UTC)</th><th scope=\"col\">To</th><th \
                    scope=\"col\">Length</th><th scope=\"col\" class=\"n\">Missing</th><th scope=\"col\" \
                    class=\"n\">Changed</th><th scope=\"col\" class=\"n\">Unresolved</th>";
        folded(out, ("Windows, in order of time", head), group, window_row)?;
    }
    if written < groups.len() {
        let more = figure((groups.len() - written) as u64);
        writeln!(out, "<p>{more} more retention policies: --report FILE.json lists them.</p>")?;
    }
    out.write_str("</section>\n")
}

fn window_row(out: &mut String, window: &GapWindow) -> fmt::Result {
    writeln!(
        out,
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"n\">{}</td><td \
         class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        format_time(window.start),
        format_time(window.end),
        length(window.end.saturating_sub(window.start)),
        figure(window.missing),
        figure(window.changed),
        figure(window.unresolved)
    )
}

fn writers(out: &mut String, gaps: &Gaps) -> fmt::Result {
    if gaps.switched.is_none() && gaps.writers.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section id=\"writers\"><h2>Writers</h2>\n<p>Told apart by the tag <code>{}</code>.</p>",
        Safe(&gaps.by, NAME_BYTES)
    )?;
    gaps.switched.iter().try_for_each(|switched| switches(out, switched))?;
    let head = "<th scope=\"col\">Writer</th><th scope=\"col\">First difference (UTC)</th><th \
                scope=\"col\">Last</th><th scope=\"col\">Switched</th><th scope=\"col\" \
                class=\"n\">Missing</th><th scope=\"col\" class=\"n\">Changed</th><th scope=\"col\" \
                class=\"n\">Lost later</th>";
    folded(
        out,
        ("Writers of which something is missing or changed", head),
        &gaps.writers,
        writer_row,
    )?;
    out.write_str("</section>\n")
}

/// When writers were switched to both sides.
fn switches(out: &mut String, switched: &Switched) -> fmt::Result {
    out.write_str("<dl>\n")?;
    term(out, "Switched to both sides", figure(switched.writers), SIDE_BYTES)?;
    if switched.writers > 0 {
        let times = [
            ("Earliest (UTC)", switched.earliest),
            ("Median", switched.median),
            ("Latest", switched.latest),
        ];
        for (name, time) in times {
            term(out, name, format_time(time), SIDE_BYTES)?;
        }
    }
    if switched.unknown > 0 {
        let unknown = format!("{} of these: too many to look at", figure(switched.unknown));
        term(out, "Not known to write on", unknown, SIDE_BYTES)?;
    }
    out.write_str("</dl>\n")?;
    if switched.not_switched.is_empty() {
        return out.write_str("<p>No writer is known not to be switched yet.</p>\n");
    }
    let count = figure(switched.not_switched.len() as u64);
    writeln!(out, "<h3>Not yet switched: {count}</h3>\n<div class=\"caution\">")?;
    remarks(out, &switched.not_switched)?;
    out.write_str("</div>\n")
}

fn writer_row(out: &mut String, writer: &WriterWindow) -> fmt::Result {
    let namespace = names(&writer.database, &writer.retention_policy);
    let name = writer.writer.as_deref().unwrap_or("(none)");
    let switched = match (writer.not_switched, writer.switched) {
        (true, _) => "not yet".to_owned(),
        (false, Some(time)) => format_time(time),
        (false, None) => "no run of three buckets".to_owned(),
    };
    writeln!(
        out,
        "<tr><th scope=\"row\" class=\"key\">{}</th><td>{}</td><td>{}</td><td>{switched}</td><td \
         class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        Safe(format!("{namespace} {name}"), NAME_BYTES),
        format_time(writer.start),
        format_time(writer.end),
        figure(writer.missing),
        figure(writer.changed),
        figure(writer.lost_later)
    )
}

fn differences(out: &mut String, gaps: &Gaps) -> fmt::Result {
    if gaps.places.is_empty() {
        return Ok(());
    }
    out.write_str("<section id=\"differences\"><h2>Where the sides differ</h2>\n")?;
    let window = Window { start: gaps.start, end: gaps.end };
    heat::draw(out, &gaps.places, &gaps.agreement, window)?;
    out.write_str("</section>\n")
}

/// What filled the gaps.
fn filled(out: &mut String, text: &str) -> fmt::Result {
    out.write_str("<section id=\"copied\"><h2>What was copied</h2>\n<pre>")?;
    match text.char_indices().nth(COPIED_CHARACTERS) {
        Some((end, _)) => lines_of(out, &text[..end])?,
        None => lines_of(out, text)?,
    }
    out.write_str("</pre></section>\n")
}

/// So many windows.
fn counted(windows: usize) -> String {
    match windows {
        1 => "1 window".to_owned(),
        more => format!("{} windows", figure(more as u64)),
    }
}

/// A length of time in its largest whole units.
fn length(nanoseconds: i64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let mut out = String::new();
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)] {
        let count = match unit {
            "d" => seconds / size,
            "h" => seconds / size % 24,
            _ => seconds / size % 60,
        };
        if count > 0 {
            // Writing to a String cannot fail.
            let _infallible =
                write!(out, "{}{count} {unit}", if out.is_empty() { "" } else { " " });
        }
    }
    match (out.is_empty(), rest) {
        (true, 0) => "0 s".to_owned(),
        (true, rest) => format!("{rest} ns"),
        (false, 0) => out,
        (false, rest) => format!("{out} {rest} ns"),
    }
}
