//! A server's own files as sources: its data directory, its backups in both forms, its snapshot port.
//! Whatever is compared with whatever, they hold the same.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const T: i64 = 1_600_000_000_000_000_000;
const DAY: i64 = 86_400_000_000_000;

/// Writes of every type, over several shard groups, rewritten and deleted, in two databases and three
/// retention policies. `settle` makes the server write its cache into files.
fn fill(server: &Influxd, settle: bool) {
    server.create_database("one");
    server.create_database("two words");
    server.query(
        "CREATE RETENTION POLICY \"by day\" ON one DURATION INF REPLICATION 1 SHARD DURATION 1d",
    );
    let mut lines = String::new();
    for at in 0..3_000_i64 {
        let (time, host) = (T + at * (DAY / 100), at % 4);
        lines.push_str(&format!(
            "cpu,host=h{host} load={}.5,jobs={}i,up={},note=\"n {at}\\\"\" {time}\n",
            at % 10,
            at - 1_500,
            at % 2 == 0
        ));
    }
    server.write("one", &lines);
    server.post_write("one", "by day", &lines, "ns");
    server.write("two words", "m\\ x,t=\\ a\\,b f=1i,g=\"\" 5\nm\\ x f=-9223372036854775808i 6\n");
    if settle {
        server.flush();
    }
    // Rewritten, in part with other fields; a file of a later generation wins.
    server.write(
        "one",
        format!("cpu,host=h0 load=99 {T}\ncpu,host=h1 new=1u8i 1\n").replace("1u8i", "8i"),
    );
    delete(server, "one", &format!("DELETE FROM cpu WHERE host = 'h2' AND time < {}", T + 3 * DAY));
    if settle {
        server.flush();
    }
    delete(
        server,
        "one",
        &format!("DELETE FROM cpu WHERE host = 'h3' AND time > {}", T + 20 * DAY),
    );
    server.write("one", format!("cpu,host=h3 load=7,jobs=7i {}\n", T + 21 * DAY));
}

fn delete(server: &Influxd, database: &str, statement: &str) {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("db={database}&q={}", statement.replace('=', "%3D").replace('\'', "%27"));
    assert_eq!(server.request("POST", "/query", &form, body.as_bytes()).status, 200);
}

/// All forms of what a server holds, by name.
struct Forms {
    _dir: TempDir,
    portable: PathBuf,
    older: PathBuf,
}

impl Forms {
    fn of(server: &Influxd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (portable, older) = (dir.path().join("portable"), dir.path().join("older"));
        server.backup(&["-portable"], &portable);
        for database in ["one", "two words"] {
            server.backup(&["-database", database], &older);
        }
        Self { _dir: dir, portable, older }
    }

    fn all(&self, server: &Influxd) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        vec![
            server.location(""),
            server.snapshot_location(""),
            path(server.data_dir()),
            path(&self.portable),
            path(&self.older),
        ]
    }
}

fn verify(one: &str, other: &str) -> Ran {
    Gapless::new(["verify", one, other, "--quiet", "--end", "2030-01-01"]).run()
}

fn expect_all_identical(server: Influxd, settle: bool) {
    fill(&server, settle);
    let forms = Forms::of(&server);
    let all = forms.all(&server);
    for (at, one) in all.iter().enumerate() {
        for other in &all[at + 1..] {
            verify(one, other).expect_status(0).expect_out("IDENTICAL").expect_out("on both sides");
        }
    }
}

#[test]
fn every_form_of_a_server_holds_the_same() {
    expect_all_identical(Influxd::start(), true);
}

#[test]
fn every_form_of_a_server_with_the_other_index_and_a_log_holds_the_same() {
    expect_all_identical(Influxd::builder().index("tsi1").start(), false);
}

#[test]
fn every_form_is_copied_to_another_server_in_a_window_that_cuts_shards() {
    let server = Influxd::start();
    fill(&server, true);
    let forms = Forms::of(&server);
    let other = Influxd::start();
    let window = ["--start", "2020-09-14T12:00:00Z", "--end", "2020-09-30T01:02:03.5Z"];
    for (number, source) in forms.all(&server).iter().enumerate() {
        let target = other.location(&format!("copy{number}"));
        let run = |command: &str, options: &[&str]| {
            Gapless::new([
                command,
                source.as_str(),
                &target,
                "--db",
                "one",
                "--rp",
                "autogen",
                "--quiet",
            ])
            .args(window)
            .args(options)
            .run()
            .expect_status(0)
            .expect_out("IDENTICAL");
        };
        run("copy", &["--create"]);
        run("verify", &[]);
    }
    let counts: Vec<u64> = (0..5).map(|at| other.count(&format!("copy{at}"), "")).collect();
    assert!(counts[0] > 1_000 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn what_was_sent_is_read_back_through_the_snapshot_port() {
    let source = Influxd::start();
    fill(&source, true);
    let other = Influxd::start();
    let port = format!("snapshot=127.0.0.1:{}", other.snapshot_port());
    let copy = |target: &str| {
        Gapless::new(["copy", &source.snapshot_location("one"), target, "--quiet"])
            .args(["--create", "--end", "2030-01-01", "--read-back", &port])
            .run()
    };
    copy(&other.location("")).expect_status(0).expect_out("IDENTICAL").expect_err("tunnel");
    copy(&other.location("")).expect_status(0).expect_out("sent 0 cells");
    verify(&source.location("one"), &other.snapshot_location("one")).expect_status(0);
    let nonsense =
        Gapless::new(["copy", "a.lp", &other.location("x"), "--read-back", "port"]).run();
    nonsense.expect_status(2).expect_err("snapshot=HOST:8088");
}

/// Acknowledged points are never missed, although the server writes its small cache to disk all the
/// time.
#[test]
fn the_snapshot_port_shows_every_point_that_was_acknowledged_under_a_heavy_writer() {
    let tries = std::env::var("GAPLESS_TEST_SNAPSHOTS").map_or(15, |text| text.parse().unwrap());
    let server = Influxd::builder().config("data", "cache-snapshot-memory-size = 20000").start();
    server.create_database("db");
    let acknowledged = std::sync::atomic::AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0_u64;
            while !done.load(order) {
                let lines: String =
                    (at..at + 200).map(|at| format!("m,h=h{} v={at}i {at}\n", at % 7)).collect();
                server.write("db", lines);
                at += 200;
                acknowledged.store(at, order);
            }
        });
        for _ in 0..tries {
            let before = acknowledged.load(order);
            let ran =
                Gapless::new(["digest", &server.snapshot_location("db"), "--json", "--quiet"])
                    .args(["--end", "2030-01-01"])
                    .run();
            let report: serde_json::Value = serde_json::from_str(&ran.out()).unwrap_or_default();
            let found = report["digest"]["cells"].as_u64().unwrap_or_default();
            let enough = found >= before && (ran.status == Some(0) || before == 0);
            if !enough {
                done.store(true, order);
            }
            assert!(enough, "{found} cells of {before} acknowledged\n{}", ran.describe());
        }
        done.store(true, order);
    });
}

#[test]
fn a_backup_says_when_it_was_made() {
    let server = Influxd::start();
    fill(&server, false);
    let forms = Forms::of(&server);
    let ran = Gapless::new(["inspect", forms.portable.to_str().unwrap(), "--json"]).run();
    ran.expect_status(0).expect_out("what was written after 20").expect_out("the backup was begun");
}

#[test]
fn a_backup_that_is_damaged_or_lacks_a_part_is_refused_with_its_name() {
    let server = Influxd::start();
    fill(&server, true);
    let forms = Forms::of(&server);
    let digest = || Gapless::new(["digest", forms.portable.to_str().unwrap(), "--quiet"]).run();
    digest().expect_status(0);
    let files = fs::read_dir(&forms.portable).unwrap().map(|entry| entry.unwrap().path());
    let tar = files.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).min().unwrap();
    let name = tar.file_name().unwrap().to_str().unwrap();
    let whole = fs::read(&tar).unwrap();
    // Cut within the gzip; replaced by a shorter tar that is whole; damaged inside.
    fs::write(&tar, &whole[..whole.len() / 2]).unwrap();
    digest().expect_status(4).expect_err(name);
    let mut empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut empty, &[0; 1024]).unwrap();
    fs::write(&tar, empty.finish().unwrap()).unwrap();
    digest().expect_status(4).expect_err(name).expect_err("the manifest says");
    fs::remove_file(&tar).unwrap();
    digest().expect_status(4).expect_err(name).expect_err("not there");
    fs::write(&tar, whole).unwrap();
    digest().expect_status(0);
}

#[test]
fn damage_in_a_data_directory_is_an_error_with_its_place_and_salvage_counts_it() {
    let mut server = Influxd::start();
    fill(&server, true);
    server.stop();
    let root = server.data_dir().to_str().unwrap().to_owned();
    let run = |options: &[&str]| {
        Gapless::new(["digest", &root, "--quiet", "--end", "2030-01-01"]).args(options).run()
    };
    run(&[]).expect_status(0);
    let policy = server.data_dir().join("data").join("one").join("autogen");
    let mut files: Vec<PathBuf> = fs::read_dir(policy)
        .unwrap()
        .flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tsm"))
        .collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[20] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    let name = files[0].file_name().unwrap().to_str().unwrap();
    run(&[]).expect_status(4).expect_err(name).expect_err("byte 5").expect_err("--salvage");
    run(&["--salvage"])
        .expect_status(3)
        .expect_out("a block is left out")
        .expect_out(name)
        .expect_out("left out in all: 0 files or ends of tars, 1 blocks of 1 keys")
        .expect_out("times of the blocks 2020-");
    // A file that a server has set aside is named, and makes it incomplete.
    bytes[20] ^= 1;
    fs::write(&files[0], &bytes).unwrap();
    fs::write(files[0].with_extension("tsm.bad"), "x").unwrap();
    run(&[]).expect_status(3).expect_out("set it aside");
}

#[test]
fn a_torn_log_of_a_stopped_server_is_an_error_and_salvage_reads_the_rest() {
    let mut server = Influxd::start();
    server.create_database("one");
    for at in 0..20 {
        server.write("one", format!("m v={at}i {at}"));
    }
    server.kill9();
    let wal = server.data_dir().join("wal").join("one").join("autogen");
    let shard = fs::read_dir(wal).unwrap().next().unwrap().unwrap().path();
    let segment = fs::read_dir(shard).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 3]).unwrap();
    let root = server.data_dir().to_str().unwrap().to_owned();
    let run = |options: &[&str]| {
        Gapless::new(["cat", &root, "--quiet", "--end", "2030-01-01"]).args(options).run()
    };
    run(&[]).expect_status(4).expect_err(".wal, byte ").expect_err("cut short");
    let ran = run(&["--salvage"]).expect_status(3);
    assert_eq!(ran.out().lines().filter(|line| line.starts_with("m v=")).count(), 19);
}

/// Every stored form is the same as every other, and by queries the cells that these cannot show are
/// unprovable, `unprovable` of them, and nothing is a difference.
fn expect_unprovable_by_queries(server: &Influxd, unprovable: u64) {
    let forms = Forms::of(server);
    let all = forms.all(server);
    for (at, one) in all[1..].iter().enumerate() {
        for other in &all[at + 2..] {
            verify(one, other).expect_status(0).expect_out("IDENTICAL").expect_out("unprovable 0");
        }
        for ran in [verify(one, &all[0]), verify(&all[0], one)] {
            ran.expect_status(3)
                .expect_out("INCOMPLETE")
                .expect_out("missing_in_destination 0   extra_in_destination 0")
                .expect_out(&format!("unprovable {unprovable}"));
        }
    }
}

#[test]
fn two_spellings_of_a_series_are_the_same_in_every_stored_form_and_unprovable_by_queries() {
    let server = Influxd::start();
    server.create_database("one");
    server.create_database("two words");
    server.write("one", "m=x v=1i 1\nm\\=x v=2i 2\nm\\=x v=3i 3\nplain v=4i 1");
    expect_unprovable_by_queries(&server, 3);
    // What is left in the log is seen as it is in TSM files.
    server.write("one", "m\\=x v=5i 5");
    expect_unprovable_by_queries(&server, 4);
}

/// `#!~#` stands between series and field in the files and is escaped by nothing: a server itself
/// shows such a tag until it starts again, and from then on a field that begins within it.
#[test]
fn the_separator_of_keys_in_a_name_is_never_a_false_claim() {
    let mut server = Influxd::start();
    server.create_database("one");
    server.create_database("two words");
    server.write("one", "m,a=b#!~#c v=1i 1\nm,a=b v=2i,w=2i 2\nm,a=b f#!~#g=3i 3\nplain v=4i 1");
    // The tag's cell twice: as either side names it.
    expect_unprovable_by_queries(&server, 2);
    let root = server.data_dir().to_str().unwrap().to_owned();
    let cat = Gapless::new(["cat", &root, "--quiet", "--end", "2030-01-01"]).run();
    let cat = cat.expect_status(0).expect_out("m,a=b c#!~#v=1i 1").expect_out("m,a=b f#!~#g=3i 3");
    cat.expect_err("whether the first `#!~#` in m,a=b#!~#c#!~#v belongs to a tag");
    // Cells beside it that really differ are found.
    let other = Influxd::start();
    other.create_database("one");
    other.write("one", "m,a=b#!~#c v=1i 1\nm,a=b v=9i 2\nm,a=b f#!~#g=3i 3\nplain v=4i 1");
    let one = |location: &str| {
        Gapless::new(["verify", location, &other.location("one"), "--db", "one", "--quiet"])
            .args(["--end", "2030-01-01"])
            .run()
    };
    one(&root).expect_status(1).expect_out("missing_in_destination 1 ").expect_out(
        "extra_in_destination 0   value_changed 1   type_changed 0   unstable 0   unprovable 2",
    );
    server.restart();
    verify(&root, &server.location("")).expect_status(0).expect_out("IDENTICAL");
    // A tag key that holds it leaves a series key that no line has.
    server.write("one", "k,a#!~#b=c v=1i 1");
    expect_unprovable_by_queries(&server, 2);
    // What was sent as a tag is read back as a field: it is not lost, and not proven either.
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.lp"), "m,a=b#!~#c v=1i 1\nm,a=b v=2i 1\nplain v=4i 1\n").unwrap();
    let back = format!("snapshot=127.0.0.1:{}", other.snapshot_port());
    let copy = Gapless::new(["copy", "in.lp", &other.location("sent"), "--create", "--quiet"]);
    let copy = copy.args(["--read-back", &back]).dir(dir.path()).run().expect_status(3);
    copy.expect_out("INCOMPLETE").expect_out("matched 2 ").expect_out("unprovable 2");
}

#[test]
fn a_data_directory_in_parts_is_read_where_they_are_named_and_nothing_passes_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (meta, data, wal) = (path("var/meta"), path("big/data"), path("fast/wal"));
    let server = Influxd::builder()
        .config("meta", &format!("dir = {meta:?}"))
        .config("data", &format!("dir = {data:?}"))
        .config("data", &format!("wal-dir = {wal:?}"))
        .start();
    // A database may have the name of a part.
    server.create_database("data");
    server.write("data", "m v=1i 1\nm v=2i 1000000000000000000");
    server.flush();
    server.write("data", "m v=3i 3");
    let run = |source: &str, options: &[&str]| {
        Gapless::new(["verify", source, &server.location(""), "--quiet", "--end", "2030-01-01"])
            .args(options)
            .run()
    };
    let both = ["--meta-dir", &meta, "--wal-dir", &wal];
    for source in [&data, &path("big")] {
        run(source, &both).expect_status(0).expect_out("IDENTICAL").expect_out("matched 3 ");
    }
    run(&data, &[]).expect_status(4);
    run(&data, &both[2..]).expect_status(4).expect_err("--meta-dir DIR");
    run(&data, &both[..2]).expect_status(4).expect_err("big/wal").expect_err("--wal-dir DIR");
    run(&path("var"), &[]).expect_status(4).expect_err("var/data").expect_err("--meta-dir DIR");
    for other in [server.location(""), "a.lp".into(), server.snapshot_location("")] {
        let ran = Gapless::new(["cat", other.as_str(), "--quiet"]).args(both).run();
        ran.expect_status(2).expect_err("are for the data directory of a server");
    }
    let backup = dir.path().join("backup");
    server.backup(&["-portable"], &backup);
    let ran = Gapless::new(["cat", backup.to_str().unwrap(), "--wal-dir", &wal]).run();
    ran.expect_status(4).expect_err("is no data directory");
}

/// The files of a backup whose names end in this, the largest first.
fn files_of(backup: &Path, end: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let files = fs::read_dir(backup).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| end(path.file_name().unwrap().to_str().unwrap())).collect();
    files.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    files
}

#[test]
fn salvage_of_a_backup_reads_what_can_be_proven_and_names_the_rest() {
    use std::io::{Read, Write};
    let server = Influxd::start();
    server.create_database("one");
    server.create_database("two words");
    for at in 0..2 {
        server.write("one", format!("m f={at} {at}1\nm g={at}i {at}1\nm h={at}i {at}1"));
        server.flush();
    }
    let forms = Forms::of(&server);
    let lines = |backup: &Path, options: &[&str], status: i32| {
        let cat = Gapless::new(["cat", backup.to_str().unwrap(), "--quiet"]).args(options).run();
        let cat = cat.expect_status(status);
        let rows = cat.out();
        let rows = rows.lines().filter(|line| line.starts_with("m "));
        (rows.map(|line| line.split(',').count()).sum::<usize>(), cat)
    };
    let packed = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let tar = files_of(&forms.portable, |name| name.ends_with(".tar.gz")).remove(0);
    let older = files_of(&forms.older, |name| name.starts_with("one.")).remove(0);
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(&fs::read(&tar).unwrap()[..])
        .read_to_end(&mut plain)
        .unwrap();
    for (backup, file, plain, gzip) in [
        (&forms.portable, &tar, plain, true),
        (&forms.older, &older, fs::read(&older).unwrap(), false),
    ] {
        let put = |bytes: &[u8]| match gzip {
            true => fs::write(file, packed(bytes)).unwrap(),
            false => fs::write(file, bytes).unwrap(),
        };
        assert_eq!(lines(backup, &[], 0).0, 6);
        // The first block of the first file: behind the tar's header and the file's, in its values.
        let starts: Vec<usize> = (0..plain.len() - 5)
            .step_by(512)
            .filter(|at| plain[*at..].starts_with(b"\x16\xd1\x16\xd1\x01"))
            .collect();
        assert_eq!(starts.len(), 2);
        let mut damaged = plain.clone();
        damaged[starts[0] + 12] ^= 1;
        put(&damaged);
        lines(backup, &[], 4).1.expect_err("--salvage").expect_err("000000001-000000001.tsm");
        let (left, ran) = lines(backup, &["--salvage"], 3);
        assert_eq!(left, 5);
        ran.expect_err("a block is left out").expect_err("000000001-000000001.tsm");
        // Cut within the second file.
        put(&plain[..starts[1] + 20]);
        lines(backup, &[], 4).1.expect_err("cut short").expect_err("--salvage");
        let (left, ran) = lines(backup, &["--salvage"], 3);
        assert_eq!(left, 3);
        ran.expect_err("000000002-000000001 and all that stood behind is left out");
        // An index that is damaged: the file is left out.
        let mut damaged = plain.clone();
        damaged[starts[0]] ^= 1;
        put(&damaged);
        lines(backup, &[], 4).1.expect_err("this is no TSM file");
        let (left, ran) = lines(backup, &["--salvage"], 3);
        assert_eq!(left, 3);
        ran.expect_err("the file is left out");
    }
    // Cut within the gzip, and gone.
    let whole = packed(&[0; 1024]);
    fs::write(&tar, &whole[..whole.len() - 6]).unwrap();
    lines(&forms.portable, &["--salvage"], 3).1.expect_err("left out");
    fs::remove_file(&tar).unwrap();
    lines(&forms.portable, &["--salvage"], 3).1.expect_err("not there");
}
