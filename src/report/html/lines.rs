//! Charts of lines: cells of both sides by time, and what was done how fast.

use super::axis::{Axis, hours};
use super::heat::span;
use crate::progress::history::{Done, Sample};
use crate::report::text::figure;
use crate::report::{Bucket, Report};
use crate::window::format_time;
use std::fmt::{self, Write};

/// Pixels of what is written beside a chart.
const LEFT: i64 = 66;
/// Pixels above a chart.
const TOP: i64 = 10;
/// Pixels from its lowest to its highest value.
const HEIGHT: i64 = 150;
/// Pixels of a chart of one stage.
const STAGE_HEIGHT: i64 = 70;
/// Pixels of the time of a run.
const RUN_WIDTH: i64 = 720;
/// Seconds below which samples stand for no rate.
const STEP_MIN: f64 = 0.1;

/// Draws the cells of both sides by time.
pub(super) fn cells(out: &mut String, report: &Report) -> fmt::Result {
    out.write_str("<h3>Cells of both sides by time</h3>\n")?;
    let buckets = &report.timeline.buckets;
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return out.write_str("<p>No cells were compared in this run.</p>\n");
    };
    if report.resumed.is_some_and(|resumed| resumed.proven_before > 0) {
        out.write_str(
            "<p>What earlier runs proved was not compared again, and is not drawn.</p>\n",
        )?;
    }
    let unit = report.timeline.bucket_seconds / 3_600;
    let first = hours(first.start, first.start.saturating_add(1)).0;
    let end = hours(last.start, last.start.saturating_add(1)).0 + unit;
    let axis = Axis::fit(first, end, unit, LEFT);
    let columns = columns(buckets, &axis);
    let highest = columns.iter().map(|(source, destination)| *source.max(destination)).max();
    let highest = nice(highest.unwrap_or(1));
    write!(
        out,
        "<p>Each column is {}. Between the lines lies what one side lacks.</p>\n\
         <ul class=\"legend\"><li><svg width=\"26\" height=\"12\" aria-hidden=\"true\"><path \
         class=\"line-source\" d=\"M1 6h24\"/></svg>source (thick line)</li><li><svg width=\"26\" \
         height=\"12\" aria-hidden=\"true\"><path class=\"line-destination\" d=\"M1 6h24\"/></svg>\
         destination (thin dashed line)</li><li><svg width=\"22\" height=\"12\" aria-hidden=\"true\">\
         <rect class=\"gap\" width=\"22\" height=\"12\"/></svg>between them (hatched)</li></ul>\n",
        span(axis.hours)
    )?;
    begin(out, "Cells of both sides by time", axis.right() + 10, TOP + HEIGHT + 22)?;
    uncovered(out, &axis, report)?;
    values(out, highest, HEIGHT, axis.right(), "")?;
    axis.draw(out, TOP, TOP + HEIGHT)?;
    notches(out, &columns, &axis, highest)?;
    let source: Vec<u64> = columns.iter().map(|column| column.0).collect();
    let destination: Vec<u64> = columns.iter().map(|column| column.1).collect();
    steps(out, "line-source", &source, &axis, highest)?;
    steps(out, "line-destination", &destination, &axis, highest)?;
    for (at, (source, destination)) in (0..).zip(&columns).filter(|(_, column)| **column != (0, 0))
    {
        write!(
            out,
            "<rect class=\"touch\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{HEIGHT}\"><title>{}: \
             source {}, destination {}</title></rect>",
            axis.x(at),
            axis.step(),
            axis.window(at),
            figure(*source),
            figure(*destination)
        )?;
    }
    out.write_str("</svg></div>\n")
}

fn begin(out: &mut String, label: &str, width: i64, height: i64) -> fmt::Result {
    writeln!(
        out,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{label}\" tabindex=\"0\"><svg role=\"img\" \
         aria-label=\"{label}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">"
    )
}

fn uncovered(out: &mut String, axis: &Axis, report: &Report) -> fmt::Result {
    let (before, after) = axis.outside(report.start, report.end);
    for (from, buckets) in [(0, before), (axis.buckets - after, after)] {
        if buckets > 0 {
            writeln!(
                out,
                "<rect class=\"uncovered\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{HEIGHT}\">\
                 <title>not covered: outside the window</title></rect>",
                axis.x(from),
                buckets * axis.step()
            )?;
        }
    }
    Ok(())
}

/// Cells of source and destination in each bucket of an axis.
fn columns(buckets: &[Bucket], axis: &Axis) -> Vec<(u64, u64)> {
    let mut columns = vec![(0, 0); usize::try_from(axis.buckets).unwrap_or(0)];
    for bucket in buckets {
        let at = axis.bucket(hours(bucket.start, bucket.start.saturating_add(1)).0);
        let column = usize::try_from(at).ok().and_then(|at| columns.get_mut(at));
        if let Some((source, destination)) = column {
            *source += bucket.source;
            *destination += bucket.destination;
        }
    }
    columns
}

/// Where a value is drawn. Not nothing is never drawn as nothing, nor less than all as all.
fn y(value: u64, highest: u64, height: i64) -> i64 {
    let highest = u128::from(highest.max(1));
    let scaled = u128::from(value) * u128::from(height.unsigned_abs()) / highest;
    let scaled = i64::try_from(scaled).unwrap_or(height).min(height);
    TOP + height - if value > 0 { scaled.max(1) } else { 0 }
}

/// What lies between the lines.
fn notches(out: &mut String, columns: &[(u64, u64)], axis: &Axis, highest: u64) -> fmt::Result {
    for (at, (source, destination)) in (0..).zip(columns) {
        if source != destination {
            let one = y(*source, highest, HEIGHT);
            let other = y(*destination, highest, HEIGHT);
            // So little that it would not be seen is still drawn.
            let height = (one - other).abs().max(3);
            write!(
                out,
                "<rect class=\"gap\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{height}\"/>",
                axis.x(at),
                one.min(other),
                axis.step()
            )?;
        }
    }
    Ok(())
}

fn steps(out: &mut String, class: &str, values: &[u64], axis: &Axis, highest: u64) -> fmt::Result {
    write!(out, "<path class=\"{class}\" d=\"M{} {}", axis.left, y(0, highest, HEIGHT))?;
    let mut last = 0;
    let mut run = 0;
    for value in values {
        if *value != last {
            if run > 0 {
                write!(out, "h{}", run * axis.step())?;
            }
            write!(out, "V{}", y(*value, highest, HEIGHT))?;
            (last, run) = (*value, 0);
        }
        run += 1;
    }
    writeln!(out, "h{}\"/>", run * axis.step())
}

/// Lines for nothing, half and all of the highest value.
fn values(out: &mut String, highest: u64, height: i64, right: i64, unit: &str) -> fmt::Result {
    for (value, y) in [(highest, TOP), (highest / 2, TOP + height / 2), (0, TOP + height)] {
        writeln!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {y}H{right}\"/><text class=\"value\" x=\"{}\" y=\"{}\">{}\
             {unit}</text>",
            LEFT - 6,
            y + 4,
            short(value)
        )?;
    }
    Ok(())
}

/// The next higher number that is read easily and has a half.
fn nice(highest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            let value = power.saturating_mul(step);
            if value >= highest {
                return value;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// A number in few characters.
#[expect(clippy::cast_precision_loss, reason = "it is rounded")]
fn short(value: u64) -> String {
    let (unit, name) = match value {
        0..10_000 => return figure(value),
        10_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    let text = format!("{:.1}", value as f64 / unit);
    format!("{} {name}", text.trim_end_matches(".0"))
}

/// Draws what each stage did how fast, and says what was repeated.
pub(super) fn throughput(out: &mut String, report: &Report) -> fmt::Result {
    let samples = spread(&report.throughput);
    let Some(last) = samples.last() else { return Ok(()) };
    table(out, last)?;
    if samples.len() < 4 {
        return out.write_str("<p>The run was too short for a chart of its pace.</p>\n");
    }
    for stage in 0..3 {
        let (name, done) = last.stages()[stage];
        if done != Done::default() {
            chart(out, &samples, stage, name)?;
        }
    }
    Ok(())
}

/// Samples far enough from each other to take rates from.
fn spread(samples: &[Sample]) -> Vec<Sample> {
    let mut kept = vec![Sample::default()];
    for sample in samples {
        if let [_, .., last] = &mut kept[..]
            && sample.seconds - last.seconds < STEP_MIN
        {
            *last = *sample;
        } else if sample.seconds >= STEP_MIN {
            kept.push(*sample);
        }
    }
    if kept.len() == 1 {
        kept.extend(samples.last());
    }
    kept
}

fn table(out: &mut String, last: &Sample) -> fmt::Result {
    out.write_str(
        "<div class=\"scroll\"><table><caption>What was done, in all</caption><thead><tr><th \
         scope=\"col\">Stage</th><th scope=\"col\" class=\"n\">Cells</th><th scope=\"col\" \
         class=\"n\">Bytes</th></tr></thead><tbody>\n",
    )?;
    for (name, done) in last.stages() {
        let (cells, bytes) = (figure(done.cells), figure(done.bytes));
        writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td class=\"n\">{cells}</td><td class=\"n\">{bytes}</td></tr>"
        )?;
    }
    write!(
        out,
        "</tbody></table></div>\n<p>Requests repeated: {}. Rows rejected: {}.</p>\n",
        figure(last.retries),
        figure(last.rejected)
    )
}

/// What was done between two samples, a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "it is drawn"
)]
fn rate(one: u64, other: u64, seconds: f64) -> u64 {
    (other.saturating_sub(one) as f64 / seconds.max(0.001)) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "it is drawn")]
fn at(seconds: f64, whole: f64) -> i64 {
    LEFT + (seconds / whole.max(0.001) * RUN_WIDTH as f64).round() as i64
}

fn chart(out: &mut String, samples: &[Sample], stage: usize, name: &str) -> fmt::Result {
    let in_cells = samples.last().is_some_and(|last| last.stages()[stage].1.cells > 0);
    let unit = if in_cells { "cells" } else { "bytes" };
    let amount = |sample: &Sample| {
        let done = sample.stages()[stage].1;
        if in_cells { done.cells } else { done.bytes }
    };
    let rates: Vec<u64> = samples
        .windows(2)
        .map(|pair| rate(amount(&pair[0]), amount(&pair[1]), pair[1].seconds - pair[0].seconds))
        .collect();
    let highest = nice(rates.iter().copied().max().unwrap_or(1));
    let whole = samples.last().map_or(1.0, |last| last.seconds);
    writeln!(out, "<h3>{name}: {unit} a second</h3>")?;
    let right = LEFT + RUN_WIDTH;
    begin(out, &format!("{name}, {unit} a second"), right + 10, TOP + STAGE_HEIGHT + 22)?;
    values(out, highest, STAGE_HEIGHT, right, "")?;
    let bottom = TOP + STAGE_HEIGHT;
    write!(out, "<path class=\"line-source\" d=\"M{LEFT} {bottom}")?;
    for (pair, rate) in samples.windows(2).zip(&rates) {
        write!(out, "V{}H{}", y(*rate, highest, STAGE_HEIGHT), at(pair[1].seconds, whole))?;
    }
    out.write_str("\"/>\n")?;
    repeats(out, samples, whole)?;
    for quarter in 0..=4 {
        let x = LEFT + RUN_WIDTH * quarter / 4;
        let seconds = whole * f64::from(i32::try_from(quarter).unwrap_or(0)) / 4.0;
        let anchor = if quarter == 4 { " end" } else { "" };
        write!(
            out,
            "<text class=\"tick{anchor}\" x=\"{x}\" y=\"{}\">{seconds:.1} s</text>",
            bottom + 14
        )?;
    }
    out.write_str("</svg></div>\n")
}

/// Marks where requests were repeated.
fn repeats(out: &mut String, samples: &[Sample], whole: f64) -> fmt::Result {
    for pair in samples.windows(2) {
        let more = pair[1].retries.saturating_sub(pair[0].retries);
        if more > 0 {
            let x = at(pair[1].seconds, whole);
            writeln!(
                out,
                "<path class=\"retry\" d=\"M{x} {TOP}l-4 -8h8z\"><title>{} repeated by {:.1} s</title>\
                 </path>",
                figure(more),
                pair[1].seconds
            )?;
        }
    }
    Ok(())
}

/// A moment, for people.
pub(super) fn moment(time: i64) -> String {
    format_time(time - time.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beside_a_chart_are_round_and_short() {
        assert_eq!([1, 7, 11, 41_200_000].map(nice), [2, 8, 20, 60_000_000]);
        assert_eq!(nice(u64::MAX), u64::MAX);
        assert_eq!([0, 9_999, 12_000, 2_500_000].map(short), ["0", "9,999", "12 k", "2.5 M"]);
    }

    #[test]
    fn one_cell_of_many_is_seen() {
        assert_eq!(y(0, 1_000_000, HEIGHT), TOP + HEIGHT);
        assert_eq!(y(1, 1_000_000, HEIGHT), TOP + HEIGHT - 1);
        assert_eq!(y(1_000_000, 1_000_000, HEIGHT), TOP);
    }

    #[test]
    fn rates_come_from_samples_that_are_far_enough_apart() {
        let sample = |seconds| Sample { seconds, ..Sample::default() };
        let seconds = |samples: &[f64]| -> Vec<f64> {
            let samples: Vec<Sample> = samples.iter().copied().map(sample).collect();
            spread(&samples).iter().map(|sample| sample.seconds).collect()
        };
        assert_eq!(seconds(&[0.0, 0.2, 0.4, 0.41]), [0.0, 0.2, 0.41]);
        assert_eq!(seconds(&[0.0, 0.01]), [0.0, 0.01]);
    }
}
