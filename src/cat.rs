//! `cat`: canonical line protocol of everything in the scope, last-write-wins resolved.
//!
//! In the order of namespace, shard group or day, measurement, series, time; nanoseconds. Where a
//! source holds more than one namespace, `# CONTEXT` lines as `influx_inspect export` writes them
//! say which one follows, behind statements that make them.

use crate::error::{Error, ErrorKind, Result};
use crate::influxql::create;
use crate::line::encode::Encoder;
use crate::pipeline::{Progress, Stage};
use crate::plan::{Filter, Held, Namespace, RpSettings, Scope};
use crate::reject::{Rejected, Rejects};
use crate::source::{Source, for_each_block};
use crate::window::Window;
use std::io::{self, Write};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows written.
    pub rows: u64,
    /// Cells written.
    pub cells: u64,
}

/// Writes the rows of every namespace to `out`.
///
/// # Errors
/// Where the source cannot be read or `out` not written. Rows that line protocol cannot express go
/// to `rejects`.
pub fn run(
    source: &dyn Source,
    held: &[Held],
    window: Window,
    filter: &Filter,
    rejects: &Rejects,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let mut writer = Writer { out, progress, buffer: Vec::new(), waiting: 0 };
    let mut outcome = Outcome::default();
    progress.done(Stage::Send, 0, 0);
    if held.len() > 1 {
        header(held, &mut writer.buffer)?;
    }
    for Held { namespace, .. } in held {
        if held.len() > 1 {
            writer.buffer.extend_from_slice(namespace.context_lines().as_bytes());
        }
        let partitions = source.plan(&Scope::new(namespace, window, filter))?;
        for_each_block(source, &partitions, |block| {
            let mut encoder = Encoder::new(block);
            for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
                for row in rows {
                    match encoder.row(series, row, None, &mut writer.buffer) {
                        Ok(0) => {}
                        Ok(cells) => {
                            outcome.rows += 1;
                            outcome.cells += cells;
                            writer.waiting += cells;
                        }
                        Err(unwritable) => {
                            let place = format!("{namespace}, series {series}");
                            progress.rejected(1);
                            rejects.add(&Rejected {
                                namespace,
                                point: Some((series.key(), block.times()[row])),
                                place: &place,
                                reason: &unwritable.to_string(),
                                row: b"",
                            })?;
                        }
                    }
                    if writer.buffer.len() >= BUFFER {
                        writer.write()?;
                    }
                }
            }
            Ok(())
        })?;
    }
    writer.finish()?;
    Ok(outcome)
}

/// The output, and what waits to be written to it.
struct Writer<'a> {
    out: &'a mut dyn Write,
    progress: &'a dyn Progress,
    buffer: Vec<u8>,
    /// Cells in the buffer.
    waiting: u64,
}

impl Writer<'_> {
    fn write(&mut self) -> Result<()> {
        self.out.write_all(&self.buffer).map_err(unwritable)?;
        let cells = std::mem::take(&mut self.waiting);
        self.progress.done(Stage::Send, cells, self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.write()?;
        self.out.flush().map_err(unwritable)
    }
}

fn unwritable(error: io::Error) -> Error {
    Error::io("standard output", "write", error)
}

/// `# DDL` and `# DML`, with the statements that make the namespaces as far as they are known.
///
/// A `# CONTEXT` line holds a bare name: what blanks at its ends mean is told by the statements.
/// The default RP of a database comes first, since an importer that runs the statements makes the
/// first one that.
fn header(held: &[Held], buffer: &mut Vec<u8>) -> Result<()> {
    let mut sorted: Vec<&Held> = held.iter().collect();
    let is_default = |held: &Held| held.settings.as_ref().is_some_and(RpSettings::is_default);
    sorted.sort_by_key(|held| (held.namespace.database.clone(), !is_default(held)));
    buffer.extend_from_slice(b"# DDL\n");
    for held in sorted {
        let statements = statements(held);
        for statement in &statements {
            buffer.extend_from_slice(statement.as_bytes());
            buffer.push(b'\n');
        }
        if statements.is_empty() && !held.namespace.is_bare() {
            let what = format!("{:?} cannot be named in a comment line", held.namespace);
            return Err(Error::from(ErrorKind::Data(what))
                .with_next("write one namespace at a time, with --db and --rp"));
        }
    }
    buffer.extend_from_slice(b"# DML\n");
    Ok(())
}

/// The statements that make a namespace; none where no database is named, for names that InfluxQL
/// cannot express, and for those that a comment cannot.
fn statements(held: &Held) -> Vec<String> {
    let Namespace { database, retention_policy: name } = &held.namespace;
    if database.is_empty() || database.contains('\n') || name.contains('\n') {
        return Vec::new();
    }
    let settings = held.settings.clone().unwrap_or_default();
    let is_whole = settings.duration.is_some() && settings.replication.is_some();
    let made = || create::database(database, Some((name, &settings)));
    let known = || create::retention_policy(database, name, &settings);
    let statements = match (name.is_empty(), is_whole) {
        (true, _) => create::database(database, None).map(|made| vec![made]),
        (false, false) => made().map(|made| vec![made]),
        // The first alone would not say that it is the default one, and the second not make it.
        (false, true) if settings.is_default() => made().and_then(|made| Ok(vec![made, known()?])),
        (false, true) => known().map(|known| vec![known]),
    };
    statements.unwrap_or_default()
}
