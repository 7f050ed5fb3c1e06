//! Blocks into lines: whole rows, nanosecond timestamps, each ended by a line feed.
//!
//! The series key is written as it is stored, escapes and all, for another spelling would be
//! another series. So the bytes of a key are not ours to choose, and a line must not be sent that
//! a server reads as something else, or that makes it panic. Invariant: every line that is
//! appended is read back by [`super::decode`] as exactly the row it was made from; what cannot be
//! written so is [`Unwritable`], and then nothing is appended.

use super::escape::{FIELD_KEY, escape, escape_string};
use super::fields::TIME;
use super::guess::is_plain;
use super::point::{Clock, Point, blank};
use super::split::Splitter;
use super::{KEY_BYTES_MAX, SEPARATOR_BYTES};
use crate::block::{Block, Values, string};
use crate::series::{Printable, Series};
use crate::value::Value;
use crate::window::{TIME_MAX, TIME_MIN};

/// A row that cannot be written as a line that a server would read back as that row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unwritable {
    /// Why, in one clause.
    pub reason: String,
}

impl Unwritable {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A field key, escaped once for many rows.
#[derive(Debug)]
struct Name<'b> {
    name: &'b [u8],
    escaped: Vec<u8>,
    plain: bool,
    /// Another column has this name and another type.
    shared: bool,
    /// `,`, the escaped key and `=`, if there is room for them: copied whole and cut off.
    joined: [u8; JOINED],
    /// Length of what `joined` holds, 0 if there is no room.
    length: usize,
}

/// Most field keys are shorter.
const JOINED: usize = 32;

impl<'b> Name<'b> {
    fn new(name: &'b [u8], shared: bool) -> Self {
        let mut escaped = Vec::with_capacity(name.len());
        escape(name, FIELD_KEY, &mut escaped);
        let whole = [b",", &escaped[..], b"="].concat();
        let mut joined = [0; JOINED];
        let mut length = 0;
        if whole.len() <= JOINED {
            length = whole.len();
            joined[..length].copy_from_slice(&whole);
        }
        Self { name, plain: is_plain(&escaped), escaped, shared, joined, length }
    }

    /// True where nothing about this name depends on the row but the length of the series key.
    fn is_simple(&self) -> bool {
        self.plain && !self.shared && !self.name.is_empty() && self.name != TIME
    }

    /// Appends `,`, the escaped key and `=`.
    #[inline]
    fn join(&self, out: &mut Vec<u8>) {
        if self.length > 0 {
            // Of a length known here, so that it is no call.
            out.extend_from_slice(&self.joined);
            out.truncate(out.len() - (JOINED - self.length));
        } else {
            out.push(b',');
            out.extend_from_slice(&self.escaped);
            out.push(b'=');
        }
    }

    /// Refuses what no server can store under this name.
    fn check(&self, key: &[u8]) -> Result<(), Unwritable> {
        if self.name.is_empty() {
            return Err(Unwritable::new("a field has an empty key"));
        }
        if self.name == TIME {
            return Err(Unwritable::new("a field is called time: a server drops it silently"));
        }
        let bytes = key.len() + SEPARATOR_BYTES + self.escaped.len();
        if bytes > KEY_BYTES_MAX {
            return Err(Unwritable::new(format!(
                "max key length exceeded: {bytes} > {KEY_BYTES_MAX}"
            )));
        }
        Ok(())
    }
}

/// Writes rows of one block.
#[derive(Debug)]
pub struct Encoder<'b> {
    block: &'b Block,
    names: Vec<Name<'b>>,
    /// Most bytes of a series key with which every row may be written the short way; `None` where
    /// a name forbids it.
    simple_key_max: Option<usize>,
    checker: Checker,
}

impl<'b> Encoder<'b> {
    /// An encoder for the rows of `block`.
    #[must_use]
    pub fn new(block: &'b Block) -> Self {
        let columns = block.columns();
        let mut sorted: Vec<&[u8]> = columns.iter().map(|column| &*column.field).collect();
        sorted.sort_unstable();
        let shared = |name: &[u8]| {
            let first = sorted.partition_point(|other| *other < name);
            sorted.get(first + 1).is_some_and(|next| *next == name)
        };
        let names: Vec<_> =
            columns.iter().map(|column| Name::new(&column.field, shared(&column.field))).collect();
        let longest = names.iter().map(|name| name.escaped.len()).max().unwrap_or(0);
        let simple_key_max = KEY_BYTES_MAX
            .checked_sub(longest + SEPARATOR_BYTES)
            .filter(|_| names.iter().all(Name::is_simple));
        Self { block, names, simple_key_max, checker: Checker::default() }
    }

    /// Appends one row, which belongs to `series`, and returns the number of its cells. A row
    /// without cells appends nothing.
    ///
    /// `wanted` says by column which cells to write; `None` writes all that are present.
    ///
    /// # Errors
    /// Where the row cannot be written; `out` is then as it was.
    pub fn row(
        &mut self,
        series: &Series,
        row: usize,
        wanted: Option<&[bool]>,
        out: &mut Vec<u8>,
    ) -> Result<u64, Unwritable> {
        if let Some(cells) = self.simple_row(series.key(), row, wanted, out) {
            return Ok(cells);
        }
        let columns = self.block.columns();
        let names = &self.names;
        let cells = (0..columns.len())
            .filter(|&at| wanted.is_none_or(|wanted| wanted[at]))
            .filter_map(|at| Some((&names[at], columns[at].get(row)?)));
        let start = out.len();
        append(out, series.key(), cells, self.block.times()[row], &mut self.checker)
            .inspect_err(|_| out.truncate(start))
    }

    /// [`Encoder::row`] for rows of which nothing needs to be proved: the key is the one that was
    /// proved last, and every name is simple. `None` leaves the row to the long way, which alone
    /// refuses, and `out` as it was.
    fn simple_row(
        &self,
        key: &[u8],
        row: usize,
        wanted: Option<&[bool]>,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let time = self.block.times()[row];
        if key.len() > self.simple_key_max?
            || !self.checker.knows(key)
            || !(TIME_MIN..=TIME_MAX).contains(&time)
        {
            return None;
        }
        let start = out.len();
        out.extend_from_slice(key);
        let mut written = 0;
        for (at, (column, name)) in self.block.columns().iter().zip(&self.names).enumerate() {
            if !column.is_present(row) || wanted.is_some_and(|wanted| !wanted[at]) {
                continue;
            }
            name.join(out);
            if !append_simple_value(out, column.values(), row) {
                out.truncate(start);
                return None;
            }
            written += 1;
        }
        if written == 0 {
            out.truncate(start);
            return Some(0);
        }
        out[start + key.len()] = b' ';
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
        out.push(b'\n');
        Some(written)
    }
}

/// Appends the value of one row; false where it cannot be written.
#[inline]
fn append_simple_value(out: &mut Vec<u8>, values: &Values, row: usize) -> bool {
    match values {
        Values::Float(values) if values[row].is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(values[row]).as_bytes());
        }
        Values::Float(_) | Values::Unsigned(_) => return false,
        Values::Integer(values) => {
            out.extend_from_slice(itoa::Buffer::new().format(values[row]).as_bytes());
            out.push(b'i');
        }
        Values::Boolean(values) => append_boolean(out, values[row]),
        Values::String { ends, bytes } => append_string(out, string(ends, bytes, row)),
    }
    true
}

fn append_boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    escape_string(text, out);
    out.push(b'"');
}

/// Appends one row from its parts: raw series key, unescaped field keys, nanoseconds.
///
/// # Errors
/// Where the row cannot be written; `out` is then as it was.
pub fn row(
    out: &mut Vec<u8>,
    key: &[u8],
    fields: &[(&[u8], Value<'_>)],
    time: i64,
) -> Result<(), Unwritable> {
    let names: Vec<Name<'_>> = fields
        .iter()
        .map(|&(name, _)| {
            Name::new(name, fields.iter().filter(|field| field.0 == name).count() > 1)
        })
        .collect();
    if names.is_empty() {
        return Err(Unwritable::new("it has no fields"));
    }
    let cells = names.iter().zip(fields).map(|(name, field)| (name, field.1));
    let start = out.len();
    append(out, key, cells, time, &mut Checker::default())
        .map(|_| ())
        .inspect_err(|_| out.truncate(start))
}

/// Appends one line and checks it. On error the caller cuts off what was appended.
fn append<'c, 'n: 'c>(
    out: &mut Vec<u8>,
    key: &[u8],
    cells: impl Iterator<Item = (&'c Name<'n>, Value<'c>)> + Clone,
    time: i64,
    checker: &mut Checker,
) -> Result<u64, Unwritable> {
    let start = out.len();
    let mut written = 0;
    let mut plain = true;
    out.extend_from_slice(key);
    for (name, value) in cells.clone() {
        name.check(key)?;
        if name.shared {
            check_types(name, value, cells.clone())?;
        }
        out.push(if written == 0 { b' ' } else { b',' });
        out.extend_from_slice(&name.escaped);
        out.push(b'=');
        append_value(out, name, value)?;
        plain &= name.plain;
        written += 1;
    }
    if written == 0 {
        out.truncate(start);
        return Ok(0);
    }
    if !(TIME_MIN..=TIME_MAX).contains(&time) {
        let reason = format!("time outside range {TIME_MIN} - {TIME_MAX}");
        return Err(Unwritable::new(reason));
    }
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
    out.push(b'\n');
    let line = &out[start..];
    let sure = plain && checker.proves(line, key);
    let cells = cells.map(|(name, value)| (name.name, value));
    if sure || checker.reads_back(line, key, cells, time) {
        return Ok(written);
    }
    Err(Unwritable::new(format!("it does not re-parse to itself: series {}", Printable(key))))
}

/// Refuses a second value of one field if its type is another.
fn check_types<'c, 'n: 'c>(
    name: &Name<'n>,
    value: Value<'_>,
    mut cells: impl Iterator<Item = (&'c Name<'n>, Value<'c>)>,
) -> Result<(), Unwritable> {
    let type_of = value.field_type();
    match cells.find(|(other, value)| other.name == name.name && value.field_type() != type_of) {
        None => Ok(()),
        Some((_, other)) => Err(Unwritable::new(format!(
            "field type conflict: field {} has a {type_of} and a {} at one time",
            Printable(name.name),
            other.field_type()
        ))),
    }
}

fn append_value(out: &mut Vec<u8>, name: &Name<'_>, value: Value<'_>) -> Result<(), Unwritable> {
    match value {
        Value::Float(float) if float.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(float).as_bytes());
        }
        Value::Float(float) => {
            let name = Printable(name.name);
            let reason = format!("{float} is an unsupported value for field {name}");
            return Err(Unwritable::new(reason));
        }
        Value::Integer(integer) => {
            out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
            out.push(b'i');
        }
        Value::Unsigned(_) => {
            let name = Printable(name.name);
            return Err(Unwritable::new(format!(
                "field {name} is an unsigned integer, which servers take only if built for it"
            )));
        }
        Value::Boolean(value) => append_boolean(out, value),
        Value::String(text) => append_string(out, text),
    }
    Ok(())
}

/// Proves that a line is read back as the row it was made from.
#[derive(Debug, Default)]
struct Checker {
    /// The last key that was found to need no further proof.
    known: Vec<u8>,
    point: Point,
}

impl Checker {
    /// True where this key was found to need no further proof.
    fn knows(&self, key: &[u8]) -> bool {
        self.known == key && !key.is_empty()
    }

    /// True where the key alone proves the line, given plain field keys.
    ///
    /// Values need no proof: numbers and booleans hold no special byte, and in a string every
    /// quote and backslash is behind a backslash, which both of the server's scanners and its
    /// splitter skip as a pair (at least three bytes follow, so that the splitter's rule about the
    /// end of a text is not met).
    fn proves(&mut self, line: &[u8], key: &[u8]) -> bool {
        if self.knows(key) {
            return true;
        }
        let scan = &mut self.point.key;
        let sure = is_plain(key)
            && !key.starts_with(b"#")
            && matches!(scan.read(line), Ok(end) if end == key.len())
            && scan.key() == key
            && !scan.has_time_tag();
        if sure {
            self.known.clear();
            self.known.extend_from_slice(key);
        }
        sure
    }

    /// True where the line, when decoded, gives the key, the fields in order, and the time.
    fn reads_back<'c>(
        &mut self,
        line: &[u8],
        key: &[u8],
        cells: impl Iterator<Item = (&'c [u8], Value<'c>)>,
        time: i64,
    ) -> bool {
        let Some((_, text)) = line.split_last() else {
            return false;
        };
        Splitter::default().end(line, false) == Some(text.len())
            && !text.starts_with(b"#")
            && blank(text) == 0
            && self.point.read(text, Clock::default()).is_ok()
            && self.point.key.key() == key
            && self.point.time == time
            && !self.point.fields.dropped_time
            && self.holds(text, cells)
    }

    /// True where the line just read holds exactly these fields in this order.
    fn holds<'c>(
        &self,
        text: &[u8],
        mut cells: impl Iterator<Item = (&'c [u8], Value<'c>)>,
    ) -> bool {
        let all = self.point.fields.iter(text).all(|(name, value)| {
            cells.next().is_some_and(|wanted| wanted.0 == name && wanted.1 == value)
        });
        all && cells.next().is_none()
    }
}
