//! The heat map: the series that differ most, by time.

use super::axis::{Axis, hours};
use super::escape::{Safe, shorten};
use super::kind::{Kind, legend};
use crate::compare::Counts;
use crate::report::stretch::{same_series, weight};
use crate::report::text::{classes, figure};
use crate::report::{Agreement, Place};
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet};
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
pub(super) fn draw(
    out: &mut String,
    places: &[Place],
    agreement: &Agreement,
    window: Window,
) -> fmt::Result {
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
    let known = agreement.is_known();
    legend(out, axis.outside(window.start, window.end) != (0, 0), known)?;
    let titled = rows.iter().map(|row| row.places.len()).sum::<usize>() <= TITLES_MAX;
    let (shown, folded) = rows.split_at(rows.len().min(SERIES_SHOWN));
    let map = Map { axis: &axis, agreement, window, titled };
    map.chart(out, shown)?;
    if !folded.is_empty() {
        writeln!(out, "<details><summary>{} more series</summary>", figure(folded.len() as u64))?;
        map.chart(out, folded)?;
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

/// What all rows have in common.
struct Map<'a> {
    axis: &'a Axis,
    agreement: &'a Agreement,
    window: Window,
    titled: bool,
}

impl Map<'_> {
    fn chart(&self, out: &mut String, rows: &[Row<'_>]) -> fmt::Result {
        let axis = self.axis;
        let bottom = 2 + ROW * i64::try_from(rows.len()).unwrap_or(0);
        let (width, height) = (axis.right() + 10, bottom + 22);
        writeln!(
            out,
            "<div class=\"scroll\" role=\"region\" aria-label=\"Heat map\" tabindex=\"0\"><svg \
             class=\"heat\" role=\"img\" aria-label=\"Differences by series and time; the table below \
             lists them\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
        )?;
        let (before, after) = axis.outside(self.window.start, self.window.end);
        for (from, buckets) in [(0, before), (axis.buckets - after, after)] {
            if buckets > 0 {
                let (x, width) = (axis.x(from), buckets * axis.step());
                writeln!(
                    out,
                    "<rect class=\"uncovered\" x=\"{x}\" y=\"0\" width=\"{width}\" \
                     height=\"{bottom}\"><title>not covered: outside the window</title></rect>"
                )?;
            }
        }
        axis.draw(out, 0, bottom)?;
        let mut top = 2;
        for row in rows {
            self.row(out, row, top)?;
            top += ROW;
        }
        out.write_str("</svg></div>\n")
    }

    fn row(&self, out: &mut String, row: &Row<'_>, top: i64) -> fmt::Result {
        let name = row.first.name();
        let label = shorten(&name, NAME_CHARACTERS);
        let mut buckets: BTreeMap<i64, Counts> = BTreeMap::new();
        for place in &row.places {
            let bucket = self.axis.bucket(hours(place.start, place.end).0);
            *buckets.entry(bucket).or_default() += place.counts;
        }
        write!(
            out,
            "<g><title>{}: {}</title><text class=\"name\" x=\"{}\" y=\"{}\">{}</text>{}</g>",
            Safe(&name, NAME_BYTES),
            classes(row.counts),
            LEFT - 6,
            top + 9,
            Safe(&label, NAME_BYTES),
            self.same(row, &buckets, top + 5)
        )?;
        match self.titled {
            true => bars(out, &buckets, self.axis, top)?,
            false => paths(out, &buckets, self.axis, top)?,
        }
        out.write_char('\n')
    }

    /// A line through the buckets in which both sides hold cells and all of them agree; through the whole
    /// row where nobody knows which these are.
    fn same(&self, row: &Row<'_>, differ: &BTreeMap<i64, Counts>, y: i64) -> String {
        let axis = self.axis;
        if !self.agreement.is_known() {
            return format!("<path class=\"same\" d=\"M{LEFT} {y}h{}\"/>", axis.width());
        }
        let mut same: BTreeSet<i64> = BTreeSet::new();
        for run in self.agreement.with(row.first) {
            let (first, end) = hours(run.start, run.end);
            let inside = (axis.first, axis.first + axis.buckets * axis.hours);
            if first < inside.1 && end > inside.0 {
                same.extend(axis.bucket(first)..=axis.bucket(end - 1));
            }
        }
        let agrees = differ.iter().filter(|(_, counts)| Kind::of(**counts).is_none());
        same.extend(agrees.map(|(bucket, _)| *bucket));
        let mut path = String::new();
        let mut last = None;
        for bucket in same {
            let begin = if last == Some(bucket - 1) {
                String::new()
            } else {
                format!("M{} {y}", axis.x(bucket))
            };
            path.push_str(&format!("{begin}h{}", axis.step()));
            last = Some(bucket);
        }
        if path.is_empty() { path } else { format!("<path class=\"same\" d=\"{path}\"/>") }
    }
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
