//! Any bytes as the files of a shard: TSM files, tombstones and segments of the log. Whatever is taken is
//! read in order and within the window, the same in two halves as in one piece, and the same whether the
//! log is held or goes to disk.
//!
//! ```text
//! file    kind u8, length u16 (little-endian), bytes
//! kind    low two bits: 0 TSM file, 1 its tombstones (of the TSM file before), 2 or 3 segment
//!         next bit of the first file: damage is passed over
//!         next bit of a TSM file: the checksums of its blocks are made right
//! ```

#![no_main]

use gapless::error::Result;
use gapless::meta::{Database, Meta, RetentionPolicy, Shard as Owned, ShardGroup};
use gapless::plan::{Namespace, Partition};
use gapless::source::Source;
use gapless::source::tsm::log::Replay;
use gapless::source::tsm::shard::{Shard, StoredFile};
use gapless::source::tsm::{Place, TsmSource};
use gapless::spill;
use gapless::tsm::index::Tsm;
use gapless::window::Window;
use libfuzzer_sys::fuzz_target;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

/// Bytes of memory for the log where it goes to disk.
const LITTLE: usize = 2_000;
/// Files of one shard, so that one input is read soon.
const FILES_MAX: usize = 12;
/// Bytes of cells that are looked at.
const CELLS_MAX: usize = 4 << 20;

/// An input cut into files.
struct Files {
    salvage: bool,
    tsm: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    segments: Vec<Vec<u8>>,
}

impl Files {
    fn of(mut bytes: &[u8]) -> Self {
        let salvage = bytes.first().is_some_and(|kind| kind & 4 != 0);
        let mut files = Self { salvage, tsm: Vec::new(), segments: Vec::new() };
        for _ in 0..FILES_MAX {
            let [kind, low, high, rest @ ..] = bytes else { break };
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (content, rest) = rest.split_at(length);
            let mut content = content.to_vec();
            match (kind & 3, files.tsm.last_mut()) {
                (0, _) => {
                    if kind & 8 != 0 {
                        make_right(&mut content);
                    }
                    files.tsm.push((content, None));
                }
                (1, Some((_, tombstones))) => *tombstones = Some(content),
                (1, None) => {}
                _ => files.segments.push(content),
            }
            bytes = rest;
        }
        files
    }

    /// Nothing where a part of it is refused.
    fn shard(&self, memory_max: usize) -> Option<Shard> {
        let mut files = Vec::new();
        for (at, (tsm, tombstones)) in self.tsm.iter().enumerate() {
            let path = PathBuf::from(format!("{at:09}-000000001.tsm"));
            match StoredFile::of_bytes(path, tsm.clone(), tombstones.clone(), self.salvage) {
                Ok(file) => files.push(file),
                Err(_) if self.salvage => {}
                Err(_) => return None,
            }
        }
        let mut replay = Replay::new(memory_max, spill::Place::new(None));
        for segment in &self.segments {
            replay.follow(segment, self.salvage).ok()?;
        }
        let (logged, log) = replay.finish().expect("the disk can be used");
        files.extend(logged);
        Some(Shard { files, log })
    }
}

/// Puts the right checksum before each block that the index names.
fn make_right(file: &mut [u8]) {
    let Ok(tsm) = Tsm::open(&*file) else { return };
    let keys = tsm.keys().filter_map(|key| key.ok());
    let blocks: Vec<_> = keys.flat_map(|key| key.entries()).collect();
    for block in blocks {
        let (start, size) = (block.offset as usize, block.size as usize);
        let checksum = crc32fast::hash(&file[start + 4..start + size]);
        file[start..start + 4].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A place of one shard.
struct One(Arc<Shard>);

impl Place for One {
    fn name(&self) -> String {
        "one".into()
    }

    fn meta(&self) -> Result<Arc<Meta>> {
        Ok(Arc::clone(&META))
    }

    fn open(&self, _: &Namespace, _: u64) -> Result<Option<Arc<Shard>>> {
        Ok(Some(Arc::clone(&self.0)))
    }
}

static META: LazyLock<Arc<Meta>> = LazyLock::new(|| {
    let group = ShardGroup {
        id: 1,
        start: i64::MIN,
        end: i64::MAX,
        deleted_at: None,
        truncated_at: None,
        shards: vec![Owned { id: 1, owners: Vec::new() }],
    };
    let policy = RetentionPolicy {
        name: "r".into(),
        duration: 0,
        shard_duration: 0,
        replication: 1,
        groups: vec![group],
        subscriptions: Vec::new(),
    };
    let database = Database {
        name: "d".into(),
        default_rp: "r".into(),
        rps: vec![policy],
        continuous_queries: Vec::new(),
    };
    Arc::new(Meta { databases: vec![database], users: Vec::new() })
});

/// A cell: series, time, field, value.
type Cell = (Vec<u8>, i64, Vec<u8>, String);

/// The cells of a window; `None` where they are refused.
fn cells(shard: Shard, windows: &[Window]) -> Option<Vec<Cell>> {
    let names = Namespace { database: "d".into(), retention_policy: "r".into() };
    let source = TsmSource::new(One(Arc::new(shard)), names.clone());
    let (mut cells, mut bytes) = (Vec::new(), 0);
    for window in windows {
        let partition = Partition::new(&names, *window, None);
        let mut reader = source.open(&partition).ok()?;
        let mut last: Option<(Vec<u8>, i64)> = None;
        while let Some(block) = reader.next_block().ok()? {
            for (series, rows) in block.runs() {
                for row in rows {
                    let time = block.times()[row];
                    assert!(window.contains(time));
                    if let Some((key, before)) = &last {
                        assert!(key != series.key() || *before < time, "out of order");
                    }
                    last = Some((series.key().to_vec(), time));
                    for column in block.columns() {
                        let Some(value) = column.get(row) else { continue };
                        let value = format!("{value:?}");
                        bytes += value.len() + series.key().len();
                        cells.push((series.key().to_vec(), time, column.field.to_vec(), value));
                    }
                }
            }
            if bytes > CELLS_MAX {
                return None;
            }
            reader.recycle(block);
        }
    }
    cells.sort();
    Some(cells)
}

fuzz_target!(|bytes: &[u8]| {
    let files = Files::of(bytes);
    let Some(held) = files.shard(64 << 20) else {
        // What is damaged is damaged however much memory there is.
        assert!(files.shard(LITTLE).is_none());
        return;
    };
    let Some(whole) = cells(held, &[Window::ALL]) else { return };
    for two in whole.windows(2) {
        assert!((&two[0].0, two[0].1, &two[0].2) != (&two[1].0, two[1].1, &two[1].2), "twice");
    }
    if !files.segments.is_empty() {
        let spilled = files.shard(LITTLE).expect("what is taken is taken");
        assert_eq!(cells(spilled, &[Window::ALL]).as_ref(), Some(&whole));
    }
    if let Some((_, middle, ..)) = whole.get(whole.len() / 2) {
        let halves = [
            Window { start: Window::ALL.start, end: *middle },
            Window { start: *middle, end: Window::ALL.end },
        ];
        let cut = files.shard(64 << 20).and_then(|shard| cells(shard, &halves));
        // In a half, a block may be read that the whole does not need, or the other way round.
        if let Some(cut) = cut {
            assert_eq!(cut, whole);
        }
    }
});
