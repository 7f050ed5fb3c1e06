//! Tombstones: what was deleted from one TSM file since it was written.
//!
//! ```text
//! v1   no header: keys, each with a newline behind it, deleted as a whole; may be empty
//! v2   00 00 15 02, records
//! v3   00 00 15 03, records in one gzip member
//! v4   00 00 15 04, records in gzip members, one for each deletion
//! record   u32 length, key, i64 first time, i64 last time, both inside
//! ```
//!
//! They hide points of the TSM file of the same name, and of no other. Records may repeat and
//! overlap. A server overlooks a file that ends within a record's length; here that is damage, since
//! what a deletion took away would come back. Only a cut exactly between two records of v1 and v2,
//! or between two members of v4, cannot be seen.

use super::input::Input;
use super::{Damage, Span};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::ops::Range;

const HEADER: [u8; 3] = [0x00, 0x00, 0x15];
/// Longest key that the index of a TSM file can hold.
const KEY_BYTES_MAX: u32 = 65_535;
const BUFFER: usize = 64 << 10;
/// Most bytes that the tombstones of one file may take in memory: those of about 400,000 series keys.
const MEMORY_MAX: usize = 64 << 20;

/// Hands each deletion to `each`: the key, and the times that are gone.
///
/// # Errors
/// Where the file is damaged or of an unknown version. What was handed over before is not all.
pub fn read(bytes: &[u8], each: impl FnMut(&[u8], Span)) -> Result<(), Damage> {
    let Some(([a, b, c, version], records)) = bytes.split_first_chunk::<4>() else {
        return keys(bytes, each);
    };
    if [*a, *b, *c] != HEADER {
        return keys(bytes, each);
    }
    match version {
        2 => plain(Input::new(records, 4), each),
        3 | 4 => compressed(records, each),
        _ => Err(Damage::new(3, format!("version {version} of tombstones is not known"))),
    }
}

fn keys(bytes: &[u8], mut each: impl FnMut(&[u8], Span)) -> Result<(), Damage> {
    for key in bytes.split(|byte| *byte == b'\n').filter(|key| !key.is_empty()) {
        each(key, Span::ALL);
    }
    Ok(())
}

fn plain(mut input: Input<'_>, mut each: impl FnMut(&[u8], Span)) -> Result<(), Damage> {
    while !input.is_empty() {
        let length = input.u32("a tombstone's length")?;
        let key = input.take_long(u64::from(length), "a tombstone's key")?;
        let span = Span { min: input.i64("a tombstone")?, max: input.i64("a tombstone")? };
        each(key, span);
    }
    Ok(())
}

fn compressed(members: &[u8], mut each: impl FnMut(&[u8], Span)) -> Result<(), Damage> {
    if members.is_empty() {
        return Ok(());
    }
    let mut records = Records {
        reader: BufReader::with_capacity(BUFFER, MultiGzDecoder::new(members)),
        length: members.len(),
    };
    let mut key = Vec::new();
    while let Some(span) = records.next(&mut key)? {
        each(&key, span);
    }
    Ok(())
}

struct Records<'a> {
    reader: BufReader<MultiGzDecoder<&'a [u8]>>,
    /// Bytes of all members.
    length: usize,
}

impl Records<'_> {
    /// The next record, whose key is put into `key`.
    fn next(&mut self, key: &mut Vec<u8>) -> Result<Option<Span>, Damage> {
        let mut length = [0; 4];
        if self.fill(&mut length[..1])? == 0 {
            return Ok(None);
        }
        self.whole(&mut length[1..])?;
        let length = u32::from_be_bytes(length);
        if length > KEY_BYTES_MAX {
            return Err(self.damaged(format!("a tombstone's key of {length} bytes")));
        }
        key.resize(length as usize, 0);
        self.whole(key)?;
        let mut times = [[0; 8]; 2];
        self.whole(times.as_flattened_mut())?;
        let [min, max] = times.map(i64::from_be_bytes);
        Ok(Some(Span { min, max }))
    }

    fn whole(&mut self, into: &mut [u8]) -> Result<(), Damage> {
        if self.fill(into)? == into.len() {
            return Ok(());
        }
        Err(self.damaged("a tombstone is cut short"))
    }

    /// Reads as many bytes, or all that there are.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, Damage> {
        let mut filled = 0;
        while filled < into.len() {
            match self.reader.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(
                        self.damaged(format!("the compressed tombstones are damaged ({error})"))
                    );
                }
            }
        }
        Ok(filled)
    }

    /// Damage where the compressed bytes are read.
    fn damaged(&self, reason: impl Into<String>) -> Damage {
        let left = self.reader.get_ref().get_ref().len();
        Damage::new((4 + self.length - left) as u64, reason)
    }
}

/// What the tombstones of a file hide, by key.
#[derive(Debug, Default)]
pub struct Tombstones {
    /// The keys, one behind the other.
    bytes: Vec<u8>,
    /// Where each key stands in `bytes`, and what is hidden of it; sorted by key and span.
    records: Vec<(Range<usize>, Span)>,
}

impl Tombstones {
    /// Collects the deletions of a file; [`Tombstones::memory`] tells what that takes.
    ///
    /// # Errors
    /// As [`read`], and where they take more than 64 MiB.
    pub fn collect(bytes: &[u8]) -> Result<Self, Damage> {
        let mut all = Self::default();
        let mut over = false;
        read(bytes, |key, span| {
            over |= all.memory() > MEMORY_MAX;
            if over {
                return;
            }
            // Deletions of one key often stand together.
            let place = match all.records.last() {
                Some((place, _)) if all.bytes[place.clone()] == *key => place.clone(),
                _ => {
                    let start = all.bytes.len();
                    all.bytes.extend_from_slice(key);
                    start..all.bytes.len()
                }
            };
            all.records.push((place, span));
        })?;
        if over {
            let reason = format!("tombstones that take more than {} MiB", MEMORY_MAX >> 20);
            return Err(Damage::new(0, reason));
        }
        let Self { bytes, records } = &mut all;
        records.sort_unstable_by(|(one, of_one), (two, of_two)| {
            bytes[one.clone()].cmp(&bytes[two.clone()]).then(of_one.cmp(of_two))
        });
        Ok(all)
    }

    /// Number of deletions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True where nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What is hidden of a key, by the first time; spans may overlap.
    pub fn of(&self, key: &[u8]) -> impl Iterator<Item = Span> {
        let of_record = |(place, _): &(Range<usize>, Span)| &self.bytes[place.clone()];
        let first = self.records.partition_point(|record| of_record(record) < key);
        let records = self.records[first..].iter();
        records.take_while(move |record| of_record(record) == key).map(|(_, span)| *span)
    }

    /// Bytes this occupies in memory, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.records.capacity() * size_of::<(Range<usize>, Span)>()
    }
}
