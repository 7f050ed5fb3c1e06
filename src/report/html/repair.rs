//! What a repair does, or would do: figures, what becomes of the cells that differ, what is deleted, and what
//! is left and why.

use super::escape::Safe;
use super::tables::{self, NAME_BYTES, folded};
use super::{REMARK_BYTES, SIDE_BYTES, remarks, term};
use crate::repair::Action;
use crate::report::repair::{Item, Repair, words};
use crate::report::text::{class_name, figure};
use crate::window::{Window, format_time};
use std::fmt::{self, Write};

/// The section of a repair.
pub(super) fn section(out: &mut String, repair: &Repair) -> fmt::Result {
    let title = if repair.applied { "What was done" } else { "What would be done" };
    writeln!(out, "<section id=\"repair\"><h2>{title}</h2>")?;
    if !repair.applied {
        out.write_str("<p class=\"caution\">Nothing was written: this is a plan.</p>\n")?;
    }
    figures(out, repair)?;
    actions(out, repair)?;
    let deleted = |item: &&Item| item.action == Action::Delete;
    let title = if repair.applied { "Deleted points" } else { "Points that would be deleted" };
    items(out, title, repair.items.iter().filter(deleted).collect())?;
    let left = |item: &&Item| !item.action.acts();
    items(out, "Left as they are", repair.items.iter().filter(left).collect())?;
    let overwritten = |item: &&Item| item.action == Action::Overwrite;
    let title = if repair.applied { "Overwritten" } else { "Would be overwritten" };
    items(out, title, repair.items.iter().filter(overwritten).collect())?;
    if !repair.vanished.is_empty() {
        out.write_str("<h3>Points that vanished, and were not to be deleted</h3>\n")?;
        remarks(out, &repair.vanished)?;
    }
    out.write_str("</section>\n")
}

fn figures(out: &mut String, repair: &Repair) -> fmt::Result {
    let send = &repair.send;
    out.write_str("<dl>\n")?;
    let (sent, deleted) = match repair.applied {
        true => ("Sent", "Deleted"),
        false => ("To be sent", "To be deleted"),
    };
    let figures = format!(
        "{} cells of {} series in {} windows of an hour, {} bytes",
        figure(send.cells),
        figure(send.series),
        figure(send.windows),
        figure(send.bytes)
    );
    term(out, sent, figures, SIDE_BYTES)?;
    if let (Some(start), Some(end)) = (send.start, send.end) {
        term(out, "Their times (UTC)", Window { start, end }.to_string(), SIDE_BYTES)?;
    }
    let points = format!("{} points", figure(repair.points_to_delete as u64));
    term(out, deleted, points, SIDE_BYTES)?;
    if repair.out_of_reach > 0 {
        let cells = figure(repair.out_of_reach);
        let what = format!("{cells} cells that queries cannot show or that keep changing");
        term(out, "Out of reach", what, SIDE_BYTES)?;
    }
    let files = [("Undo file", &repair.undo_file), ("List of deletions", &repair.delete_list)];
    for (name, file) in files {
        file.iter().try_for_each(|file| term(out, name, file, SIDE_BYTES))?;
    }
    out.write_str("</dl>\n")
}

/// What becomes of the cells that differ, by kind.
fn actions(out: &mut String, repair: &Repair) -> fmt::Result {
    if repair.actions.is_empty() {
        return out.write_str("<p>Nothing is to be done.</p>\n");
    }
    out.write_str(
        "<div class=\"scroll\"><table><caption>Cells that differ, by what becomes of them</caption><thead><tr>\
         <th scope=\"col\">Action</th><th scope=\"col\" class=\"n\">Cells</th><th scope=\"col\">What it \
         means</th></tr></thead><tbody>\n",
    )?;
    for (action, cells) in &repair.actions {
        writeln!(
            out,
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td><td class=\"words\">{}</td></tr>",
            action.word(),
            figure(*cells),
            words(*action, repair.applied)
        )?;
    }
    out.write_str("</tbody></table></div>\n")
}

/// Cells of one kind, with all values and the reason.
fn items(out: &mut String, title: &str, items: Vec<&Item>) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{title}</h3>")?;
    let has = Columns {
        reason: items.iter().any(|item| !item.action.acts()),
        base: items.iter().any(|item| item.base.is_some()),
    };
    let mut head = String::from(
        "<th scope=\"col\">Series</th><th scope=\"col\">Field</th><th scope=\"col\">Time (UTC)</th>",
    );
    if has.reason {
        head.push_str("<th scope=\"col\">Action</th><th scope=\"col\">Why</th>");
    }
    head.push_str(
        "<th scope=\"col\">Class</th><th scope=\"col\">Source</th><th scope=\"col\">Destination</th>",
    );
    if has.base {
        head.push_str("<th scope=\"col\">Base</th>");
    }
    let caption = "Cells, in order of series and time";
    folded(out, (caption, &head), &items, |out, item| row(out, item, has))
}

/// Columns that a table of cells has where there is something to say.
#[derive(Clone, Copy)]
struct Columns {
    /// What is done, and why.
    reason: bool,
    /// The base's value.
    base: bool,
}

fn row(out: &mut String, item: &Item, has: Columns) -> fmt::Result {
    let name = format!("{} {}", item.namespace, item.series);
    write!(
        out,
        "<tr><th scope=\"row\" class=\"key\">{}</th><td class=\"key\">{}</td><td>{}</td>",
        Safe(name, NAME_BYTES),
        Safe(&item.field, NAME_BYTES),
        format_time(item.time)
    )?;
    if has.reason {
        let reason = item.reason.as_deref().unwrap_or_default();
        write!(
            out,
            "<td>{}</td><td class=\"words\">{}</td>",
            item.action.word(),
            Safe(reason, REMARK_BYTES)
        )?;
    }
    write!(out, "<td>{}</td>", class_name(item.class))?;
    tables::value(out, item.source.as_deref())?;
    tables::value(out, item.destination.as_deref())?;
    if has.base {
        tables::value(out, item.base.as_deref())?;
    }
    out.write_str("</tr>\n")
}
