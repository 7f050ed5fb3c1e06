//! Behaviours of `archive`.

use super::*;
use crate::plan::{FilterEntry, Held, RpSettings};
use crate::source::Source;
use crate::window::DAY;
use std::io::Read;

fn namespace() -> Namespace {
    Namespace { database: "nab".into(), retention_policy: "auto/gen".into() }
}

fn header() -> Header {
    let settings =
        RpSettings { duration: Some(0), shard_duration: Some(7 * DAY), ..RpSettings::default() };
    Header {
        window: Window { start: 0, end: 9 * DAY },
        source: "a test".into(),
        filter: FilterEntry::default(),
        created: 0,
        namespaces: vec![Held { namespace: namespace(), settings: Some(settings) }],
    }
}

fn unit(day: i64) -> Window {
    Window { start: day * DAY, end: (day + 1) * DAY }
}

/// Rows of one series on one day.
fn batch(day: i64, host: &str, rows: u64) -> Batch {
    let mut body = Vec::new();
    for row in 0..rows {
        let time = day * DAY + i64::try_from(row).unwrap();
        writeln!(body, "cpu,host={host} note=\"a\nb\",v={row}i {time}").unwrap();
    }
    Batch { namespace: namespace(), window: unit(day), body, rows, cells: 2 * rows }
}

struct Fixture {
    _dir: tempfile::TempDir,
    target: PathBuf,
    sink: ArchiveSink,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let sink = ArchiveSink::create(&target, header()).unwrap();
    Fixture { _dir: dir, target, sink }
}

fn plain(path: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    let file = File::open(path).unwrap();
    zstd::Decoder::new(file).unwrap().read_to_end(&mut content).unwrap();
    content
}

fn rows(source: &ArchiveSource, window: Window) -> Result<usize> {
    let partition = crate::plan::Partition::new(&namespace(), window, None);
    let mut reader = source.open(&partition)?;
    let mut rows = 0;
    while let Some(block) = reader.next_block()? {
        rows += block.rows();
    }
    Ok(rows)
}

#[test]
fn a_part_is_the_plain_lines_with_a_checksum_of_the_stored_bytes() {
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(3, "a", 2)).unwrap();
    sink.write(batch(3, "b", 3)).unwrap();
    sink.close_unit(&namespace(), unit(3)).unwrap();
    sink.complete().unwrap();
    let path = target.join("nab/auto%2Fgen/1970-01-04.0000.lp.zst");
    assert_eq!(plain(&path), [batch(3, "a", 2).body, batch(3, "b", 3).body].concat());
    let contents = Manifest::read(&target).unwrap().contents(&target).unwrap();
    let part = &contents[&namespace()].units[&unit(3)].parts[0];
    let stored = fs::read(&path).unwrap();
    assert_eq!(part.blake3, blake3::hash(&stored).to_hex().to_string());
    assert_eq!((part.rows, part.cells, part.bytes), (5, 10, stored.len() as u64));
    assert_eq!(part.first_series, "cpu,host=a");
    assert_eq!(part.last_series, "cpu,host=b");
    assert!(
        contents[&namespace()].settings.as_ref().is_some_and(|known| known.duration == Some(0))
    );
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_an_archive() {
    use std::os::unix::fs::PermissionsExt;
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(0, "a", 2)).unwrap();
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.complete().unwrap();
    let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode();
    for folder in ["", "nab", "nab/auto%2Fgen"] {
        assert_eq!(mode(folder) & 0o777, 0o700, "{folder}");
    }
    for file in [MANIFEST, "nab/auto%2Fgen/1970-01-01.0000.lp.zst"] {
        assert_eq!(mode(file) & 0o777, 0o600, "{file}");
    }
}

#[test]
fn what_exists_is_never_written_into() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let refusal = || {
        let error = ArchiveSink::create(&target, header()).unwrap_err();
        assert!(error.next_step().is_some());
        error.to_string()
    };
    fs::create_dir(&target).unwrap();
    assert!(refusal().contains("exists already"));
    fs::remove_dir(&target).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &target).unwrap();
        assert!(refusal().contains("exists already"));
        fs::remove_file(&target).unwrap();
    }
    let sink = ArchiveSink::create(&target, header()).unwrap();
    assert!(refusal().contains("unfinished archive"));
    fs::create_dir(&target).unwrap();
    assert!(sink.complete().unwrap_err().to_string().contains("exists already"));
    assert!(sink.partial().is_dir());
    for name in ["/", "..", "a/.."] {
        assert!(ArchiveSink::create(Path::new(name), header()).is_err(), "{name}");
    }
    let deep = dir.path().join("none/out");
    assert!(ArchiveSink::create(&deep, header()).unwrap_err().next_step().is_some());
}

#[test]
fn a_sink_dropped_before_completion_leaves_a_partial_that_is_no_archive() {
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(0, "a", 2)).unwrap();
    let partial = sink.partial().to_owned();
    drop(sink);
    assert!(partial.is_dir() && !target.exists());
    assert!(!archive::is_archive(&partial).unwrap());
    let error = ArchiveSource::open(&partial).unwrap_err();
    assert!(error.to_string().contains("no complete archive"), "{error}");
}

#[test]
fn units_are_written_in_parallel_and_read_back_before_and_after_completion() {
    let Fixture { _dir, target, sink } = fixture();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let sink = &sink;
            scope.spawn(move || {
                for day in (worker..40).step_by(4) {
                    for host in ["a", "b", "c"] {
                        sink.write(batch(day, host, 100)).unwrap();
                    }
                    sink.close_unit(&namespace(), unit(day)).unwrap();
                    assert_eq!(rows(&sink.reader(), unit(day)).unwrap(), 300);
                }
            });
        }
    });
    let reader = sink.reader();
    let digest = Node { cells: 600, keys: [1, 2], values: [3, u64::MAX] };
    sink.record_digest(&namespace(), unit(7), digest).unwrap();
    assert!(sink.record_digest(&namespace(), unit(77), digest).is_err());
    sink.record_field(&namespace(), b"cpu", b"v", FieldType::Integer);
    sink.complete().unwrap();
    let opened = ArchiveSource::open(&target).unwrap();
    for source in [reader, opened] {
        assert_eq!(rows(&source, Window::ALL).unwrap(), 12_000);
        assert_eq!(source.units(&namespace(), unit(7))[0].digest, Some(digest));
    }
    let manifest = Manifest::read(&target).unwrap();
    assert_eq!(manifest.namespaces[0].schema[0].fields[0].field_type, "integer");
}

#[test]
fn a_large_unit_is_spread_over_parts() {
    let Fixture { _dir, target, mut sink } = fixture();
    sink.part_plain_bytes = 1000;
    for host in ["a", "b", "c", "d"] {
        sink.write(batch(0, host, 20)).unwrap();
    }
    sink.write(batch(1, "e", 1)).unwrap();
    sink.write(batch(1, "f", 1)).unwrap();
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.close_unit(&namespace(), unit(1)).unwrap();
    sink.complete().unwrap();
    let source = ArchiveSource::open(&target).unwrap();
    let parts = |day| source.units(&namespace(), unit(day)).remove(0).parts;
    let series: Vec<_> = parts(0).into_iter().map(|part| part.first_series).collect();
    assert_eq!(series, ["cpu,host=a", "cpu,host=b", "cpu,host=c", "cpu,host=d"]);
    assert_eq!(parts(0)[3].file, "nab/auto%2Fgen/1970-01-01.0003.lp.zst");
    assert_eq!(parts(1).len(), 1);
    assert_eq!(rows(&source, Window::ALL).unwrap(), 82);
}

#[test]
fn a_closed_unit_is_written_again_only_when_discarded() {
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(0, "a", 2)).unwrap();
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.close_unit(&namespace(), unit(0)).unwrap();
    let error = sink.write(batch(0, "b", 2)).unwrap_err();
    assert!(error.to_string().contains("discarded"), "{error}");
    sink.discard_unit(&namespace(), unit(0)).unwrap();
    sink.write(batch(0, "b", 3)).unwrap();
    sink.discard_unit(&namespace(), unit(0)).unwrap();
    sink.write(batch(0, "c", 4)).unwrap();
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.discard_unit(&namespace(), unit(5)).unwrap();
    sink.complete().unwrap();
    assert!(sink.discard_unit(&namespace(), unit(0)).is_err());
    let source = ArchiveSource::open(&target).unwrap();
    assert_eq!(rows(&source, Window::ALL).unwrap(), 4);
    let folder = target.join("nab/auto%2Fgen");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn units_that_overlap_are_refused_open_or_closed() {
    let Fixture { _dir, target: _, sink } = fixture();
    sink.write(batch(0, "a", 2)).unwrap();
    let overlapping = Window { start: 5, end: 2 * DAY };
    let write = |window| sink.write(Batch { window, ..batch(0, "a", 1) });
    let text = write(overlapping).unwrap_err().to_string();
    assert!(text.contains("overlaps"), "{text}");
    sink.close_unit(&namespace(), unit(0)).unwrap();
    assert!(write(overlapping).is_err());
    assert!(sink.close_unit(&namespace(), overlapping).is_err());
    assert!(write(Window { start: 3 * DAY, end: 3 * DAY }).is_err());
}

#[test]
fn an_archive_is_not_completed_around_an_open_unit() {
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(0, "a", 2)).unwrap();
    assert!(sink.complete().unwrap_err().to_string().contains("still open"));
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.complete().unwrap();
    assert!(target.is_dir() && !sink.partial().exists());
    for result in [
        sink.write(batch(1, "a", 1)).map(|_| ()),
        sink.close_unit(&namespace(), unit(1)),
        sink.complete(),
    ] {
        assert!(result.unwrap_err().to_string().contains("is complete"));
    }
}

#[test]
fn a_unit_whose_write_failed_stays_failed_until_it_is_discarded() {
    let Fixture { _dir, target, sink } = fixture();
    sink.write(batch(1, "a", 1)).unwrap();
    let planted = sink.partial().join("nab/auto%2Fgen/1970-01-01.0000.lp.zst");
    fs::write(&planted, b"not ours").unwrap();
    let error = sink.write(batch(0, "a", 2)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { action: "create", .. }), "{error}");
    assert!(sink.write(batch(0, "a", 2)).unwrap_err().to_string().contains("failed"));
    assert!(sink.close_unit(&namespace(), unit(0)).is_err());
    sink.discard_unit(&namespace(), unit(0)).unwrap();
    sink.write(batch(0, "a", 2)).unwrap();
    for day in [0, 1] {
        sink.close_unit(&namespace(), unit(day)).unwrap();
    }
    sink.complete().unwrap();
    assert_eq!(rows(&ArchiveSource::open(&target).unwrap(), Window::ALL).unwrap(), 3);
}

#[test]
fn a_batch_that_ends_inside_a_line_is_refused() {
    let Fixture { _dir, target: _, sink } = fixture();
    let mut cut = batch(0, "a", 2);
    cut.body.pop();
    assert!(sink.write(cut).unwrap_err().to_string().contains("line feed"));
    let empty = Batch { body: Vec::new(), rows: 0, cells: 0, ..batch(0, "a", 0) };
    sink.write(empty).unwrap();
    sink.complete().unwrap();
}

#[test]
fn an_empty_unit_is_on_record() {
    let Fixture { _dir, target, sink } = fixture();
    sink.close_unit(&namespace(), unit(4)).unwrap();
    sink.complete().unwrap();
    let source = ArchiveSource::open(&target).unwrap();
    assert_eq!(source.units(&namespace(), Window::ALL).len(), 1);
    assert_eq!(rows(&source, Window::ALL).unwrap(), 0);
}

#[test]
fn an_archive_without_rows_can_be_abandoned() {
    let Fixture { _dir, target, sink } = fixture();
    sink.abandon().unwrap();
    assert!(!sink.partial().exists());
    assert!(sink.write(batch(0, "a", 1)).unwrap_err().to_string().contains("abandoned"));
    assert!(sink.complete().is_err());
    let sink = ArchiveSink::create(&target, header()).unwrap();
    sink.write(batch(0, "a", 1)).unwrap();
    sink.discard_unit(&namespace(), unit(0)).unwrap();
    sink.close_unit(&namespace(), unit(1)).unwrap();
    sink.abandon().unwrap();
    sink.abandon().unwrap();
    assert!(!sink.partial().exists() && !target.exists());
}

#[test]
fn what_is_stored_or_belongs_to_another_is_never_abandoned() {
    let Fixture { _dir, target, sink } = fixture();
    let file = sink.partial().join("nab/auto%2Fgen/1970-01-01.0000.lp.zst");
    sink.write(batch(0, "a", 1)).unwrap();
    sink.abandon().unwrap();
    assert!(file.exists(), "a unit is open");
    sink.close_unit(&namespace(), unit(0)).unwrap();
    sink.abandon().unwrap();
    assert!(file.exists(), "a unit is closed");
    sink.discard_unit(&namespace(), unit(0)).unwrap();
    let other = sink.partial().join("mine");
    fs::write(&other, "mine").unwrap();
    assert!(sink.abandon().is_err());
    assert_eq!(fs::read(&other).unwrap(), b"mine");

    fs::remove_file(other).unwrap();
    fs::remove_dir_all(sink.partial()).unwrap();
    let sink = ArchiveSink::create(&target, header()).unwrap();
    sink.complete().unwrap();
    sink.abandon().unwrap();
    assert!(target.join(MANIFEST).exists(), "a complete archive stays");
}

#[test]
fn advice_quotes_what_a_shell_would_read() {
    let word = |path: &str| shell_word(Path::new(path));
    assert_eq!(word("a/b_C-1.partial"), "a/b_C-1.partial");
    assert_eq!(word("a b"), "'a b'");
    assert_eq!(word("it's; rm $x"), r"'it'\''s; rm $x'");
    assert_eq!(word("-rf"), "./-rf");
    assert_eq!(word("- x"), "'./- x'");
    let error = partial_exists(Path::new("my archive.partial"));
    assert!(error.next_step().unwrap().ends_with("rm -r 'my archive.partial'"), "{error:?}");
}
