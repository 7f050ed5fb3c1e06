//! What the files of a database hold, by the rule of which value counts, in maps of everything.

use crate::line_tools::outcome::{Bytes, Stored};
use gapless::tsm::index::Tsm;
use gapless::tsm::tombstone::Tombstones;
use gapless::tsm::wal::{Item, Segment};
use gapless::tsm::{Points, Span};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Cells by key (of series and field) and time.
pub(crate) type Cells = BTreeMap<(Bytes, i64), Stored>;

/// What was seen on the way.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) tsm_files: usize,
    pub(crate) tombstones: usize,
    pub(crate) wal_cells: usize,
    pub(crate) wal_deletes: usize,
}

/// Every cell of a database below a server's directory, of all its shards.
pub(crate) fn cells(dir: &Path, database: &str, seen: &mut Seen) -> Cells {
    let mut all = Cells::new();
    for policy in list(&dir.join("data").join(database)) {
        for shard in list(&policy).iter().filter(|path| !path.ends_with("_series")) {
            let mut of_shard = Cells::new();
            for file in list(shard).iter().filter(|path| has_extension(path, "tsm")) {
                of_shard.extend(tsm(file, seen));
            }
            let inside = shard.strip_prefix(dir.join("data")).unwrap();
            of_shard.extend(wal(&dir.join("wal").join(inside), true, seen));
            all.extend(of_shard);
        }
    }
    all
}

/// The paths in a directory, in order of their names.
pub(crate) fn list(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

pub(crate) fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// The cells of one file that its tombstones leave.
pub(crate) fn tsm(path: &Path, seen: &mut Seen) -> Cells {
    let tsm = Tsm::open(fs::read(path).unwrap()).unwrap();
    assert_eq!(tsm.unnamed_bytes(), 0);
    let tombstone = path.with_extension("tombstone");
    let hidden = match fs::read(&tombstone) {
        Ok(bytes) => Tombstones::collect(&bytes).unwrap(),
        Err(_) => Tombstones::default(),
    };
    seen.tsm_files += 1;
    seen.tombstones += hidden.len();
    let mut cells = Cells::new();
    let mut points = Points::default();
    let mut blocks = 0;
    for key in tsm.keys() {
        let key = key.unwrap();
        points.reset(key.field_type);
        for entry in key.entries() {
            tsm.append(entry, &mut points).unwrap();
            blocks += 1;
        }
        let spans: Vec<Span> = hidden.of(key.key).collect();
        for (time, value) in points.iter() {
            if !spans.iter().any(|span| span.contains(time)) {
                cells.insert((key.key.into(), time), value.into());
            }
        }
    }
    assert_eq!(blocks, tsm.block_count());
    cells
}

/// The cells of a log, with or without regard to what it deletes.
pub(crate) fn wal(dir: &Path, deleting: bool, seen: &mut Seen) -> Cells {
    let mut cells = Cells::new();
    for segment in list(dir) {
        let bytes = fs::read(&segment).unwrap();
        let mut segment = Segment::new(&bytes);
        while let Some(item) = segment.next_item().unwrap() {
            match item {
                Item::Write(writes) => {
                    for written in writes {
                        for (time, value) in written.points() {
                            seen.wal_cells += 1;
                            cells.insert((written.key.into(), time), value.into());
                        }
                    }
                }
                Item::Delete(deletes) if deleting => {
                    for key in deletes.keys() {
                        seen.wal_deletes += 1;
                        let gone =
                            |(of, time): &(Bytes, i64)| of.0 == key && deletes.span.contains(*time);
                        cells.retain(|cell, _| !gone(cell));
                    }
                }
                Item::Delete(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    cells
}
