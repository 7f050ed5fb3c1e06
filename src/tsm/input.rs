//! A cursor over stored bytes that knows where in the file it stands.
//!
//! Invariant: nothing is taken that is not there, so that a length that was read costs nothing.

use super::Damage;

/// Bytes that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    /// Offset in the file of the first of them.
    offset: u64,
}

impl<'a> Input<'a> {
    /// Bytes that begin at an offset of their file.
    pub(crate) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Damage where the cursor stands.
    #[cold]
    pub(crate) fn damaged(&self, reason: impl Into<String>) -> Damage {
        Damage::new(self.offset, reason)
    }

    #[cold]
    fn cut(&self, what: &str, count: u64) -> Damage {
        let left = self.rest.len();
        self.damaged(format!("{what} is cut short: it takes {count} bytes, and {left} are left"))
    }

    /// The next `count` bytes, which are `what`.
    #[inline]
    pub(crate) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Damage> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.cut(what, count as u64));
        };
        self.rest = rest;
        self.offset += count as u64;
        Ok(taken)
    }

    /// As [`Input::take`], of a length that was read.
    #[inline]
    pub(crate) fn take_long(&mut self, count: u64, what: &str) -> Result<&'a [u8], Damage> {
        match usize::try_from(count) {
            Ok(count) => self.take(count, what),
            Err(_) => Err(self.cut(what, count)),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.cut(what, N as u64));
        };
        self.rest = rest;
        self.offset += N as u64;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn byte(&mut self, what: &str) -> Result<u8, Damage> {
        self.array(what).map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self, what: &str) -> Result<u16, Damage> {
        self.array(what).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Damage> {
        self.array(what).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Damage> {
        self.array(what).map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self, what: &str) -> Result<i64, Damage> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// An unsigned number in seven bits a byte, the lowest first.
    #[inline]
    pub(crate) fn uvarint(&mut self, what: &str) -> Result<u64, Damage> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let start = *self;
            let byte = self.byte(what)?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(start.damaged(format!("{what} is no number of 64 bits")));
            }
            value |= low << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_seven_bits_a_byte_are_read_up_to_64_bits() {
        let read = |bytes: &[u8]| Input::new(bytes, 0).uvarint("n");
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0xe8, 0x07]), Ok(1000));
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(read(&largest), Ok(u64::MAX));
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(read(&too_large).unwrap_err().to_string(), "byte 9: n is no number of 64 bits");
        assert!(read(&[0x80]).unwrap_err().reason.contains("cut short"));
    }

    #[test]
    fn nothing_is_taken_that_is_not_there() {
        let mut input = Input::new(b"abc", 40);
        assert_eq!(input.take(2, "a head").unwrap(), b"ab");
        let damage = input.take_long(u64::MAX, "a body").unwrap_err();
        assert_eq!(damage.offset, 42);
        assert!(damage.reason.starts_with("a body is cut short"), "{damage}");
        assert_eq!(input.rest(), b"c");
    }
}
