//! The heat map: the series that differ most, by time.

use super::axis::{Axis, hours};
use super::escape::{Safe, shorten};
use super::kind::{Kind, legend};
use crate::compare::Counts;
use crate::report::Place;
use crate::report::stretch::{same_series, weight};
use crate::report::text::{classes, figure};
use crate::window::Window;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// Series that are drawn.
const SERIES_MAX: usize = 200;
/// Series that are seen before anything is unfolded.
const SERIES_SHOWN: usize = 40;
/// Bars that say by themselves what they stand for. Of more, only their series says it.
const TITLES_MAX: usize = 4_000;
/// Bytes of a name in a tooltip.
const NAME_BYTES: usize = 400;
/// Characters of a name beside its row.
const NAME_CHARACTERS: usize = 30;
/// Pixels of the names.
const LEFT: i64 = 208;
/// Pixels of a row.
const ROW: i64 = 14;

/// One series.
struct Row<'a> {
    first: &'a Place,
    counts: Counts,
    places: Vec<&'a Place>,
}

/// Draws the heat map of places within a window, if there is one to draw.
pub(super) fn draw(out: &mut String, places: &[Place], window: Window) -> fmt::Result {
    let mut rows = rows(places);
    let all = rows.len();
    rows.truncate(SERIES_MAX);
    let places = || rows.iter().flat_map(|row| &row.places);
    let first = places().map(|place| hours(place.start, place.end).0).min();
    let end = places().map(|place| hours(place.start, place.end).1).max();
    let (Some(first), Some(end)) = (first, end) else { return Ok(()) };
    let axis = Axis::fit(first, end, 1, LEFT);
    out.write_str("<h3>Where they differ: series and time</h3>\n")?;
    write!(out, "<p>{} Each column is {}.</p>", what(rows.len(), all), span(axis.hours))?;
    legend(out, axis.outside(window.start, window.end) != (0, 0))?;
    let titled = rows.iter().map(|row| row.places.len()).sum::<usize>() <= TITLES_MAX;
    let (shown, folded) = rows.split_at(rows.len().min(SERIES_SHOWN));
    chart(out, shown, &axis, window, titled)?;
    if !folded.is_empty() {
        writeln!(out, "<details><summary>{} more series</summary>", figure(folded.len() as u64))?;
        chart(out, folded, &axis, window, titled)?;
        out.write_str("</details>\n")?;
    }
    Ok(())
}

fn what(shown: usize, all: usize) -> String {
    let (shown, all) = (figure(shown as u64), figure(all as u64));
    if shown == all {
        format!("Series that differ: {all}; those with most differences first.")
    } else {
        format!("The {shown} series with most differences, of {all} that are kept.")
    }
}

/// So many hours, in words.
pub(super) fn span(hours: i64) -> String {
    match hours {
        1 => "1 hour".into(),
        168 => "1 week".into(),
        24 => "1 day".into(),
        days if days % 24 == 0 => format!("{} days", figure((days / 24).unsigned_abs())),
        hours => format!("{} hours", figure(hours.unsigned_abs())),
    }
}

/// The series of places, which are in order, those with most differences first.
fn rows(places: &[Place]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for place in places {
        match rows.last_mut().filter(|row| same_series(row.first, place)) {
            Some(row) => {
                row.counts += place.counts;
                row.places.push(place);
            }
            None => rows.push(Row { first: place, counts: place.counts, places: vec![place] }),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row.counts)));
    rows
}

fn chart(
    out: &mut String,
    rows: &[Row<'_>],
    axis: &Axis,
    window: Window,
    titled: bool,
) -> fmt::Result {
    let bottom = 2 + ROW * i64::try_from(rows.len()).unwrap_or(0);
    let (width, height) = (axis.right() + 10, bottom + 22);
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"Heat map\" tabindex=\"0\"><svg class=\"heat\" \
         role=\"img\" aria-label=\"Differences by series and time; the table below lists them\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    )?;
    let (before, after) = axis.outside(window.start, window.end);
    for (from, buckets) in [(0, before), (axis.buckets - after, after)] {
        if buckets > 0 {
            let (x, width) = (axis.x(from), buckets * axis.step());
            writeln!(
                out,
                "<rect class=\"uncovered\" x=\"{x}\" y=\"0\" width=\"{width}\" height=\"{bottom}\">\
                 <title>not covered: outside the window</title></rect>"
            )?;
        }
    }
    axis.draw(out, 0, bottom)?;
    let mut top = 2;
    for row in rows {
        draw_row(out, row, axis, top, titled)?;
        top += ROW;
    }
    out.write_str("</svg></div>\n")
}

fn draw_row(out: &mut String, row: &Row<'_>, axis: &Axis, top: i64, titled: bool) -> fmt::Result {
    let name = row.first.name();
    let label = shorten(&name, NAME_CHARACTERS);
    write!(
        out,
        "<g><title>{}: {}</title><text class=\"name\" x=\"{}\" y=\"{}\">{}</text><path class=\"same\" \
         d=\"M{LEFT} {}h{}\"/></g>",
        Safe(&name, NAME_BYTES),
        classes(row.counts),
        LEFT - 6,
        top + 9,
        Safe(&label, NAME_BYTES),
        top + 5,
        axis.width()
    )?;
    let mut buckets: BTreeMap<i64, Counts> = BTreeMap::new();
    for place in &row.places {
        let bucket = axis.bucket(hours(place.start, place.end).0);
        *buckets.entry(bucket).or_default() += place.counts;
    }
    if titled {
        bars(out, &buckets, axis, top)?
    } else {
        paths(out, &buckets, axis, top)?
    }
    out.write_char('\n')
}

/// Each bar with what it stands for.
fn bars(out: &mut String, buckets: &BTreeMap<i64, Counts>, axis: &Axis, top: i64) -> fmt::Result {
    for (bucket, counts) in buckets {
        let Some(kind) = Kind::of(*counts) else { continue };
        let (below, height) = kind.extent();
        write!(
            out,
            "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"><title>{}: {}</title>\
             </rect>",
            kind.class(),
            axis.x(*bucket),
            top + below,
            axis.step(),
            axis.window(*bucket),
            classes(*counts)
        )?;
    }
    Ok(())
}

/// All bars of one kind as one path.
fn paths(out: &mut String, buckets: &BTreeMap<i64, Counts>, axis: &Axis, top: i64) -> fmt::Result {
    for kind in Kind::ALL {
        let (below, height) = kind.extent();
        let (y, step) = (top + below, axis.step());
        let of_kind = buckets.iter().filter(|(_, counts)| Kind::of(**counts) == Some(kind));
        let mut path = String::new();
        for (bucket, _) in of_kind {
            write!(path, "M{} {y}h{step}v{height}h-{step}z", axis.x(*bucket))?;
        }
        if !path.is_empty() {
            write!(out, "<path class=\"{}\" d=\"{path}\"/>", kind.class())?;
        }
    }
    Ok(())
}
