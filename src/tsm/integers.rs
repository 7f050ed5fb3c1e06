//! Signed and unsigned integers of a block, which are stored alike.
//!
//! ```text
//! byte    encoding in the high half
//! 0 raw     n × u64
//! 1 packed  u64 first, simple8b words
//! 2 run     u64 first, uvarint distance, uvarint n - 1
//! ```
//!
//! Each is the distance from the value before, the first one's from zero, folded so that small
//! negative distances are small numbers (zigzag: 0, -1, 1, -2, 2 are 0, 1, 2, 3, 4).

use super::input::Input;
use super::{Damage, simple8b};

/// Unfolds a distance.
#[inline]
fn distance(folded: u64) -> u64 {
    (folded >> 1) ^ (folded & 1).wrapping_neg()
}

/// Fills `out` with the values, which have to be as many; `make` turns 64 bits into one.
pub(super) fn decode<T>(
    mut input: Input<'_>,
    out: &mut [T],
    make: impl Fn(u64) -> T,
) -> Result<(), Damage> {
    let start = input;
    let encoding = input.byte("the integers' encoding")? >> 4;
    let mut value = 0_u64;
    let next = |folded| {
        value = value.wrapping_add(distance(folded));
        make(value)
    };
    match encoding {
        0 => raw(input, out, next),
        1 => packed(input, out, next),
        2 => run(input, out, next),
        other => Err(start.damaged(format!("unknown encoding {other} of integers"))),
    }
}

/// Refuses another number of values than there are times.
pub(super) fn expect(found: u64, expected: usize, input: &Input<'_>) -> Result<(), Damage> {
    if found == expected as u64 {
        return Ok(());
    }
    Err(input.damaged(format!("a block of {expected} times holds {found} values")))
}

fn raw<T>(input: Input<'_>, out: &mut [T], mut next: impl FnMut(u64) -> T) -> Result<(), Damage> {
    let (words, rest) = input.rest().as_chunks::<8>();
    if !rest.is_empty() {
        return Err(input.damaged("raw integers that are not a number of whole words"));
    }
    expect(words.len() as u64, out.len(), &input)?;
    for (slot, word) in out.iter_mut().zip(words) {
        *slot = next(u64::from_be_bytes(*word));
    }
    Ok(())
}

fn packed<T>(
    mut input: Input<'_>,
    out: &mut [T],
    mut next: impl FnMut(u64) -> T,
) -> Result<(), Damage> {
    let first = input.u64("the first integer")?;
    let words = input.rest();
    if !words.len().is_multiple_of(8) {
        return Err(input.damaged("packed integers that are not a number of whole words"));
    }
    expect(simple8b::count(words) as u64 + 1, out.len(), &input)?;
    if let Some((slot, rest)) = out.split_first_mut() {
        *slot = next(first);
        simple8b::unpack(words, rest, next);
    }
    Ok(())
}

fn run<T>(
    mut input: Input<'_>,
    out: &mut [T],
    mut next: impl FnMut(u64) -> T,
) -> Result<(), Damage> {
    let first = input.u64("the first integer")?;
    let folded = input.uvarint("the distance of integers")?;
    let start = input;
    let repeats = input.uvarint("the number of integers")?;
    if !input.is_empty() {
        return Err(input.damaged("bytes behind a run of integers"));
    }
    expect(repeats.saturating_add(1), out.len(), &start)?;
    if let Some((slot, rest)) = out.split_first_mut() {
        *slot = next(first);
        rest.fill_with(|| next(folded));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_unfold_to_both_sides_and_to_the_edges() {
        let signed = |folded| distance(folded).cast_signed();
        assert_eq!([0, 1, 2, 3, 4].map(signed), [0, -1, 1, -2, 2]);
        assert_eq!(signed(u64::MAX), i64::MIN);
        assert_eq!(signed(u64::MAX - 1), i64::MAX);
    }
}
