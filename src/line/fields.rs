//! The fields of a line: their end, keys and values.
//!
//! The server reads fields twice. The first scanner ([`balance`]) checks the values and finds the
//! end; it skips whatever follows a backslash. The second ([`Fields::walk`]) takes keys and values
//! apart; in keys it looks back one byte for a backslash, in values it knows `\"` and `\\` only.
//! Where they disagree, the second decides what is stored, unchecked: a value of one quote then
//! makes the server panic. Both are followed here ([`Fields::careful`]).
//!
//! Ordinary fields, on which both agree by construction, are read once ([`Fields::plain`]). That
//! path never refuses: what it does not take goes the careful way.

use super::escape::{self, unescape};
use super::{Fault, KEY_BYTES_MAX, SEPARATOR_BYTES, number};
use crate::series::Printable;
use crate::value::{FieldType, Value};
use memchr::{memchr, memchr2};

/// The name that a server keeps for timestamps: it drops such fields without a word.
pub(super) const TIME: &[u8] = b"time";

/// What a server does to a string whose closing quote is not its last byte.
const DAMAGED: &str = "a closing quote is followed by other bytes: the server drops the last of \
                       them and stores the rest as part of the string";

/// Seen on a build of 1.6.7: it stores such a name, and after a restart it cannot read its list of
/// fields (`fields.idx`) and refuses to open the shard.
pub(super) const NOT_UTF8: &str = "a measurement or field key that is not UTF-8: some servers \
                                   cannot open the shard again after a restart";

/// Bytes of a line, or of what was unescaped from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    start: usize,
    /// Twice the length, plus one if it was unescaped: half of memory is more than any line takes.
    length: usize,
}

impl Piece {
    /// Bytes of the line itself.
    pub(super) fn text(start: usize, end: usize) -> Self {
        Self { start, length: (end - start) << 1 }
    }

    fn is_unescaped(self) -> bool {
        self.length & 1 == 1
    }

    /// Bytes of the line itself in one word: where they begin, and how many they are.
    pub(super) fn packed(self) -> Option<u64> {
        let (start, length) = (u32::try_from(self.start).ok()?, self.length >> 1);
        Some(u64::from(start) << 32 | u64::from(u32::try_from(length).ok()?))
    }
}

/// Value of one field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(Piece),
}

impl Cell {
    fn field_type(self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        }
    }
}

/// The fields of one line, reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Fields {
    slots: Vec<(Piece, Cell)>,
    unescaped: Vec<u8>,
    /// A field called `time` was left out.
    pub(super) dropped_time: bool,
    /// What the server does to these fields without saying so.
    pub(super) warning: Option<&'static str>,
    /// What the server notices only when it stores the point, after all that is wrong elsewhere.
    pub(super) late: Option<Fault>,
}

impl Fields {
    /// Reads the fields that begin at `at`, for a series key of `key_bytes`: where they end.
    pub(super) fn read(
        &mut self,
        text: &[u8],
        at: usize,
        key_bytes: usize,
    ) -> Result<usize, Fault> {
        self.clear();
        let names_max = KEY_BYTES_MAX.saturating_sub(key_bytes + SEPARATOR_BYTES);
        if let Some(end) = self.plain(text, at, names_max) {
            return Ok(end);
        }
        self.clear();
        self.careful(text, at, key_bytes)
    }

    /// Forgets the line before.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.unescaped.clear();
        self.dropped_time = false;
        self.warning = None;
        self.late = None;
    }

    /// Reads fields without backslashes outside strings and with nothing between value and comma.
    fn plain(&mut self, text: &[u8], mut at: usize, names_max: usize) -> Option<usize> {
        loop {
            let rest = &text[at..];
            let length = rest.iter().position(|byte| matches!(byte, b'=' | b',' | b' ' | b'\\'))?;
            if rest[length] != b'=' || length == 0 || length > names_max {
                return None;
            }
            if !is_utf8(&rest[..length]) {
                self.warning = Some(NOT_UTF8);
            }
            let (end, cell) = self.plain_value(text, at + length + 1)?;
            if &rest[..length] == TIME {
                self.dropped_time = true;
            } else {
                self.slots.push((Piece::text(at, at + length), cell));
            }
            match text.get(end) {
                Some(b',') => at = end + 1,
                _ => return Some(end),
            }
        }
    }

    fn plain_value(&mut self, text: &[u8], at: usize) -> Option<(usize, Cell)> {
        match text.get(at)? {
            b'"' => self.plain_string(text, at + 1),
            b'0'..=b'9' | b'-' | b'.' => number::plain(text, at),
            _ => {
                let rest = &text[at..];
                let length = memchr2(b',', b' ', rest).unwrap_or(rest.len());
                number::boolean(&rest[..length]).map(|value| (at + length, Cell::Boolean(value)))
            }
        }
    }

    /// Reads a string whose content begins at `at`, up to the byte after its closing quote.
    fn plain_string(&mut self, text: &[u8], at: usize) -> Option<(usize, Cell)> {
        let mut end = at;
        let mut escaped = false;
        loop {
            end += memchr2(b'"', b'\\', text.get(end..)?)?;
            if text[end] == b'"' {
                break;
            }
            escaped = true;
            end += 2;
        }
        let piece = if escaped {
            self.unescape(&text[at..end], escape::STRING)
        } else {
            Piece::text(at, end)
        };
        number::ends(text, end + 1).then_some((end + 1, Cell::String(piece)))
    }

    /// Reads any fields, as the server's two scanners do.
    fn careful(&mut self, text: &[u8], at: usize, key_bytes: usize) -> Result<usize, Fault> {
        let end = balance(text, at)?;
        self.walk(&text[..end], at, key_bytes)?;
        Ok(end)
    }

    /// Takes keys and values apart. `text` ends where the fields end.
    fn walk(&mut self, text: &[u8], mut at: usize, key_bytes: usize) -> Result<(), Fault> {
        while at < text.len() {
            let key = &text[at..];
            let length = unescaped_equals(key).unwrap_or(key.len());
            if length + 2 > key.len() {
                let reason = format!("invalid value: field-key={}", Printable(&key[..length]));
                return Err(Fault::new(at, reason));
            }
            let bytes = key_bytes + SEPARATOR_BYTES + length;
            if bytes > KEY_BYTES_MAX {
                return Err(Fault::key_too_long(at, bytes));
            }
            let start = at + length + 1;
            let end = start + value_length(&text[start..]);
            self.keep(text, at..start - 1, start..end);
            at = end + 1;
        }
        Ok(())
    }

    /// Keeps one field as it would be stored.
    fn keep(&mut self, text: &[u8], key: std::ops::Range<usize>, value: std::ops::Range<usize>) {
        let name = if memchr(b'\\', &text[key.clone()]).is_some() {
            self.unescape(&text[key], escape::FIELD_KEY)
        } else {
            Piece::text(key.start, key.end)
        };
        if self.bytes(text, name) == TIME {
            self.dropped_time = true;
            return;
        }
        if !is_utf8(self.bytes(text, name)) {
            self.warning = Some(NOT_UTF8);
        }
        let at = value.start;
        match self.evaluate(&text[value], at) {
            Ok(cell) => self.slots.push((name, cell)),
            Err(reason) => {
                self.late.get_or_insert(Fault::new(at, reason));
            }
        }
    }

    fn evaluate(&mut self, value: &[u8], at: usize) -> Result<Cell, String> {
        match value {
            [b'"'] => Err("a value of one quote: the server panics on this line".into()),
            [b'"', content @ .., _] => {
                if closing_quote(value) != Some(value.len() - 1) {
                    self.warning = Some(DAMAGED);
                }
                Ok(Cell::String(if memchr(b'\\', content).is_some() {
                    self.unescape(content, escape::STRING)
                } else {
                    Piece::text(at + 1, at + 1 + content.len())
                }))
            }
            _ => number::evaluate(value),
        }
    }

    fn unescape(&mut self, text: &[u8], special: &[u8]) -> Piece {
        let start = self.unescaped.len();
        unescape(text, special, &mut self.unescaped);
        Piece { start, length: (self.unescaped.len() - start) << 1 | 1 }
    }

    /// Appends a field of which nothing is to be said but what it holds.
    #[inline]
    pub(super) fn push(&mut self, name: Piece, cell: Cell) {
        self.slots.push((name, cell));
    }

    /// The names, if all stand in the line as they are.
    pub(super) fn names<'a>(&self, text: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let name = |&(piece, _): &(Piece, Cell)| {
            let end = piece.start + (piece.length >> 1);
            (!piece.is_unescaped()).then(|| &text[piece.start..end])
        };
        self.slots.iter().map(name).collect()
    }

    /// Name and type of each field, of a line in which all names stand as they are.
    pub(super) fn kinds<'a>(&'a self, text: &'a [u8]) -> Vec<(&'a [u8], FieldType)> {
        self.slots.iter().map(|&(name, cell)| (self.bytes(text, name), cell.field_type())).collect()
    }

    /// True where the server would store at least one field.
    pub(super) fn any(&self) -> bool {
        !self.slots.is_empty() || self.late.is_some()
    }

    /// True where one field comes with values of two types.
    pub(super) fn conflict(&self, text: &[u8]) -> bool {
        let type_of = |&(_, cell): &(Piece, Cell)| cell.field_type();
        let Some(first) = self.slots.first().map(type_of) else {
            return false;
        };
        // Lines of one type are the ordinary case, and cannot conflict.
        let Some(other) = self.slots.iter().position(|slot| type_of(slot) != first) else {
            return false;
        };
        if self.slots.len() <= FEW_FIELDS {
            return (other..self.slots.len()).any(|late| {
                (0..late).any(|early| {
                    let (early, late) = (&self.slots[early], &self.slots[late]);
                    type_of(early) != type_of(late)
                        && self.bytes(text, early.0) == self.bytes(text, late.0)
                })
            });
        }
        let mut names: Vec<_> =
            self.slots.iter().map(|slot| (self.bytes(text, slot.0), type_of(slot))).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1)
    }

    /// Number of fields.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// One field, unescaped.
    #[inline]
    pub(super) fn get<'a>(&'a self, text: &'a [u8], at: usize) -> (&'a [u8], Value<'a>) {
        let (name, cell) = self.slots[at];
        let value = match cell {
            Cell::Float(value) => Value::Float(value),
            Cell::Integer(value) => Value::Integer(value),
            Cell::Unsigned(value) => Value::Unsigned(value),
            Cell::Boolean(value) => Value::Boolean(value),
            Cell::String(piece) => Value::String(self.bytes(text, piece)),
        };
        (self.bytes(text, name), value)
    }

    /// The fields, unescaped, in the order of the line.
    pub(super) fn iter<'a>(
        &'a self,
        text: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        (0..self.count()).map(move |at| self.get(text, at))
    }

    fn bytes<'a>(&'a self, text: &'a [u8], piece: Piece) -> &'a [u8] {
        let source = if piece.is_unescaped() { &self.unescaped } else { text };
        &source[piece.start..piece.start + (piece.length >> 1)]
    }
}

/// True for text that a server can keep in its list of measurements and fields.
pub(super) fn is_utf8(name: &[u8]) -> bool {
    name.is_ascii() || std::str::from_utf8(name).is_ok()
}

/// Fields up to which comparing each with each is cheaper than sorting.
const FEW_FIELDS: usize = 16;

/// Checks the fields that begin at `start`, as the server's first scanner does: where they end.
fn balance(text: &[u8], start: usize) -> Result<usize, Fault> {
    let mut at = start;
    let mut quoted = false;
    let (mut equals, mut commas) = (0_usize, 0_usize);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if at + 1 < text.len() => at += 1,
            b'"' if equals > commas => quoted = !quoted,
            _ if quoted => {}
            b'=' => {
                equals += 1;
                at = check_value(text, at)?;
                continue;
            }
            b',' => commas += 1,
            b' ' => break,
            _ => {}
        }
        at += 1;
    }
    if quoted {
        return Err(Fault::new(at, "unbalanced quotes"));
    }
    if equals == 0 || commas != equals - 1 {
        return Err(Fault::new(at, "invalid field format"));
    }
    Ok(at)
}

/// Checks what stands around the `=` at `at`: where to go on.
fn check_value(text: &[u8], at: usize) -> Result<usize, Fault> {
    let before = |back: usize| at.checked_sub(back).map(|at| text[at]);
    if matches!(before(1), Some(b' ' | b',')) && before(2) != Some(b'\\') {
        return Err(Fault::new(at, "missing field key"));
    }
    match text.get(at + 1) {
        None | Some(b',' | b' ') => Err(Fault::new(at, "missing field value")),
        Some(b'0'..=b'9' | b'.' | b'-' | b'N' | b'n') => number::check(text, at + 1),
        Some(b'"') => Ok(at + 1),
        Some(_) => number::check_boolean(text, at + 1),
    }
}

/// Offset of the first `=` that has no backslash before it.
fn unescaped_equals(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'=', text).find(|&at| at == 0 || text[at - 1] != b'\\')
}

/// Length of a value, as the server's second scanner finds it: up to a comma outside quotes.
fn value_length(text: &[u8]) -> usize {
    let mut at = 0;
    let mut quoted = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if matches!(text.get(at + 1), Some(b'"' | b'\\')) => at += 1,
            b'"' => quoted = !quoted,
            b',' if !quoted => break,
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

/// Offset of the quote that closes the string which `value` begins with.
fn closing_quote(value: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', value.get(at..)?)?;
        if value[at] == b'"' {
            return Some(at);
        }
        let escapes = matches!(value.get(at + 1), Some(b'"' | b'\\'));
        at += if escapes { 2 } else { 1 };
    }
}
