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
        // Digits become 0 to 9. A byte that is none sets its high bit in `stops`; the carry of one
        // that is above 0x89 reaches later bytes only.
        let bytes = u64::from_le_bytes(*eight) ^ 0x3030_3030_3030_3030;
        let stops = (bytes.wrapping_add(0x7676_7676_7676_7676) | bytes) & 0x8080_8080_8080_8080;
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

/// The double nearest to `digits` / 10^`fraction`, for a `fraction` of at most [`DIGITS_MAX`].
#[inline]
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, and rounded once above")]
pub(super) fn to_float(digits: u64, fraction: usize) -> f64 {
    if digits < 1 << 53 {
        // Both operands are exact (10^19 is 5^19 * 2^19, and 5^19 is below 2^53), so that the
        // quotient is rounded once.
        return digits as f64 / POWERS[fraction] as f64;
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

/// [`to_float`] for any digits but 0.
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
        assert_eq!(
            to_float(digits, fraction).to_bits(),
            expected.to_bits(),
            "{digits}e-{fraction}"
        );
        if digits > 0 {
            let divided = divide(digits, fraction);
            assert_eq!(divided.to_bits(), expected.to_bits(), "{digits}e-{fraction} divided");
        }
    }

    #[test]
    fn floats_are_rounded_once_at_every_power_and_length() {
        for fraction in 0..=DIGITS_MAX {
            for power in 0..=DIGITS_MAX {
                for near in 0..3 {
                    check(POWERS[power].saturating_sub(1).saturating_add(near), fraction);
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
        fn digits_end_where_they_end(number in any::<u64>(), shift in 0..64, rest in any::<[u8; 9]>()) {
            for keep in 0..=rest.len() {
                let number: u64 = (number >> shift) / 10_u64;
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
