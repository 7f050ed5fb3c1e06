//! The rows of a reply on their way into blocks.
//!
//! Each row is checked: its measurement, its time, and the type of each of its values. Rows that
//! were handed out before a break are passed over.

use super::Schema;
use super::resume::{Handed, Pass, Sum, field_hash};
use crate::block::Block;
use crate::block::build::Builder;
use crate::influxql;
use crate::line::key;
use crate::msgpack::{Cell, Fragment, Problem, Row};
use crate::series::{Printable, Series};
use crate::value::{FieldType, Value};
use crate::window::{Window, format_time};
use std::sync::Arc;

/// A field that is asked for by name, and the only type that its column may have.
pub(super) type Named = (Arc<[u8]>, FieldType);

/// Why rows cannot be taken.
pub(super) enum Stop {
    /// The reply is at fault.
    Problem(Problem),
    /// A value is of a type, or a field, that the server did not list.
    Unlisted(String),
    /// A time of a series came twice, or came late.
    Aliased(String),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Stop {
    fn malformed(reason: String) -> Self {
        Self::Problem(Problem::Malformed { offset: 0, reason })
    }

    /// Says where in the reply it happened.
    pub(super) fn at(self, offset: u64) -> Self {
        match self {
            Self::Problem(Problem::Malformed { reason, .. }) => {
                Self::Problem(Problem::Malformed { offset, reason })
            }
            other => other,
        }
    }
}

/// What rows must be.
pub(super) struct Expected<'a> {
    pub(super) measurement: &'a [u8],
    pub(super) schema: &'a Schema,
    /// Fields of the columns where they were asked for by name.
    pub(super) named: Option<&'a [Named]>,
}

/// Rows on their way into a block.
pub(super) struct Rows {
    window: Window,
    builder: Builder,
    /// The series at hand; `None` where it belongs to another measurement.
    series: Option<Arc<Series>>,
    /// The block at hand has a row of it.
    begun: bool,
    /// Time of its newest row.
    newest: Option<i64>,
    /// Names of the columns at hand, the time first, and the columns behind it.
    names: Vec<Vec<u8>>,
    columns: Vec<Column>,
    pass: Pass,
}

/// A column of the reply.
struct Column {
    field: Arc<[u8]>,
    listed: Listed,
    hash: u64,
    /// Its type in the newest row, and where in the block that is.
    slot: Option<(FieldType, usize)>,
}

impl Rows {
    /// Rows of a window of which some may have been handed out before.
    pub(super) fn new(window: Window, before: Arc<Handed>) -> Self {
        Self {
            window,
            builder: Builder::default(),
            series: None,
            begun: false,
            newest: None,
            names: Vec::new(),
            columns: Vec::new(),
            pass: Pass::new(before),
        }
    }

    /// Goes on with another series, or a further fragment of the same.
    pub(super) fn begin(
        &mut self,
        fragment: &Fragment,
        expected: &Expected<'_>,
    ) -> Result<(), Stop> {
        let before = self.series.take();
        if fragment.name != expected.measurement {
            if influxql::matches_also(expected.measurement, &fragment.name) {
                self.begun = false;
                return Ok(());
            }
            let name = Printable(&fragment.name);
            return Err(Stop::malformed(format!("the measurement {name} was not asked for")));
        }
        if self.names != fragment.columns {
            self.columns = columns(fragment, expected)?;
            self.names.clone_from(&fragment.columns);
        }
        let tags = fragment
            .tags
            .iter()
            .map(|(key, value)| (key.clone().into_boxed_slice(), value.clone().into_boxed_slice()));
        let series = key::build(expected.measurement, tags.collect());
        if let Some(before) = before.filter(|before| **before == series) {
            self.series = Some(before);
            return Ok(());
        }
        self.newest = None;
        self.begun = false;
        self.pass.begin(&series);
        self.series = Some(Arc::new(series));
        Ok(())
    }

    /// Appends a row.
    pub(super) fn take(&mut self, fragment: &Fragment, row: &Row) -> Result<(), Stop> {
        let Some(series) = &self.series else {
            return Ok(());
        };
        let time = influxql::row_time(fragment, row).map_err(Stop::malformed)?;
        if !self.window.contains(time) {
            return Err(Stop::malformed(format!("the time {time} was not asked for")));
        }
        if self.newest.replace(time).is_some_and(|newest| newest >= time) {
            return Err(Stop::Aliased(format!("{series} at {}", format_time(time))));
        }
        let again = self.pass.covers(time);
        let hash = self.pass.row_hash(time);
        let mut sum = Sum::default();
        let mut begun = again;
        for (at, column) in self.columns.iter_mut().enumerate() {
            let cell = row.cell(at + 1);
            if cell == Cell::Nil {
                continue;
            }
            let Some(value) = value(cell, column.listed) else {
                return Err(column.unlisted(cell, series, time));
            };
            sum.add_cell(hash, column.hash, value);
            if again {
                continue;
            }
            if !begun {
                begun = true;
                if !self.begun {
                    self.begun = true;
                    self.builder.begin_series(Arc::clone(series));
                }
                self.builder.begin_row(time);
            }
            let slot = column.slot(&mut self.builder, value.field_type());
            self.builder.push(slot, value);
        }
        if again {
            self.pass.skip(sum);
        } else if begun {
            self.pass.take(sum);
        }
        Ok(())
    }

    /// True where the block at hand should go out.
    pub(super) fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// The block at hand, if it has rows.
    pub(super) fn flush(&mut self) -> Option<Block> {
        let block = self.builder.finish()?;
        self.begun = false;
        for column in &mut self.columns {
            column.slot = None;
        }
        self.pass.flush(self.newest);
        Some(block)
    }

    /// What was read and passed over.
    pub(super) fn pass(&self) -> &Pass {
        &self.pass
    }

    /// The same, where reading ends here.
    pub(super) fn into_pass(self) -> Pass {
        self.pass
    }
}

impl Column {
    fn new(field: Arc<[u8]>, types: &[FieldType]) -> Self {
        Self { hash: field_hash(&field), field, listed: Listed::new(types), slot: None }
    }

    /// Its column in the block.
    fn slot(&mut self, builder: &mut Builder, field_type: FieldType) -> usize {
        match self.slot {
            Some((known, slot)) if known == field_type => slot,
            _ => {
                let slot = builder.column(&self.field, field_type);
                self.slot = Some((field_type, slot));
                slot
            }
        }
    }

    fn unlisted(&self, cell: Cell<'_>, series: &Series, time: i64) -> Stop {
        Stop::Unlisted(format!(
            "the field {} of {series} at {time}: the value {cell:?} does not fit what the server \
             lists for the field, {}",
            Printable(&self.field),
            self.listed
        ))
    }
}

/// The columns behind the time, by what was asked for.
fn columns(fragment: &Fragment, expected: &Expected<'_>) -> Result<Vec<Column>, Stop> {
    let names = fragment.columns.get(1..).unwrap_or_default();
    let Some(named) = expected.named else {
        let fields = expected.schema.get(expected.measurement);
        let types = |name: &Vec<u8>| fields.and_then(|fields| fields.get(name));
        let column = |name: &Vec<u8>| {
            Column::new(Arc::from(&**name), types(name).map_or(&[][..], Vec::as_slice))
        };
        return Ok(names.iter().map(column).collect());
    };
    // A field that is asked for twice comes under another name: columns are known by their order.
    if names.len() != named.len() {
        let (came, asked) = (names.len(), named.len());
        return Err(Stop::malformed(format!("{came} columns where {asked} were asked for")));
    }
    Ok(named.iter().map(|(field, one)| Column::new(Arc::clone(field), &[*one])).collect())
}

/// The types that a server lists for a field.
#[derive(Clone, Copy)]
struct Listed(u8);

impl Listed {
    fn new(types: &[FieldType]) -> Self {
        Self(types.iter().fold(0, |all, one| all | Self::bit(*one)))
    }

    fn bit(field_type: FieldType) -> u8 {
        match field_type {
            FieldType::Float => 1,
            FieldType::Integer => 2,
            FieldType::Unsigned => 4,
            FieldType::Boolean => 8,
            FieldType::String => 16,
        }
    }

    fn holds(self, field_type: FieldType) -> bool {
        self.0 & Self::bit(field_type) != 0
    }
}

impl std::fmt::Display for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use FieldType::{Boolean, Float, Integer, String, Unsigned};
        let all = [Float, Integer, Unsigned, Boolean, String];
        let listed: Vec<_> = all.into_iter().filter(|one| self.holds(*one)).collect();
        f.write_str(if listed.is_empty() { "no type" } else { "" })?;
        f.write_str(&super::list(&listed))
    }
}

/// The typed value of a cell, if it is of a type that the server lists for the field. Numbers
/// without a fraction are encoded alike whether signed or not: the listed type decides.
fn value(cell: Cell<'_>, listed: Listed) -> Option<Value<'_>> {
    let value = match cell {
        Cell::Float(value) => Value::Float(value),
        Cell::Boolean(value) => Value::Boolean(value),
        Cell::String(value) => Value::String(value),
        Cell::Integer(_) | Cell::Unsigned(_) | Cell::Small(_) => {
            whole(cell, listed.holds(FieldType::Integer), listed.holds(FieldType::Unsigned))?
        }
        Cell::Nil | Cell::Time(_) => return None,
    };
    listed.holds(value.field_type()).then_some(value)
}

/// The type of a cell of a field that may have `types`.
pub(super) fn type_of(cell: Cell<'_>, types: &[FieldType]) -> Option<FieldType> {
    value(cell, Listed::new(types)).map(|value| value.field_type())
}

/// A number without a fraction, by the types its field may have.
fn whole(cell: Cell<'_>, signed: bool, unsigned: bool) -> Option<Value<'static>> {
    match (cell, signed, unsigned) {
        (Cell::Integer(value), true, _) => Some(Value::Integer(value)),
        (Cell::Integer(value), false, true) => u64::try_from(value).ok().map(Value::Unsigned),
        (Cell::Unsigned(value), _, true) => Some(Value::Unsigned(value)),
        (Cell::Unsigned(value), true, false) => i64::try_from(value).ok().map(Value::Integer),
        (Cell::Small(value), true, false) => Some(Value::Integer(i64::from(value))),
        (Cell::Small(value), false, true) => Some(Value::Unsigned(u64::from(value))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_must_be_of_a_listed_type() {
        use FieldType::{Boolean, Float, Integer, String, Unsigned};
        let fits = |cell, types: &[FieldType]| value(cell, Listed::new(types));
        assert_eq!(fits(Cell::Float(5.0), &[Float]), Some(Value::Float(5.0)));
        assert_eq!(fits(Cell::Float(5.0), &[Integer]), None);
        assert_eq!(fits(Cell::Small(5), &[Integer, Float]), Some(Value::Integer(5)));
        assert_eq!(fits(Cell::Small(5), &[Float]), None);
        assert_eq!(fits(Cell::Small(5), &[Unsigned]), Some(Value::Unsigned(5)));
        assert_eq!(fits(Cell::Small(5), &[Integer, Unsigned]), None);
        assert_eq!(fits(Cell::Unsigned(200), &[Integer, Unsigned]), Some(Value::Unsigned(200)));
        assert_eq!(fits(Cell::Unsigned(200), &[Integer]), Some(Value::Integer(200)));
        assert_eq!(fits(Cell::Unsigned(u64::MAX), &[Integer]), None);
        assert_eq!(fits(Cell::Integer(-1), &[Unsigned]), None);
        assert_eq!(fits(Cell::Boolean(true), &[Boolean]), Some(Value::Boolean(true)));
        assert_eq!(fits(Cell::String(b""), &[String]), Some(Value::String(b"")));
        assert_eq!(fits(Cell::String(b""), &[]), None);
        assert_eq!(fits(Cell::Time(1), &[Integer]), None);
    }
}
