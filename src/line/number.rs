//! Numbers and booleans in the fields of a line.
//!
//! The server looks at a value twice: [`check`] is its scanner, which finds the end and refuses
//! what it must, and [`evaluate`] is what it later stores for the same bytes. [`plain`] does both
//! for the short forms and leaves all others to those two.

use super::Fault;
use super::decimal::{self, DIGITS_MAX, to_float};
use super::fields::{Cell, Piece};
use crate::series::Printable;
use std::borrow::Cow;

/// Digits of an integer that always fit i64.
const SAFE_DIGITS: usize = 18;

/// Reads a value without backslashes and line feeds: its end and what it is.
#[inline(always)]
pub(super) fn value(text: &[u8], at: usize) -> Option<(usize, Cell)> {
    match text.get(at)? {
        b'0'..=b'9' | b'-' | b'.' => plain(text, at),
        b'"' => {
            let start = at + 1;
            let length = memchr::memchr3(b'"', b'\\', b'\n', &text[start..])?;
            let end = start + length;
            (text[end] == b'"').then(|| (end + 1, Cell::String(Piece::text(start, end))))
        }
        _ => {
            let rest = &text[at..text.len().min(at + BOOLEAN_MAX + 1)];
            let length = rest.iter().position(|byte| matches!(byte, b',' | b' '))?;
            boolean(&rest[..length]).map(|value| (at + length, Cell::Boolean(value)))
        }
    }
}

/// Bytes of the longest boolean, `false`.
const BOOLEAN_MAX: usize = 5;

/// Reads an ordinary number that begins at `at`: its end and value.
///
/// `None` says nothing about the number but that it is not ordinary.
#[inline(always)]
pub(super) fn plain(text: &[u8], at: usize) -> Option<(usize, Cell)> {
    let negative = text.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    if let Some(number) = decimal::tiny(text, first)
        && let Some(b',' | b' ') = text.get(number.end)
    {
        let value = to_float(number.digits, number.count, number.fraction);
        return Some((number.end, Cell::Float(if negative { -value } else { value })));
    }
    let Some(number) = decimal::short(text, first) else {
        return longer(text, at);
    };
    match text.get(number.end) {
        Some(b',' | b' ') if number.count > 0 => {
            let value = to_float(number.digits, number.count, number.fraction);
            Some((number.end, Cell::Float(if negative { -value } else { value })))
        }
        Some(b'i') if number.fraction == 0 && number.count > 0 && ends(text, number.end + 1) => {
            let value = number.digits.cast_signed();
            Some((number.end + 1, Cell::Integer(if negative { -value } else { value })))
        }
        _ => longer(text, at),
    }
}

/// Reads a number of any length.
fn longer(text: &[u8], at: usize) -> Option<(usize, Cell)> {
    let negative = text.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let (whole, point) = decimal::digits(text, first, 0);
    let (mantissa, end) = match text.get(point) {
        Some(b'.') => decimal::digits(text, point + 1, whole),
        Some(b'i') if ends(text, point + 1) && (1..=SAFE_DIGITS).contains(&(point - first)) => {
            let value = whole.cast_signed();
            let value = if negative { -value } else { value };
            return Some((point + 1, Cell::Integer(value)));
        }
        _ => (whole, point),
    };
    let fraction = (end - point).saturating_sub(1);
    let count = point - first + fraction;
    if !ends(text, end) || count == 0 || count > DIGITS_MAX {
        return unusual(text, at);
    }
    let value = to_float(mantissa, count, fraction);
    Some((end, Cell::Float(if negative { -value } else { value })))
}

/// Reads a number with an exponent or of many digits.
#[cold]
fn unusual(text: &[u8], at: usize) -> Option<(usize, Cell)> {
    let end = check(text, at).ok()?;
    Some((end, evaluate(&text[at..end]).ok()?))
}

/// True where a value that reaches up to `at` is complete.
pub(super) fn ends(text: &[u8], at: usize) -> bool {
    matches!(text.get(at), None | Some(b',' | b' '))
}

/// Finds the end of a number that begins at `start`, as the server's scanner does.
pub(super) fn check(text: &[u8], start: usize) -> Result<usize, Fault> {
    let invalid = |at| Fault::new(at, "invalid number");
    let mut at = start;
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    let (mut integer, mut decimal, mut scientific) = (false, false, false);
    while let Some(&byte) = text.get(at).filter(|byte| !matches!(byte, b',' | b' ')) {
        match byte {
            b'0'..=b'9' => {}
            b'i' if at > start && !integer => integer = true,
            b'.' if !decimal => decimal = true,
            b'e' | b'E' if at > start => scientific = true,
            b'+' | b'-' if matches!(text[at - 1], b'e' | b'E') => {}
            _ => return Err(invalid(at)),
        }
        at += 1;
    }
    let marks = [text.get(start) == Some(&b'-'), integer, decimal];
    let digits = at - start - marks.iter().filter(|&&mark| mark).count();
    if digits == 0 || integer && (decimal || scientific || text[at - 1] != b'i') {
        return Err(invalid(at));
    }
    check_range(&text[start..at], integer).map_err(|reason| Fault::new(start, reason))?;
    Ok(at)
}

fn check_range(number: &[u8], is_integer: bool) -> Result<(), Cow<'static, str>> {
    if is_integer {
        let digits = &number[..number.len() - 1];
        return match integer(digits) {
            Ok(_) => Ok(()),
            Err(reason) => {
                let digits = Printable(digits);
                Err(format!("unable to parse integer {digits}: {reason}").into())
            }
        };
    }
    match float(number) {
        Some(value) if value.is_finite() => Ok(()),
        _ => Err("invalid float".into()),
    }
}

/// Finds the end of a boolean that begins at `start`, as the server's scanner does.
pub(super) fn check_boolean(text: &[u8], start: usize) -> Result<usize, Fault> {
    let rest = &text[start..];
    let length = memchr::memchr2(b',', b' ', rest).unwrap_or(rest.len());
    match boolean(&rest[..length]) {
        Some(_) => Ok(start + length),
        None => Err(Fault::new(start, "invalid boolean")),
    }
}

/// The boolean that these bytes spell.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(true),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// What the server stores for a value that does not begin with a quote.
///
/// It judges by the first and last byte only. Since its two scanners may disagree about where a
/// value begins, bytes come here that no scanner of numbers has seen: infinities even.
pub(super) fn evaluate(value: &[u8]) -> Result<Cell, String> {
    let shown = Printable(value);
    let (Some(first), Some((last, digits))) = (value.first(), value.split_last()) else {
        return Err("unknown field type: the value is empty".into());
    };
    if !b"0123456789-.nNiIu".contains(first) {
        return boolean(value)
            .map(Cell::Boolean)
            .ok_or_else(|| format!("unable to parse bool value \"{shown}\": invalid syntax"));
    }
    match last {
        b'i' => integer(digits).map(Cell::Integer).map_err(|reason| {
            let digits = Printable(digits);
            format!("unable to parse integer value \"{digits}\": {reason}")
        }),
        b'u' => std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| digits.parse().ok())
            .map(Cell::Unsigned)
            .ok_or_else(|| format!("unable to parse unsigned value \"{shown}\"")),
        _ => float(value)
            .map(Cell::Float)
            .ok_or_else(|| format!("unable to parse floating point value \"{shown}\"")),
    }
}

/// Reads an integer; the error is what Go's `strconv` says.
pub(super) fn integer(text: &[u8]) -> Result<i64, String> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let error = |words| {
        let shown = Printable(text);
        format!("strconv.ParseInt: parsing \"{shown}\": {words}")
    };
    let (magnitude, end) = decimal::digits(digits, 0, 0);
    if end == 0 || end < digits.len() {
        return Err(error("invalid syntax"));
    }
    if end <= DIGITS_MAX {
        let value = if digits.len() == text.len() {
            i64::try_from(magnitude).ok()
        } else {
            0_i64.checked_sub_unsigned(magnitude)
        };
        return value.ok_or_else(|| error("value out of range"));
    }
    // Leading zeros make a number as long as one likes.
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| error("value out of range"))
}

/// The one NaN that Go's `strconv` makes.
const GO_NAN: u64 = 0x7ff8_0000_0000_0001;

/// Reads a float as Go does: decimal, `inf`, `infinity` and `nan` in any case.
///
/// Hexadecimal floats, which servers built with Go 1.13 or later would read too, are refused.
fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    if value.is_nan() {
        return text.eq_ignore_ascii_case("nan").then(|| f64::from_bits(GO_NAN));
    }
    // Rust reads an overflow as infinity, Go refuses it.
    let spelt = text.trim_start_matches(['+', '-']);
    let infinite = spelt.eq_ignore_ascii_case("inf") || spelt.eq_ignore_ascii_case("infinity");
    (value.is_finite() || infinite).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_up_to_their_ends() {
        for value in [0, 7, -7, i64::MAX, i64::MIN, i64::MAX - 1, 999_999_999_999_999_999] {
            assert_eq!(integer(value.to_string().as_bytes()), Ok(value));
            let text = value.to_string();
            let (sign, digits) = text.split_at(usize::from(value < 0));
            assert_eq!(integer(format!("{sign}000{digits}").as_bytes()), Ok(value));
        }
        for (text, words) in [
            ("9223372036854775808", "value out of range"),
            ("-9223372036854775809", "value out of range"),
            ("99999999999999999999999", "value out of range"),
            ("", "invalid syntax"),
            ("-", "invalid syntax"),
            ("--1", "invalid syntax"),
            ("+1", "invalid syntax"),
            ("1 ", "invalid syntax"),
        ] {
            assert!(integer(text.as_bytes()).unwrap_err().ends_with(words), "{text}");
        }
    }

    #[test]
    fn short_numbers_are_read_as_the_scanner_and_the_storage_would() {
        let numbers = [
            "0",
            "-0",
            "1",
            "0.1",
            "-.5",
            "5.",
            "123456789012345",
            "1234567890123456",
            "0.30",
            "7i",
            "-7i",
            "999999999999999999i",
            "9999999999999999999i",
            "1e3",
            "1.5e-7",
            "-",
            ".",
            "-.",
            "i",
            "1.0i",
            "1i2",
            "1u",
            "123456789.012345",
            "0.000000000000001",
            "1e400",
            "",
        ];
        for text in numbers {
            let text = text.as_bytes();
            let slow = check_whole(text).then(|| evaluate(text).unwrap());
            let fast = plain(text, 0).map(|(end, cell)| {
                assert_eq!(end, text.len());
                cell
            });
            assert_eq!(format!("{fast:?}"), format!("{slow:?}"), "{text:?}");
        }
    }

    fn check_whole(text: &[u8]) -> bool {
        !text.is_empty() && check(text, 0).is_ok_and(|end| end == text.len())
    }
}
