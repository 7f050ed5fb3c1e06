//! A segment of the write-ahead log: what was written and deleted, in order.
//!
//! ```text
//! entry      u8 type, u32 length, snappy block
//! 1 write    repeated: u8 value type, u16 length, key, u32 count, count × (i64 time, value)
//! 2 delete   keys with newlines between them, deleted as a whole (before 1.0)
//! 3 delete   i64 first time, i64 last time, both inside, repeated: u32 length, key
//! value      1 float, 2 integer, 5 unsigned: 8 bytes; 3 boolean: 1 byte; 4 string: u32 length, bytes
//! ```
//!
//! There are no checksums. An entry is handed out only if all of it can be read. Of a segment that
//! is being written, or that was when the power went, the last entry is often cut short: that is
//! [`Item::Incomplete`], if what is there could be the beginning of an entry, and damage otherwise
//! (a length that is too large would take all entries behind it for one). A server that cut off
//! such an end may go on behind a gap of zero bytes: [`Item::Zeros`].
//!
//! After damage, [`Segment::resync`] looks for the next place where an entry can be read.

use super::input::Input;
use super::{Damage, Span, snappy};
use crate::value::{FieldType, Value};
use memchr::memchr;
use std::ops::RangeInclusive;

/// Bytes before an entry's snappy block.
const HEAD: usize = 5;
/// How often, on average, each byte of a segment is looked into after damage.
const LOOKS: u64 = 64;
/// Types of entries.
const TYPES: RangeInclusive<u8> = 1..=3;

/// One step through a segment.
#[derive(Debug)]
pub enum Item<'p> {
    /// Points that were written.
    Write(Writes<'p>),
    /// Deletions.
    Delete(Deletes<'p>),
    /// Zero bytes where an entry should begin. What stands behind them is read on.
    Zeros {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        length: u64,
    },
    /// The segment ends within an entry. Nothing follows.
    Incomplete {
        /// Where that entry begins.
        offset: u64,
        /// Bytes of it that are there.
        length: u64,
    },
}

/// A segment that is being read.
#[derive(Debug)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    /// Where the next entry begins.
    at: usize,
    /// Where the entry read last began.
    last: usize,
    /// Bytes that [`Segment::resync`] may still look into.
    looks: u64,
    payload: Vec<u8>,
}

impl<'a> Segment<'a> {
    /// Reads the bytes of one file from its beginning.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let looks = LOOKS * bytes.len() as u64;
        Self { bytes, at: 0, last: 0, looks, payload: Vec::new() }
    }

    /// Offset up to which the segment was read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    /// Bytes that the content of the largest of the entries takes which follow each other from the
    /// beginning, as they say themselves.
    #[must_use]
    pub fn largest(bytes: &[u8]) -> u64 {
        let (mut at, mut largest) = (0, 0);
        while let Some((_, block)) = bytes.get(at..).and_then(whole) {
            largest = largest.max(snappy::announced(block));
            at += HEAD + block.len();
        }
        largest
    }

    /// The next item, or `None` at the end.
    ///
    /// # Errors
    /// Where an entry is damaged. Then there is nothing more but after [`Segment::resync`].
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, Damage> {
        let start = std::mem::replace(&mut self.at, self.bytes.len());
        self.last = start;
        let offset = start as u64;
        let rest = &self.bytes[start..];
        if rest.is_empty() {
            return Ok(None);
        }
        if rest[0] == 0 {
            let length = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
            self.at = start + length;
            return Ok(Some(Item::Zeros { offset, length: length as u64 }));
        }
        match frame(rest).map_err(|reason| Damage::new(offset, reason))? {
            Frame::Cut => Ok(Some(Item::Incomplete { offset, length: rest.len() as u64 })),
            Frame::Whole { kind, block, length } => {
                let payload = read(kind, block, &mut self.payload)
                    .map_err(|reason| Damage::new(offset, reason))?;
                self.at = start + length;
                Ok(Some(payload))
            }
        }
    }

    /// After damage, goes to the next place where an entry can be read as a whole, and returns its
    /// offset; `None` where there is none, or where too much looked like one and was none: bytes that
    /// were made to do so could take the square of their number. What lies between is lost.
    pub fn resync(&mut self) -> Option<u64> {
        for at in self.last + 1..self.bytes.len() {
            let Some((kind, block)) = whole(&self.bytes[at..]) else { continue };
            self.looks = self.looks.checked_sub(block.len() as u64)?;
            if read(kind, block, &mut self.payload).is_ok() {
                self.at = at;
                return Some(at as u64);
            }
        }
        None
    }
}

enum Frame<'a> {
    Whole { kind: u8, block: &'a [u8], length: usize },
    Cut,
}

/// Type and snappy block of the entry that the bytes begin with, if all of it is there.
fn whole(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let block = rest.get(..usize::try_from(length).ok()?)?;
    TYPES.contains(&head[0]).then_some((head[0], block))
}

/// The entry that the bytes, of which there are some, begin with.
fn frame(bytes: &[u8]) -> Result<Frame<'_>, String> {
    if let Some((kind, block)) = whole(bytes) {
        return Ok(Frame::Whole { kind, block, length: HEAD + block.len() });
    }
    if !TYPES.contains(&bytes[0]) {
        return Err(format!("unknown type {} of an entry: the log is damaged", bytes[0]));
    }
    let rest = bytes.get(HEAD..).unwrap_or_default();
    if snappy::begins_block(rest) {
        return Ok(Frame::Cut);
    }
    Err(format!(
        "an entry says that it goes on behind the end of the segment, but the {} bytes that are \
         there do not begin one: the log is damaged",
        rest.len()
    ))
}

/// Decompresses an entry and passes over all of it.
fn read<'p>(kind: u8, block: &[u8], payload: &'p mut Vec<u8>) -> Result<Item<'p>, String> {
    payload.clear();
    snappy::decompress(block, payload)?;
    let payload = &**payload;
    let within =
        |damage: Damage| format!("byte {} of an entry's content: {}", damage.offset, damage.reason);
    let mut input = Input::new(payload, 0);
    match kind {
        1 => {
            let writes = Writes { input };
            while !input.is_empty() {
                Written::read(&mut input).map_err(within)?;
            }
            Ok(Item::Write(writes))
        }
        2 => Ok(Item::Delete(Deletes { span: Span::ALL, keys: DeletedKeys::Lines(payload) })),
        _ => {
            let min = input.i64("a deletion's first time").map_err(within)?;
            let max = input.i64("a deletion's last time").map_err(within)?;
            let keys = DeletedKeys::Records(input);
            while !input.is_empty() {
                record(&mut input).map_err(within)?;
            }
            Ok(Item::Delete(Deletes { span: Span { min, max }, keys }))
        }
    }
}

/// What one entry writes: the keys in any order, each once or several times.
#[derive(Clone, Debug)]
pub struct Writes<'p> {
    input: Input<'p>,
}

impl<'p> Iterator for Writes<'p> {
    type Item = Written<'p>;

    fn next(&mut self) -> Option<Written<'p>> {
        if self.input.is_empty() {
            return None;
        }
        // Read before, when the entry was checked.
        Written::read(&mut self.input).ok()
    }
}

/// Points of one key, the later counting where two have one time.
#[derive(Clone, Copy, Debug)]
pub struct Written<'p> {
    /// Series key and field key: see [`super::split_key`].
    pub key: &'p [u8],
    /// Type of all values.
    pub field_type: FieldType,
    /// Number of points, at least one.
    pub count: u32,
    points: Input<'p>,
}

impl<'p> Written<'p> {
    /// The points, in the order of writing.
    pub fn points(&self) -> impl Iterator<Item = (i64, Value<'p>)> + use<'p> {
        let (mut points, field_type) = (self.points, self.field_type);
        (0..self.count).map_while(move |_| point(&mut points, field_type).ok())
    }

    fn read(input: &mut Input<'p>) -> Result<Self, Damage> {
        let start = *input;
        let code = input.byte("a value's type")?;
        let field_type = match code {
            1 => FieldType::Float,
            2 => FieldType::Integer,
            3 => FieldType::Boolean,
            4 => FieldType::String,
            5 => FieldType::Unsigned,
            _ => return Err(start.damaged(format!("unknown type {code} of values"))),
        };
        let length = input.u16("a key's length")?;
        let key = input.take(usize::from(length), "a key")?;
        let start = *input;
        let count = input.u32("the number of values")?;
        if count == 0 {
            return Err(start.damaged("a key without values"));
        }
        let mut points = *input;
        match field_type {
            FieldType::Boolean | FieldType::String => {
                for _ in 0..count {
                    point(input, field_type)?;
                }
                let length = points.rest().len() - input.rest().len();
                points = Input::new(&points.rest()[..length], points.offset());
            }
            _ => {
                let bytes = input.take_long(u64::from(count) * 16, "values")?;
                points = Input::new(bytes, points.offset());
            }
        }
        Ok(Self { key, field_type, count, points })
    }
}

#[inline]
fn point<'p>(input: &mut Input<'p>, field_type: FieldType) -> Result<(i64, Value<'p>), Damage> {
    let time = input.i64("a time")?;
    let value = match field_type {
        FieldType::Float => Value::Float(f64::from_bits(input.u64("a float")?)),
        FieldType::Integer => Value::Integer(input.i64("an integer")?),
        FieldType::Unsigned => Value::Unsigned(input.u64("an unsigned integer")?),
        FieldType::Boolean => {
            let start = *input;
            match input.byte("a boolean")? {
                byte @ (0 | 1) => Value::Boolean(byte == 1),
                other => return Err(start.damaged(format!("{other} is no boolean"))),
            }
        }
        FieldType::String => {
            let length = input.u32("a string's length")?;
            Value::String(input.take_long(u64::from(length), "a string")?)
        }
    };
    Ok((time, value))
}

/// What one entry deletes, of what the log has before it.
#[derive(Clone, Copy, Debug)]
pub struct Deletes<'p> {
    /// The times that are gone.
    pub span: Span,
    keys: DeletedKeys<'p>,
}

#[derive(Clone, Copy, Debug)]
enum DeletedKeys<'p> {
    Lines(&'p [u8]),
    Records(Input<'p>),
}

impl<'p> Deletes<'p> {
    /// The keys of which they are gone.
    #[must_use]
    pub fn keys(&self) -> Keys<'p> {
        Keys(self.keys)
    }
}

/// Keys of a deletion.
#[derive(Clone, Debug)]
pub struct Keys<'p>(DeletedKeys<'p>);

impl<'p> Iterator for Keys<'p> {
    type Item = &'p [u8];

    fn next(&mut self) -> Option<&'p [u8]> {
        match &mut self.0 {
            DeletedKeys::Lines([]) => None,
            DeletedKeys::Lines(rest) => {
                let (key, after) = match memchr(b'\n', rest) {
                    Some(at) => (&rest[..at], &rest[at + 1..]),
                    None => (*rest, &[][..]),
                };
                *rest = after;
                Some(key)
            }
            DeletedKeys::Records(input) if input.is_empty() => None,
            // Read before, when the entry was checked.
            DeletedKeys::Records(input) => record(input).ok(),
        }
    }
}

fn record<'p>(input: &mut Input<'p>) -> Result<&'p [u8], Damage> {
    let length = input.u32("a deleted key's length")?;
    input.take_long(u64::from(length), "a deleted key")
}
