//! Writes a TSM file, of keys in order: what of a log does not fit in memory goes to disk as such a file.
//!
//! Of the encodings of each type the one is used that takes any value and the least work, so that such a
//! file is larger than a server's: raw times and integers, floats of which each that changes has a window
//! of all bits, strings as one literal of snappy.

use super::index::HEADER;
use super::{Points, Values, floats};
use crate::error::Result;
use crate::value::FieldType;
use std::ops::Range;

/// Points in one block.
const POINTS: usize = 1_000;
/// Bytes of strings in one block, unless a single one has more.
const BYTES: usize = 64 << 10;
/// Bytes that are handed on together.
const CHUNK: usize = 256 << 10;

/// A file in the making. The index is held in memory until the end.
#[derive(Debug, Default)]
pub struct Writer {
    index: Vec<u8>,
    out: Vec<u8>,
    /// Bytes that were handed on.
    done: u64,
}

impl Writer {
    /// A file without a key.
    #[must_use]
    pub fn new() -> Self {
        Self { out: HEADER.to_vec(), ..Self::default() }
    }

    /// Adds the points of a key, which are in order of time, each time once. The key comes behind all
    /// that were added. Of a key without points nothing is written, and of a key more than the index can
    /// name nothing either: false.
    ///
    /// # Errors
    /// As `sink`.
    pub fn add(
        &mut self,
        key: &[u8],
        points: &Points,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<bool> {
        let blocks = blocks(points);
        let sizes = (u16::try_from(key.len()), u16::try_from(blocks.len()));
        let (Ok(length), Ok(count)) = sizes else { return Ok(false) };
        if blocks.is_empty() {
            return Ok(true);
        }
        self.index.extend_from_slice(&length.to_be_bytes());
        self.index.extend_from_slice(key);
        self.index.push(code(points.values.field_type()));
        self.index.extend_from_slice(&count.to_be_bytes());
        for range in blocks {
            self.block(points, range);
            if self.out.len() >= CHUNK {
                self.hand_on(sink)?;
            }
        }
        Ok(true)
    }

    /// Ends the file. One without a key is none that can be opened.
    ///
    /// # Errors
    /// As `sink`.
    pub fn finish(mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let at = self.done + self.out.len() as u64;
        self.hand_on(sink)?;
        self.index.extend_from_slice(&at.to_be_bytes());
        sink(&self.index)
    }

    fn hand_on(&mut self, sink: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        sink(&self.out)?;
        self.done += self.out.len() as u64;
        self.out.clear();
        // One long string must not keep its memory.
        self.out.shrink_to(2 * CHUNK);
        Ok(())
    }

    fn block(&mut self, points: &Points, range: Range<usize>) {
        let start = self.out.len();
        let times = &points.times[range.clone()];
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return };
        let out = &mut self.out;
        out.extend_from_slice(&[0; 4]);
        out.push(code(points.values.field_type()));
        uvarint(out, 1 + 8 * times.len() as u64);
        out.push(0);
        let mut before = 0_i64;
        for time in times {
            out.extend_from_slice(&time.wrapping_sub(before).to_be_bytes());
            before = *time;
        }
        values(out, points, range);
        let checksum = crc32fast::hash(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&checksum.to_be_bytes());
        let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        for word in [first.cast_unsigned(), last.cast_unsigned(), self.done + start as u64] {
            self.index.extend_from_slice(&word.to_be_bytes());
        }
        self.index.extend_from_slice(&size.to_be_bytes());
    }
}

/// The points of each block.
fn blocks(points: &Points) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < points.len() {
        let mut end = points.len().min(start + POINTS);
        if let Values::String(strings) = &points.values {
            let before = start.checked_sub(1).map_or(0, |at| strings.ends[at]);
            let fitting = strings.ends[start..end].partition_point(|end| end - before <= BYTES);
            end = start + fitting.max(1);
        }
        blocks.push(start..end);
        start = end;
    }
    blocks
}

fn values(out: &mut Vec<u8>, points: &Points, range: Range<usize>) {
    match &points.values {
        Values::Float(values) => floats::encode(out, &values[range]),
        Values::Integer(values) => {
            integers(out, values[range].iter().map(|value| value.cast_unsigned()));
        }
        Values::Unsigned(values) => integers(out, values[range].iter().copied()),
        Values::Boolean(values) => booleans(out, &values[range]),
        Values::String(strings) => texts(out, range.map(|at| strings.get(at))),
    }
}

fn integers(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    out.push(0);
    let mut before = 0_u64;
    for value in values {
        let distance = value.wrapping_sub(before);
        let folded = (distance << 1) ^ (distance.cast_signed() >> 63).cast_unsigned();
        out.extend_from_slice(&folded.to_be_bytes());
        before = value;
    }
}

fn booleans(out: &mut Vec<u8>, values: &[bool]) {
    out.push(1 << 4);
    uvarint(out, values.len() as u64);
    for eight in values.chunks(8) {
        let bits = eight.iter().enumerate().map(|(at, value)| u8::from(*value) << (7 - at));
        out.push(bits.sum());
    }
}

/// Strings as one literal: nothing is compressed, and nothing held twice.
fn texts<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a [u8]> + Clone) {
    out.push(1 << 4);
    let size = |text: &[u8]| uvarint_bytes(text.len() as u64) + text.len() as u64;
    let length: u64 = texts.clone().map(size).sum();
    uvarint(out, length);
    if length == 0 {
        return;
    }
    // A literal that says its length, less one, in four bytes.
    out.push(63 << 2);
    let less_one = u32::try_from(length - 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&less_one.to_le_bytes());
    for text in texts {
        uvarint(out, text.len() as u64);
        out.extend_from_slice(text);
    }
}

fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn uvarint_bytes(value: u64) -> u64 {
    u64::from(64 - (value | 1).leading_zeros()).div_ceil(7)
}

/// The type of a block or key: see [`super::block::field_type`].
fn code(field_type: FieldType) -> u8 {
    match field_type {
        FieldType::Float => 0,
        FieldType::Integer => 1,
        FieldType::Boolean => 2,
        FieldType::String => 3,
        FieldType::Unsigned => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tsm::Strings;
    use crate::tsm::index::Tsm;

    fn strings(texts: impl Iterator<Item = Vec<u8>>) -> Values {
        let mut strings = Strings::default();
        for text in texts {
            strings.bytes.extend(text);
            strings.ends.push(strings.bytes.len());
        }
        Values::String(strings)
    }

    #[test]
    fn what_is_written_is_read() {
        let count = 2_345_u64;
        let times: Vec<i64> = (0..count as i64).map(|at| at * 7 - 9_000).collect();
        let odd = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let floats = [f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MAX, 5e-324]
            .into_iter()
            .chain((6..count).map(|at| if at.is_multiple_of(3) { 1.5 } else { odd(at) as f64 }));
        let long =
            |at: u64| vec![b'x'; if at.is_multiple_of(500) { 70_000 } else { (at % 9) as usize }];
        let all = [
            ("a#!~#f", Values::Float(floats.collect())),
            ("a#!~#i", Values::Integer((0..count).map(|at| odd(at).cast_signed()).collect())),
            ("a#!~#u", Values::Unsigned((0..count).map(odd).collect())),
            ("b#!~#b", Values::Boolean((0..count).map(|at| odd(at).is_multiple_of(3)).collect())),
            ("b#!~#s", strings((0..count).map(long))),
        ];
        let (mut file, mut writer) = (Vec::new(), Writer::new());
        let mut sink = |bytes: &[u8]| {
            file.extend_from_slice(bytes);
            Ok(())
        };
        for (key, values) in &all {
            let points = |count| {
                let (times, mut values) = (times[..count].to_vec(), copy(values));
                values.truncate(count);
                Points { times, values }
            };
            assert!(writer.add(b"a#!~#e", &points(0), &mut sink).unwrap());
            assert!(!writer.add(&[b'k'; 70_000], &points(1), &mut sink).unwrap());
            assert!(writer.add(key.as_bytes(), &points(times.len()), &mut sink).unwrap());
        }
        writer.finish(&mut sink).unwrap();
        let tsm = Tsm::open(file).unwrap();
        assert_eq!(tsm.key_count(), all.len() as u64);
        for (key, values) in &all {
            let found = tsm.find(key.as_bytes()).unwrap().unwrap();
            let mut points = Points::default();
            points.reset(values.field_type());
            found.entries().for_each(|entry| tsm.append(entry, &mut points).unwrap());
            assert_eq!(points.times, times);
            for at in 0..times.len() {
                assert_eq!(points.values.get(at), values.get(at), "{key} {at}");
            }
        }
    }

    fn copy(values: &Values) -> Values {
        match values {
            Values::Float(values) => Values::Float(values.clone()),
            Values::Integer(values) => Values::Integer(values.clone()),
            Values::Unsigned(values) => Values::Unsigned(values.clone()),
            Values::Boolean(values) => Values::Boolean(values.clone()),
            Values::String(all) => strings((0..all.ends.len()).map(|at| all.get(at).to_vec())),
        }
    }
}
