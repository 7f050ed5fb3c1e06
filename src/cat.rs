//! `cat`: canonical line protocol of everything in the scope, last-write-wins resolved.
//!
//! In the order of namespace, shard group or day, measurement, series, time; nanoseconds. Where a
//! source holds more than one namespace, `# CONTEXT` lines as `influx_inspect export` writes them
//! say which one follows, behind statements that make them.

use crate::block::Block;
use crate::error::{Error, ErrorKind, Result};
use crate::influxql::create;
use crate::line::encode::Encoder;
use crate::pipeline::{self, Progress, Stage};
use crate::plan::{Filter, Held, Namespace, RpSettings, Scope};
use crate::reject::{Rejected, Rejects};
use crate::source::Source;
use crate::window::Window;
use crossbeam_channel::{Receiver, bounded};
use std::io::{self, Write};

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// Blocks, and texts, that wait to be worked on.
const AHEAD: usize = 2;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows written.
    pub rows: u64,
    /// Cells written.
    pub cells: u64,
}

/// Writes the rows of every namespace to `out`. They are read, put into lines and written by three
/// threads, of which this one writes.
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
    let mut outcome = Outcome::default();
    progress.done(Stage::Send, 0, 0);
    let (give_back, used) = bounded(2 * AHEAD);
    let (hand_back, read_before) = bounded(2 * AHEAD);
    let encode = |push: &mut dyn FnMut(Text) -> Result<()>| {
        let mut lines = Lines { push, used, text: Text::default(), rejects, progress, filter };
        if held.len() > 1 {
            header(held, &mut lines.text.bytes)?;
        }
        pipeline::ahead(
            AHEAD,
            |push| read(source, held, window, filter, &read_before, push),
            |piece| {
                lines.piece(&piece, held.len() > 1)?;
                if let Piece::Block(_, block) = piece {
                    // Where nobody waits for room, it is given up.
                    drop(hand_back.try_send(block));
                }
                Ok(())
            },
        )?;
        lines.hand_on()
    };
    pipeline::ahead(AHEAD, encode, |mut text: Text| {
        out.write_all(&text.bytes).map_err(unwritable)?;
        progress.done(Stage::Send, text.cells, text.bytes.len() as u64);
        outcome.rows += text.rows;
        outcome.cells += text.cells;
        text.bytes.clear();
        // Where nobody waits for room, it is given up.
        drop(give_back.try_send(text.bytes));
        Ok(())
    })?;
    out.flush().map_err(unwritable)?;
    Ok(outcome)
}

/// What was read, in order.
enum Piece<'a> {
    Namespace(&'a Namespace),
    Block(&'a Namespace, Block),
}

/// Hands on the blocks of every namespace. The room of those in `used` is used again.
fn read<'a>(
    source: &dyn Source,
    held: &'a [Held],
    window: Window,
    filter: &Filter,
    used: &Receiver<Block>,
    push: &mut dyn FnMut(Piece<'a>) -> Result<()>,
) -> Result<()> {
    for Held { namespace, .. } in held {
        push(Piece::Namespace(namespace))?;
        for partition in source.plan(&Scope::new(namespace, window, filter))? {
            let mut reader = source.open(&partition)?;
            while let Some(block) = reader.next_block()? {
                push(Piece::Block(namespace, block))?;
                used.try_iter().for_each(|block| reader.recycle(block));
            }
        }
    }
    Ok(())
}

/// Lines, and what they hold.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    rows: u64,
    cells: u64,
}

/// Lines in the making.
struct Lines<'a> {
    push: &'a mut dyn FnMut(Text) -> Result<()>,
    /// Room of texts that were written.
    used: Receiver<Vec<u8>>,
    text: Text,
    rejects: &'a Rejects,
    progress: &'a dyn Progress,
    filter: &'a Filter,
}

impl Lines<'_> {
    fn piece(&mut self, piece: &Piece<'_>, with_context: bool) -> Result<()> {
        match piece {
            Piece::Block(namespace, block) => self.block(namespace, block),
            Piece::Namespace(namespace) => {
                if with_context {
                    self.text.bytes.extend_from_slice(namespace.context_lines().as_bytes());
                }
                Ok(())
            }
        }
    }

    fn block(&mut self, namespace: &Namespace, block: &Block) -> Result<()> {
        let mut encoder = Encoder::new(block);
        for (series, rows) in block.runs().filter(|(series, _)| self.filter.admits(series)) {
            for row in rows {
                match encoder.row(series, row, None, &mut self.text.bytes) {
                    Ok(0) => {}
                    Ok(cells) => {
                        self.text.rows += 1;
                        self.text.cells += cells;
                    }
                    Err(unwritable) => {
                        let place = format!("{namespace}, series {series}");
                        self.progress.rejected(1);
                        self.rejects.add(&Rejected {
                            namespace,
                            point: Some((series.key(), block.times()[row])),
                            place: &place,
                            reason: &unwritable.to_string(),
                            row: b"",
                        })?;
                    }
                }
                if self.text.bytes.len() >= BUFFER {
                    self.hand_on()?;
                }
            }
        }
        Ok(())
    }

    fn hand_on(&mut self) -> Result<()> {
        let bytes = self.used.try_recv().unwrap_or_default();
        (self.push)(std::mem::replace(&mut self.text, Text { bytes, ..Text::default() }))
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
