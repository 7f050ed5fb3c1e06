//! One partition being read: the rows of a query into blocks.
//!
//! Each row is checked on its way: its measurement, its time, and the type of each of its values.

use super::{InfluxHttp, Schema, list};
use crate::block::log::RowLog;
use crate::block::{BYTES_MAX, Block, ROWS_MAX};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, BodyReader};
use crate::influxql;
use crate::line::key;
use crate::msgpack::{Cell, Event, Fragment, Problem, Replies};
use crate::plan::Namespace;
use crate::series::{Printable, Series};
use crate::source::Reader;
use crate::value::{FieldType, Value};
use crate::window::{Window, format_time};
use std::collections::VecDeque;
use std::sync::Arc;

/// What is read, and how it is asked for.
pub(super) struct Query<'a> {
    pub(super) source: &'a InfluxHttp,
    pub(super) namespace: Namespace,
    pub(super) measurement: Vec<u8>,
    pub(super) window: Window,
    pub(super) statement: String,
}

/// Reads the reply of one query.
pub(super) struct QueryReader<'a> {
    query: Query<'a>,
    schema: Arc<Schema>,
    /// The schema was asked for again because the reply held what it does not.
    refreshed: bool,
    attempts: Attempts,
    /// The reply; `None` after its end.
    replies: Option<Replies<BodyReader>>,
    rows: Rows,
    blocks: VecDeque<Block>,
    /// A block was handed out, so that this reader cannot begin again.
    handed_out: bool,
}

/// Rows on their way into a block.
#[derive(Default)]
struct Rows {
    log: RowLog,
    /// The series at hand; `None` where it belongs to another measurement.
    series: Option<Arc<Series>>,
    /// Its number in the log, once it has a row there.
    number: Option<u32>,
    /// Time of its newest row.
    newest: Option<i64>,
    columns: Columns,
}

/// Names of the columns at hand with the types that their fields may have.
#[derive(Default)]
struct Columns {
    names: Vec<Vec<u8>>,
    types: Vec<Vec<FieldType>>,
}

/// Why rows cannot be taken.
enum Stop {
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

impl<'a> QueryReader<'a> {
    /// Sends the query.
    pub(super) fn start(query: Query<'a>, schema: Arc<Schema>) -> Result<Self> {
        let client = &query.source.client;
        let replies = influxql::run(client, &query.statement)?;
        let attempts = Attempts::new(client.retry());
        Ok(Self {
            query,
            schema,
            refreshed: false,
            attempts,
            replies: Some(replies),
            rows: Rows::default(),
            blocks: VecDeque::new(),
            handed_out: false,
        })
    }

    /// Sends the query again, from its beginning.
    fn restart(&mut self) -> Result<()> {
        self.replies = None;
        self.rows = Rows::default();
        self.replies = Some(influxql::run(&self.query.source.client, &self.query.statement)?);
        Ok(())
    }

    /// Reads until blocks are ready or the reply ends.
    fn fill(&mut self) -> Result<(), Stop> {
        let Some(replies) = &mut self.replies else {
            return Ok(());
        };
        let types = |field: &[u8]| {
            let fields = self.schema.get(&self.query.measurement);
            fields.and_then(|fields| fields.get(field)).cloned().unwrap_or_default()
        };
        while let Some(event) = replies.next_event()? {
            let taken = match event {
                Event::Series => {
                    self.rows.begin(replies.fragment(), &self.query.measurement, types)
                }
                Event::Row => self.rows.take(replies, self.query.window),
            };
            taken.map_err(|stop| stop.at(replies.offset()))?;
            if self.rows.log.rows() >= ROWS_MAX || self.rows.log.memory() >= BYTES_MAX {
                self.blocks.extend(self.rows.flush());
                return Ok(());
            }
        }
        self.replies = None;
        self.blocks.extend(self.rows.flush());
        Ok(())
    }

    /// Decides what a stop means: the query is sent again where that can help, else an error.
    fn recover(&mut self, stop: Stop) -> Result<()> {
        let client = &self.query.source.client;
        match stop {
            Stop::Problem(problem) => {
                let passing = influxql::is_passing(&problem) && !self.handed_out;
                if !passing || !self.attempts.wait(None) {
                    return Err(influxql::failed(client, &self.query.statement, &problem));
                }
            }
            Stop::Aliased(place) => {
                let message = format!(
                    "{} shows {place} more than once: it stores several spellings of one series \
                     key, and its queries mix them",
                    client.name()
                );
                return Err(Error::from(ErrorKind::Data(message)).with_next(
                    "read the snapshot port, the data directory or a backup, where they are apart",
                ));
            }
            Stop::Unlisted(_) if !self.refreshed && !self.handed_out => {
                // A live source may have got a new field since it was planned.
                self.refreshed = true;
                self.schema = self.query.source.fetch_schema(&self.query.namespace)?;
            }
            Stop::Unlisted(reason) => {
                self.query.source.forget_schema(&self.query.namespace);
                let message = format!(
                    "{}: measurement {} of {} in {}: {reason}",
                    client.name(),
                    Printable(&self.query.measurement),
                    self.query.namespace,
                    self.query.window
                );
                return Err(Error::from(ErrorKind::Data(message))
                    .with_next("run again: the fields may have changed while they were read"));
            }
        }
        self.restart()
    }
}

impl Reader for QueryReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                self.handed_out = true;
                return Ok(Some(block));
            }
            if self.replies.is_none() {
                return Ok(None);
            }
            if let Err(stop) = self.fill()
                && let Err(error) = self.recover(stop)
            {
                self.replies = None;
                return Err(error);
            }
        }
    }
}

impl Stop {
    fn malformed(reason: String) -> Self {
        Self::Problem(Problem::Malformed { offset: 0, reason })
    }

    /// Says where in the reply it happened.
    fn at(self, offset: u64) -> Self {
        match self {
            Self::Problem(Problem::Malformed { reason, .. }) => {
                Self::Problem(Problem::Malformed { offset, reason })
            }
            other => other,
        }
    }
}

impl Rows {
    /// Goes on with another series, or a further fragment of the same.
    fn begin(
        &mut self,
        fragment: &Fragment,
        measurement: &[u8],
        types: impl Fn(&[u8]) -> Vec<FieldType>,
    ) -> Result<(), Stop> {
        self.number = None;
        let before = self.series.take();
        if fragment.name != measurement {
            if influxql::matches_also(measurement, &fragment.name) {
                return Ok(());
            }
            let name = Printable(&fragment.name);
            return Err(Stop::malformed(format!("the measurement {name} was not asked for")));
        }
        if self.columns.names != fragment.columns {
            self.columns.types = fragment.columns.iter().map(|name| types(name)).collect();
            self.columns.names.clone_from(&fragment.columns);
        }
        let tags = fragment
            .tags
            .iter()
            .map(|(key, value)| (key.clone().into_boxed_slice(), value.clone().into_boxed_slice()));
        let series = key::build(measurement, tags.collect());
        if before.is_none_or(|before| *before != series) {
            self.newest = None;
        }
        self.series = Some(Arc::new(series));
        Ok(())
    }

    /// Appends a row.
    fn take(&mut self, replies: &Replies<BodyReader>, window: Window) -> Result<(), Stop> {
        let Some(series) = &self.series else {
            return Ok(());
        };
        let (fragment, row) = (replies.fragment(), replies.row());
        let time = influxql::row_time(fragment, row).map_err(Stop::malformed)?;
        if !window.contains(time) {
            return Err(Stop::malformed(format!("the time {time} was not asked for")));
        }
        if self.newest.replace(time).is_some_and(|newest| newest >= time) {
            return Err(Stop::Aliased(format!("{series} at {}", format_time(time))));
        }
        let mut begun = false;
        for (at, name) in self.columns.names.iter().enumerate().skip(1) {
            let cell = row.cell(at);
            if cell == Cell::Nil {
                continue;
            }
            let value = value(cell, &self.columns.types[at]).map_err(|reason| {
                let field = Printable(name);
                Stop::Unlisted(format!("the field {field} of {series} at {time}: {reason}"))
            })?;
            if !begun {
                begun = true;
                let number =
                    *self.number.get_or_insert_with(|| self.log.add_series(Arc::clone(series)));
                self.log.begin_row(number, time);
            }
            self.log.push(name, value);
        }
        Ok(())
    }

    /// Empties the log into blocks.
    fn flush(&mut self) -> Vec<Block> {
        self.number = None;
        let table = std::mem::take(&mut self.log).resolve();
        table.blocks(Window::ALL).collect()
    }
}

/// The typed value of a cell, if it is of a type that the server lists for the field. Numbers
/// without a fraction are encoded alike whether signed or not: the listed type decides.
fn value<'a>(cell: Cell<'a>, types: &[FieldType]) -> Result<Value<'a>, String> {
    let listed = |one| types.contains(&one);
    let found = match cell {
        Cell::Float(value) => Some(Value::Float(value)),
        Cell::Boolean(value) => Some(Value::Boolean(value)),
        Cell::String(value) => Some(Value::String(value)),
        Cell::Integer(_) | Cell::Unsigned(_) | Cell::Small(_) => {
            whole(cell, listed(FieldType::Integer), listed(FieldType::Unsigned))
        }
        Cell::Nil | Cell::Time(_) => None,
    };
    found.filter(|value| listed(value.field_type())).ok_or_else(|| {
        let listed = if types.is_empty() { "no type".into() } else { list(types) };
        format!("the value {cell:?} does not fit what the server lists for the field, {listed}")
    })
}

/// A number without a fraction, by the types its field may have.
fn whole(cell: Cell<'_>, signed: bool, unsigned: bool) -> Option<Value<'static>> {
    let number = match cell {
        Cell::Integer(value) => i128::from(value),
        Cell::Unsigned(value) => i128::from(value),
        Cell::Small(value) => i128::from(value),
        _ => return None,
    };
    match (signed, unsigned, cell) {
        (true, false, _) | (true, true, Cell::Integer(_)) => {
            i64::try_from(number).ok().map(Value::Integer)
        }
        (false, true, _) | (true, true, Cell::Unsigned(_)) => {
            u64::try_from(number).ok().map(Value::Unsigned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_must_be_of_a_listed_type() {
        use FieldType::{Boolean, Float, Integer, String, Unsigned};
        let fits = |cell, types: &[FieldType]| value(cell, types).ok();
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
