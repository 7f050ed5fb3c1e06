//! Raw series keys: how they are read, normalised, and made.
//!
//! ```text
//! cpu\ load,host=a\,b,rack=1        raw, as a server stores it: escapes kept, tags sorted
//! cpu load  host=a,b  rack=1        the identity it stands for
//! ```
//!
//! A byte of a key is escaped if the single byte before it is a backslash: `\\,` is an escaped
//! comma behind a backslash. Several raw keys may stand for one identity; [`build`] makes the one
//! that a server looks for when it is asked for that identity.

use super::escape::{self, escape, unescaped};
use super::fields::{TIME, is_utf8};
use super::{Fault, KEY_BYTES_MAX};
use crate::series::{Series, Tag};
use memchr::memchr_iter;

/// The series that a raw key stands for, as a server's index and queries show it.
///
/// The key is read as the server reads a stored key, and any bytes are a key: nothing is refused.
#[must_use]
pub fn parse(key: &[u8]) -> Series {
    let (name, mut rest) = cut(key, b',');
    let measurement = unescaped(name, escape::FIELD_KEY);
    let mut tags = Vec::new();
    if name.is_empty() {
        rest = &[];
    }
    while !rest.is_empty() {
        let (name, after) = cut(rest, b'=');
        let (value, next) = cut(after, b',');
        tags.push((unescaped(name, escape::TAG), unescaped(value, escape::TAG)));
        rest = next;
    }
    let canonical = canonical_key(&measurement, &tags) == key;
    Series::new(key.into(), measurement, tags, canonical)
}

/// The series of an identity, with the raw key that a server would make from it.
///
/// Not every identity has a key that would be read back as it: a tag value that ends in a
/// backslash has none. [`super::encode`] refuses to write those.
#[must_use]
pub fn build(measurement: &[u8], tags: Vec<Tag>) -> Series {
    let key = canonical_key(measurement, &tags);
    Series::new(key.into(), measurement.into(), tags, true)
}

/// Cuts at the first `stop` without a backslash before it, which is left out.
fn cut(text: &[u8], stop: u8) -> (&[u8], &[u8]) {
    match memchr_iter(stop, text).find(|&at| at == 0 || text[at - 1] != b'\\') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[]),
    }
}

fn canonical_key(measurement: &[u8], tags: &[Tag]) -> Vec<u8> {
    let mut escaped: Vec<(Vec<u8>, &[u8])> = tags
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let mut key = Vec::with_capacity(name.len());
            escape(name, escape::TAG, &mut key);
            (key, &**value)
        })
        .collect();
    escaped.sort_unstable();
    let mut key = Vec::with_capacity(measurement.len());
    escape(measurement, escape::MEASUREMENT, &mut key);
    for (name, value) in escaped {
        key.push(b',');
        key.extend_from_slice(&name);
        key.push(b'=');
        escape(value, escape::TAG, &mut key);
    }
    key
}

/// Where one tag stands in a line.
#[derive(Clone, Copy, Debug)]
struct TagAt {
    start: usize,
    equals: usize,
    end: usize,
}

/// The key of a line, reused from line to line: most lines repeat the key before them.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The key as it stood in the line, and the space that ended it; empty after a fault.
    raw: Vec<u8>,
    /// The key with its tags sorted.
    key: Vec<u8>,
    tags: Vec<TagAt>,
    time_tag: bool,
    odd_measurement: bool,
}

impl Scan {
    /// Reads the key that `text` begins with: where it ends.
    pub(super) fn read(&mut self, text: &[u8]) -> Result<usize, Fault> {
        // The scanner below looks back only, so that equal bytes end in the same way.
        if !self.raw.is_empty() && text.starts_with(&self.raw) {
            return Ok(self.raw.len() - 1);
        }
        self.raw.clear();
        let end = self.scan(text)?;
        self.normalise(text, end)?;
        if self.key.len() > KEY_BYTES_MAX {
            return Err(Fault::key_too_long(end, self.key.len()));
        }
        self.odd_measurement = !is_utf8(cut(&self.key, b',').0);
        self.raw.extend_from_slice(&text[..=end]);
        Ok(end)
    }

    /// Finds the tags and the end of the key.
    fn scan(&mut self, text: &[u8]) -> Result<usize, Fault> {
        self.tags.clear();
        let mut end = measurement_end(text)?;
        while text[end] == b',' {
            let start = end + 1;
            let equals = tag_key_end(text, start)?;
            end = tag_value_end(text, equals + 1)?;
            self.tags.push(TagAt { start, equals, end });
        }
        Ok(end)
    }

    /// Makes the key that is stored: the tags sorted by their raw keys.
    fn normalise(&mut self, text: &[u8], end: usize) -> Result<(), Fault> {
        let name = |tag: &TagAt| &text[tag.start..tag.equals];
        self.key.clear();
        self.time_tag = self.tags.iter().any(|tag| name(tag) == TIME);
        if self.tags.is_sorted_by(|one, two| name(one) < name(two)) {
            self.key.extend_from_slice(&text[..end]);
            return Ok(());
        }
        let measurement = self.tags.first().map_or(end, |tag| tag.start - 1);
        self.key.extend_from_slice(&text[..measurement]);
        self.tags.sort_unstable_by(|one, two| name(one).cmp(name(two)));
        if self.tags.windows(2).any(|pair| name(&pair[0]) == name(&pair[1])) {
            return Err(Fault::new(end, "duplicate tags"));
        }
        for tag in &self.tags {
            self.key.push(b',');
            self.key.extend_from_slice(&text[tag.start..tag.end]);
        }
        Ok(())
    }

    /// The key as it stood in the line, and the space or comma that ended it.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The raw key as a server stores it.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Number of tags.
    pub(super) fn tags(&self) -> usize {
        self.tags.len()
    }

    /// True where a tag is called `time`.
    pub(super) fn has_time_tag(&self) -> bool {
        self.time_tag
    }

    /// True where the measurement is not UTF-8.
    pub(super) fn has_odd_measurement(&self) -> bool {
        self.odd_measurement
    }

    /// The measurement, unescaped.
    pub(super) fn measurement(&self) -> Box<[u8]> {
        unescaped(cut(&self.key, b',').0, escape::FIELD_KEY)
    }
}

/// True where the byte at `at` has a backslash before it.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[at - 1] == b'\\'
}

fn measurement_end(text: &[u8]) -> Result<usize, Fault> {
    if matches!(text.first(), None | Some(b',')) {
        return Err(Fault::new(0, "missing measurement"));
    }
    (1..text.len())
        .find(|&at| matches!(text[at], b',' | b' ') && !is_escaped(text, at))
        .ok_or_else(|| Fault::new(text.len(), "missing fields"))
}

fn tag_key_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    if matches!(text.get(start), None | Some(b' ' | b',' | b'=')) {
        return Err(Fault::new(start, "missing tag key"));
    }
    let end = (start + 1..text.len())
        .find(|&at| matches!(text[at], b' ' | b',' | b'=') && !is_escaped(text, at))
        .unwrap_or(text.len());
    match text.get(end) {
        Some(b'=') => Ok(end),
        _ => Err(Fault::new(end, "missing tag value")),
    }
}

fn tag_value_end(text: &[u8], start: usize) -> Result<usize, Fault> {
    if matches!(text.get(start), None | Some(b' ' | b',')) {
        return Err(Fault::new(start, "missing tag value"));
    }
    let end = (start + 1..text.len())
        .find(|&at| matches!(text[at], b' ' | b',' | b'=') && !is_escaped(text, at))
        .unwrap_or(text.len());
    match text.get(end) {
        Some(b'=') => Err(Fault::new(end, "invalid tag format")),
        None => Err(Fault::new(end, "missing fields")),
        Some(_) => Ok(end),
    }
}
