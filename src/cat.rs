//! `cat`: canonical line protocol of everything in the scope, last-write-wins resolved.
//!
//! In the order of namespace, shard group or day, measurement, series, time; nanoseconds. Where a
//! source holds more than one namespace, `# CONTEXT` lines as `influx_inspect export` writes them
//! say which one follows.

use crate::error::{Error, ErrorKind, Result};
use crate::line::encode::Encoder;
use crate::plan::{Filter, Namespace, Scope};
use crate::reject::Rejects;
use crate::source::{Source, for_each_block};
use crate::window::Window;
use std::io::Write;

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
    out: &mut dyn Write,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut buffer = Vec::new();
    for namespace in namespaces {
        if namespaces.len() > 1 {
            context(namespace, &mut buffer)?;
        }
        let partitions = source.plan(&Scope::new(namespace, window, filter))?;
        for_each_block(source, &partitions, |block| {
            let mut encoder = Encoder::new(block);
            for (series, rows) in block.runs().filter(|(series, _)| filter.admits(series)) {
                for row in rows {
                    match encoder.row(series, row, None, &mut buffer) {
                        Ok(0) => {}
                        Ok(cells) => {
                            outcome.rows += 1;
                            outcome.cells += cells;
                        }
                        Err(unwritable) => {
                            let place = format!("{namespace}, series {series}");
                            rejects.add(&place, &unwritable.to_string(), b"")?;
                        }
                    }
                    if buffer.len() >= BUFFER {
                        write(out, &mut buffer)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    write(out, &mut buffer)?;
    out.flush().map_err(|error| Error::io("standard output", "write", error))?;
    Ok(outcome)
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

fn write(out: &mut dyn Write, buffer: &mut Vec<u8>) -> Result<()> {
    out.write_all(buffer).map_err(|error| Error::io("standard output", "write", error))?;
    buffer.clear();
    Ok(())
}
