//! Behaviours of `archive`.

use super::*;
use crate::archive::{Header, MANIFEST};
use crate::plan::{Filter, FilterEntry};
use crate::sink::archive::ArchiveSink;
use crate::sink::{Batch, Sink};
use crate::window::DAY;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::fs;

const UNIT: Window = Window { start: 0, end: DAY };

fn namespace() -> Namespace {
    Namespace { database: "d".into(), retention_policy: String::new() }
}

/// An archive of one unit with the lines of `batches`, each with its rows and cells.
fn archive_of(batches: &[(&str, u64, u64)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let header = Header {
        window: UNIT,
        source: "a test".into(),
        filter: FilterEntry::default(),
        created: 0,
        namespaces: Vec::new(),
    };
    let sink = ArchiveSink::create(&target, header).unwrap();
    for &(body, rows, cells) in batches {
        let body = body.as_bytes().to_vec();
        sink.write(Batch { namespace: namespace(), window: UNIT, body, rows, cells }).unwrap();
    }
    sink.close_unit(&namespace(), UNIT).unwrap();
    sink.complete().unwrap();
    (dir, target)
}

fn partition(window: Window) -> Partition {
    Partition::new(&namespace(), window, None)
}

fn blocks(target: &Path, partition: &Partition) -> Result<Vec<Block>> {
    let source = ArchiveSource::open(target)?;
    let mut reader = source.open(partition)?;
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        blocks.push(block);
    }
    Ok(blocks)
}

/// Every cell of the blocks as text, in order.
fn cells(blocks: &[Block]) -> Vec<String> {
    let mut cells = Vec::new();
    for block in blocks {
        for (series, rows) in block.runs() {
            for row in rows {
                for column in block.columns() {
                    if let Some(value) = column.get(row) {
                        let field = String::from_utf8_lossy(&column.field);
                        let time = block.times()[row];
                        cells.push(format!("{series} {field}={value:?} {time}"));
                    }
                }
            }
        }
    }
    cells
}

fn all_cells(target: &Path) -> Result<Vec<String>> {
    blocks(target, &partition(Window::ALL)).map(|blocks| cells(&blocks))
}

const LINES: &str = "cpu,host=a note=\"x\ny\",v=1.5 10\ncpu,host=a v=2 20\n\
                     cpu,host=b v=-0 10\nmem free=7i 5\nmem free=8i,used=t 86399999999999\n";

fn part(target: &Path) -> PathBuf {
    target.join("d/_/1970-01-01.0000.lp.zst")
}

/// The error of reading an archive, which must be damage and say what to do.
fn damage(target: &Path) -> String {
    let error = all_cells(target).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
    assert!(error.next_step().is_some());
    error.to_string()
}

#[test]
fn what_was_written_is_read_one_measurement_a_block() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let blocks = blocks(&target, &partition(UNIT)).unwrap();
    assert_eq!(blocks.len(), 2);
    assert_eq!(
        cells(&blocks),
        [
            "cpu,host=a note=String([120, 10, 121]) 10",
            "cpu,host=a v=Float(1.5) 10",
            "cpu,host=a v=Float(2.0) 20",
            "cpu,host=b v=Float(-0.0) 10",
            "mem free=Integer(7) 5",
            "mem free=Integer(8) 86399999999999",
            "mem used=Boolean(true) 86399999999999",
        ]
    );
}

#[test]
fn measurements_that_come_back_and_keys_that_are_aliased_lose_nothing() {
    let lines = "m\\=x v=1 1\nm=x v=2 1\na v=1 1\nm=x v=3 2\na v=2 2\n";
    let (_dir, target) = archive_of(&[(lines, 5, 5)]);
    assert_eq!(all_cells(&target).unwrap().len(), 5);
}

#[test]
fn partitions_are_the_units_cut_to_the_scope() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let source = ArchiveSource::open(&target).unwrap();
    let plan = |start, end| {
        let window = Window { start, end };
        let scope = Scope { namespace: namespace(), window, filter: Filter::default() };
        source.plan(&scope).unwrap()
    };
    assert_eq!(plan(-DAY, 9 * DAY), [partition(UNIT)]);
    assert_eq!(plan(7, 11), [partition(Window { start: 7, end: 11 })]);
    assert_eq!(plan(DAY, 2 * DAY), []);
    assert_eq!(source.namespaces().unwrap()[0].namespace, namespace());
    let namespace = Namespace::default();
    let scope = Scope { namespace, window: UNIT, filter: Filter::default() };
    let error = source.plan(&scope).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
}

#[test]
fn a_narrower_partition_leaves_the_rest_out() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let read = blocks(&target, &partition(Window { start: 5, end: 20 })).unwrap();
    assert_eq!(cells(&read).len(), 4);
    let measurement = Some(b"mem".to_vec());
    let only = Partition { measurement, ..partition(UNIT) };
    assert_eq!(cells(&blocks(&target, &only).unwrap()).len(), 3);
}

#[test]
fn a_part_of_many_rows_is_many_blocks() {
    let mut lines = String::new();
    for row in 0..150_000 {
        writeln!(lines, "cpu,host={} v={row}i {row}", row / 1000).unwrap();
    }
    let (first, second) = lines.split_at(lines.len() / 3);
    let cut = first.rfind('\n').unwrap() + 1;
    let rows = |text: &str| text.lines().count() as u64;
    let second = format!("{}{second}", &first[cut..]);
    let first = &first[..cut];
    let counted = [(first, rows(first), rows(first)), (&second, rows(&second), rows(&second))];
    let (_dir, target) = archive_of(&counted);
    let blocks = blocks(&target, &partition(UNIT)).unwrap();
    assert!(blocks.len() > 2 && blocks.iter().all(|block| block.rows() <= ROWS_MAX));
    let mut times: Vec<_> = blocks.iter().flat_map(|block| block.times()).copied().collect();
    times.sort_unstable();
    assert_eq!(times, (0..150_000).collect::<Vec<_>>());
}

#[test]
fn a_part_cut_extended_or_missing_is_damage() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let stored = fs::read(part(&target)).unwrap();
    for length in 0..stored.len() {
        fs::write(part(&target), &stored[..length]).unwrap();
        assert!(damage(&target).contains("when it was written"), "{length}");
    }
    fs::write(part(&target), [&stored[..], b"\n"].concat()).unwrap();
    assert!(damage(&target).contains("1970-01-01.0000.lp.zst"));
    fs::remove_file(part(&target)).unwrap();
    assert!(damage(&target).contains("is missing"));
}

#[test]
fn a_flipped_bit_of_a_part_is_damage() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let stored = fs::read(part(&target)).unwrap();
    for at in 0..stored.len() * 8 {
        let mut flipped = stored.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        fs::write(part(&target), &flipped).unwrap();
        damage(&target);
    }
}

#[test]
fn another_content_of_the_same_size_is_damage() {
    let (_dir, target) = archive_of(&[("m v=1i 10\n", 1, 1)]);
    let (_other, other) = archive_of(&[("m v=2i 10\n", 1, 1)]);
    fs::copy(part(&other), part(&target)).unwrap();
    assert!(damage(&target).contains("checksum"));
}

#[test]
fn files_that_the_manifest_does_not_name_are_ignored() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    fs::write(target.join("d/_/1970-01-01.0001.lp.zst"), b"junk").unwrap();
    fs::write(target.join("notes.txt"), b"junk").unwrap();
    assert_eq!(all_cells(&target).unwrap().len(), 7);
}

#[test]
fn counts_that_are_not_the_manifests_are_damage() {
    for (rows, cells, what) in [(4, 7, "5 rows"), (6, 7, "5 rows"), (5, 8, "7 cells")] {
        let (_dir, target) = archive_of(&[(LINES, rows, cells)]);
        let text = damage(&target);
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn anything_but_rows_of_the_unit_is_damage() {
    for (line, cells, reason) in [
        ("m v=\n", 2, "line 2"),
        ("m v=1\n", 2, "line 2"),
        ("# m v=1 5\n", 2, "comment"),
        ("m v=1 -1\n", 2, "does not belong"),
        ("m v=1 86400000000000\n", 2, "does not belong"),
        ("m time=1i,v=2 7\n", 2, "does not belong"),
        ("m v=3 10\n", 2, "stands twice"),
        ("m v=3,v=4 11\n", 3, "stands twice"),
    ] {
        let lines = format!("m v=1 10\n{line}");
        let (_dir, target) = archive_of(&[(&lines, 2, cells)]);
        let text = damage(&target);
        assert!(text.contains(reason), "{line}: {text}");
    }
}

#[test]
fn a_damaged_manifest_is_not_opened() {
    let (_dir, target) = archive_of(&[(LINES, 5, 7)]);
    let path = target.join(MANIFEST);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"rows\": 5", "\"rows\": 6")).unwrap();
    let error = ArchiveSource::open(&target).unwrap_err();
    assert!(error.to_string().contains("its own checksum"), "{error}");
}

#[test]
fn what_an_archive_holds_is_named_where_something_else_is_asked_for() {
    let wanted = Namespace { database: "wanted".into(), retention_policy: String::new() };
    let next = |contents: &Contents| {
        let error = not_found(contents, &wanted, Path::new("a"));
        error.next_step().unwrap().to_owned()
    };
    assert!(next(&Contents::new()).contains("holds nothing at all"));
    let held = Namespace { database: "d".into(), retention_policy: "r".into() };
    assert_eq!(next(&Contents::from([(held, Default::default())])), "it holds: d.r");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_rows_are_read_as_they_were_written(
        rows in proptest::collection::btree_map(
            ("[a-c]", "[x-z]{1,2}", 0..50_i64), proptest::collection::btree_map("[f-h]", any::<i64>(), 1..4), 1..60,
        ),
        size in 1..20_usize,
    ) {
        let mut expected = Vec::new();
        let mut bodies = Vec::new();
        for chunk in rows.iter().collect::<Vec<_>>().chunks(size) {
            let (mut body, mut count) = (String::new(), 0);
            for ((measurement, tag, time), fields) in chunk {
                let list: Vec<_> = fields.iter().map(|(f, v)| format!("{f}={v}i")).collect();
                writeln!(body, "{measurement},t={tag} {} {time}", list.join(",")).unwrap();
                for (field, value) in *fields {
                    expected.push(format!("{measurement},t={tag} {field}=Integer({value}) {time}"));
                    count += 1;
                }
            }
            bodies.push((body, chunk.len() as u64, count));
        }
        let batches: Vec<_> = bodies.iter().map(|(b, r, c)| (b.as_str(), *r, *c)).collect();
        let (_dir, target) = archive_of(&batches);
        let mut read = all_cells(&target).unwrap();
        read.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(read, expected);
    }
}
