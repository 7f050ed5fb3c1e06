//! The bytes of a reply as they come, and the MessagePack values that they encode.
//!
//! No allocation is sized by a length that was read: it grows as bytes come, up to a limit.

use super::{Problem, ROW_MAX, Result, STRING_MAX, Stored};
use rmp::Marker;
use std::io::{self, Read};

/// Deepest nesting of what is skipped.
const DEPTH_MAX: u32 = 32;
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Bytes of a reply, and the values they encode.
#[derive(Debug)]
pub(super) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Offset in the reply of the buffer's first byte.
    before: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; BUFFER], at: 0, end: 0, before: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    pub(super) fn cut_short(&self) -> Problem {
        Problem::CutShort { offset: self.offset() }
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> Problem {
        Problem::Malformed { offset: self.offset(), reason: reason.into() }
    }

    fn unexpected(&self, marker: Marker, wanted: &str) -> Problem {
        self.malformed(format!("{marker:?} where {wanted} was expected"))
    }

    /// True where no byte is left.
    pub(super) fn at_end(&mut self) -> Result<bool> {
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
    pub(super) fn map(&mut self, what: &str) -> Result<u32> {
        match self.marker()? {
            Marker::FixMap(length) => Ok(u32::from(length)),
            Marker::Map16 => self.length_16(),
            Marker::Map32 => self.length_32(),
            Marker::Null => Ok(0),
            marker => Err(self.unexpected(marker, what)),
        }
    }

    /// Number of entries of an array; none where it is nil.
    pub(super) fn array(&mut self, what: &str) -> Result<u32> {
        match self.marker()? {
            Marker::FixArray(length) => Ok(u32::from(length)),
            Marker::Array16 => self.length_16(),
            Marker::Array32 => self.length_32(),
            Marker::Null => Ok(0),
            marker => Err(self.unexpected(marker, what)),
        }
    }

    pub(super) fn boolean(&mut self) -> Result<bool> {
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

    pub(super) fn string(&mut self) -> Result<Vec<u8>> {
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

    pub(super) fn cell(&mut self, strings: &mut Vec<u8>) -> Result<Stored> {
        if let Some(ahead) = self.buffer[self.at..self.end].first_chunk()
            && let Some((cell, length)) = scalar(ahead)
        {
            self.at += length;
            return Ok(cell);
        }
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
    pub(super) fn skip(&mut self, depth: u32) -> Result<()> {
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

/// The value of the most frequent kinds that the bytes begin with, and its length.
fn scalar(ahead: &[u8; 9]) -> Option<(Stored, usize)> {
    let [marker, b, c, d, e, ..] = *ahead;
    let [_, wide @ ..] = *ahead;
    Some(match marker {
        0xcb => (Stored::Float(f64::from_be_bytes(wide)), 9),
        0xd3 => (Stored::Integer(i64::from_be_bytes(wide)), 9),
        0xc0 => (Stored::Nil, 1),
        0..=0x7f => (Stored::Small(marker), 1),
        0xd2 => (Stored::Integer(i64::from(i32::from_be_bytes([b, c, d, e]))), 5),
        0xd1 => (Stored::Integer(i64::from(i16::from_be_bytes([b, c]))), 3),
        0xc2 | 0xc3 => (Stored::Boolean(marker == 0xc3), 1),
        _ => return None,
    })
}
