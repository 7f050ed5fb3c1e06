//! Encodes what InfluxDB's own files hold, as a server does or in an encoding that is asked for.
//!
//! Written for tests: simple and slow.

use gapless::value::{FieldType, Value};

/// How a sequence of numbers is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Raw,
    Packed,
    Run,
}

/// Largest number that simple8b can hold.
const PACKED_MAX: u64 = (1 << 60) - 1;

/// The encoding that a server chooses for times.
pub fn encoding_of_times(times: &[i64]) -> Encoding {
    let distances = distances(times);
    match &distances[..] {
        [first, rest @ ..] if rest.iter().all(|one| one == first) => Encoding::Run,
        all if all.iter().any(|one| *one > PACKED_MAX) => Encoding::Raw,
        _ => Encoding::Packed,
    }
}

fn distances(times: &[i64]) -> Vec<u64> {
    times.windows(2).map(|two| two[1].wrapping_sub(two[0]).cast_unsigned()).collect()
}

/// Times in an encoding; `None` where they do not fit into it.
pub fn times(times: &[i64], encoding: Encoding) -> Option<Vec<u8>> {
    let distances = distances(times);
    let first = times[0].to_be_bytes();
    match encoding {
        Encoding::Raw => {
            let mut out = vec![0];
            out.extend(first);
            distances.iter().for_each(|one| out.extend(one.to_be_bytes()));
            Some(out)
        }
        Encoding::Packed => {
            let scale = scale(&distances, 12);
            let unit = 10_u64.pow(u32::from(scale));
            let mut out = vec![1 << 4 | scale];
            out.extend(first);
            out.extend(simple8b(&distances.iter().map(|one| one / unit).collect::<Vec<_>>())?);
            Some(out)
        }
        Encoding::Run => {
            let distance = distances.first().copied().unwrap_or_default();
            if distances.iter().any(|one| *one != distance) {
                return None;
            }
            let scale = scale(&distances, 12);
            let mut out = vec![2 << 4 | scale];
            out.extend(first);
            uvarint(&mut out, distance / 10_u64.pow(u32::from(scale)));
            uvarint(&mut out, times.len() as u64);
            Some(out)
        }
    }
}

/// The largest power of ten that divides all.
fn scale(distances: &[u64], most: u8) -> u8 {
    let divides = |scale: &u8| distances.iter().all(|one| one % 10_u64.pow(u32::from(*scale)) == 0);
    (0..=most).rev().find(divides).unwrap_or_default()
}

/// The encoding that a server chooses for integers, given as their bits.
pub fn encoding_of_integers(values: &[u64]) -> Encoding {
    let folded = folded(values);
    if folded.len() > 2 && folded[1..].iter().all(|one| *one == folded[1]) {
        Encoding::Run
    } else if folded.iter().any(|one| *one > PACKED_MAX) {
        Encoding::Raw
    } else {
        Encoding::Packed
    }
}

fn folded(values: &[u64]) -> Vec<u64> {
    let before = std::iter::once(&0).chain(values);
    let distances = values.iter().zip(before).map(|(one, before)| one.wrapping_sub(*before));
    distances
        .map(|distance| (distance << 1) ^ (distance.cast_signed() >> 63).cast_unsigned())
        .collect()
}

/// Integers in an encoding; `None` where they do not fit into it.
pub fn integers(values: &[u64], encoding: Encoding) -> Option<Vec<u8>> {
    let folded = folded(values);
    match encoding {
        Encoding::Raw => {
            let mut out = vec![0];
            folded.iter().for_each(|one| out.extend(one.to_be_bytes()));
            Some(out)
        }
        Encoding::Packed => {
            let mut out = vec![1 << 4];
            out.extend(folded[0].to_be_bytes());
            out.extend(simple8b(&folded[1..])?);
            Some(out)
        }
        Encoding::Run => {
            let distance = folded.get(1).copied().unwrap_or_default();
            if folded[1..].iter().any(|one| *one != distance) {
                return None;
            }
            let mut out = vec![2 << 4];
            out.extend(folded[0].to_be_bytes());
            uvarint(&mut out, distance);
            uvarint(&mut out, values.len() as u64 - 1);
            Some(out)
        }
    }
}

/// Numbers, as many in each word as fit.
pub fn simple8b(mut numbers: &[u64]) -> Option<Vec<u8>> {
    const SHAPES: [(usize, u32); 16] = [
        (240, 0),
        (120, 0),
        (60, 1),
        (30, 2),
        (20, 3),
        (15, 4),
        (12, 5),
        (10, 6),
        (8, 7),
        (7, 8),
        (6, 10),
        (5, 12),
        (4, 15),
        (3, 20),
        (2, 30),
        (1, 60),
    ];
    let mut out = Vec::new();
    while !numbers.is_empty() {
        let fits = |&(_, (count, bits)): &(usize, (usize, u32))| {
            let number_fits = |one: &u64| if bits == 0 { *one == 1 } else { *one < 1 << bits };
            numbers.get(..count).is_some_and(|all| all.iter().all(number_fits))
        };
        let (selector, (count, bits)) = SHAPES.into_iter().enumerate().find(fits)?;
        let mut word = (selector as u64) << 60;
        for (at, number) in numbers[..count].iter().enumerate().filter(|_| bits > 0) {
            word |= number << (at as u32 * bits);
        }
        out.extend(word.to_be_bytes());
        numbers = &numbers[count..];
    }
    Some(out)
}

/// Bits, the first highest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u64, width: u32) {
        for at in (0..width).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> at & 1) as u8;
            *self.bytes.last_mut().unwrap() |= bit << (7 - self.used % 8);
            self.used += 1;
        }
    }
}

/// Floats, given as their bits.
pub fn floats(values: &[u64]) -> Vec<u8> {
    let mut bits = Bits::default();
    let all: Vec<u64> = values.iter().copied().chain([0x7ff8_0000_0000_0001]).collect();
    bits.put(all[0], 64);
    let mut window: Option<(u32, u32)> = None;
    for two in all.windows(2) {
        let changed = two[0] ^ two[1];
        if changed == 0 {
            bits.put(0, 1);
            continue;
        }
        // The server keeps five bits of the number of leading zeros.
        let (leading, trailing) = (changed.leading_zeros() & 31, changed.trailing_zeros());
        let (leading, trailing) = match window {
            Some((l, t)) if leading >= l && trailing >= t => {
                bits.put(0b10, 2);
                (l, t)
            }
            _ => {
                bits.put(0b11, 2);
                bits.put(u64::from(leading), 5);
                bits.put(u64::from((64 - leading - trailing) & 63), 6);
                (leading, trailing)
            }
        };
        window = Some((leading, trailing));
        bits.put(changed >> trailing, 64 - leading - trailing);
    }
    [&[1 << 4], &bits.bytes[..]].concat()
}

pub fn booleans(values: &[bool]) -> Vec<u8> {
    let mut out = vec![1 << 4];
    uvarint(&mut out, values.len() as u64);
    let mut bits = Bits::default();
    values.iter().for_each(|value| bits.put(u64::from(*value), 1));
    out.extend(bits.bytes);
    out
}

pub fn strings<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut content = Vec::new();
    for value in values {
        uvarint(&mut content, value.len() as u64);
        content.extend_from_slice(value);
    }
    let mut out = vec![1 << 4];
    out.extend(snap::raw::Encoder::new().compress_vec(&content).unwrap());
    out
}

pub fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Values as a server encodes them.
pub fn values(values: &[Value<'_>]) -> Vec<u8> {
    let bits: Vec<u64> = values.iter().filter_map(Value::bits).collect();
    match values[0].field_type() {
        FieldType::Float => floats(&bits),
        FieldType::Integer | FieldType::Unsigned => {
            integers(&bits, encoding_of_integers(&bits)).unwrap()
        }
        FieldType::Boolean => booleans(&bits.iter().map(|bits| *bits == 1).collect::<Vec<_>>()),
        FieldType::String => strings(values.iter().map(|value| match value {
            Value::String(bytes) => *bytes,
            _ => unreachable!(),
        })),
    }
}

pub fn code(field_type: FieldType) -> u8 {
    match field_type {
        FieldType::Float => 0,
        FieldType::Integer => 1,
        FieldType::Boolean => 2,
        FieldType::String => 3,
        FieldType::Unsigned => 4,
    }
}

/// A block, behind its checksum, of times and values that are encoded.
pub fn block_of(field_type: FieldType, times: &[u8], values: &[u8]) -> Vec<u8> {
    let mut content = vec![code(field_type)];
    uvarint(&mut content, times.len() as u64);
    content.extend_from_slice(times);
    content.extend_from_slice(values);
    checked(&content)
}

/// The content of a block behind its checksum.
pub fn checked(content: &[u8]) -> Vec<u8> {
    [&crc32fast::hash(content).to_be_bytes(), content].concat()
}

/// A block as a server encodes it.
pub fn block(points: &[(i64, Value<'_>)]) -> Vec<u8> {
    let (all, of): (Vec<i64>, Vec<Value<'_>>) = points.iter().copied().unzip();
    let times = times(&all, encoding_of_times(&all)).unwrap();
    block_of(of[0].field_type(), &times, &values(&of))
}

/// One key of a file: its blocks, each of points in order of time.
pub type Key<'a> = (&'a [u8], Vec<Vec<(i64, Value<'a>)>>);

/// A TSM file of keys that are in order.
pub fn file(keys: &[Key<'_>]) -> Vec<u8> {
    let mut out = vec![0x16, 0xd1, 0x16, 0xd1, 1];
    let mut index = Vec::new();
    for (key, blocks) in keys {
        index.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
        index.extend_from_slice(key);
        index.push(code(blocks[0][0].1.field_type()));
        index.extend(u16::try_from(blocks.len()).unwrap().to_be_bytes());
        for points in blocks {
            let stored = block(points);
            index.extend(points[0].0.to_be_bytes());
            index.extend(points[points.len() - 1].0.to_be_bytes());
            index.extend((out.len() as u64).to_be_bytes());
            index.extend(u32::try_from(stored.len()).unwrap().to_be_bytes());
            out.extend(stored);
        }
    }
    let at = out.len() as u64;
    out.extend(index);
    out.extend(at.to_be_bytes());
    out
}
