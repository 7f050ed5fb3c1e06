//! `cat`: canonical line protocol of everything in the scope, last-write-wins resolved.
//!
//! In the order of namespace, shard group or day, measurement, series, time; nanoseconds. Where a
//! source holds more than one namespace, `# CONTEXT` lines as `influx_inspect export` writes them
//! say which one follows.

use crate::error::{Error, ErrorKind, Result};
use crate::line::encode::Encoder;
use crate::pipeline::{Progress, Stage};
use crate::plan::{Filter, Namespace, Scope};
use crate::reject::Rejects;
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
    namespaces: &[Namespace],
    window: Window,
    filter: &Filter,
    rejects: &Rejects,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let mut writer = Writer { out, progress, buffer: Vec::new(), waiting: 0 };
    let mut outcome = Outcome::default();
    progress.done(Stage::Send, 0, 0);
    for namespace in namespaces {
        if namespaces.len() > 1 {
            context(namespace, &mut writer.buffer)?;
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
                            rejects.add(&place, &unwritable.to_string(), b"")?;
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

fn context(namespace: &Namespace, buffer: &mut Vec<u8>) -> Result<()> {
    let Namespace { database, retention_policy } = namespace;
    // In a comment a quote or backslash can swallow the lines that follow.
    let unsafe_in_comment =
        |name: &str| name.contains(|c: char| c.is_control() || "\"\\".contains(c));
    if unsafe_in_comment(database) || unsafe_in_comment(retention_policy) {
        let what = format!("{namespace:?} cannot be named in a comment line");
        return Err(Error::from(ErrorKind::Data(what))
            .with_next("write one namespace at a time, with --db and --rp"));
    }
    let lines =
        format!("# CONTEXT-DATABASE:{database}\n# CONTEXT-RETENTION-POLICY:{retention_policy}\n");
    buffer.extend_from_slice(lines.as_bytes());
    Ok(())
}
