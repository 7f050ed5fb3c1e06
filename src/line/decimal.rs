//! Decimal digits into integers and floats, eight bytes at a time.
//!
//! Invariant: a float is the double nearest to the decimal, ties to even, as every correct parser
//! gives it: the quotient of the digits and a power of ten is computed exactly and rounded once.

/// Most digits that always fit u64.
pub(super) const DIGITS_MAX: usize = 19;

/// Digits at the beginning of `text`, from `at` on, appended to `value`: the value and the end.
/// It wraps where there are more than [`DIGITS_MAX`] in all.
#[inline]
pub(super) fn digits(text: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let bytes = u64::from_le_bytes(*eight) ^ ZEROS;
        let stops = stops(bytes);
        if stops == 0 {
            value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(bytes));
            at += 8;
            continue;
        }
        let count = stops.trailing_zeros() / 8;
        if count > 0 {
            // Zeros in front of the digits change nothing.
            let number = eight_digits(bytes << (64 - 8 * count));
            value = value.wrapping_mul(POWERS[count as usize]).wrapping_add(number);
            at += count as usize;
        }
        return (value, at);
    }
    // Fewer than eight bytes are left.
    while let Some(digit) = text.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

/// The number that the next nineteen bytes are, if all of them are digits: a time in nanoseconds
/// of any day from 2001 to 2286.
#[inline(always)]
pub(super) fn nineteen(text: &[u8], at: usize) -> Option<u64> {
    let window = text.get(at..)?.first_chunk::<DIGITS_MAX>()?;
    let eight = |at: usize| {
        let eight = window[at..].first_chunk::<8>()?;
        Some(u64::from_le_bytes(*eight) ^ ZEROS)
    };
    let (first, second, last) = (eight(0)?, eight(8)?, eight(11)?);
    if stops(first) | stops(second) | stops(last) != 0 {
        return None;
    }
    // Zeros in front of the last three digits change nothing.
    let (first, second, last) =
        (eight_digits(first), eight_digits(second), eight_digits(last >> 40 << 40));
    Some((first * 100_000_000 + second) * 1_000 + last)
}

/// A decimal number without its sign, of at most [`DIGITS_MAX`] digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: u64,
    /// Number of digits.
    pub(super) count: usize,
    /// Number of digits behind the point.
    pub(super) fraction: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// Bytes that [`short`] needs to see.
const WINDOW: usize = 32;

/// Reads a number of 1 to 6 digits in all and a point among them or before them, of which the end
/// is to be seen within eight bytes; `None` says nothing but that it is no such number.
#[inline(always)]
pub(super) fn tiny(text: &[u8], at: usize) -> Option<Decimal> {
    let bytes = u64::from_le_bytes(*text.get(at..)?.first_chunk::<8>()?);
    let digits = bytes ^ ZEROS;
    // Without the high bits no carry reaches the next byte, so that each stop is one.
    let stops = (((digits & !HIGH) + TO_HIGH) | digits) & HIGH;
    let behind = stops & stops.wrapping_sub(1);
    let (point, end) = (stops.trailing_zeros() & !7, behind.trailing_zeros() & !7);
    // The point is the first stop; one digit at least follows it.
    if behind == 0 || bytes >> point & 0xff != u64::from(b'.') || end == point + 8 {
        return None;
    }
    // Without the point, and with zeros in front, which change nothing.
    let before = (1 << point) - 1;
    let joined = digits & before | (digits >> 8) & !before;
    let count = end - 8;
    let number = Decimal {
        digits: eight_digits(joined << (64 - count)),
        count: (count / 8) as usize,
        fraction: ((count - point) / 8) as usize,
        end: at + (end / 8) as usize,
    };
    Some(number)
}

/// Reads a number of up to 15 digits, or of up to 7, a point and at least 1, whatever follows.
///
/// The lengths of measured values are unpredictable, so that nothing here branches on them. `None`
/// says nothing about the number but that it is not so short, or too near to the end of `text`.
#[inline(always)]
pub(super) fn short(text: &[u8], at: usize) -> Option<Decimal> {
    let window = text.get(at..)?.first_chunk::<WINDOW>()?;
    let head = window.first_chunk::<8>()?;
    let bytes = u64::from_le_bytes(*head) ^ ZEROS;
    let stops = stops(bytes);
    if stops == 0 {
        return whole(window.first_chunk()?, at);
    }
    let count = (stops.trailing_zeros() / 8) as usize;
    // Shifted in two steps: there may be no digit.
    let whole = eight_digits(bytes << 8 << (56 - 8 * count));
    if window[count] != b'.' {
        return Some(Decimal { digits: whole, count, fraction: 0, end: at + count });
    }
    let tail = window[count + 1..].first_chunk::<16>()?;
    let (tail, mut fraction) = sixteen(tail);
    if fraction == 0 {
        return None;
    }
    let mut digits = whole.wrapping_mul(POWERS[fraction]).wrapping_add(tail);
    if fraction == 16 {
        let start = at + count + 1;
        let end;
        (digits, end) = self::digits(text, start + fraction, digits);
        fraction = end - start;
    }
    let count = count + fraction;
    (count <= DIGITS_MAX).then_some(Decimal { digits, count, fraction, end: at + count + 1 })
}

/// Reads a number of 8 to 15 digits and no point.
fn whole(text: &[u8; 16], at: usize) -> Option<Decimal> {
    let (digits, count) = sixteen(text);
    (count < 16).then_some(Decimal { digits, count, fraction: 0, end: at + count })
}

/// The number that the first digits of `text` make, and how many they are.
#[inline(always)]
fn sixteen(text: &[u8; 16]) -> (u64, usize) {
    let (first, second) = halves(u128::from_le_bytes(*text));
    let (first, second) = (first ^ ZEROS, second ^ ZEROS);
    let stops = join(stops(first), stops(second));
    let count = (stops.trailing_zeros() / 8) as usize;
    // Zeros in front of the digits change nothing. What is made of no digit is not looked at.
    let digits = join(first, second) << (128 - 8 * count.max(1));
    let (first, second) = halves(digits);
    (eight_digits(first) * 100_000_000 + eight_digits(second), count)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
fn halves(both: u128) -> (u64, u64) {
    (both as u64, (both >> 64) as u64)
}

fn join(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// Eight times `0`.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The high bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;
/// Added to a byte, sets its high bit if it is no digit.
const TO_HIGH: u64 = 0x7676_7676_7676_7676;

/// Sets the high bit of the first byte that is no digit; bytes are digits less `0`.
///
/// Later bytes may have theirs set without reason: the carry of a byte above 0x89 reaches them.
#[inline(always)]
fn stops(bytes: u64) -> u64 {
    (bytes.wrapping_add(TO_HIGH) | bytes) & HIGH
}

/// The number of which these are the digits, the first in the lowest byte.
#[inline]
fn eight_digits(bytes: u64) -> u64 {
    let pairs = (bytes.wrapping_mul(10) + (bytes >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// 10^0 to 10^19.
const POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = 10 * powers[at - 1];
        at += 1;
    }
    powers
};

/// The same as floats, all of them exact.
#[expect(clippy::cast_precision_loss, reason = "5^19 is below 2^53")]
const FLOAT_POWERS: [f64; DIGITS_MAX + 1] = {
    let mut powers = [0.0; DIGITS_MAX + 1];
    let mut at = 0;
    while at < powers.len() {
        powers[at] = POWERS[at] as f64;
        at += 1;
    }
    powers
};

/// Digits that always fit 2^53.
const EXACT_DIGITS: usize = 15;

/// The double nearest to `digits` / 10^`fraction`, for a `fraction` of at most [`DIGITS_MAX`].
/// `count` is the number of digits that were written, with the zeros in front.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "exact: below 2^53")]
pub(super) fn to_float(digits: u64, count: usize, fraction: usize) -> f64 {
    if count <= EXACT_DIGITS || digits == 0 {
        // Both operands are exact (10^19 is 5^19 * 2^19, and 5^19 is below 2^53), so that the
        // quotient is rounded once.
        return digits.cast_signed() as f64 / FLOAT_POWERS[fraction];
    }
    divide(digits, fraction)
}

/// A power of ten as a divisor whose highest bit is set.
#[derive(Clone, Copy)]
struct Divisor {
    power: u64,
    /// (2^128 - 1) / `power` - 2^64.
    reciprocal: u64,
    /// Bits by which the power was moved up.
    shift: u32,
}

const DIVISORS: [Divisor; DIGITS_MAX + 1] = {
    let mut divisors = [Divisor { power: 0, reciprocal: 0, shift: 0 }; DIGITS_MAX + 1];
    let mut at = 0;
    while at < divisors.len() {
        let shift = POWERS[at].leading_zeros();
        let power = POWERS[at] << shift;
        #[expect(clippy::cast_possible_truncation, reason = "below 2^64, for power is above 2^63")]
        let reciprocal = (u128::MAX / power as u128 - (1 << 64)) as u64;
        divisors[at] = Divisor { power, reciprocal, shift };
        at += 1;
    }
    divisors
};

/// The double nearest to `digits` / 10^`fraction`, for any digits but 0.
///
/// The 128-bit dividend is divided by multiplication with the divisor's reciprocal: algorithm 4 of
/// Möller and Granlund, "Improved division by invariant integers" (2011), whose quotient is exact.
#[expect(clippy::cast_possible_truncation, reason = "the halves of products are wanted")]
#[expect(clippy::cast_precision_loss, reason = "this is the one rounding")]
fn divide(digits: u64, fraction: usize) -> f64 {
    let Divisor { power, reciprocal, shift } = DIVISORS[fraction];
    // The dividend is digits * 2^(lead + 63), its high word below 2^63 and so below the divisor.
    let lead = digits.leading_zeros();
    let moved = digits << lead;
    let (high, low) = (moved >> 1, moved << 63);
    let guess =
        u128::from(reciprocal) * u128::from(high) + (u128::from(high) << 64 | u128::from(low));
    let mut quotient = ((guess >> 64) as u64).wrapping_add(1);
    let mut rest = low.wrapping_sub(quotient.wrapping_mul(power));
    if rest > guess as u64 {
        quotient = quotient.wrapping_sub(1);
        rest = rest.wrapping_add(power);
    }
    if rest >= power {
        quotient += 1;
        rest -= power;
    }
    // The quotient has at least 62 bits, so that its lowest is far below the rounding and may say
    // that something followed.
    let rounded = (quotient | u64::from(rest > 0)) as f64;
    // digits / 10^f = (digits * 2^(lead + 63) / (10^f * 2^shift)) * 2^(shift - lead - 63)
    rounded * power_of_two(i64::from(shift) - i64::from(lead) - 63)
}

/// 2^`exponent`, for exponents of normal numbers.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits((1023 + exponent).cast_unsigned() << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(digits: u64, fraction: usize) {
        let expected: f64 = format!("{digits}e-{fraction}").parse().unwrap();
        let count = digits.to_string().len();
        let found = to_float(digits, count, fraction);
        assert_eq!(found.to_bits(), expected.to_bits(), "{digits}e-{fraction}");
        if digits > 0 {
            let divided = divide(digits, fraction);
            assert_eq!(divided.to_bits(), expected.to_bits(), "{digits}e-{fraction} divided");
        }
    }

    #[test]
    fn floats_are_rounded_once_at_every_power_and_length() {
        for fraction in 0..=DIGITS_MAX {
            for power in POWERS {
                for near in 0..3 {
                    check(power.saturating_sub(1).saturating_add(near), fraction);
                }
            }
            for bit in 0..64 {
                for near in 0..3 {
                    check((1_u64 << bit).saturating_sub(1).saturating_add(near), fraction);
                }
            }
            check(u64::MAX, fraction);
        }
    }

    #[test]
    fn halves_between_two_floats_go_to_the_even_one() {
        // Odd multiples of half a unit, written out as decimals of at most 19 digits.
        for base in [1_u64 << 53, (1 << 53) + 2, (1 << 54) - 2, (1 << 53) + (1 << 51)] {
            for half in [base + 1, base + 3] {
                check(half, 0);
                for (fraction, five) in [(1, 5), (2, 25), (3, 125)] {
                    // half / 2^k = half * 5^k / 10^k
                    if let Some(digits) = half.checked_mul(five) {
                        check(digits, fraction);
                        check(digits - 1, fraction);
                        check(digits + 1, fraction);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 100_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn floats_are_those_of_the_standard_library(
            digits in any::<u64>(),
            shift in 0..64,
            fraction in 0..=DIGITS_MAX,
        ) {
            check(digits >> shift, fraction);
        }

        #[test]
        fn a_short_number_is_its_digits_wherever_its_point_is(
            whole in prop_oneof!["[0-9]{0,9}", "[0-9]{8,18}"],
            rest in prop_oneof![
                4 => r"\.[0-9]{0,18}[, i]",
                1 => r"[0-9.e:/;\xff-]{0,20}",
            ],
            behind in proptest::collection::vec(any::<u8>(), 32),
        ) {
            let number = whole + &rest;
            let text = [number.as_bytes(), &behind].concat();
            let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let whole = digits(&text);
            let point = usize::from(text[whole] == b'.' && whole < 8);
            let fraction = point * digits(&text[whole + 1..]);
            let found = short(&text, 0);
        let is_short = match whole {
            0..8 => (point == 0 || fraction > 0) && whole + fraction <= DIGITS_MAX,
            _ => whole < 16,
        };
            prop_assert_eq!(found.is_some(), is_short, "{}", number);
            if let Some(found) = found {
                let end = whole + point + fraction;
                let digits: String =
                    text[..end].iter().filter(|&&byte| byte != b'.').map(|&byte| char::from(byte)).collect();
                let digits = if digits.is_empty() { 0 } else { digits.parse().unwrap() };
                let count = whole + fraction;
                prop_assert_eq!(found, Decimal { digits, count, fraction, end });
            }
            let tiny = tiny(&text, 0);
            let fraction = if text[whole] == b'.' { digits(&text[whole + 1..]) } else { 0 };
            prop_assert_eq!(tiny.is_some(), fraction > 0 && whole + fraction <= 6, "{}", number);
            if tiny.is_some() {
                prop_assert_eq!(tiny, short(&text, 0));
            }
            for cut in 0..32 {
                let cut = short(&text[..cut.min(text.len())], 0);
                prop_assert!(cut.is_none());
            }
        }

        #[test]
        fn nineteen_digits_are_their_number_and_nothing_else_is(
            number in 0..10_000_000_000_000_000_000_u64,
            at in 0..DIGITS_MAX,
            byte in any::<u8>(),
        ) {
            let mut text = format!("{number:019}\n").into_bytes();
            prop_assert_eq!(nineteen(&text, 0), Some(number));
            prop_assert_eq!(nineteen(&text, 2), None);
            text[at] = byte;
            prop_assert_eq!(nineteen(&text, 0).is_some(), byte.is_ascii_digit());
        }

        #[test]
        fn digits_end_where_they_end(number in any::<u64>(), shift in 0..64, rest in any::<[u8; 9]>()) {
            for keep in 0..=rest.len() {
                let number: u64 = number >> shift;
                let number = number / 10;
                let mut text = number.to_string().into_bytes();
                let end = text.len();
                text.extend_from_slice(&rest[..keep]);
                let more = rest[..keep].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let (value, at) = digits(&text, 0, 0);
                prop_assert_eq!(at, end + more);
                if more == 0 {
                    prop_assert_eq!(value, number);
                }
            }
        }
    }
}
