//! Timestamps of a block.
//!
//! ```text
//! byte    encoding in the high half, k in the low half: times are in units of 10^k ns
//! 0 raw     n × u64                          the first absolute, each other one behind the one before
//! 1 packed  u64 first, simple8b words        each the distance from the time before, in units
//! 2 run     u64 first, uvarint d, uvarint n  n times, each d units behind the one before
//! ```
//!
//! Raw times have no unit. Distances wrap and are never negative by themselves.

use super::input::Input;
use super::{Damage, simple8b};

/// Most points in one block: 1,048,576. Servers put 1,000 into a block, some compactions ten times
/// as many. A run says its length in a few bytes, which therefore cannot be believed.
pub const POINTS_MAX: usize = 1 << 20;

/// Largest k that servers use.
const SCALE_MAX: u8 = 12;

/// Appends the times and returns how many there are, at least one.
pub(super) fn decode(mut input: Input<'_>, out: &mut Vec<i64>) -> Result<usize, Damage> {
    let start = input;
    let head = input.byte("the timestamps' encoding")?;
    let (encoding, scale) = (head >> 4, head & 15);
    if scale > SCALE_MAX {
        return Err(start.damaged(format!("timestamps in units of 10^{scale} ns")));
    }
    let unit = 10_u64.pow(u32::from(scale));
    let before = out.len();
    match encoding {
        0 => raw(input, out)?,
        1 => packed(input, unit, out)?,
        2 => run(input, unit, out)?,
        other => return Err(start.damaged(format!("unknown encoding {other} of timestamps"))),
    }
    Ok(out.len() - before)
}

/// Makes room for `count` times and returns it.
fn room<'v>(
    out: &'v mut Vec<i64>,
    count: usize,
    input: &Input<'_>,
) -> Result<&'v mut [i64], Damage> {
    if count > POINTS_MAX {
        return Err(input.damaged(format!("a block of {count} points: the limit is {POINTS_MAX}")));
    }
    if count == 0 {
        return Err(input.damaged("a block without a point"));
    }
    let before = out.len();
    out.resize(before + count, 0);
    Ok(&mut out[before..])
}

fn raw(input: Input<'_>, out: &mut Vec<i64>) -> Result<(), Damage> {
    let (words, rest) = input.rest().as_chunks::<8>();
    if !rest.is_empty() {
        return Err(input.damaged("raw timestamps that are not a number of whole words"));
    }
    let mut time = 0_u64;
    for (slot, word) in room(out, words.len(), &input)?.iter_mut().zip(words) {
        time = time.wrapping_add(u64::from_be_bytes(*word));
        *slot = time.cast_signed();
    }
    Ok(())
}

fn packed(mut input: Input<'_>, unit: u64, out: &mut Vec<i64>) -> Result<(), Damage> {
    let mut time = input.u64("the first timestamp")?;
    let words = input.rest();
    if !words.len().is_multiple_of(8) {
        return Err(input.damaged("packed timestamps that are not a number of whole words"));
    }
    let slots = room(out, simple8b::count(words) + 1, &input)?;
    if let Some((first, rest)) = slots.split_first_mut() {
        *first = time.cast_signed();
        simple8b::unpack(words, rest, |distance| {
            time = time.wrapping_add(distance.wrapping_mul(unit));
            time.cast_signed()
        });
    }
    Ok(())
}

fn run(mut input: Input<'_>, unit: u64, out: &mut Vec<i64>) -> Result<(), Damage> {
    let mut time = input.u64("the first timestamp")?;
    let distance = input.uvarint("the distance of timestamps")?.wrapping_mul(unit);
    let start = input;
    let count = input.uvarint("the number of timestamps")?;
    if !input.is_empty() {
        return Err(input.damaged("bytes behind a run of timestamps"));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for slot in room(out, count, &start)? {
        *slot = time.cast_signed();
        time = time.wrapping_add(distance);
    }
    Ok(())
}
