//! A digest file holds what was put into it, and no byte of it can change unnoticed.

use super::*;
use crate::block::log::RowLog;
use crate::digest::leaf::Leaf;
use crate::digest::set::{Builder, HashRange};
use crate::error::Result;
use crate::line::key;
use crate::spill::Place;
use crate::value::Value;
use std::fs;
use std::sync::Arc;

const WINDOW: Window = Window { start: 0, end: 5 * HOUR };

fn place() -> Place {
    Place::new(Some(std::env::temp_dir()))
}

/// Writes a file of some series with a cell in each of three hours; returns the sum of all.
fn write(path: &Path, series: u32, memory: usize) -> Node {
    let mut log = RowLog::default();
    for number in 0..series {
        let key = format!("m{},host={number}", number % 3);
        let series = log.add_series(Arc::new(key::parse(key.as_bytes())));
        for hour in 0..3 {
            log.begin_row(series, hour * HOUR + i64::from(number));
            log.push(b"f", Value::Integer(hour));
        }
    }
    let mut set = Builder::new(memory, place());
    let mut dictionary = Dictionary::new(memory, place());
    for block in log.resolve().blocks(Window::ALL) {
        set.add_block(&block, |_| true).unwrap();
        dictionary.add_block(&block, |_| true).unwrap();
    }
    let set = set.finish().unwrap();
    let mut writer = Writer::create(path).unwrap();
    let held = Held {
        namespace: Namespace { database: "d".into(), retention_policy: "r".into() },
        settings: None,
    };
    let mut entry = NamespaceEntry::new(&held, WINDOW);
    entry.units.extend(writer.unit(WINDOW, &set, memory).unwrap());
    let origin = Origin { source: "here".into(), made: 7, gapless: "0".into() };
    let (origins, namespaces) = (vec![origin], vec![entry]);
    writer.finish(Contents { origins, namespaces, ..Contents::default() }, dictionary).unwrap();
    set.total()
}

fn open(path: &Path) -> Result<DigestFile> {
    DigestFile::open(path, |file| Box::new(file))
}

fn temporary() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    (dir, path)
}

#[test]
fn what_was_written_is_read_whatever_the_memory() {
    // More leaves than one frame holds.
    let mut known = None;
    for memory in [usize::MAX >> 1, 100_000] {
        let (_dir, path) = temporary();
        let total = write(&path, 9_000, memory);
        assert!(is_digest_file(&path).unwrap());
        let file = open(&path).unwrap();
        let namespace = file.contents().namespaces[0].namespace();
        let unit = &file.contents().namespaces[0].units[0];
        assert_eq!((unit.digest, unit.leaves, file.contents().series), (total, 27_000, 9_000));
        assert!(unit.frames > 1, "{}", unit.frames);
        let mut leaves = Vec::new();
        let mut each = |leaf: &Leaf, name: Option<&Arc<[u8]>>| {
            leaves.push((leaf.place(), leaf.node, name.unwrap().to_vec()));
            Ok(())
        };
        file.leaves(&namespace, Window::ALL, &mut each).unwrap();
        assert!(leaves.is_sorted_by_key(|(place, ..)| *place));
        assert_eq!(*known.get_or_insert_with(|| leaves.clone()), leaves);
        // One hour alone; and the names of some series, and of one that is not there.
        let hour = Window { start: HOUR, end: 2 * HOUR };
        let set = file.set(&namespace, hour, memory, &place()).unwrap();
        assert_eq!(set.leaves(HashRange::ALL).unwrap().len(), 9_000);
        let mut wanted: Vec<_> = leaves.iter().step_by(97).map(|(place, ..)| place.0).collect();
        wanted.push(crate::digest::cell::SeriesHash(12));
        wanted.sort_unstable();
        wanted.dedup();
        let keys = file.keys(&wanted).unwrap();
        assert_eq!(keys.len(), wanted.len() - 1);
        for (hash, key) in keys {
            let series = key::parse(&key);
            assert_eq!(crate::digest::cell::SeriesHasher::new(&series).series(), hash);
        }
    }
}

#[test]
fn no_byte_can_be_flipped_cut_off_or_added_unnoticed() {
    let (_dir, path) = temporary();
    write(&path, 4, usize::MAX >> 1);
    let whole = fs::read(&path).unwrap();
    open(&path).unwrap();
    for at in 0..whole.len() {
        for bits in [1, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= bits;
            fs::write(&path, &bytes).unwrap();
            let error = open(&path).unwrap_err();
            assert!(error.next_step().is_some(), "{error}");
            let text = error.to_string();
            assert!(text.contains("byte ") && text.contains(path.to_str().unwrap()), "{text}");
        }
        fs::write(&path, &whole[..at]).unwrap();
        assert!(open(&path).is_err(), "cut at {at}");
    }
    let mut longer = whole;
    longer.push(0);
    fs::write(&path, longer).unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("behind the end"));
}

/// The same with everything sealed anew: what a writer that is wrong, or means harm, could make.
#[test]
fn contents_that_contradict_themselves_are_errors() {
    let (_dir, path) = temporary();
    write(&path, 4, usize::MAX >> 1);
    let whole = fs::read(&path).unwrap();
    let good = open(&path).unwrap().contents().clone();
    let json = serde_json::to_string(&good).unwrap();
    let foot = whole.len() - 40;
    let place = u64::from_le_bytes(whole[foot..foot + 8].try_into().unwrap());
    let sealed = |json: &str| {
        let mut bytes = whole[..usize::try_from(place).unwrap()].to_vec();
        bytes.extend(frame::seal(frame::Kind::Contents, json.as_bytes()).unwrap());
        bytes.extend(place.to_le_bytes());
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend(checksum);
        fs::write(&path, bytes).unwrap();
    };
    let everything = |path: &Path| -> Result<()> {
        let file = open(path)?;
        let namespace = file.contents().namespaces[0].namespace();
        file.leaves(&namespace, Window::ALL, &mut |_, _| Ok(()))?;
        file.dictionary(&mut |_, _| Ok(()))?;
        file.keys(&[crate::digest::cell::SeriesHash(1 << 127)])?;
        Ok(())
    };
    sealed(&json);
    everything(&path).unwrap();
    for (what, instead) in [
        ("\"leaves\":12", "\"leaves\":13"),
        ("\"frames\":1", "\"frames\":2"),
        ("\"frames\":1", "\"frames\":18446744073709551615"),
        ("\"offset\":24", "\"offset\":25"),
        ("\"offset\":24", "\"offset\":18446744073709551615"),
        ("\"cells\":12", "\"cells\":11"),
        ("\"start\":0,\"end\":18000000000000,\"digest\"", "\"start\":0,\"end\":1,\"digest\""),
        ("\"start\":0,\"end\":18000000000000,\"digest\"", "\"start\":-1,\"end\":9,\"digest\""),
        ("\"coverage\":[{\"start\":0", "\"coverage\":[{\"start\":18000000000000"),
        ("\"coverage\":[{\"start\":0", "\"coverage\":[{\"start\":9223372036854775807"),
        ("\"first\":\"", "\"first\":\"x"),
        ("\"origins\"", "\"more\":1,\"origins\""),
    ] {
        let other = json.replacen(what, instead, 1);
        assert_ne!(other, json, "{what}");
        sealed(&other);
        assert!(everything(&path).is_err(), "{instead}");
    }
}

#[test]
fn a_file_of_another_version_is_refused_with_what_to_do() {
    let (_dir, path) = temporary();
    write(&path, 1, usize::MAX >> 1);
    let whole = fs::read(&path).unwrap();
    for (at, words) in [(16, "format version 9"), (20, "can never be compared")] {
        let mut bytes = whole.clone();
        bytes[at] = 9;
        fs::write(&path, &bytes).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.next_step().unwrap().contains("version of gapless"), "{error:?}");
    }
}

/// The file was made by the last gapless that wrote version 1, of the rows that [`write`] makes.
#[test]
fn a_file_of_the_first_version_holds_what_one_of_this_version_does() {
    let (_dir, path) = temporary();
    write(&path, 4, usize::MAX >> 1);
    let first = include_bytes!("../../testdata/digest/version_1.digest");
    assert_eq!(u32::from_le_bytes(first[16..20].try_into().unwrap()), VERSION_FIRST);
    let before = path.with_extension("before");
    fs::write(&before, first).unwrap();
    let leaves = |path: &Path| {
        let mut leaves = Vec::new();
        let namespace = Namespace { database: "d".into(), retention_policy: "r".into() };
        let mut each = |leaf: &Leaf, name: Option<&Arc<[u8]>>| {
            leaves.push((*leaf, name.unwrap().to_vec()));
            Ok(())
        };
        open(path).unwrap().leaves(&namespace, Window::ALL, &mut each).unwrap();
        leaves
    };
    let sums = |path: &Path| leaves(path).into_iter().map(|(leaf, _)| leaf).collect::<Vec<_>>();
    assert_eq!(sums(&before), sums(&path));
    assert_eq!(sums(&path).len(), 12);
    let of = |name: &[u8]| leaves(&before).iter().filter(|(_, one)| one == name).count();
    assert_eq!([b"m0", b"m1", b"m2"].map(|name| of(name)), [6, 3, 3]);
}

#[test]
fn a_writer_that_does_not_finish_leaves_nothing_and_none_replaces_anything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    drop(Writer::create(&path).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(&path, "mine").unwrap();
    assert!(Writer::create(&path).unwrap_err().to_string().contains("exists"));
    assert!(!is_digest_file(&path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}
