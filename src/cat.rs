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
use crate::series::Series;
use crate::source::Source;
use crate::window::Window;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;
/// Blocks, and texts of one piece of work, that wait for the next step.
const AHEAD: usize = 2;
/// Rows that are put into lines at a time.
const ROWS: usize = 2_048;
/// Threads that put rows into lines: more than this are faster than any source is read.
const ENCODERS_MAX: usize = 4;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows written.
    pub rows: u64,
    /// Cells written.
    pub cells: u64,
}

/// What is read, and how.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "the seam does not ask for Debug")]
pub struct Input<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// What it holds.
    pub held: &'a [Held],
    /// The window.
    pub window: Window,
    /// Series that are wanted.
    pub filter: &'a Filter,
    /// Threads at once.
    pub jobs: usize,
}

/// Writes the rows of every namespace to `out`. They are read by one thread, put into lines by some,
/// and written in their order by this one.
///
/// # Errors
/// Where the source cannot be read or `out` not written. Rows that line protocol cannot express go
/// to `rejects`.
pub fn run(
    input: Input<'_>,
    rejects: &Rejects,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    progress.done(Stage::Send, 0, 0);
    if input.held.len() > 1 {
        let mut bytes = Vec::new();
        header(input.held, &mut bytes)?;
        out.write_all(&bytes).map_err(unwritable)?;
        progress.done(Stage::Send, 0, bytes.len() as u64);
    }
    let rooms = Rooms::new();
    pipeline::in_order(
        (input.jobs.min(ENCODERS_MAX), AHEAD),
        |push| pieces(input, &rooms, push),
        |piece, push| Lines { push, rooms: &rooms, text: rooms.text() }.piece(piece, input),
        |made| match made {
            Made::Text(text) => {
                out.write_all(&text.bytes).map_err(unwritable)?;
                progress.done(Stage::Send, text.cells, text.bytes.len() as u64);
                outcome.rows += text.rows;
                outcome.cells += text.cells;
                rooms.give_back(text);
                Ok(())
            }
            Made::Unwritable(row) => {
                progress.rejected(1);
                rejects.add(&row.rejected())
            }
        },
    )?;
    out.flush().map_err(unwritable)?;
    Ok(outcome)
}

/// A piece of work.
enum Piece<'a> {
    Namespace(&'a Namespace),
    Rows(&'a Namespace, Arc<Block>, Range<usize>),
}

/// What becomes of it.
enum Made<'a> {
    Text(Text),
    Unwritable(Unwritable<'a>),
}

/// A row that line protocol cannot express.
struct Unwritable<'a> {
    namespace: &'a Namespace,
    series: Arc<Series>,
    time: i64,
    place: String,
    reason: String,
}

impl Unwritable<'_> {
    fn rejected(&self) -> Rejected<'_> {
        Rejected {
            namespace: self.namespace,
            point: Some((self.series.key(), self.time)),
            place: &self.place,
            reason: &self.reason,
            row: b"",
        }
    }
}

/// Room of blocks and texts that is used again. Where nobody waits for room, it is given up.
struct Rooms {
    blocks: (Sender<Block>, Receiver<Block>),
    texts: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl Rooms {
    fn new() -> Self {
        Self { blocks: bounded(AHEAD), texts: bounded(AHEAD * ENCODERS_MAX) }
    }

    fn text(&self) -> Text {
        Text { bytes: self.texts.1.try_recv().unwrap_or_default(), ..Text::default() }
    }

    fn give_back(&self, text: Text) {
        let Text { mut bytes, .. } = text;
        bytes.clear();
        if bytes.capacity() <= 2 * BUFFER {
            drop(self.texts.0.try_send(bytes));
        }
    }

    /// Takes back a block where this was the last to hold it.
    fn leave(&self, block: Arc<Block>) {
        if let Some(block) = Arc::into_inner(block) {
            drop(self.blocks.0.try_send(block));
        }
    }
}

/// Reads every namespace and cuts its blocks into pieces of work.
fn pieces<'a>(
    Input { source, held, window, filter, .. }: Input<'a>,
    rooms: &Rooms,
    push: &mut dyn FnMut(Piece<'a>) -> Result<()>,
) -> Result<()> {
    for Held { namespace, .. } in held {
        push(Piece::Namespace(namespace))?;
        for partition in source.plan(&Scope::new(namespace, window, filter))? {
            let mut reader = source.open(&partition)?;
            while let Some(block) = reader.next_block()? {
                let (rows, block) = (block.rows(), Arc::new(block));
                for start in (0..rows).step_by(ROWS) {
                    let some = start..rows.min(start + ROWS);
                    push(Piece::Rows(namespace, Arc::clone(&block), some))?;
                }
                rooms.leave(block);
                rooms.blocks.1.try_iter().for_each(|block| reader.recycle(block));
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
struct Lines<'w, 'a> {
    push: &'w mut dyn FnMut(Made<'a>) -> Result<()>,
    rooms: &'w Rooms,
    text: Text,
}

impl<'a> Lines<'_, 'a> {
    fn piece(mut self, piece: Piece<'a>, input: Input<'_>) -> Result<()> {
        match piece {
            Piece::Namespace(namespace) if input.held.len() > 1 => {
                self.text.bytes.extend_from_slice(namespace.context_lines().as_bytes());
            }
            Piece::Namespace(_) => {}
            Piece::Rows(namespace, block, rows) => {
                self.rows(namespace, &block, rows, input.filter)?;
                self.rooms.leave(block);
            }
        }
        self.hand_on()
    }

    fn rows(
        &mut self,
        namespace: &'a Namespace,
        block: &Block,
        wanted: Range<usize>,
        filter: &Filter,
    ) -> Result<()> {
        let mut encoder = Encoder::new(block);
        for (series, rows) in block.runs_of(wanted).filter(|(series, _)| filter.admits(series)) {
            for row in rows {
                match encoder.row(series, row, None, &mut self.text.bytes) {
                    Ok(0) => {}
                    Ok(cells) => {
                        self.text.rows += 1;
                        self.text.cells += cells;
                    }
                    Err(unwritable) => {
                        self.hand_on()?;
                        (self.push)(Made::Unwritable(Unwritable {
                            namespace,
                            series: Arc::clone(series),
                            time: block.times()[row],
                            place: format!("{namespace}, series {series}"),
                            reason: unwritable.to_string(),
                        }))?;
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
        if self.text.bytes.is_empty() {
            return Ok(());
        }
        (self.push)(Made::Text(std::mem::replace(&mut self.text, self.rooms.text())))
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
