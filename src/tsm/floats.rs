//! Floats of a block: Gorilla's bit stream.
//!
//! ```text
//! byte 0x10, which decoders do not look at; then bits, the highest of each byte first:
//!   64 bits              the first value
//!   0                    the value before once more
//!   1 0, bits            exclusive or with the value before, in the window of bits used last
//!   1 1, 5, 6, bits      the same in a new window: leading zero bits, and width (0 is 64)
//! ```
//!
//! A certain NaN, `7ff8000000000001`, ends the stream and is no value; zero bits fill its last byte.
//! Every other pattern of bits is a value, NaN and infinities too.

use super::Damage;
use super::input::Input;
use super::integers::expect;

/// What ends the stream: a NaN that cannot be stored.
pub(crate) const END: u64 = 0x7ff8_0000_0000_0001;

/// Bits that [`Bits::ahead`] gives for sure.
const AHEAD: u32 = 57;

/// Fills `out` with the values, which have to be as many.
pub(super) fn decode(mut input: Input<'_>, out: &mut [f64]) -> Result<(), Damage> {
    input.byte("the floats' encoding")?;
    let start = input;
    let mut value = input.u64("the first float")?;
    let mut bits = Bits { bytes: input.rest(), at: 0 };
    let mut window = Window { width: 0, shift: 0 };
    let expected = out.len();
    for (at, slot) in out.iter_mut().enumerate() {
        if value == END {
            return expect(at as u64, expected, &start);
        }
        *slot = f64::from_bits(value);
        let ahead = bits.ahead();
        if ahead >> 63 == 0 {
            bits.at += 1;
            continue;
        }
        let Some(changed) = change(ahead, &mut bits, &mut window) else {
            return Err(start.damaged("floats in a window that was never set, or of no width"));
        };
        value ^= changed;
    }
    if bits.at.div_ceil(8) != bits.bytes.len() {
        let much = if bits.at.div_ceil(8) > bits.bytes.len() { "short" } else { "long" };
        return Err(start.damaged(format!("the floats are too {much} for {expected} values")));
    }
    if value != END {
        return Err(start.damaged(format!("the floats do not end behind {expected} values")));
    }
    Ok(())
}

/// Appends values, none of which is [`END`]. Each that changes has a window of all bits.
pub(super) fn encode(out: &mut Vec<u8>, values: &[f64]) {
    out.push(1 << 4);
    let mut bits = Packer { out, pending: 0, count: 0 };
    let mut before = None;
    for value in values.iter().map(|value| value.to_bits()).chain([END]) {
        match before.replace(value) {
            None => bits.put(value, 64),
            Some(before) if before == value => bits.put(0, 1),
            Some(before) => {
                // A new window: no leading zeros, and a width that is written as 0.
                bits.put(0b11 << 11, 13);
                bits.put(before ^ value, 64);
            }
        }
    }
    bits.put(0, (8 - bits.count) % 8);
}

/// Bits that become bytes, the first highest.
struct Packer<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that make no byte yet, and those before them.
    pending: u128,
    count: u32,
}

impl Packer<'_> {
    fn put(&mut self, value: u64, width: u32) {
        self.pending = self.pending << width | u128::from(value);
        self.count += width;
        while self.count >= 8 {
            self.count -= 8;
            self.out.push((self.pending >> self.count).to_le_bytes()[0]);
        }
    }
}

/// Which bits of a value change.
struct Window {
    width: u32,
    /// Bits to the right of the window.
    shift: u32,
}

/// The bits that change, where the next two bits, of `ahead`, do not say that none does. `None`
/// where there is no window, or one that does not fit into 64 bits.
#[inline]
fn change(ahead: u64, bits: &mut Bits<'_>, window: &mut Window) -> Option<u64> {
    let mut used = 2;
    if ahead >> 62 == 3 {
        let (leading, width) = ((ahead >> 57) & 31, (ahead >> 51) & 63);
        let width = if width == 0 { 64 } else { width };
        let shift = 64_u64.checked_sub(leading + width)?;
        (window.width, window.shift) = (u32::try_from(width).ok()?, u32::try_from(shift).ok()?);
        used = 13;
    } else if window.width == 0 {
        return None;
    }
    let changed = if used + window.width <= AHEAD {
        bits.at += (used + window.width) as usize;
        (ahead << used) >> (64 - window.width)
    } else {
        bits.at += used as usize;
        bits.take(window.width)
    };
    Some(changed << window.shift)
}

/// A stream of bits. Behind its end there are zeros; that they were read is noticed later.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that were read.
    at: usize,
}

impl Bits<'_> {
    /// The next bits, in the highest places: [`AHEAD`] of them at least, zeros below.
    #[inline]
    fn ahead(&self) -> u64 {
        self.word(self.at / 8) << (self.at % 8)
    }

    /// The eight bytes at `start`.
    #[inline]
    fn word(&self, start: usize) -> u64 {
        match self.bytes.get(start..).and_then(<[u8]>::first_chunk::<8>) {
            Some(word) => u64::from_be_bytes(*word),
            None => self.last_word(start),
        }
    }

    #[cold]
    fn last_word(&self, start: usize) -> u64 {
        let mut word = [0; 8];
        let left = self.bytes.get(start..).unwrap_or_default();
        word[..left.len()].copy_from_slice(left);
        u64::from_be_bytes(word)
    }

    /// The next `width` bits, 1 to 64.
    #[inline]
    fn take(&mut self, width: u32) -> u64 {
        let mut ahead = self.ahead();
        let passed = self.at % 8;
        if passed > 0 {
            // The byte behind the eight holds the bits that were shifted in as zeros.
            let ninth = self.bytes.get(self.at / 8 + 8).copied().unwrap_or_default();
            ahead |= u64::from(ninth) >> (8 - passed);
        }
        self.at += width as usize;
        ahead >> (64 - width)
    }
}
