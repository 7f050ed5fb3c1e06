//! Query replies of InfluxDB 1.x in MessagePack, decoded row by row as they arrive.
//!
//! A reply is one document, or several one behind another (`chunked=true`), each
//!
//! ```text
//! {"results": [{"statement_id": 0, "partial": true, "error": "…", "messages": […],
//!               "series": [{"name": "cpu", "tags": {"host": "a"}, "columns": ["time", "v"],
//!                           "values": [[1000, 1.5], …], "partial": true}]}],
//!  "error": "…"}
//! ```
//!
//! No document is held in memory: [`Replies::next_event`] goes on to the next fragment of a series
//! or its next row. Strings are bytes, and the encodings of numbers are kept apart ([`Cell`]).
//!
//! It refuses what is not of this shape, an error the server reports, and a reply that is cut
//! short: in the middle, or behind a document that says `partial`. No allocation is sized by a
//! count that was read, and strings, rows and nesting have limits.

mod input;

use input::Input;
use std::io::{self, Read};

/// Most bytes in one string.
pub const STRING_MAX: usize = 64 << 20;
/// Most bytes of strings in one row, and in the names of one fragment.
pub const ROW_MAX: usize = 256 << 20;

/// Why a reply cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its bytes could not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The server stopped before it had said everything.
    #[error("cut short after {offset} bytes")]
    CutShort {
        /// Bytes that were there.
        offset: u64,
    },
    /// It is not of the expected shape.
    #[error("byte {offset}: {reason}")]
    Malformed {
        /// Where decoding stopped.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The server reports an error inside the reply.
    #[error("{0}")]
    Server(String),
}

type Result<T> = std::result::Result<T, Problem>;

/// What [`Replies::next_event`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fragment of a series begins: see [`Replies::fragment`].
    Series,
    /// A row of it: see [`Replies::row`].
    Row,
}

/// The head of a series, or of a further part of it.
#[derive(Debug, Default)]
pub struct Fragment {
    /// Measurement; empty where the reply names none.
    pub name: Vec<u8>,
    /// Tags, in the order of the reply. A tag that a series lacks has an empty value.
    pub tags: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names of the columns of each row.
    pub columns: Vec<Vec<u8>>,
}

/// One value of a row, as it was encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Nil,
    /// Encoded as a signed number of 8 to 64 bits, or below zero.
    Integer(i64),
    /// Encoded as an unsigned number of 8 to 64 bits.
    Unsigned(u64),
    /// Encoded in seven bits, which says nothing about its type: servers write the small values of
    /// signed and unsigned fields alike so.
    Small(u8),
    /// A floating point number.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// Bytes.
    String(&'a [u8]),
    /// A time, nanoseconds since 1970: extension type 5, which is used without `epoch`.
    Time(i64),
}

/// A cell that keeps its bytes elsewhere.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Nil,
    Integer(i64),
    Unsigned(u64),
    Small(u8),
    Float(f64),
    Boolean(bool),
    /// Start and end in `Row::bytes`.
    String(usize, usize),
    Time(i64),
}

/// One row of a fragment.
#[derive(Debug, Default)]
pub struct Row {
    cells: Vec<Stored>,
    bytes: Vec<u8>,
}

impl Row {
    /// Number of cells: as many as the fragment has columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// True where the fragment has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The cell of a column, [`Cell::Nil`] where there is none.
    #[must_use]
    pub fn cell(&self, column: usize) -> Cell<'_> {
        match self.cells.get(column).copied().unwrap_or(Stored::Nil) {
            Stored::Nil => Cell::Nil,
            Stored::Integer(value) => Cell::Integer(value),
            Stored::Unsigned(value) => Cell::Unsigned(value),
            Stored::Small(value) => Cell::Small(value),
            Stored::Float(value) => Cell::Float(value),
            Stored::Boolean(value) => Cell::Boolean(value),
            Stored::String(start, end) => Cell::String(&self.bytes[start..end]),
            Stored::Time(value) => Cell::Time(value),
        }
    }
}

/// Where in a document the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Document,
    Results,
    Result,
    SeriesList,
    Series,
    Values,
}

/// The documents of one reply.
#[derive(Debug)]
pub struct Replies<R> {
    input: Input<R>,
    /// The open maps and arrays, each with the number of entries still to come.
    open: Vec<(Level, u32)>,
    fragment: Fragment,
    row: Row,
    /// The series at hand named its columns.
    has_columns: bool,
    /// The last result said that more of it comes.
    partial: bool,
    /// So did the last series: where rows are limited, the only sign that some are missing.
    series_partial: bool,
    documents: u64,
    ended: bool,
}

impl<R: Read> Replies<R> {
    /// A decoder of the bytes that `reader` yields.
    pub fn new(reader: R) -> Self {
        Self {
            input: Input::new(reader),
            open: Vec::new(),
            fragment: Fragment::default(),
            row: Row::default(),
            has_columns: false,
            partial: false,
            series_partial: false,
            documents: 0,
            ended: false,
        }
    }

    /// The series that the last [`Event::Series`] began.
    pub fn fragment(&self) -> &Fragment {
        &self.fragment
    }

    /// The row of the last [`Event::Row`].
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// Bytes decoded so far.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Goes on to the next fragment or row; `None` at the end of a complete reply.
    ///
    /// # Errors
    /// Where the reply cannot be read, is cut short or malformed, or holds the server's error.
    /// Nothing more is to be read then.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        let event = self.advance();
        self.ended = !matches!(event, Ok(Some(_)));
        event
    }

    fn advance(&mut self) -> Result<Option<Event>> {
        loop {
            let Some((level, left)) = self.open.last_mut() else {
                if !self.begin_document()? {
                    return Ok(None);
                }
                continue;
            };
            let level = *level;
            if *left == 0 {
                self.open.pop();
                continue;
            }
            *left -= 1;
            if let Some(event) = self.entry(level)? {
                return Ok(Some(event));
            }
        }
    }

    /// Opens the next document; false where the reply ends as it may.
    fn begin_document(&mut self) -> Result<bool> {
        if self.input.at_end()? {
            if self.documents == 0 || self.partial || self.series_partial {
                return Err(self.input.cut_short());
            }
            return Ok(false);
        }
        self.documents += 1;
        self.partial = false;
        let entries = self.input.map("a reply")?;
        self.open.push((Level::Document, entries));
        Ok(true)
    }

    /// Decodes one entry of the innermost open map or array.
    fn entry(&mut self, level: Level) -> Result<Option<Event>> {
        match level {
            Level::Document => self.document_entry()?,
            Level::Results => {
                let entries = self.input.map("a result")?;
                self.open.push((Level::Result, entries));
            }
            Level::Result => self.result_entry()?,
            Level::SeriesList => {
                let entries = self.input.map("a series")?;
                self.open.push((Level::Series, entries));
                self.fragment = Fragment::default();
                self.has_columns = false;
                self.series_partial = false;
            }
            Level::Series => return self.series_entry(),
            Level::Values => {
                self.read_row()?;
                return Ok(Some(Event::Row));
            }
        }
        Ok(None)
    }

    fn document_entry(&mut self) -> Result<()> {
        match &*self.input.string()? {
            b"results" => {
                let entries = self.input.array("results")?;
                self.open.push((Level::Results, entries));
                Ok(())
            }
            b"error" => self.error(),
            _ => self.input.skip(0),
        }
    }

    fn result_entry(&mut self) -> Result<()> {
        match &*self.input.string()? {
            b"series" => {
                let entries = self.input.array("series")?;
                self.open.push((Level::SeriesList, entries));
                Ok(())
            }
            b"partial" => {
                self.partial = self.input.boolean()?;
                Ok(())
            }
            b"error" => self.error(),
            _ => self.input.skip(0),
        }
    }

    fn series_entry(&mut self) -> Result<Option<Event>> {
        match &*self.input.string()? {
            b"name" => self.fragment.name = self.input.string()?,
            b"tags" => self.read_tags()?,
            b"columns" => {
                self.fragment.columns = self.read_names()?;
                self.has_columns = true;
            }
            b"values" => {
                if !self.has_columns {
                    return Err(self.input.malformed("values stand before their columns"));
                }
                let entries = self.input.array("values")?;
                self.open.push((Level::Values, entries));
                return Ok(Some(Event::Series));
            }
            b"partial" => self.series_partial = self.input.boolean()?,
            _ => self.input.skip(0)?,
        }
        Ok(None)
    }

    fn error(&mut self) -> Result<()> {
        let words = self.input.string()?;
        Err(Problem::Server(String::from_utf8_lossy(&words).into_owned()))
    }

    fn read_tags(&mut self) -> Result<()> {
        let mut room = ROW_MAX;
        for _ in 0..self.input.map("tags")? {
            let (key, value) = (self.input.string()?, self.input.string()?);
            self.take_room(&mut room, key.len() + value.len())?;
            self.fragment.tags.push((key, value));
        }
        Ok(())
    }

    fn read_names(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut room = ROW_MAX;
        let mut names = Vec::new();
        for _ in 0..self.input.array("columns")? {
            let name = self.input.string()?;
            self.take_room(&mut room, name.len())?;
            names.push(name);
        }
        Ok(names)
    }

    /// Counts a name against what is left, with the memory that even an empty one takes.
    fn take_room(&self, room: &mut usize, length: usize) -> Result<()> {
        match room.checked_sub(length + 64) {
            Some(left) => *room = left,
            None => return Err(self.input.malformed("its names exceed 256 MiB")),
        }
        Ok(())
    }

    fn read_row(&mut self) -> Result<()> {
        self.row.cells.clear();
        self.row.bytes.clear();
        let cells = self.input.array("a row")?;
        if usize::try_from(cells) != Ok(self.fragment.columns.len()) {
            let columns = self.fragment.columns.len();
            let reason = format!("a row of {cells} cells under {columns} columns");
            return Err(self.input.malformed(reason));
        }
        for _ in 0..cells {
            let cell = self.input.cell(&mut self.row.bytes)?;
            self.row.cells.push(cell);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
