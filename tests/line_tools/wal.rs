//! What a server wrote to its write-ahead log: the exact bytes that it stored.
//!
//! ```text
//! entry    u8 type (1: write), u32 length, snappy block
//! payload  repeated: u8 value type, u16 key length, key, u32 count, count × (i64 time, value)
//! key      series key, `#!~#`, field key
//! ```

use super::outcome::{Bytes, Stored};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One value: key of series and field, time, value.
pub type Written = (Bytes, i64, Stored);

/// The log of one server, read as it grows.
pub struct Wal {
    dir: PathBuf,
    offsets: HashMap<PathBuf, u64>,
}

impl Wal {
    /// The log below the data directory of a server.
    pub fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("wal"), offsets: HashMap::new() }
    }

    /// What was written to a database since the last call, by key, each key in order.
    pub fn take(&mut self, database: &str) -> Vec<Written> {
        let mut written = Vec::new();
        for path in segments(&self.dir.join(database).join("autogen")) {
            let offset = self.offsets.entry(path.clone()).or_default();
            let mut file = File::open(&path).unwrap();
            file.seek(SeekFrom::Start(*offset)).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            *offset += bytes.len() as u64;
            entries(&bytes, &mut written);
        }
        written.sort_by(|one, two| one.0.cmp(&two.0));
        written
    }
}

fn segments(policy: &Path) -> Vec<PathBuf> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    list(policy).iter().flat_map(|shard| list(shard)).collect()
}

fn entries(mut bytes: &[u8], written: &mut Vec<Written>) {
    while let [kind, length @ ..] = bytes {
        assert_eq!(*kind, 1, "only writes are expected");
        let mut input = Input(length);
        let length = input.u32();
        let block = input.take(length);
        bytes = input.0;
        let payload = unsnap(block);
        let mut input = Input(&payload);
        while !input.0.is_empty() {
            let kind = input.take(1)[0];
            let length = usize::from(u16::from_be_bytes(input.array()));
            let key: Bytes = input.take(length).into();
            for _ in 0..input.u32() {
                let time = i64::from_be_bytes(input.array());
                written.push((key.clone(), time, value(kind, &mut input)));
            }
        }
    }
}

fn value(kind: u8, input: &mut Input<'_>) -> Stored {
    match kind {
        1 => Stored::Float(u64::from_be_bytes(input.array())),
        2 => Stored::Integer(i64::from_be_bytes(input.array())),
        3 => Stored::Boolean(input.take(1)[0] == 1),
        4 => {
            let length = input.u32();
            Stored::String(input.take(length).to_vec())
        }
        5 => Stored::Unsigned(u64::from_be_bytes(input.array())),
        _ => panic!("value type {kind}"),
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    fn u32(&mut self) -> usize {
        u32::from_be_bytes(self.array()) as usize
    }
}

/// Decompresses one snappy block.
fn unsnap(block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut input = Input(block);
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let byte = input.take(1)[0];
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let little =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    while !input.0.is_empty() {
        let tag = usize::from(input.take(1)[0]);
        let (offset, count) = match tag & 3 {
            0 => {
                let short = tag >> 2;
                let count = if short < 60 { short } else { little(input.take(short - 59)) };
                out.extend_from_slice(input.take(count + 1));
                continue;
            }
            1 => ((tag >> 5) << 8 | usize::from(input.take(1)[0]), (tag >> 2 & 7) + 4),
            2 => (little(input.take(2)), (tag >> 2) + 1),
            _ => (little(input.take(4)), (tag >> 2) + 1),
        };
        for _ in 0..count {
            out.push(out[out.len() - offset]);
        }
    }
    assert_eq!(out.len(), length);
    out
}
