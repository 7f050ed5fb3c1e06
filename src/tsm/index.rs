//! A TSM file: where the blocks of which key are.
//!
//! ```text
//! 16 D1 16 D1 01     magic and version
//! blocks             one behind the other
//! index              by key in ascending order: u16 length, key, u8 type, u16 count, count × entry
//!   entry            i64 first time, i64 last time, i64 offset, u32 size with its checksum
//! u64                offset of the index
//! ```
//!
//! The index is passed over once when the file is opened, which checks it: order of keys, types,
//! and that every entry lies among the blocks. It is not copied: what is kept is the place of each
//! 64th key, from which a key is searched.

use super::input::Input;
use super::{Damage, Points, Span, block, split_key};
use crate::value::FieldType;
use crate::window::Window;
use std::ops::Range;

pub(super) const HEADER: [u8; 5] = [0x16, 0xd1, 0x16, 0xd1, 1];
const FOOTER: usize = 8;
/// Keys from one that is remembered to the next.
const STRIDE: u64 = 64;
/// Bytes of an entry.
const ENTRY: usize = 28;

/// A TSM file in memory, or mapped.
#[derive(Debug)]
pub struct Tsm<B> {
    bytes: B,
    index: Range<usize>,
    /// Place of each 64th key.
    marks: Vec<usize>,
    keys: u64,
    blocks: u64,
    span: Span,
    unnamed: u64,
    fieldless: Option<u64>,
}

/// A key of a TSM file and where its blocks are.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Series key and field key: see [`super::split_key`].
    pub key: &'a [u8],
    /// Type of all its blocks.
    pub field_type: FieldType,
    entries: &'a [[u8; ENTRY]],
}

/// Where one block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Times of its first and last point.
    pub span: Span,
    /// Where it begins in the file, checksum first.
    pub offset: u64,
    /// Its bytes, those of the checksum too.
    pub size: u32,
}

impl Entry {
    fn new(bytes: &[u8; ENTRY]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            word
        };
        let mut size = [0; 4];
        size.copy_from_slice(&bytes[24..]);
        Self {
            span: Span { min: i64::from_be_bytes(word(0)), max: i64::from_be_bytes(word(8)) },
            offset: u64::from_be_bytes(word(16)),
            size: u32::from_be_bytes(size),
        }
    }
}

impl<'a> Key<'a> {
    /// Its blocks, by the times at which they begin. The times of two may overlap: a later block
    /// then counts.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry> + use<'a> {
        self.entries.iter().map(Entry::new)
    }

    /// Those of its blocks that may hold points of a window.
    pub fn meeting(&self, window: Window) -> impl Iterator<Item = Entry> + use<'a> {
        self.entries().filter(move |entry| entry.span.meets(window))
    }

    fn read(input: &mut Input<'a>) -> Result<Self, Damage> {
        let length = input.u16("a key's length")?;
        let key = input.take(usize::from(length), "a key")?;
        let start = *input;
        let code = input.byte("a key's type")?;
        let Some(field_type) = block::field_type(code) else {
            return Err(start.damaged(format!("unknown type {code} of a key")));
        };
        let start = *input;
        let count = usize::from(input.u16("the number of a key's blocks")?);
        if count == 0 {
            return Err(start.damaged("a key without blocks"));
        }
        let entries = input.take(count * ENTRY, "the blocks of a key")?.as_chunks().0;
        Ok(Self { key, field_type, entries })
    }
}

/// Keys of a file, in ascending order.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    input: Input<'a>,
}

impl<'a> Iterator for Keys<'a> {
    /// Damage is possible only where the bytes changed since the file was opened.
    type Item = Result<Key<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let key = Key::read(&mut self.input);
        if key.is_err() {
            self.input = Input::new(&[], self.input.offset());
        }
        Some(key)
    }
}

impl<B: AsRef<[u8]>> Tsm<B> {
    /// Checks the frame and the index of a file, and no block.
    ///
    /// # Errors
    /// Where it is no TSM file, or its index is damaged.
    pub fn open(bytes: B) -> Result<Self, Damage> {
        let index = index_of(bytes.as_ref())?;
        let mut tsm = Self {
            bytes,
            index,
            marks: Vec::new(),
            keys: 0,
            blocks: 0,
            span: Span { min: i64::MAX, max: i64::MIN },
            unnamed: 0,
            fieldless: None,
        };
        tsm.check()?;
        Ok(tsm)
    }

    /// Number of keys.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.keys
    }

    /// Number of blocks.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.blocks
    }

    /// From the first time of all blocks to the last.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Bytes among the blocks that the index does not name, of which a server knows nothing either.
    /// Not zero in a file whose index lost an entry.
    #[must_use]
    pub fn unnamed_bytes(&self) -> u64 {
        self.unnamed
    }

    /// Where the first key is that [`super::split_key`] cannot cut: no server writes such a one.
    #[must_use]
    pub fn fieldless(&self) -> Option<u64> {
        self.fieldless
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        self.keys_at(self.index.start)
    }

    /// The keys from `key` on.
    ///
    /// # Errors
    /// As that of [`Keys`].
    pub fn keys_from(&self, key: &[u8]) -> Result<Keys<'_>, Damage> {
        let (mut low, mut high) = (0, self.marks.len());
        while low < high {
            let middle = low.midpoint(high);
            let mut input = self.keys_at(self.marks[middle]).input;
            if Key::read(&mut input)?.key <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut keys =
            self.keys_at(low.checked_sub(1).map_or(self.index.start, |at| self.marks[at]));
        loop {
            let here = keys.clone();
            match keys.next() {
                Some(Ok(found)) if found.key < key => {}
                Some(Err(damage)) => return Err(damage),
                _ => return Ok(here),
            }
        }
    }

    /// One key.
    ///
    /// # Errors
    /// As that of [`Keys`].
    pub fn find(&self, key: &[u8]) -> Result<Option<Key<'_>>, Damage> {
        let found = self.keys_from(key)?.next().transpose()?;
        Ok(found.filter(|found| found.key == key))
    }

    /// Appends the points of one block of a key.
    ///
    /// # Errors
    /// Where the block is damaged, is of another type than `points`, or holds times outside of those
    /// that its entry gives. Then `points` is as it was before.
    pub fn append(&self, entry: Entry, points: &mut Points) -> Result<(), Damage> {
        let before = points.len();
        let Some(stored) = self.stored(entry) else {
            return Err(Damage::new(entry.offset, "a block that is not among the file's blocks"));
        };
        block::decode(stored, entry.offset, points)?;
        // Not `all`, which would stop at the first and is several times slower for it.
        let outside = |out: bool, time: &i64| out | !entry.span.contains(*time);
        if points.times[before..].iter().fold(false, outside) {
            points.truncate(before);
            return Err(Damage::new(
                entry.offset,
                "a block holds times outside of those that the index gives",
            ));
        }
        Ok(())
    }

    /// Bytes that a block takes once it is decoded, about: of strings what it announces, of others what
    /// blocks of servers come to.
    #[must_use]
    pub fn decoded_bytes(&self, entry: Entry) -> u64 {
        let strings = self.stored(entry).and_then(block::announced).unwrap_or(0);
        strings.max(u64::from(entry.size))
    }

    fn stored(&self, entry: Entry) -> Option<&[u8]> {
        let start = usize::try_from(entry.offset).ok()?;
        let end = start.checked_add(usize::try_from(entry.size).ok()?)?;
        self.bytes.as_ref()[..self.index.start].get(start..end)
    }

    fn keys_at(&self, at: usize) -> Keys<'_> {
        let bytes = &self.bytes.as_ref()[at..self.index.end];
        Keys { input: Input::new(bytes, at as u64) }
    }

    /// Passes over the index once.
    fn check(&mut self) -> Result<(), Damage> {
        let blocks = HEADER.len() as u64..self.index.start as u64;
        let mut named = 0_u64;
        let (mut marks, mut count, mut entries, mut span) = (Vec::new(), 0, 0, self.span);
        let mut keys = self.keys();
        let mut last: Option<&[u8]> = None;
        let mut fieldless = None;
        loop {
            let place = self.index.end - keys.input.rest().len();
            let at = place as u64;
            let Some(key) = keys.next().transpose()? else { break };
            if last.is_some_and(|last| last >= key.key) {
                return Err(Damage::new(at, "the keys of the index are not in order"));
            }
            last = Some(key.key);
            if fieldless.is_none() && split_key(key.key).is_none() {
                fieldless = Some(at);
            }
            let of_key = check_entries(&key, at, &blocks)?;
            span = Span { min: span.min.min(of_key.span.min), max: span.max.max(of_key.span.max) };
            named += of_key.bytes;
            if count % STRIDE == 0 {
                marks.push(place);
            }
            count += 1;
            entries += key.entries.len() as u64;
        }
        // Servers share no block. A few bytes named many times would be decoded as often.
        if named > blocks.end - blocks.start {
            let at = self.index.start as u64;
            return Err(Damage::new(at, "entries of the index name the same block"));
        }
        (self.marks, self.keys, self.blocks, self.span) = (marks, count, entries, span);
        self.fieldless = fieldless;
        self.unnamed = blocks.end - blocks.start - named;
        Ok(())
    }
}

/// Where the index is.
fn index_of(bytes: &[u8]) -> Result<Range<usize>, Damage> {
    let mut input = Input::new(bytes, 0);
    let header: [u8; 5] = input.array("the header of a TSM file")?;
    if header != HEADER {
        let reason = if header[..4] == HEADER[..4] {
            format!("version {} of TSM files is not known", header[4])
        } else {
            "this is no TSM file: the first bytes are not 16 D1 16 D1".into()
        };
        return Err(Damage::new(0, reason));
    }
    let Some((_, footer)) = input.rest().split_last_chunk::<FOOTER>() else {
        return Err(input.damaged("the TSM file is cut short: its footer is missing"));
    };
    let end = bytes.len() - FOOTER;
    match usize::try_from(u64::from_be_bytes(*footer)) {
        Ok(start) if start >= HEADER.len() && start < end => Ok(start..end),
        _ => Err(Damage::new(
            end as u64,
            "the footer does not point into the TSM file: it is damaged or cut short",
        )),
    }
}

/// What the entries of a key come to.
struct OfKey {
    span: Span,
    bytes: u64,
}

fn check_entries(key: &Key<'_>, at: u64, blocks: &Range<u64>) -> Result<OfKey, Damage> {
    let mut all = OfKey { span: Span { min: i64::MAX, max: i64::MIN }, bytes: 0 };
    let mut last = i64::MIN;
    for Entry { span, offset, size } in key.entries() {
        let end = offset.checked_add(u64::from(size));
        let inside = offset >= blocks.start && end.is_some_and(|end| end <= blocks.end);
        if !inside || size < 4 {
            return Err(Damage::new(at, "an entry of the index points outside of the blocks"));
        }
        if span.min > span.max || span.min < last {
            return Err(Damage::new(at, "the times of an entry of the index are not in order"));
        }
        last = span.min;
        all.bytes += u64::from(size);
        all.span = Span { min: all.span.min.min(span.min), max: all.span.max.max(span.max) };
    }
    Ok(all)
}
