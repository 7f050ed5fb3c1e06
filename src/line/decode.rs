//! Bytes of a line file into rows: a pull decoder without input or output of its own.
//!
//! Nothing is skipped silently: what is not a row is a comment, a bad line with its reason, or
//! blank. A line that would make a server panic is bad, never a row.
//!
//! Invariants: the items do not depend on how the text is cut into chunks; no more is kept than
//! one item of at most [`Options::line_bytes_max`], one chunk, and the few megabytes that
//! `guess` remembers of the lines before.

use super::form::Expected;
use super::guess::{Guess, Line};
use super::point::{Clock, Point, blank};
use super::split::Splitter;
use super::{Fault, Precision};
use crate::value::{FieldType, Value};
use std::borrow::Cow;
use std::ops::Range;

/// Default of [`Options::line_bytes_max`].
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// Added to the reason of a bad line that ends in a carriage return.
const CR: &str = " (the line ends in CR LF, and the server takes the CR as data)";

/// How a text is read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Time of the lines that have none, nanoseconds since 1970; without it they are bad.
    pub default_time: Option<i64>,
    /// Longest item, in bytes; 64 MiB by default.
    pub line_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            precision: Precision::Nanoseconds,
            default_time: None,
            line_bytes_max: LINE_BYTES_MAX,
        }
    }
}

/// One item of a text, borrowed from the decoder.
#[derive(Debug)]
pub enum Item<'a> {
    /// A point that a server would store.
    Row(Row<'a>),
    /// A whole comment without its final line feed.
    Comment(&'a [u8]),
    /// A line that a server would refuse, or that cannot be sent twice.
    Bad(Bad<'a>),
}

/// A point that a server would store, as it would store it.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Physical line on which it begins, from 1.
    pub line: u64,
    /// The item as it stands in the text, without the final line feed.
    pub text: &'a [u8],
    /// The raw series key: escapes kept, tags sorted.
    pub key: &'a [u8],
    /// Nanoseconds since 1970.
    pub time: i64,
    /// The line held a field called `time`, which a server drops silently; it is not among the
    /// fields.
    pub dropped_time_field: bool,
    /// What a server does to this line without saying so.
    pub warning: Option<&'static str>,
    fields: RowFields<'a>,
}

/// Where the fields of a row are.
#[derive(Clone, Copy)]
enum RowFields<'a> {
    Form { guess: &'a Guess, form: u32 },
    Point { trimmed: &'a [u8], point: &'a Point },
}

/// A row like one before it, by the decoder's numbers.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// As long as this is the same, in whatever decoder, a number means the same.
    pub epoch: u64,
    /// Number of the raw key; numbers are small.
    pub key: u32,
    /// Number of the fields' names and types, none of which comes twice.
    pub form: u32,
    /// The value of each field as [`Value::bits`] has it; of a string, where it begins in
    /// [`Row::text`] (the high half) and how long it is.
    pub cells: &'a [u64],
    fields: &'a [Expected],
}

impl<'a> Known<'a> {
    /// Name and type of each field.
    pub fn kinds(&self) -> impl Iterator<Item = (&'a [u8], FieldType)> + use<'a> {
        self.fields.iter().map(|field| (field.name(), field.field_type))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
    fn get(&self, text: &'a [u8], at: usize) -> (&'a [u8], Value<'a>) {
        let (field, bits) = (&self.fields[at], self.cells[at]);
        let value = match field.field_type {
            FieldType::Float => Value::Float(f64::from_bits(bits)),
            FieldType::Integer => Value::Integer(bits.cast_signed()),
            FieldType::Unsigned => Value::Unsigned(bits),
            FieldType::Boolean => Value::Boolean(bits != 0),
            FieldType::String => {
                let start = (bits >> 32) as usize;
                Value::String(&text[start..start + (bits as u32) as usize])
            }
        };
        (field.name(), value)
    }
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { epoch, key, form, .. } = self;
        f.debug_struct("Known")
            .field("epoch", epoch)
            .field("key", key)
            .field("form", form)
            .finish_non_exhaustive()
    }
}

impl<'a> Row<'a> {
    /// The fields in the order of the line: key and value, both unescaped.
    ///
    /// A field may come twice with one type; the later value is the one that is stored.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let (known, text, fields) = (self.known(), self.text, self.fields);
        let count = match fields {
            RowFields::Form { guess, .. } => guess.cells().len(),
            RowFields::Point { point, .. } => point.fields.count(),
        };
        (0..count).map(move |at| match (fields, &known) {
            (RowFields::Point { trimmed, point }, _) => point.fields.get(trimmed, at),
            (RowFields::Form { .. }, Some(known)) => known.get(text, at),
            (RowFields::Form { .. }, None) => unreachable!("a row of a form is known"),
        })
    }

    /// The row by the decoder's numbers, if it is like one before it.
    #[must_use]
    #[inline]
    pub fn known(&self) -> Option<Known<'a>> {
        match self.fields {
            RowFields::Form { guess, form } => Some(Known {
                epoch: guess.epoch(),
                key: guess.newest(),
                form,
                cells: guess.cells(),
                fields: guess.form(form),
            }),
            RowFields::Point { .. } => None,
        }
    }
}

impl std::fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row")
            .field("line", &self.line)
            .field("key", &crate::series::Printable(self.key))
            .field("time", &self.time)
            .field("fields", &self.fields().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A line that is no row.
#[derive(Clone, Debug)]
pub struct Bad<'a> {
    /// Physical line on which it begins, from 1.
    pub line: u64,
    /// Byte of the item at which the fault was noticed, from 1.
    pub column: u64,
    /// The server's own words where it has them.
    pub reason: Cow<'static, str>,
    /// The item as it stands in the text, without the final line feed.
    pub text: &'a [u8],
}

/// An item is longer than the limit, most likely because a quote is not closed; nothing after it
/// can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: no end of the line within {max} bytes, most likely because a quote is not closed"
)]
pub struct LineTooLong {
    /// Physical line on which the item begins, from 1.
    pub line: u64,
    /// The limit, in bytes.
    pub max: usize,
}

/// Decodes a text that is fed in chunks.
///
/// ```
/// use gapless::line::decode::{Decoder, Item, Options};
///
/// let mut decoder = Decoder::new(Options::default());
/// decoder.feed(b"cpu,host=a usage=1.5 1");
/// assert!(decoder.next_item()?.is_none(), "the line may go on");
/// decoder.feed(b"0\n");
/// let Some(Item::Row(row)) = decoder.next_item()? else { panic!() };
/// assert_eq!((row.key, row.time), (&b"cpu,host=a"[..], 10));
/// decoder.finish();
/// assert!(decoder.next_item()?.is_none());
/// # Ok::<(), gapless::line::decode::LineTooLong>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    clock: Clock,
    line_bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the next item begins in the buffer.
    start: usize,
    splitter: Splitter,
    /// Line feeds before the next item.
    lines: u64,
    finished: bool,
    too_long: Option<LineTooLong>,
    point: Point,
    guess: Guess,
}

/// An item by offsets into the buffer.
struct Found {
    line: u64,
    item: Range<usize>,
    /// Where the measurement or the `#` stands.
    start: usize,
    kind: Kind,
}

enum Kind {
    Row,
    Comment,
    Bad(Fault),
}

impl Decoder {
    /// A decoder at the beginning of a text.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            clock: Clock { precision: options.precision, default_time: options.default_time },
            line_bytes_max: options.line_bytes_max,
            buffer: Vec::new(),
            start: 0,
            splitter: Splitter::default(),
            lines: 0,
            finished: false,
            too_long: None,
            point: Point::default(),
            guess: Guess::default(),
        }
    }

    /// Takes the next bytes of the text. Items should be taken until there are none before more
    /// is fed: what is fed is kept until then.
    pub fn feed(&mut self, chunk: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let needed = self.buffer.len() + chunk.len();
        if needed > self.buffer.capacity() {
            // Doubled, so that a long item is not copied at each chunk, but not beyond the limit.
            let limit = self.line_bytes_max.saturating_add(chunk.len());
            let capacity = (2 * self.buffer.capacity()).min(limit).max(needed);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(chunk);
    }

    /// Says that the text ends with what was fed. A last line needs no line feed.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next item; `None` asks for more bytes, or is the end of a finished text.
    ///
    /// # Errors
    /// Where an item is longer than the limit: nothing after it can be read, and each further call
    /// says so again.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, LineTooLong> {
        loop {
            if let Some(line) = self.guess_line() {
                return Ok(Some(Item::Row(self.guessed_row(line))));
            }
            let Some(item) = self.next_range()? else {
                return Ok(None);
            };
            if let Some(found) = self.read(item) {
                return Ok(Some(self.item(found)));
            }
        }
    }

    /// Reads the next line and moves behind it, if it is as the lines before it were.
    fn guess_line(&mut self) -> Option<Line> {
        // A line of which a part was searched before is not read from its start again and again.
        if !self.splitter.is_new() {
            return None;
        }
        let rest = &self.buffer[self.start..];
        let line = self.guess.read(rest, self.clock, &mut self.point.fields)?;
        if line.length > self.line_bytes_max {
            return None;
        }
        self.start += line.length + 1;
        self.lines += 1;
        Some(line)
    }

    fn guessed_row(&self, line: Line) -> Row<'_> {
        let end = self.start - 1;
        let text = &self.buffer[end - line.length..end];
        Row {
            line: self.lines,
            text,
            key: self.guess.key(),
            time: line.time,
            dropped_time_field: false,
            warning: None,
            fields: match line.form {
                Some(form) => RowFields::Form { guess: &self.guess, form },
                None => RowFields::Point { trimmed: text, point: &self.point },
            },
        }
    }

    /// Finds the end of the next item and moves behind it.
    fn next_range(&mut self) -> Result<Option<(u64, Range<usize>)>, LineTooLong> {
        if let Some(error) = self.too_long {
            return Err(error);
        }
        let rest = &self.buffer[self.start..];
        if rest.is_empty() {
            return Ok(None);
        }
        let end = self.splitter.end(rest, self.finished);
        if end.unwrap_or(self.splitter.certain()) > self.line_bytes_max {
            let error = LineTooLong { line: self.lines + 1, max: self.line_bytes_max };
            self.too_long = Some(error);
            self.buffer = Vec::new();
            self.start = 0;
            return Err(error);
        }
        let Some(length) = end else {
            return Ok(None);
        };
        let line = self.lines + 1;
        let item = self.start..self.start + length;
        if self.splitter.may_span_lines() {
            let inside = memchr::memchr_iter(b'\n', &self.buffer[item.clone()]).count();
            self.lines += inside as u64;
        }
        self.lines += 1;
        self.start = (item.end + 1).min(self.buffer.len());
        self.splitter = Splitter::default();
        Ok(Some((line, item)))
    }

    /// Reads an item; `None` where it is blank.
    fn read(&mut self, (line, mut item): (u64, Range<usize>)) -> Option<Found> {
        let bytes = &self.buffer[item.clone()];
        let start = item.start + blank(bytes);
        if start == item.end {
            return None;
        }
        // The server strips a line feed that the quotes of an unfinished item kept inside.
        let comment = self.buffer[start] == b'#';
        if !comment && bytes.last() == Some(&b'\n') {
            item.end -= 1;
        }
        let text = &self.buffer[start..item.end];
        let kind = if comment {
            Kind::Comment
        } else {
            match self.point.read(text, self.clock) {
                Ok(()) => {
                    self.point.teach(text, &mut self.guess);
                    Kind::Row
                }
                Err(fault) => Kind::Bad(fault),
            }
        };
        Some(Found { line, item, start, kind })
    }

    fn item(&self, found: Found) -> Item<'_> {
        let text = &self.buffer[found.item.clone()];
        let line = found.line;
        match found.kind {
            Kind::Comment => Item::Comment(text),
            Kind::Row => Item::Row(Row {
                line,
                text,
                key: self.point.key.key(),
                time: self.point.time,
                dropped_time_field: self.point.fields.dropped_time,
                warning: self.point.warning,
                fields: RowFields::Point {
                    trimmed: &self.buffer[found.start..found.item.end],
                    point: &self.point,
                },
            }),
            Kind::Bad(Fault { at, mut reason }) => {
                if text.last() == Some(&b'\r') {
                    reason.to_mut().push_str(CR);
                }
                Item::Bad(Bad {
                    line,
                    column: (found.start - found.item.start + at) as u64 + 1,
                    reason,
                    text,
                })
            }
        }
    }
}
