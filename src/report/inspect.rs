//! The report of `inspect`: what a source holds, as one structure from which the table and JSON are
//! made.
//!
//! Names are made printable. A count of series that stopped at a limit says so in both forms.

use super::text::{figure, left_out};
use crate::error::Result;
use crate::inspect::{Count, MeasurementFacts, NamespaceFacts};
use crate::series::Printable;
use crate::window::{Window, format_time};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Fields of a measurement that the table names; JSON names all.
const FIELDS_SHOWN: usize = 8;

/// What a source holds.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Version of this structure.
    pub version: u32,
    /// `inspect`.
    pub command: &'static str,
    /// Source, without secrets.
    pub source: String,
    /// First nanosecond of the window.
    pub start: i64,
    /// First nanosecond after the window.
    pub end: i64,
    /// What was left out, one remark a line.
    pub not_covered: Vec<String>,
    /// Rows that were rejected while the source was read: they are in no count.
    pub rejected: u64,
    /// The namespaces, sorted by name.
    pub namespaces: Vec<Namespace>,
}

/// One namespace.
#[derive(Debug, Serialize)]
pub struct Namespace {
    /// Database; empty where the source names none.
    pub database: String,
    /// Retention policy; empty where the source names none.
    pub retention_policy: String,
    /// How long points are kept, nanoseconds, 0 for ever; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// Length of a shard group, nanoseconds; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_duration: Option<i64>,
    /// Counts over all measurements.
    #[serde(flatten)]
    pub counts: Counts,
    /// The measurements, sorted by name.
    pub measurements: Vec<Measurement>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Name, unescaped, printable.
    pub name: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// The fields, sorted by name; a field of two types is listed twice.
    pub fields: Vec<Field>,
}

/// Counts of a namespace or measurement.
#[derive(Debug, Serialize)]
pub struct Counts {
    /// Number of series.
    pub series: u64,
    /// False where there may be more series than that.
    pub series_exact: bool,
    /// Rows: a series and time each.
    pub rows: u64,
    /// Cells.
    pub cells: u64,
    /// Time of the oldest row, nanoseconds; null where there is none.
    pub first: Option<i64>,
    /// Time of the newest row, nanoseconds; null where there is none.
    pub last: Option<i64>,
}

/// One field in one type.
#[derive(Debug, Serialize)]
pub struct Field {
    /// Field key, unescaped, printable.
    pub name: String,
    /// `float`, `integer`, `unsigned`, `boolean` or `string`.
    #[serde(rename = "type")]
    pub field_type: &'static str,
    /// Cells.
    pub cells: u64,
}

/// The report of an inspection. `not_covered` and `rejected` say what no count holds.
#[must_use]
pub fn of_inspect(
    source: String,
    window: Window,
    not_covered: Vec<String>,
    rejected: u64,
    facts: &[NamespaceFacts],
) -> Inspection {
    Inspection {
        version: 1,
        command: "inspect",
        source,
        start: window.start,
        end: window.end,
        not_covered,
        rejected,
        namespaces: facts.iter().map(namespace).collect(),
    }
}

fn namespace(facts: &NamespaceFacts) -> Namespace {
    let settings = facts.held.settings.as_ref();
    let all = || facts.measurements.values();
    let series: Count = all().map(|one| one.series).sum();
    Namespace {
        database: facts.held.namespace.database.clone(),
        retention_policy: facts.held.namespace.retention_policy.clone(),
        duration: settings.and_then(|settings| settings.duration),
        shard_duration: settings.and_then(|settings| settings.shard_duration),
        counts: Counts {
            series: series.number(),
            series_exact: series.is_exact(),
            rows: all().map(|one| one.rows).sum(),
            cells: all().map(|one| one.cells).sum(),
            first: all().map(|one| one.first).min(),
            last: all().map(|one| one.last).max(),
        },
        measurements: facts
            .measurements
            .iter()
            .map(|(name, facts)| measurement(name, facts))
            .collect(),
    }
}

fn measurement(name: &[u8], facts: &MeasurementFacts) -> Measurement {
    let field = |((name, field_type), cells): (&(_, crate::value::FieldType), &u64)| Field {
        name: printable(name),
        field_type: field_type.name(),
        cells: *cells,
    };
    Measurement {
        name: printable(name),
        counts: Counts {
            series: facts.series.number(),
            series_exact: facts.series.is_exact(),
            rows: facts.rows,
            cells: facts.cells,
            first: Some(facts.first),
            last: Some(facts.last),
        },
        fields: facts.fields.iter().map(field).collect(),
    }
}

fn printable(name: impl AsRef<[u8]>) -> String {
    Printable(name.as_ref()).to_string()
}

impl Inspection {
    /// The report as JSON, ended by a line feed.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn json(&self) -> Result<String> {
        super::json(self)
    }

    /// True where there is no cell in the scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.iter().all(|namespace| namespace.counts.cells == 0)
    }
}

/// The titles of the table.
const TITLES: [&str; 7] = ["", "series", "rows", "cells", "first", "last", "fields"];
/// Columns of numbers, which end below each other.
const NUMBERS: std::ops::RangeInclusive<usize> = 1..=3;

impl Display for Inspection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut table = vec![TITLES.map(str::to_owned)];
        for namespace in &self.namespaces {
            table.push(line(namespace.name(), &namespace.counts, namespace.shards()));
            for one in &namespace.measurements {
                table.push(line(format!("  {}", one.name), &one.counts, one.field_list()));
            }
        }
        write_table(f, &table)?;
        if self.is_empty() {
            writeln!(f, "{} holds nothing in the window", self.source)?;
        }
        left_out(f, self.rejected, "count", &self.not_covered)
    }
}

fn line(name: String, counts: &Counts, rest: String) -> [String; 7] {
    let series = figure(counts.series);
    let time = |time: Option<i64>| time.map_or("-".to_owned(), format_time);
    [
        name,
        if counts.series_exact { series } else { format!("at least {series}") },
        figure(counts.rows),
        figure(counts.cells),
        time(counts.first),
        time(counts.last),
        rest,
    ]
}

fn write_table(f: &mut Formatter<'_>, table: &[[String; 7]]) -> fmt::Result {
    let width = |column: usize| {
        table.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    for line in table {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            let cell =
                if NUMBERS.contains(&column) { padding + cell } else { cell.clone() + &padding };
            text.push_str(&cell);
            text.push_str("   ");
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

impl Namespace {
    fn name(&self) -> String {
        super::names(&self.database, &self.retention_policy)
    }

    /// The length of its shard groups, for people.
    fn shards(&self) -> String {
        self.shard_duration.filter(|duration| *duration > 0).map_or(String::new(), |duration| {
            let hours = duration / 3_600_000_000_000;
            match hours % 24 {
                0 => format!("(shard groups of {} d)", hours / 24),
                _ => format!("(shard groups of {hours} h)"),
            }
        })
    }
}

impl Measurement {
    fn field_list(&self) -> String {
        let fields = self.fields.iter().take(FIELDS_SHOWN);
        let shown: Vec<_> =
            fields.map(|field| format!("{} {}", field.name, field.field_type)).collect();
        let more = match self.fields.len().saturating_sub(FIELDS_SHOWN) {
            0 => String::new(),
            more => format!(", and {} more", figure(more as u64)),
        };
        shown.join(", ") + &more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{self, Held};
    use crate::value::FieldType;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn facts(series: Count) -> Vec<NamespaceFacts> {
        let field = |name: &str, field_type| ((Arc::from(name.as_bytes()), field_type), 2_000);
        let measurement = MeasurementFacts {
            series,
            rows: 2_000,
            cells: 4_000,
            first: 0,
            last: 1_600_000_000_000_000_000,
            fields: BTreeMap::from([
                field("v\u{1b}", FieldType::Float),
                field("v\u{1b}", FieldType::Integer),
            ]),
        };
        let namespace =
            plan::Namespace { database: "db".into(), retention_policy: "autogen".into() };
        vec![NamespaceFacts {
            held: Held { namespace, settings: None },
            measurements: BTreeMap::from([(b"cpu"[..].into(), measurement)]),
        }]
    }

    fn report(series: Count) -> Inspection {
        of_inspect("in.lp".into(), Window::ALL, Vec::new(), 0, &facts(series))
    }

    #[test]
    fn the_table_has_a_line_for_each_namespace_and_measurement() {
        let expected = "             series    rows   cells   first                  last                   fields
db.autogen       12   2,000   4,000   1970-01-01T00:00:00Z   2020-09-13T12:26:40Z
  cpu            12   2,000   4,000   1970-01-01T00:00:00Z   2020-09-13T12:26:40Z   v\\u{1b} float, v\\u{1b} integer
";
        assert_eq!(report(Count::Exactly(12)).to_string(), expected);
    }

    #[test]
    fn a_count_that_stopped_at_a_limit_says_so() {
        let report = report(Count::AtLeast(12));
        assert!(report.to_string().contains("at least 12"), "{report}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        for counts in [&json["namespaces"][0], &json["namespaces"][0]["measurements"][0]] {
            assert_eq!((&counts["series"], &counts["series_exact"]), (&12.into(), &false.into()));
        }
    }

    #[test]
    fn a_source_without_cells_is_said_to_hold_nothing() {
        let report = of_inspect("in.lp".into(), Window::ALL, vec!["what is newer".into()], 3, &[]);
        let text = report.to_string();
        assert!(text.contains("in.lp holds nothing in the window"), "{text}");
        assert!(text.contains("rejected 3") && text.contains("not covered: what is newer"));
    }
}
