//! Booleans and strings of a block.
//!
//! ```text
//! booleans  byte 0x10, uvarint n, n bits, the highest of each byte first, zero bits behind them
//! strings   byte 0x10, one snappy block: (uvarint length, bytes)*
//! ```

use super::input::Input;
use super::integers::expect;
use super::{Damage, Strings, snappy};

/// Both have one encoding.
fn encoding(input: &mut Input<'_>, what: &str) -> Result<(), Damage> {
    let start = *input;
    match input.byte("the encoding")? >> 4 {
        1 => Ok(()),
        other => Err(start.damaged(format!("unknown encoding {other} of {what}"))),
    }
}

/// Fills `out` with the values, which have to be as many.
pub(super) fn booleans(mut input: Input<'_>, out: &mut [bool]) -> Result<(), Damage> {
    encoding(&mut input, "booleans")?;
    expect(input.uvarint("the number of booleans")?, out.len(), &input)?;
    let start = input;
    let bits = input.take(out.len().div_ceil(8), "booleans")?;
    if !input.is_empty() {
        return Err(start.damaged("bytes behind the booleans"));
    }
    for (slots, byte) in out.chunks_mut(8).zip(bits) {
        let mut byte = *byte;
        for slot in slots {
            *slot = byte >= 0x80;
            byte <<= 1;
        }
    }
    Ok(())
}

/// Appends `count` strings.
pub(super) fn strings(mut input: Input<'_>, out: &mut Strings, count: usize) -> Result<(), Damage> {
    encoding(&mut input, "strings")?;
    let before = out.bytes.len();
    snappy::decompress(input.rest(), &mut out.bytes).map_err(|reason| input.damaged(reason))?;
    // The lengths between the strings are closed up in place.
    let (mut from, mut to) = (before, before);
    out.ends.reserve(count);
    let ends = out.ends.len();
    while from < out.bytes.len() {
        let mut lengths = Input::new(&out.bytes[from..], 0);
        let content = lengths
            .uvarint("a string's length")
            .and_then(|length| lengths.take_long(length, "a string"))
            .map_err(|damage| input.damaged(format!("in the strings, {}", damage.reason)))?;
        let length = content.len();
        let end = out.bytes.len() - lengths.rest().len();
        out.bytes.copy_within(end - length..end, to);
        (from, to) = (end, to + length);
        if out.ends.len() - ends == count {
            return Err(input.damaged(format!("a block of {count} times holds more values")));
        }
        out.ends.push(to);
    }
    out.bytes.truncate(to);
    expect((out.ends.len() - ends) as u64, count, &input)
}
