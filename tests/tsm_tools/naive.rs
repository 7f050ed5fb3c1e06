//! A second decoder of TSM blocks, written as simply as can be: bit by bit and value by value.
//!
//! It reads what the decoder under test reads, and refuses what that refuses.

use gapless::value::FieldType;

/// A value: the bits of a number or boolean, or bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naive {
    Bits(u64),
    Bytes(Vec<u8>),
}

/// Most points of a block.
const POINTS_MAX: u64 = 1 << 20;

/// The points of the content of a block, without its checksum; `None` where it is damaged.
pub fn block(content: &[u8]) -> Option<(FieldType, Vec<(i64, Naive)>)> {
    let (code, mut rest) = content.split_first()?;
    let field_type = [
        FieldType::Float,
        FieldType::Integer,
        FieldType::Boolean,
        FieldType::String,
        FieldType::Unsigned,
    ];
    let field_type = *field_type.get(usize::from(*code))?;
    let length = usize::try_from(uvarint(&mut rest)?).ok()?;
    let (stored, rest) = rest.split_at_checked(length)?;
    let times = times(stored)?;
    let values = match field_type {
        FieldType::Float => floats(rest)?.into_iter().map(Naive::Bits).collect(),
        FieldType::Integer | FieldType::Unsigned => integers(rest, times.len() as u64)?,
        FieldType::Boolean => booleans(rest)?,
        FieldType::String => strings(rest)?,
    };
    let points = times.into_iter().zip(values.clone()).collect::<Vec<_>>();
    (!points.is_empty() && points.len() == values.len() && points.len() == length_of(stored)?)
        .then_some((field_type, points))
}

fn length_of(stored: &[u8]) -> Option<usize> {
    times(stored).map(|times| times.len())
}

fn uvarint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u128;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u128::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return u64::try_from(value).ok();
        }
    }
    None
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*word))
}

fn words(mut rest: &[u8]) -> Option<Vec<u64>> {
    let mut out = Vec::new();
    while !rest.is_empty() {
        out.push(word(&mut rest)?);
    }
    Some(out)
}

fn simple8b(words: &[u64]) -> Option<Vec<u64>> {
    const COUNTS: [u32; 16] = [240, 120, 60, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];
    let mut out = Vec::new();
    for word in words {
        let selector = (word >> 60) as usize;
        for at in 0..COUNTS[selector] {
            let bits = if selector < 2 { 0 } else { 60 / COUNTS[selector] };
            out.push(if bits == 0 { 1 } else { word >> (at * bits) & ((1 << bits) - 1) });
        }
        if out.len() as u64 >= POINTS_MAX {
            return None;
        }
    }
    Some(out)
}

fn times(stored: &[u8]) -> Option<Vec<i64>> {
    let (head, mut rest) = stored.split_first()?;
    let (encoding, scale) = (head >> 4, u32::from(head & 15));
    if scale > 12 {
        return None;
    }
    let unit = 10_u64.pow(scale);
    let mut out = Vec::new();
    match encoding {
        0 => {
            for word in words(rest)? {
                let last = out.last().copied().unwrap_or(0_i64);
                out.push(last.wrapping_add(word.cast_signed()));
            }
        }
        1 => {
            out.push(word(&mut rest)?.cast_signed());
            for distance in simple8b(&words(rest)?)? {
                let last = out[out.len() - 1];
                out.push(last.wrapping_add(distance.wrapping_mul(unit).cast_signed()));
            }
        }
        2 => {
            let first = word(&mut rest)?;
            let distance = uvarint(&mut rest)?;
            let count = uvarint(&mut rest)?;
            if count > POINTS_MAX || !rest.is_empty() {
                return None;
            }
            for at in 0..count {
                let passed = at.wrapping_mul(distance.wrapping_mul(unit));
                out.push(first.wrapping_add(passed).cast_signed());
            }
        }
        _ => return None,
    }
    (!out.is_empty() && out.len() as u64 <= POINTS_MAX).then_some(out)
}

fn integers(stored: &[u8], count: u64) -> Option<Vec<Naive>> {
    let (head, mut rest) = stored.split_first()?;
    let folded = match head >> 4 {
        0 => words(rest)?,
        1 => {
            let first = word(&mut rest)?;
            [vec![first], simple8b(&words(rest)?)?].concat()
        }
        2 => {
            let first = word(&mut rest)?;
            let distance = uvarint(&mut rest)?;
            let repeats = uvarint(&mut rest)?;
            if repeats.checked_add(1)? != count || !rest.is_empty() {
                return None;
            }
            [vec![first], vec![distance; repeats as usize]].concat()
        }
        _ => return None,
    };
    let mut value = 0_u64;
    let unfold = |folded: u64| {
        let half = folded / 2;
        value = if folded.is_multiple_of(2) {
            value.wrapping_add(half)
        } else {
            value.wrapping_add(!half)
        };
        Naive::Bits(value)
    };
    Some(folded.into_iter().map(unfold).collect())
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, width: u32) -> Option<u64> {
        let mut value = 0;
        for _ in 0..width {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u64::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }
}

fn floats(stored: &[u8]) -> Option<Vec<u64>> {
    let mut bits = Bits { bytes: stored.get(1..)?, at: 0 };
    let mut value = bits.take(64)?;
    let mut window = None;
    let mut out = Vec::new();
    while value != 0x7ff8_0000_0000_0001 {
        out.push(value);
        if bits.take(1)? == 0 {
            continue;
        }
        if bits.take(1)? == 1 {
            let leading = bits.take(5)? as u32;
            let width = match bits.take(6)? as u32 {
                0 => 64,
                width => width,
            };
            window = Some((width, 64_u32.checked_sub(leading + width)?));
        }
        let (width, shift) = window?;
        value ^= bits.take(width)? << shift;
    }
    (bits.bytes.len() == bits.at.div_ceil(8)).then_some(out)
}

fn booleans(stored: &[u8]) -> Option<Vec<Naive>> {
    let (head, mut rest) = stored.split_first()?;
    let count = uvarint(&mut rest)?;
    if head >> 4 != 1 || count.div_ceil(8) != rest.len() as u64 {
        return None;
    }
    let mut bits = Bits { bytes: rest, at: 0 };
    (0..count).map(|_| bits.take(1).map(Naive::Bits)).collect()
}

fn strings(stored: &[u8]) -> Option<Vec<Naive>> {
    let (head, rest) = stored.split_first()?;
    let claimed = snap::raw::decompress_len(rest).ok()?;
    if head >> 4 != 1 || claimed > rest.len() * 22 {
        return None;
    }
    let content = snap::raw::Decoder::new().decompress_vec(rest).ok()?;
    let mut rest = &content[..];
    let mut out = Vec::new();
    while !rest.is_empty() {
        let length = usize::try_from(uvarint(&mut rest)?).ok()?;
        let (bytes, after) = rest.split_at_checked(length)?;
        out.push(Naive::Bytes(bytes.to_vec()));
        rest = after;
    }
    Some(out)
}
