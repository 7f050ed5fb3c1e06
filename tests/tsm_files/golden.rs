//! The files in `testdata/tsm`, against what `influx_inspect` 1.8.10 exported of them.

use crate::files::{self, Cells, Seen, cells, has_extension, list};
use crate::line_tools::outcome::Bytes;
use gapless::compress;
use gapless::line::decode::{Decoder, Item, Options};
use gapless::meta::backup::{Manifest, framed, packet};
use gapless::meta::{self, Meta, Privilege};
use gapless::tsm::index::Tsm;
use gapless::tsm::tombstone::Tombstones;
use gapless::tsm::wal::Segment;
use gapless::window::{DAY, HOUR, TIME_MAX, TIME_MIN};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tsm").join(name)
}

/// The cells of an export, the later line counting.
fn exported() -> Cells {
    let path = golden("export.lp.gz");
    let file = File::open(&path).unwrap();
    let text = compress::decompress(&path, Box::new(file), 16 << 20).unwrap();
    let mut decoder = Decoder::new(Options::default());
    decoder.feed(&text);
    decoder.finish();
    let mut cells = Cells::new();
    while let Some(item) = decoder.next_item().unwrap() {
        match item {
            Item::Row(row) => {
                for (field, value) in row.fields() {
                    let key = [row.key, b"#!~#", field].concat();
                    cells.insert((Bytes(key), row.time), value.into());
                }
            }
            Item::Comment(_) => {}
            Item::Bad(bad) => panic!("line {}: {}", bad.line, bad.reason),
        }
    }
    cells
}

#[test]
fn the_files_hold_what_another_program_exported_of_them() {
    // An export reads one file after the other, and overlooks what the log deletes.
    let mut found = Cells::new();
    let mut seen = Seen::default();
    for shard in list(&golden("data/golden/long")) {
        for file in list(&shard).iter().filter(|path| has_extension(path, "tsm")) {
            found.extend(files::tsm(file, &mut seen));
        }
    }
    found.extend(files::wal(&golden("wal/golden/long/1"), false, &mut seen));
    let expected = exported();
    assert!(seen.tsm_files == 5 && seen.tombstones > 5 && seen.wal_cells > 5, "{seen:?}");
    assert!(expected.len() > 7000, "{}", expected.len());
    for (cell, value) in &expected {
        assert_eq!(found.get(cell), Some(value), "{cell:?}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn deletions_of_the_log_take_away_what_is_before_them() {
    let mut seen = Seen::default();
    let all = cells(&golden(""), "golden", &mut seen);
    assert!(seen.wal_deletes > 0);
    let of_gone: Vec<String> = all
        .iter()
        .filter(|((key, _), _)| key.0.starts_with(b"gone"))
        .map(|((key, time), value)| format!("{key:?} {value:?} {time}"))
        .collect();
    assert_eq!(
        of_gone,
        ["`gone#!~#f` 3.0 1700000000000000001", "`gone#!~#s` \"later\" 1700000000000000002"]
    );
}

#[test]
fn a_file_that_is_cut_anywhere_is_damage_and_never_less_data() {
    let tsm = fs::read(golden("data/golden/long/1/000000002-000000001.tsm")).unwrap();
    for cut in 0..tsm.len() {
        assert!(Tsm::open(&tsm[..cut]).is_err(), "{cut}");
    }
    let tombstones = fs::read(golden("data/golden/long/1/000000002-000000001.tombstone")).unwrap();
    let whole = Tombstones::collect(&tombstones).unwrap().len();
    for cut in 5..tombstones.len() {
        // Between two members a cut cannot be told, as that is how the file grows.
        let read = Tombstones::collect(&tombstones[..cut]);
        assert!(read.is_err() || tombstones[cut..].starts_with(&[0x1f, 0x8b]), "{cut} of {whole}");
    }
    let meta = fs::read(golden("backup/meta.00")).unwrap();
    for cut in 0..meta.len() {
        assert!(framed(&meta[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn a_log_that_is_damaged_anywhere_is_never_a_panic() {
    let [segment] = &list(&golden("wal/golden/long/1"))[..] else { panic!("one segment") };
    let bytes = fs::read(segment).unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let mut segment = Segment::new(&bytes);
            while let Ok(Some(_)) = segment.next_item() {}
            while segment.resync().is_some() {
                assert!(segment.next_item().is_ok());
                while let Ok(Some(_)) = segment.next_item() {}
            }
        }
    }
}

fn check_meta(meta: &Meta) {
    let names: Vec<&str> = meta.databases.iter().map(|database| &*database.name).collect();
    assert_eq!(names, ["golden", "other"]);
    let [golden, other] = &meta.databases[..] else { panic!() };
    assert_eq!(golden.default_rp, "long");
    let [long] = &golden.rps[..] else { panic!("{golden:?}") };
    assert_eq!((long.duration, long.shard_duration, long.replication), (0, 3640 * DAY, 1));
    assert_eq!(long.subscriptions[0].mode, "ALL");
    assert_eq!(long.subscriptions[0].destinations, ["udp://127.0.0.1:9"]);
    let query = &golden.continuous_queries[0];
    assert!(query.name == "mean" && query.query.starts_with("CREATE CONTINUOUS QUERY mean"));
    let rps: Vec<_> =
        other.rps.iter().map(|rp| (&*rp.name, rp.duration, rp.shard_duration)).collect();
    assert_eq!(rps, [("month \"x\"", 30 * DAY, DAY), ("week", 7 * DAY, 12 * HOUR)]);
    let users: Vec<_> = meta.users.iter().map(|user| (&*user.name, user.admin)).collect();
    assert_eq!(users, [("ann", true), ("bob", false)]);
    let of_bob = &mut meta.users[1].privileges.clone();
    of_bob.sort_by(|one, two| one.0.cmp(&two.0));
    let expected = [("golden", Privilege::Read), ("other", Privilege::All)];
    assert_eq!(*of_bob, expected.map(|(name, privilege)| (name.to_owned(), privilege)));
}

#[test]
fn the_meta_store_is_read_alone_and_from_both_kinds_of_backup() {
    let stored = fs::read(golden("meta/meta.db")).unwrap();
    let meta = meta::decode(&stored).unwrap();
    check_meta(&meta);
    let mut groups: Vec<_> = meta.databases[0].rps[0].groups.iter().collect();
    groups.sort_by_key(|group| group.window());
    assert!(groups.iter().all(|group| group.shards.len() == 1 && group.deleted_at.is_none()));
    let windows: Vec<_> = groups.iter().map(|group| group.window()).collect();
    assert_eq!(windows.len(), 4);
    assert!(windows.iter().all(|window| !window.is_empty()), "{windows:?}");
    assert!(windows.windows(2).all(|two| two[0].end <= two[1].start), "{windows:?}");
    assert_eq!((windows[0].start, windows[3].end), (TIME_MIN, TIME_MAX + 1));

    let legacy = fs::read(golden("backup/meta.00")).unwrap();
    let legacy = framed(&legacy).unwrap();
    assert_eq!(legacy.node, b"null\n");
    check_meta(&meta::decode(legacy.meta).unwrap());

    let portable = packet(&fs::read(golden("backup/portable.meta")).unwrap()).unwrap();
    check_meta(&meta::decode(&portable).unwrap());
    let manifest = Manifest::read(&fs::read(golden("backup/portable.manifest")).unwrap()).unwrap();
    assert_eq!(manifest.meta.size, portable.len() as u64);
    assert_eq!(manifest.files.len(), 4);
    assert!(manifest.files.iter().all(|file| file.database == "golden" && file.policy == "long"));
}
