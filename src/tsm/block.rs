//! One block of a TSM file: times and values of one field of one series.
//!
//! ```text
//! u32 checksum   CRC-32 (IEEE) of what follows it
//! u8 type        0 float, 1 integer, 2 boolean, 3 string, 4 unsigned
//! uvarint        length of the timestamps
//! timestamps     how many points there are is said here only
//! values         up to the end
//! ```
//!
//! Invariant: points are appended all or not at all, and only if the checksum is right and there are
//! as many values as times.

use super::input::Input;
pub use super::times::POINTS_MAX;
use super::{Damage, Points, Values, floats, integers, strings, times};
use crate::value::FieldType;

/// Type of a block, or of the entries of a key in the index.
///
/// The write-ahead log numbers types otherwise.
#[must_use]
pub fn field_type(code: u8) -> Option<FieldType> {
    match code {
        0 => Some(FieldType::Float),
        1 => Some(FieldType::Integer),
        2 => Some(FieldType::Boolean),
        3 => Some(FieldType::String),
        4 => Some(FieldType::Unsigned),
        _ => None,
    }
}

/// Appends the points of a block that stands, checksum first, at an offset of its file.
///
/// # Errors
/// Where the block is damaged or holds values of another type than `points`, which is then as it
/// was before.
pub fn decode(stored: &[u8], offset: u64, points: &mut Points) -> Result<(), Damage> {
    let before = points.len();
    let decoded = checked(stored, offset).and_then(|content| append(content, points));
    if decoded.is_err() {
        points.truncate(before);
    }
    decoded
}

/// Bytes of the values of a block of strings once it is decompressed, as it says itself; `None` for
/// other blocks, and where that cannot be read.
#[must_use]
pub fn announced(stored: &[u8]) -> Option<u64> {
    let mut input = Input::new(stored, 0);
    input.u32("a block's checksum").ok()?;
    field_type(input.byte("a block's type").ok()?).filter(|one| *one == FieldType::String)?;
    let length = input.uvarint("the length of the timestamps").ok()?;
    input.take_long(length, "the timestamps").ok()?;
    input.byte("the encoding").ok()?;
    input.uvarint("the length of the strings").ok()
}

/// What follows the checksum, if that is right.
fn checked(stored: &[u8], offset: u64) -> Result<Input<'_>, Damage> {
    let mut input = Input::new(stored, offset);
    let start = input;
    let expected = input.u32("a block's checksum")?;
    if crc32fast::hash(input.rest()) != expected {
        return Err(start.damaged("the block does not match its checksum: its content is damaged"));
    }
    Ok(input)
}

fn append(mut input: Input<'_>, points: &mut Points) -> Result<(), Damage> {
    let start = input;
    let code = input.byte("a block's type")?;
    let Some(field_type) = field_type(code) else {
        return Err(start.damaged(format!("unknown type {code} of a block")));
    };
    points.expect(field_type, &start)?;
    let length = input.uvarint("the length of the timestamps")?;
    let offset = input.offset();
    let stored_times = input.take_long(length, "the timestamps")?;
    let count = times::decode(Input::new(stored_times, offset), &mut points.times)?;
    match &mut points.values {
        Values::Float(values) => floats::decode(input, room(values, count)),
        Values::Integer(values) => integers::decode(input, room(values, count), u64::cast_signed),
        Values::Unsigned(values) => integers::decode(input, room(values, count), |bits| bits),
        Values::Boolean(values) => strings::booleans(input, room(values, count)),
        Values::String(values) => strings::strings(input, values, count),
    }
}

/// Makes room for `count` values and returns it.
fn room<T: Copy + Default>(values: &mut Vec<T>, count: usize) -> &mut [T] {
    let before = values.len();
    values.resize(before + count, T::default());
    &mut values[before..]
}
