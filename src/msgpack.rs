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

use rmp::Marker;
use std::io::{self, Read};

/// Most bytes in one string.
pub const STRING_MAX: usize = 64 << 20;
/// Most bytes of strings in one row, and in the names of one fragment.
pub const ROW_MAX: usize = 256 << 20;
/// Deepest nesting of what is skipped.
const DEPTH_MAX: u32 = 32;
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

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

/// Bytes of a reply, and the values they encode.
#[derive(Debug)]
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Offset in the reply of the buffer's first byte.
    before: u64,
}

impl<R: Read> Input<R> {
    fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; BUFFER], at: 0, end: 0, before: 0 }
    }

    fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    fn cut_short(&self) -> Problem {
        Problem::CutShort { offset: self.offset() }
    }

    fn malformed(&self, reason: impl Into<String>) -> Problem {
        Problem::Malformed { offset: self.offset(), reason: reason.into() }
    }

    fn unexpected(&self, marker: Marker, wanted: &str) -> Problem {
        self.malformed(format!("{marker:?} where {wanted} was expected"))
    }

    /// True where no byte is left.
    fn at_end(&mut self) -> Result<bool> {
        while self.at == self.end {
            self.before += self.end as u64;
            (self.at, self.end) = (0, 0);
            match self.reader.read(&mut self.buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => self.end = length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// At least one byte that is ready, at most `most`.
    fn ready(&mut self, most: usize) -> Result<&[u8]> {
        if self.at_end()? {
            return Err(self.cut_short());
        }
        let from = self.at;
        self.at = self.end.min(from + most);
        Ok(&self.buffer[from..self.at])
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        if let Some(found) = self.buffer[self.at..self.end].first_chunk::<N>() {
            out = *found;
            self.at += N;
            return Ok(out);
        }
        let mut filled = 0;
        while filled < N {
            let ready = self.ready(N - filled)?;
            let length = ready.len();
            out[filled..filled + length].copy_from_slice(ready);
            filled += length;
        }
        Ok(out)
    }

    fn marker(&mut self) -> Result<Marker> {
        let [byte] = self.bytes()?;
        Ok(Marker::from_u8(byte))
    }

    fn length_8(&mut self) -> Result<u32> {
        Ok(u32::from(u8::from_be_bytes(self.bytes()?)))
    }

    fn length_16(&mut self) -> Result<u32> {
        Ok(u32::from(u16::from_be_bytes(self.bytes()?)))
    }

    fn length_32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.bytes()?))
    }

    /// Number of entries of a map; none where it is nil.
    fn map(&mut self, what: &str) -> Result<u32> {
        match self.marker()? {
            Marker::FixMap(length) => Ok(u32::from(length)),
            Marker::Map16 => self.length_16(),
            Marker::Map32 => self.length_32(),
            Marker::Null => Ok(0),
            marker => Err(self.unexpected(marker, what)),
        }
    }

    /// Number of entries of an array; none where it is nil.
    fn array(&mut self, what: &str) -> Result<u32> {
        match self.marker()? {
            Marker::FixArray(length) => Ok(u32::from(length)),
            Marker::Array16 => self.length_16(),
            Marker::Array32 => self.length_32(),
            Marker::Null => Ok(0),
            marker => Err(self.unexpected(marker, what)),
        }
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False | Marker::Null => Ok(false),
            marker => Err(self.unexpected(marker, "true or false")),
        }
    }

    /// Length of a string, or of bytes.
    fn string_length(&mut self, marker: Marker) -> Result<Option<u32>> {
        Ok(Some(match marker {
            Marker::FixStr(length) => u32::from(length),
            Marker::Str8 | Marker::Bin8 => self.length_8()?,
            Marker::Str16 | Marker::Bin16 => self.length_16()?,
            Marker::Str32 | Marker::Bin32 => self.length_32()?,
            _ => return Ok(None),
        }))
    }

    fn string(&mut self) -> Result<Vec<u8>> {
        let marker = self.marker()?;
        let Some(length) = self.string_length(marker)? else {
            return Err(self.unexpected(marker, "a string"));
        };
        let mut out = Vec::new();
        self.append(length, &mut out)?;
        Ok(out)
    }

    /// Appends `length` bytes, growing `out` only as they come.
    fn append(&mut self, length: u32, out: &mut Vec<u8>) -> Result<()> {
        let mut left = length as usize;
        if left > STRING_MAX || out.len() + left > ROW_MAX {
            return Err(self.malformed(format!("a string of {length} bytes: the limit is 64 MiB")));
        }
        while left > 0 {
            let ready = self.ready(left)?;
            left -= ready.len();
            out.extend_from_slice(ready);
        }
        Ok(())
    }

    fn cell(&mut self, strings: &mut Vec<u8>) -> Result<Stored> {
        let marker = self.marker()?;
        Ok(match marker {
            Marker::Null => Stored::Nil,
            Marker::True => Stored::Boolean(true),
            Marker::False => Stored::Boolean(false),
            Marker::FixPos(value) => Stored::Small(value),
            Marker::FixNeg(value) => Stored::Integer(i64::from(value)),
            Marker::U8 => Stored::Unsigned(u64::from(u8::from_be_bytes(self.bytes()?))),
            Marker::U16 => Stored::Unsigned(u64::from(u16::from_be_bytes(self.bytes()?))),
            Marker::U32 => Stored::Unsigned(u64::from(u32::from_be_bytes(self.bytes()?))),
            Marker::U64 => Stored::Unsigned(u64::from_be_bytes(self.bytes()?)),
            Marker::I8 => Stored::Integer(i64::from(i8::from_be_bytes(self.bytes()?))),
            Marker::I16 => Stored::Integer(i64::from(i16::from_be_bytes(self.bytes()?))),
            Marker::I32 => Stored::Integer(i64::from(i32::from_be_bytes(self.bytes()?))),
            Marker::I64 => Stored::Integer(i64::from_be_bytes(self.bytes()?)),
            Marker::F32 => Stored::Float(f64::from(f32::from_be_bytes(self.bytes()?))),
            Marker::F64 => Stored::Float(f64::from_be_bytes(self.bytes()?)),
            Marker::Ext8 => Stored::Time(self.time()?),
            _ => {
                let Some(length) = self.string_length(marker)? else {
                    return Err(self.unexpected(marker, "a value"));
                };
                let start = strings.len();
                self.append(length, strings)?;
                Stored::String(start, strings.len())
            }
        })
    }

    /// A time of Go's msgp library: 12 bytes of extension type 5, seconds and nanoseconds.
    fn time(&mut self) -> Result<i64> {
        if self.bytes::<2>()? != [12, 5] {
            return Err(self.malformed("an extension that is no time"));
        }
        let seconds = i64::from_be_bytes(self.bytes()?);
        let nanoseconds = i32::from_be_bytes(self.bytes()?);
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        i64::try_from(time).map_err(|_ignored| self.malformed("a time out of range"))
    }

    /// Passes over one value.
    fn skip(&mut self, depth: u32) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(self.malformed("nested too deeply"));
        }
        let marker = self.marker()?;
        if let Some(length) = self.string_length(marker)? {
            return self.skip_bytes(length);
        }
        let values = match marker {
            Marker::FixMap(length) => u64::from(length) * 2,
            Marker::Map16 => u64::from(self.length_16()?) * 2,
            Marker::Map32 => u64::from(self.length_32()?) * 2,
            Marker::FixArray(length) => u64::from(length),
            Marker::Array16 => u64::from(self.length_16()?),
            Marker::Array32 => u64::from(self.length_32()?),
            _ => return self.skip_scalar(marker),
        };
        for _ in 0..values {
            self.skip(depth + 1)?;
        }
        Ok(())
    }

    fn skip_scalar(&mut self, marker: Marker) -> Result<()> {
        let length = match marker {
            Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => {
                0
            }
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::FixExt4 => 5,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => self.length_8()? + 1,
            Marker::Ext16 => self.length_16()? + 1,
            marker => return Err(self.unexpected(marker, "a value")),
        };
        self.skip_bytes(length)
    }

    fn skip_bytes(&mut self, length: u32) -> Result<()> {
        let mut left = length as usize;
        while left > 0 {
            left -= self.ready(left)?.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
