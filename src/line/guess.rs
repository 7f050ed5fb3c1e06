//! The ordinary line, read in one walk along guesses from the lines before it.
//!
//! A key is compared with the key that followed the last one before, and a field name with the
//! name that stood there before. What was found true of a key or name once (what it is when
//! unescaped and sorted, that it is no `time`, that it is UTF-8) is then true of equal bytes.
//!
//! Invariant: [`Guess::read`] takes a line only if the splitter ends it at the same line feed and
//! the careful readers make the same point of it; it refuses nothing and leaves every other line to
//! them. What is remembered is bounded ([`KEYS_MAX`] and what follows it).

use super::decimal::{self, DIGITS_MAX};
use super::fields::{Fields, Piece, TIME, is_utf8};
use super::form::{self, Expected, Forms};
use super::names::List;
use super::number;
use super::point::Clock;
use crate::block::index::Index;
use crate::window::{TIME_MAX, TIME_MIN};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys that are remembered.
const KEYS_MAX: usize = 1 << 15;
/// Bytes of keys that are remembered.
const BYTES_MAX: usize = 4 << 20;
/// Longest key that is remembered. With a field key of at most [`NAME_MAX`] it is below the limit
/// that the server has for both.
const KEY_MAX: usize = 8 << 10;
/// Longest field key that is remembered.
const NAME_MAX: usize = 1 << 8;
/// Names in all lists.
const NAMES_MAX: usize = 1 << 15;
/// Names in one list.
const LIST_MAX: usize = 1 << 12;
/// Names up to which a list takes in what it lacks; a longer one is replaced.
const JOINED_MAX: usize = 64;
/// Lists of one measurement, for lines that have their fields in different orders.
const ORDERS_MAX: usize = 4;
/// Lines of unknown keys that are passed over once it has proved useless to remember keys.
const PAUSE: usize = 4 * KEYS_MAX;

/// True where every byte means itself wherever it stands in a key or field key.
///
/// Without backslashes and spaces the first space of a line ends its key, and quotes, commas and
/// equals signs before it are read by the key's scanner alone, which is run on every key. Without
/// commas, spaces, equals signs and backslashes a field key ends at the first `=` for both of the
/// server's scanners. Quotes and control bytes are harmless by the same argument; they are rare
/// enough not to rest on it.
pub(super) fn is_plain(key: &[u8]) -> bool {
    key.iter().all(|byte| *byte > b' ' && !matches!(byte, b'"' | b'\\' | 0x7f))
}

/// A key that was read before.
#[derive(Clone, Debug)]
struct Key {
    /// In [`Guess::bytes`]: the key as it stood in the line, and the space behind it.
    raw: Range<u32>,
    /// The key with its tags sorted.
    sorted: Range<u32>,
    /// The key of the line behind it.
    successor: u32,
    /// The names of its fields.
    list: u32,
    /// The form of its last line.
    form: u32,
}

/// A line that was read: its key is [`Guess::key`], its fields are where they were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Bytes before the line feed.
    pub(super) length: usize,
    /// Nanoseconds.
    pub(super) time: i64,
    /// The form of its fields, whose values are in [`Guess::cells`] instead.
    pub(super) form: Option<u32>,
}

/// Counts how often anything was forgotten, so that no number is taken for one of before.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// What was learnt from the lines so far.
#[derive(Debug, Default)]
pub(super) struct Guess {
    forms: Forms,
    /// Values of the newest line, if it has a form.
    cells: Vec<u64>,
    /// Numbers of keys and forms mean the same as long as this is the same, in any decoder.
    epoch: u64,
    keys: Vec<Key>,
    by_raw: Index,
    bytes: Vec<u8>,
    lists: Vec<List>,
    by_measurement: Index,
    /// Names in all lists.
    names: usize,
    /// The key of the newest line that was known.
    newest: u32,
    /// Lines that were read since all was forgotten last.
    hits: usize,
    /// Lines from which nothing is learnt.
    pause: usize,
}

impl Guess {
    /// Reads the line that `text` begins with, if it is as the lines before it were.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8], clock: Clock, fields: &mut Fields) -> Option<Line> {
        self.newest = self.find(text)?;
        let key = &mut self.keys[self.newest as usize];
        let start = key.raw.len();
        self.cells.clear();
        let read = self.forms.read(text, start, key.form, &mut self.cells);
        let Some((form, end)) = read else {
            return self.read_list(text, start, clock, fields);
        };
        key.form = form;
        let (length, time) = read_time(text, end + 1, clock)?;
        self.hits += 1;
        Some(Line { length, time, form: Some(form) })
    }

    /// Reads a line whose fields begin at `start` along the names that are known.
    fn read_list(
        &mut self,
        text: &[u8],
        start: usize,
        clock: Clock,
        fields: &mut Fields,
    ) -> Option<Line> {
        let key = &mut self.keys[self.newest as usize];
        let mut names = self.lists[key.list as usize].names.iter();
        let mut at = start;
        fields.clear();
        loop {
            let rest = text.get(at..)?;
            let name = names.find(|name| name.begins(rest))?;
            let value = at + name.bytes.len();
            let (end, cell) = number::value(text, value)?;
            fields.push(Piece::text(at, value - 1), cell);
            at = end + 1;
            match text.get(end)? {
                b',' => {}
                b' ' => break,
                _ => return None,
            }
        }
        let (length, time) = read_time(text, at, clock)?;
        self.hits += 1;
        if self.forms.has_room()
            && let Some(form) = self.forms.number(&fields.kinds(text))
        {
            self.forms.note_change(key.form, form);
            key.form = form;
        }
        Some(Line { length, time, form: None })
    }

    /// Number of the key of the line that was read last.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// The fields of a form.
    pub(super) fn form(&self, form: u32) -> &[Expected] {
        self.forms.fields(form)
    }

    /// The values of the line that was read last, which had a form.
    pub(super) fn cells(&self) -> &[u64] {
        &self.cells
    }

    /// As long as this is the same, in whatever decoder, a number means the same key or form.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The key of the line that was read last, its tags sorted.
    pub(super) fn key(&self) -> &[u8] {
        self.slice(&self.keys[self.newest as usize].sorted)
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    /// The known key that `text` begins with, with the space behind it.
    fn find(&mut self, text: &[u8]) -> Option<u32> {
        let begins = |number: u32| text.starts_with(self.slice(&self.keys[number as usize].raw));
        let newest = self.newest as usize;
        let successor = self.keys.get(newest)?.successor;
        if begins(successor) {
            return Some(successor);
        }
        let found = if begins(self.newest) { Some(self.newest) } else { self.look_up(text) };
        if let Some(number) = found {
            self.keys[newest].successor = number;
        }
        found
    }

    fn look_up(&self, text: &[u8]) -> Option<u32> {
        let head = &text[..text.len().min(KEY_MAX + 1)];
        let end = memchr::memchr2(b' ', b'\n', head)?;
        let raw = &text[..=end];
        let is_same = |number: u32| self.slice(&self.keys[number as usize].raw) == raw;
        self.by_raw.find(self.by_raw.hash(raw), is_same)
    }

    /// Remembers the key and the names of a line that was read carefully. `raw` is the key as it
    /// stood there, with the space behind it, and `sorted` is the key that is stored.
    ///
    /// The caller vouches that a server stores the line as it stands: no warning, no field dropped.
    pub(super) fn learn(&mut self, raw: &[u8], sorted: &[u8], names: &[&[u8]]) {
        if self.pause > 0 {
            self.pause -= 1;
            if self.pause == 0 {
                self.forget();
            }
            return;
        }
        let plain_name = |name: &&[u8]| {
            name.len() <= NAME_MAX && is_plain(name) && is_utf8(name) && *name != TIME
        };
        let Some((b' ', key)) = raw.split_last() else { return };
        if key.len() > KEY_MAX
            || !is_plain(key)
            || names.len() > LIST_MAX
            || !names.iter().all(plain_name)
        {
            return;
        }
        if self.keys.len() >= KEYS_MAX
            || self.bytes.len() + raw.len() + sorted.len() > BYTES_MAX
            || self.names + names.len() > NAMES_MAX
        {
            if self.hits < self.keys.len() {
                self.pause = PAUSE;
                return;
            }
            self.forget();
        }
        let number = self.look_up(raw).unwrap_or_else(|| self.add_key(raw, sorted));
        if let Some(before) = self.keys.get_mut(self.newest as usize) {
            before.successor = number;
        }
        self.newest = number;
        let list = self.list_for(key, names);
        self.keys[number as usize].list = list;
    }

    /// Keeps the memory, which is bounded.
    fn forget(&mut self) {
        self.keys.clear();
        self.by_raw.clear();
        self.bytes.clear();
        self.lists.clear();
        self.by_measurement.clear();
        self.names = 0;
        self.forms.clear();
        self.newest = 0;
        self.hits = 0;
    }

    #[expect(clippy::cast_possible_truncation, reason = "bounded by KEYS_MAX and BYTES_MAX")]
    fn add_key(&mut self, raw: &[u8], sorted: &[u8]) -> u32 {
        let number = self.keys.len() as u32;
        if number == 0 {
            self.epoch = 1 + EPOCH.fetch_add(1, Ordering::Relaxed);
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(raw);
        let raw_end = self.bytes.len() as u32;
        let mut stored = start..raw_end - 1;
        if raw[..raw.len() - 1] != *sorted {
            self.bytes.extend_from_slice(sorted);
            stored = raw_end..self.bytes.len() as u32;
        }
        self.keys.push(Key {
            raw: start..raw_end,
            sorted: stored,
            successor: number,
            list: 0,
            form: form::NONE,
        });
        self.by_raw.insert(self.by_raw.hash(raw), number);
        number
    }

    /// A list of the key's measurement that `names` go along.
    fn list_for(&mut self, key: &[u8], names: &[&[u8]]) -> u32 {
        let measurement = &key[..memchr::memchr(b',', key).unwrap_or(key.len())];
        let is_same = |number: u32| *self.lists[number as usize].measurement == *measurement;
        let hash = self.by_measurement.hash(measurement);
        let Some(mut number) = self.by_measurement.find(hash, is_same) else {
            let number = self.add_list(measurement, names);
            self.by_measurement.insert(hash, number);
            return number;
        };
        for order in 1.. {
            let list = &mut self.lists[number as usize];
            if list.fits(names) {
                return number;
            }
            let before = list.names.len();
            let joined = before + names.len() <= JOINED_MAX && list.join(names);
            if !joined {
                if let Some(other) = list.other {
                    number = other;
                    continue;
                }
                if order < ORDERS_MAX {
                    let other = self.add_list(measurement, names);
                    self.lists[number as usize].other = Some(other);
                    return other;
                }
                list.replace(names);
            }
            self.names = self.names + list.names.len() - before;
            break;
        }
        number
    }

    #[expect(clippy::cast_possible_truncation, reason = "bounded by NAMES_MAX")]
    fn add_list(&mut self, measurement: &[u8], names: &[&[u8]]) -> u32 {
        let mut list = List { measurement: measurement.into(), names: Vec::new(), other: None };
        list.replace(names);
        self.names += list.names.len();
        self.lists.push(list);
        (self.lists.len() - 1) as u32
    }
}

/// Reads a timestamp and the line feed behind it: where that stands, and nanoseconds.
#[inline]
fn read_time(text: &[u8], at: usize, clock: Clock) -> Option<(usize, i64)> {
    let (end, magnitude, negative) = match decimal::nineteen(text, at) {
        Some(magnitude) => (at + DIGITS_MAX, magnitude, false),
        None => {
            let negative = text.get(at) == Some(&b'-');
            let first = at + usize::from(negative);
            let (magnitude, end) = decimal::digits(text, first, 0);
            if !(1..=DIGITS_MAX).contains(&(end - first)) {
                return None;
            }
            (end, magnitude, negative)
        }
    };
    if text.get(end) != Some(&b'\n') {
        return None;
    }
    let time = if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    };
    let time = time?.checked_mul(clock.precision.multiplier())?;
    (TIME_MIN..=TIME_MAX).contains(&time).then_some((end, time))
}

#[cfg(test)]
mod tests {
    use super::super::point::Point;
    use super::*;

    /// Reads lines one by one, carefully where they are not as was guessed; returns which were.
    fn guessed(guess: &mut Guess, lines: &[&str]) -> Vec<bool> {
        let mut point = Point::default();
        let read = |line: &&str| {
            let text = [line.as_bytes(), b"\nand what follows it in the buffer"].concat();
            let guessed = guess.read(&text, Clock::default(), &mut point.fields);
            match guessed {
                Some(found) => assert_eq!(found.length, line.len()),
                None => {
                    point.read(line.as_bytes(), Clock::default()).unwrap();
                    point.teach(line.as_bytes(), guess);
                }
            }
            guessed.is_some()
        };
        lines.iter().map(read).collect()
    }

    #[test]
    fn a_line_like_one_before_it_is_guessed_whatever_its_values_are() {
        let mut guess = Guess::default();
        let lines = [
            "m,a=1 f=1,foo=2.5,s=\"x\" 1",
            "m,a=1 f=-0.12345678901234567,foo=1e9,s=\"a, =b\" -9",
            "m,a=1 f=123456789i,s=\"\" 1700000000000000000",
            "m,a=2 f=1 1",
            "m,a=2 foo=t,s=false 1",
            "m,a=1 s=1 1",
        ];
        assert_eq!(guessed(&mut guess, &lines), [false, true, true, false, true, true]);
        assert_eq!(guess.key(), b"m,a=1");
        assert_eq!(guessed(&mut guess, &["n,a=1 g=1 1", "n,a=1 g=2 2"]), [false, true]);
    }

    #[test]
    fn what_is_new_or_in_another_order_is_learnt_once() {
        let mut guess = Guess::default();
        let new = guessed(&mut guess, &["m a=1,c=2 1", "m a=1,b=1,c=2 1", "m a=1,b=1,c=2 1"]);
        assert_eq!(new, [false, false, true]);
        let order = guessed(&mut guess, &["m c=1,a=2 1", "m c=1,a=2 1", "m b=1 1"]);
        assert_eq!(order, [false, true, false]);
        assert_eq!(guessed(&mut guess, &["m b=1 1", "m a=1,b=2,c=3 1"]), [true, true]);
    }

    #[test]
    fn a_line_goes_on_along_another_form_that_begins_like_its_own() {
        let mut guess = Guess::default();
        let mut fields = Fields::default();
        let (long, short, other) = ("m a=1,b=2,c=t 1", "m a=1,b=2 1", "m a=1,b=2i 1");
        guessed(&mut guess, &[long, long, short, other, long, short, other]);
        for line in [long, short, long, short, short, long, other, long, other, short] {
            let text = format!("{line}\n");
            let known = guess.read(text.as_bytes(), Clock::default(), &mut fields).unwrap();
            let form = guess.form(known.form.expect(line));
            assert_eq!(form.len(), guess.cells().len(), "{line}");
            assert_eq!(form.len(), line.matches('=').count(), "{line}");
        }
    }

    #[test]
    fn lines_of_which_something_is_to_be_said_are_never_guessed() {
        for line in [
            "m,b=2,a=1\\  f=1 1",
            "m time=1,f=2 1",
            "m f=1,f=2 1",
            "m f\\ g=1 1",
            "m f=\"a\\\"b\" 1",
            "m f=\"a\nb\" 1",
            "m  f=1 1",
        ] {
            assert_eq!(guessed(&mut Guess::default(), &[line, line, line]), [false; 3], "{line}");
        }
        let sorted = guessed(&mut Guess::default(), &["m,b=2,a=1 f=1 1", "m,b=2,a=1 f=1 1"]);
        assert_eq!(sorted, [false, true]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guess = Guess::default();
        for number in 0..2 * PAUSE {
            let raw = format!("m,host={number} ");
            guess.learn(
                raw.as_bytes(),
                raw.trim_end().as_bytes(),
                &[format!("f{number}").as_bytes()],
            );
            assert!(guess.keys.len() <= KEYS_MAX && guess.bytes.len() <= BYTES_MAX);
            assert!(guess.names <= NAMES_MAX);
        }
        assert_eq!(guess.lists.iter().map(|list| list.names.len()).sum::<usize>(), guess.names);
    }
}
