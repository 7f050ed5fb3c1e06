//! A block as bytes, for files that live no longer than the command that wrote them.
//!
//! ```text
//! rows, series, columns                        u32 each
//! series    (length u32, raw key, first row u32)*
//! times     i64*
//! columns   (length u32, field, type u8, presence words u64*, values)*
//! values    u64 a row; strings: end u64 a row, then the bytes
//! ```
//!
//! All integers little-endian. It is no persisted format and has no version: what reads it is the
//! program that wrote it. Every length is checked before anything is made of it, for the file may
//! have been damaged meanwhile.

use super::{Bits, Block, Column, Values};
use crate::series::Series;
use crate::value::FieldType;
use std::sync::Arc;

/// Bytes that are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored block is damaged")]
pub struct Damaged;

/// Types by their code in stored bytes.
const TYPES: [FieldType; 5] = [
    FieldType::Float,
    FieldType::Integer,
    FieldType::Unsigned,
    FieldType::Boolean,
    FieldType::String,
];

/// Appends a block's bytes.
pub fn encode(block: &Block, out: &mut Vec<u8>) {
    for count in [block.rows(), block.series.len(), block.columns.len()] {
        put_length(out, count);
    }
    for (series, first) in block.series.iter().zip(&block.starts) {
        put_bytes(out, series.key());
        put_length(out, *first);
    }
    for time in &block.times {
        out.extend_from_slice(&time.to_le_bytes());
    }
    for column in &block.columns {
        put_bytes(out, &column.field);
        let field_type = column.field_type();
        let code = TYPES.iter().position(|one| *one == field_type).unwrap_or_default();
        out.extend_from_slice(&code.to_le_bytes()[..1]);
        for word in 0..block.rows().div_ceil(64) {
            let word = column.present.0.get(word).copied().unwrap_or_default();
            out.extend_from_slice(&word.to_le_bytes());
        }
        put_values(out, &column.values);
    }
}

fn put_values(out: &mut Vec<u8>, values: &Values) {
    match values {
        Values::Float(values) => {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
        }
        Values::Integer(values) => {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
        Values::Unsigned(values) => {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
        Values::Boolean(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        Values::String { ends, bytes } => {
            ends.iter().for_each(|end| out.extend_from_slice(&(*end as u64).to_le_bytes()));
            out.extend_from_slice(bytes);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // Rows, series and names are far below 2^32; a wrong one would be noticed as damage.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads a block back. `series` makes a series of its raw key.
///
/// # Errors
/// Where the bytes are no block.
pub fn decode(
    bytes: &[u8],
    mut series: impl FnMut(&[u8]) -> Arc<Series>,
) -> Result<Block, Damaged> {
    let mut rest = Rest(bytes);
    let [rows, series_count, column_count] = [rest.length()?, rest.length()?, rest.length()?];
    let mut block = Block::default();
    for _ in 0..series_count {
        let key = rest.bytes()?;
        let start = rest.length()?;
        let ordered = block.starts.last().is_none_or(|last| *last < start);
        if !ordered || start >= rows || block.starts.is_empty() && start > 0 {
            return Err(Damaged);
        }
        block.series.push(series(key));
        block.starts.push(start);
    }
    if block.series.is_empty() != (rows == 0) {
        return Err(Damaged);
    }
    block.starts.push(rows);
    block.times = rest.words(rows)?.map(u64::cast_signed).collect();
    for _ in 0..column_count {
        let field: Arc<[u8]> = rest.bytes()?.into();
        let field_type = *TYPES.get(usize::from(rest.take(1)?[0])).ok_or(Damaged)?;
        let present = Bits(rest.words(rows.div_ceil(64))?.collect());
        let values = rest.values(field_type, rows)?;
        block.columns.push(Column { field, present, values });
    }
    if rest.0.is_empty() { Ok(block) } else { Err(Damaged) }
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, Damaged> {
        let word = self.take(4)?.try_into().map_err(|_ignored| Damaged)?;
        usize::try_from(u32::from_le_bytes(word)).map_err(|_ignored| Damaged)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let length = self.length()?;
        self.take(length)
    }

    fn words(&mut self, count: usize) -> Result<impl Iterator<Item = u64> + use<'a>, Damaged> {
        let bytes = self.take(count.checked_mul(8).ok_or(Damaged)?)?;
        Ok(bytes.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_le_bytes(bytes)
        }))
    }

    fn values(&mut self, field_type: FieldType, rows: usize) -> Result<Values, Damaged> {
        Ok(match field_type {
            FieldType::Float => Values::Float(self.words(rows)?.map(f64::from_bits).collect()),
            FieldType::Integer => {
                Values::Integer(self.words(rows)?.map(u64::cast_signed).collect())
            }
            FieldType::Unsigned => Values::Unsigned(self.words(rows)?.collect()),
            FieldType::Boolean => {
                Values::Boolean(self.take(rows)?.iter().map(|byte| *byte != 0).collect())
            }
            FieldType::String => {
                let ends = self.words(rows)?.map(usize::try_from);
                let ends: Vec<usize> = ends.collect::<Result<_, _>>().map_err(|_e| Damaged)?;
                if !ends.is_sorted() {
                    return Err(Damaged);
                }
                let bytes = self.take(ends.last().copied().unwrap_or_default())?.to_vec();
                Values::String { ends, bytes }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::log::RowLog;
    use crate::value::Value;
    use crate::window::Window;

    fn series(key: &[u8]) -> Arc<Series> {
        Arc::new(Series::new(key.into(), b"m"[..].into(), Vec::new(), true))
    }

    fn block() -> Block {
        let mut log = RowLog::default();
        for (key, time) in [(&b"m,a=1"[..], 5), (b"m,a=2", 7), (b"m,a=1", 6), (b"m,a=3", -1)] {
            let number = log.add_series(series(key));
            log.begin_row(number, time);
            log.push(b"f", Value::Float(f64::from(u8::try_from(time & 7).unwrap())));
            if time > 5 {
                log.push(b"s", Value::String(b"text\n"));
                log.push(b"i", Value::Integer(time));
                log.push(b"b", Value::Boolean(true));
                log.push(b"u", Value::Unsigned(u64::MAX));
            }
        }
        log.resolve().blocks(Window::ALL).next().unwrap()
    }

    #[test]
    fn a_block_comes_back_as_it_was() {
        let block = block();
        let mut bytes = Vec::new();
        encode(&block, &mut bytes);
        let back = decode(&bytes, series).unwrap();
        assert_eq!(format!("{:?}", back.series), format!("{:?}", block.series));
        assert_eq!((&back.starts, &back.times), (&block.starts, &block.times));
        for (one, two) in back.columns.iter().zip(&block.columns) {
            assert_eq!((&one.field, one.field_type()), (&two.field, two.field_type()));
            assert!((0..block.rows()).all(|row| one.get(row) == two.get(row)));
        }
        assert_eq!(back.cells(), block.cells());
    }

    #[test]
    fn damaged_bytes_are_never_a_panic() {
        let mut bytes = Vec::new();
        encode(&block(), &mut bytes);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], series).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                if let Ok(block) = decode(&flipped, series) {
                    for column in block.columns() {
                        let present = (0..block.rows()).filter(|row| column.get(*row).is_some());
                        assert!(present.count() <= block.rows());
                    }
                }
            }
        }
    }
}
