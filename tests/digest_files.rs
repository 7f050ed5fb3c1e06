//! Digest files: they stand for what they were made of, and nothing that changed since goes unnoticed.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;

fn gapless<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Gapless {
    Gapless::new(arguments).arg("--quiet")
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out()).unwrap()
}

/// Two measurements over nine days, more than one shard group, with fields of all types.
fn rows() -> String {
    let mut lines = String::new();
    for step in 0..9 * 48 {
        for host in ["a", "b", "c"] {
            let time = START + step * 30 * MINUTE;
            writeln!(
                lines,
                "cpu,host={host} usage={}.5,count={step}i,up={},note=\"n {step}\" {time}\n\
                 mem,host={host} free={step} {}",
                step % 100,
                step % 2 == 0,
                time + 1
            )
            .unwrap();
        }
    }
    lines
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Saves the digest of a source.
    fn save(&self, source: &str, name: &str, more: &[&str]) -> String {
        let file = self.path(name);
        let ran = gapless(["digest", source, "-o", &file]).args(more).run().expect_status(0);
        ran.expect_out(&format!("saved in {file}"));
        file
    }
}

fn verify(source: &str, destination: &str, status: i32) -> Value {
    json(&gapless(["verify", source, destination, "--json"]).run().expect_status(status))
}

/// A server with a database that holds `rows`.
fn filled(rows: &str) -> Influxd {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", rows);
    server
}

/// What a digest prints, but for the name of the source.
fn digests(source: &str) -> String {
    let found = json(&gapless(["digest", source, "--json"]).run().expect_status(0));
    format!("{} {}", found["digest"], found["namespaces"])
}

#[test]
fn digests_of_every_form_stand_for_each_other_and_for_what_they_were_made_of() {
    let place = Place::new();
    let server = filled(&rows());
    server.flush();
    let archive = place.path("archive");
    let http = server.location("db");
    gapless(["copy", &http, &archive]).run().expect_status(0);
    let sources = [
        http,
        server.snapshot_location("db"),
        server.data_dir().to_str().unwrap().to_owned(),
        archive,
    ];
    let files: Vec<String> = sources
        .iter()
        .enumerate()
        .map(|(at, source)| place.save(source, &format!("{at}.digest"), &["--end", "2030-01-01"]))
        .collect();
    for (file, source) in files.iter().zip(&sources) {
        assert_eq!(digests(file), digests(source));
        for other in sources.iter().chain(&files).filter(|other| *other != file) {
            for (one, two) in [(file, other), (other, file)] {
                let report = verify(one, two, 0);
                assert_eq!(report["verdict"], "identical", "{one} {two}: {report}");
                assert_eq!(report["counts"]["matched"], 9 * 48 * 3 * 5);
            }
        }
    }
    // Little memory, so that leaves and dictionary go to disk.
    let small = place.save(&sources[2], "small.digest", &["--memory", "16", "--jobs", "256"]);
    assert_eq!(digests(&small), digests(&files[0]));
    drop(server);
    verify(&files[0], &files[3], 0);
    let text = gapless(["inspect", &files[0]]).run().expect_status(0);
    let text =
        text.expect_out("digest of influxdb://127.0.0.1:").expect_out("cpu   series 3   cells");
    text.expect_out("db.autogen   series 6").expect_out("covers … to 2030-01-01T00:00:00Z");
    let lines = gapless(["digest", &files[0], "--jsonl"]).run().expect_status(0);
    let lines: Vec<Value> =
        lines.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 9 * 24 * 6);
    let cells: u64 = lines.iter().map(|line| line["cells"].as_u64().unwrap()).sum();
    assert_eq!(cells, 9 * 48 * 3 * 5);
    assert!(lines.iter().any(|line| line["series"] == "cpu,host=a" && line["start"] == START));
}

#[test]
fn what_changed_since_is_found_to_series_and_hour_and_a_single_cell_by_name() {
    let place = Place::new();
    let server = filled(&rows());
    let location = server.location("db");
    let file = place.save(&location, "before.digest", &["--end", "2030-01-01"]);
    assert_eq!(verify(&file, &location, 0)["verdict"], "identical");

    // A value changed, a row deleted, a row and a single cell added, a series and a measurement added.
    server.write("db", format!("cpu,host=a usage=99.25 {}", START + 3 * HOUR));
    let gone = START + 5 * HOUR + 30 * MINUTE;
    let execute = |statement: &str| {
        server.influx_cli(["-database", "db", "-precision", "ns", "-execute", statement]);
    };
    execute(&format!("DELETE FROM cpu WHERE host = 'b' AND time = {gone}"));
    let (row, cell) = (START + 7 * HOUR + 7, START + 9 * HOUR + 7);
    // In one hour a cell added and a value changed; in another a cell gone and one added.
    let (both, moved) = (START + 11 * HOUR, START + 13 * HOUR);
    server
        .write("db", format!("mem,host=a free=3 {}\nmem,host=a free=-1 {}\n", both + 7, both + 1));
    execute(&format!("DELETE FROM mem WHERE host = 'a' AND time = {}", moved + 1));
    server.write("db", format!("mem,host=a free=3 {}", moved + 7));
    // And an hour of which nothing is left but another cell.
    let lost = START + 17 * HOUR;
    for time in [lost, lost + 30 * MINUTE] {
        execute(&format!("DELETE FROM cpu WHERE host = 'a' AND time = {time}"));
    }
    server.write("db", format!("cpu,host=a usage=3 {}", lost + 7));
    server.write("db", format!("cpu,host=c usage=1.5,count=1i {row}\nmem,host=c free=2 {cell}\n"));
    server.write(
        "db",
        format!("mem,host=new free=1 {START}\nextra v=1 {}\n", START + 99 * 24 * HOUR),
    );

    for (source, destination, extra) in
        [(&file, &location, "extra_in_destination"), (&location, &file, "missing_in_destination")]
    {
        let report = verify(source, destination, 1);
        assert_eq!(report["verdict"], "different");
        let counts = &report["counts"];
        assert_eq!(counts[extra], 2 + 1 + 1 + 1 + 1, "{counts}");
        assert_eq!(counts["unresolved"], 8 + 4 + 2 + 2 + 8, "{counts}");
        let other =
            if extra.starts_with('m') { "extra_in_destination" } else { "missing_in_destination" };
        assert_eq!(counts[other], 4);
        let places = report["places"].as_array().unwrap();
        let found: Vec<(&str, i64, String)> = places
            .iter()
            .map(|place| {
                let start = (place["start"].as_i64().unwrap() - START) / HOUR;
                (place["series"].as_str().unwrap(), start, place["proven"].to_string())
            })
            .collect();
        let has_more = if extra.starts_with('m') { "destination" } else { "source" };
        let expected = [
            ("cpu,host=a", 3, "\"values_differ\"".to_owned()),
            ("cpu,host=a", 17, format!("{{\"{has_more}_has_more\":7}}")),
            ("cpu,host=b", 5, "\"same_cells\"".to_owned()),
            ("cpu,host=c", 7, "null".to_owned()),
            ("extra", 99 * 24, "null".to_owned()),
            ("mem,host=a", 11, "\"values_differ\"".to_owned()),
            ("mem,host=a", 13, "\"other_cells\"".to_owned()),
            ("mem,host=c", 9, "null".to_owned()),
            ("mem,host=new", 0, "null".to_owned()),
        ];
        assert_eq!(found, expected);
        let named: Vec<(i64, &str)> = report["cells"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cell| (cell["time"].as_i64().unwrap(), cell["field"].as_str().unwrap()))
            .collect();
        let fields = ["count", "note", "up", "usage"].map(|field| (gone, field));
        let added = [(row, "count"), (row, "usage"), (both + 7, "free"), (cell, "free")];
        assert_eq!(named, [&fields[..], &added].concat());
    }
    let text = gapless(["verify", &file, &location]).run().expect_status(1);
    let text = text.expect_out("DIFFERENT").expect_out("unresolved 24");
    let text = text.expect_out("cpu,host=a   2020-07-19T03:00:00Z to 2020-07-19T04:00:00Z");
    let text = text.expect_out("(the same cells, at least 1 with another value or type)");
    let text = text.expect_out("at least 7 missing in the destination");
    let text =
        text.expect_out("usage at 2020-07-19T05:30:00Z: missing_in_destination, with a value");
    let text = text.expect_out("the others are the same cells, their values are not compared");
    text.expect_nowhere("next: gapless copy");

    // The same against another file, when the server is gone.
    let after = place.save(&location, "after.digest", &["--end", "2030-01-01"]);
    drop(server);
    let report = verify(&file, &after, 1);
    assert_eq!(report["counts"]["extra_in_destination"], 1 + 1);
    assert_eq!(report["places"][3]["proven"]["destination_has_more"], 2);
    assert_eq!(report["places"][3]["series"], "cpu,host=c");
}

#[test]
fn hours_filters_and_namespaces_are_those_that_the_file_was_made_of() {
    let place = Place::new();
    let server = filled(&rows());
    server.create_database("other");
    server.write("other", "m v=1 1");
    let location = server.location("db");
    let file =
        place.save(&location, "f", &["--start", "2020-07-20", "--end", "2020-07-21T10:15:00Z"]);
    let run = |more: &[&str]| gapless(["verify", &file, &location]).args(more).run();
    run(&[]).expect_status(0).expect_out("not covered: what lies outside");
    run(&["--start", "2020-07-20T05:00:00Z"]).expect_status(0);
    run(&["--end", "2020-07-21T10:15:00Z"]).expect_status(0);
    run(&["--end", "2020-07-20T05:30:00Z"]).expect_status(2).expect_err("cuts an hour");
    run(&["--start", "2020-07-20T05:30:00Z"]).expect_status(2).expect_err("2020-07-20T05:00:00Z");
    run(&["--start", "2021-07-20"]).expect_status(3).expect_out("nothing was compared");
    run(&["--measurement", "cpu"]).expect_status(2).expect_err("every series");
    // Two files whose last hours are cut in different places.
    let shorter =
        place.save(&location, "s", &["--start", "2020-07-20", "--end", "2020-07-21T10:05:00Z"]);
    let ran = gapless(["verify", &file, &shorter]).run().expect_status(0);
    ran.expect_out("window 2020-07-20T00:00:00Z to 2020-07-21T10:00:00Z");

    let cpu = place.save(
        &location,
        "cpu",
        &["--measurement", "cpu", "--tag", "host=a", "--end", "2030-01-01"],
    );
    let ran = gapless(["verify", &cpu, &location]).run().expect_status(0);
    ran.expect_out("series other than those of --measurement cpu --tag host=a");
    let same = ["--measurement", "cpu", "--tag", "host=a"];
    gapless(["verify", &location, &cpu]).args(same).run().expect_status(0);
    gapless(["verify", &location, &cpu]).args(["--tag", "host=b"]).run().expect_status(2);
    gapless(["verify", &cpu, &file]).run().expect_status(2).expect_err("--measurement cpu");

    // A database that the file was not made of is a difference only where it was made of all.
    let (one, all) = (place.save(&location, "1", &["--end", "2030-01-01"]), server.location(""));
    verify(&one, &all, 0);
    let every = place.save(&all, "2", &["--end", "2030-01-01"]);
    verify(&every, &all, 0);
    server.create_database("third");
    server.write("third", "m v=1 1");
    verify(&one, &all, 0);
    assert_eq!(verify(&every, &all, 1)["counts"]["extra_in_destination"], 1);
    assert_eq!(verify(&all, &every, 1)["counts"]["missing_in_destination"], 1);
}

#[test]
fn what_queries_cannot_show_is_unprovable_in_a_digest_too() {
    let place = Place::new();
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", "cpu v=1 1\nm\\=x v=1 1\nm\\=x v=2 2\n");
    let (http, files) = (server.location("db"), server.data_dir().to_str().unwrap().to_owned());
    let end = ["--end", "2030-01-01"];
    let (stored, shown) = (place.save(&files, "stored", &end), place.save(&http, "shown", &end));
    gapless(["verify", &stored, &files]).run().expect_status(0);
    for (one, two) in [(&stored, &shown), (&shown, &stored), (&stored, &http), (&shown, &files)] {
        let ran = gapless(["verify", one, two]).run().expect_status(3);
        ran.expect_out("unprovable 2").expect_out("matched 1 ");
    }
    let output = place.path("merged");
    let merge = gapless(["digest", "merge", &stored, &shown, "-o", &output]).run();
    merge.expect_status(4).expect_err("name series otherwise");
}

#[test]
fn shard_groups_that_cut_hours_are_digested_by_whole_hours() {
    let place = Place::new();
    let server = Influxd::start();
    server
        .query("CREATE DATABASE db WITH DURATION INF REPLICATION 1 SHARD DURATION 90m NAME narrow");
    let one_day: String =
        rows().lines().take(48 * 6).fold(String::new(), |all, row| all + row + "\n");
    server.write("db", &one_day);
    let line = place.path("in.lp");
    fs::write(
        &line,
        format!("# DML\n# CONTEXT-DATABASE: db\n# CONTEXT-RETENTION-POLICY: narrow\n{one_day}"),
    )
    .unwrap();
    let (http, end) = (server.location("db"), ["--end", "2030-01-01"]);
    let files = server.data_dir().to_str().unwrap().to_owned();
    let digests = [
        place.save(&http, "http", &end),
        place.save(&files, "files", &end),
        place.save(&line, "line", &["--db", "db"]),
    ];
    for one in &digests {
        for other in digests.iter().chain([&http, &files, &line]).filter(|other| *other != one) {
            for (source, destination) in [(one, other), (other, one)] {
                let report = verify(source, destination, 0);
                assert_eq!(report["counts"]["matched"], 48 * 3 * 5, "{source} {destination}");
            }
        }
    }
    // What is added outside of every unit is seen.
    server.write("db", format!("cpu,host=a usage=1 {}", START + 100 * 24 * HOUR));
    for digest in &digests {
        assert_eq!(verify(digest, &http, 1)["counts"]["extra_in_destination"], 1);
        assert_eq!(verify(&http, digest, 1)["counts"]["missing_in_destination"], 1);
    }
}

#[test]
fn merged_files_hold_what_one_of_the_whole_would() {
    let place = Place::new();
    let source = place.path("in.lp");
    fs::write(&source, rows()).unwrap();
    let whole = place.save(&source, "whole", &[]);
    // Cut within an hour, so that two files hold a part of it each.
    let cut = "2020-07-21T10:15:00Z";
    let parts = [
        place.save(&source, "a", &["--end", cut]),
        place.save(&source, "b", &["--start", cut, "--end", "2020-07-25"]),
        place.save(&source, "c", &["--start", "2020-07-25"]),
    ];
    let [a, b, c] = &parts;
    let merge = |files: &[&str], output: &str| {
        let output = place.path(output);
        let ran = gapless(["digest", "merge"]).args(files).args(["-o", &output]).run();
        (output, ran)
    };
    let lines = |file: &str| gapless(["digest", file, "--jsonl"]).run().expect_status(0).out();
    let sorted = |file: &str| {
        let mut lines: Vec<String> = lines(file).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (abc, ran) = merge(&[a, b, c], "abc");
    ran.expect_status(0).expect_out(&format!("saved in {abc}"));
    let (cba, ran) = merge(&[c, a, b], "cba");
    ran.expect_status(0);
    let (ab, ran) = merge(&[b, a], "ab");
    ran.expect_status(0);
    let (ab_c, ran) = merge(&[c, &ab], "ab_c");
    ran.expect_status(0);
    for merged in [&abc, &cba, &ab_c] {
        assert_eq!(sorted(merged), sorted(&whole));
        assert_eq!(digests(merged), digests(&whole));
        verify(merged, &whole, 0);
        verify(&source, merged, 0);
    }
    // With a hole, which is not covered.
    let (ac, ran) = merge(&[a, c], "ac");
    ran.expect_status(0);
    let report = gapless(["verify", &ac, &source]).run();
    report.expect_status(0).expect_out("that").expect_out("was not made of");
    for (files, words) in [
        (vec![a.as_str(), a.as_str()], "count twice"),
        (vec![a.as_str(), whole.as_str()], "count twice"),
        (vec![a.as_str(), source.as_str()], "no digest file"),
    ] {
        let (output, ran) = merge(&files, "refused");
        ran.expect_status(4).expect_err(words);
        assert!(!Path::new(&output).exists());
    }
    let cpu = place.save(&source, "cpu", &["--start", "2020-07-25", "--measurement", "cpu"]);
    merge(&[a, &cpu], "refused").1.expect_status(4).expect_err("--measurement");
    let gap = place.save(&source, "gap", &["--start", "2020-07-21T10:20:00Z"]);
    merge(&[a, &gap], "refused").1.expect_status(4).expect_err("part of an hour");
    // Of named databases.
    let rows = rows();
    let db = |name: &str| {
        let lines = format!("# DML\n# CONTEXT-DATABASE: {name}\n{rows}");
        fs::write(place.path(&format!("{name}.lp")), lines).unwrap();
        place.save(&place.path(&format!("{name}.lp")), name, &["--db", name])
    };
    let (one, two) = (db("one"), db("two"));
    let (both, ran) = merge(&[&one, &two], "both");
    ran.expect_status(0).expect_out("one cpu").expect_out("two cpu");
    verify(&both, &place.path("one.lp"), 1);
    verify(&one, &place.path("one.lp"), 0);
    // A source that is called merge.
    fs::write(place.path("merge"), &rows).unwrap();
    gapless(["digest", "./merge"]).dir(place.0.path()).run().expect_status(0);
}

#[test]
fn what_is_no_whole_digest_file_is_refused() {
    let place = Place::new();
    let source = place.path("in.lp");
    fs::write(&source, rows()).unwrap();
    let file = place.save(&source, "f", &[]);
    let whole = fs::read(&file).unwrap();
    let refused = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).unwrap();
        let ran = gapless(["verify", &file, &source]).run().expect_status(4);
        ran.expect_err("byte ").expect_err(words).expect_err("next: take another copy");
    };
    refused(&whole[..whole.len() / 2], "cut short");
    refused(&whole[..whole.len() - 1], "cut short");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    refused(&flipped, "does not match its checksum");
    fs::write(&file, &whole).unwrap();
    verify(&file, &source, 0);
    let place_of = |name: &str| place.path(name);
    for arguments in [
        ["copy", &file, &place_of("new")],
        ["copy", &file, "null:"],
        ["copy", &source, &file],
        ["digest", &file, &format!("--output={}", place_of("new"))],
    ] {
        let ran = gapless(arguments).run();
        assert!(matches!(ran.status, Some(2 | 4)), "{}", ran.describe());
        ran.expect_err("digest file");
        assert!(!Path::new(&place_of("new")).exists());
    }
    gapless(["cat", &file]).run().expect_status(2).expect_err("no rows");
    gapless(["digest", &source, "-o", &file]).run().expect_status(4).expect_err("exists");
    gapless(["digest", &source, "--jsonl"]).run().expect_status(2).expect_err("--jsonl");
    gapless(["digest"]).run().expect_status(2);
    gapless(["digest", "merge"]).run().expect_status(2);
    assert_eq!(fs::read(&file).unwrap(), whole);
    // Nothing is no success, and neither is what was not read in full.
    let empty = place_of("empty");
    gapless(["digest", "-", "-o", &empty]).stdin("").run().expect_status(3);
    let ran = gapless(["verify", &empty, &source, "--start", "2030-01-01"]).run();
    ran.expect_status(3).expect_out("nothing was compared");
    let partial = place_of("partial");
    let rows = format!("{}no row\n", rows());
    gapless(["digest", "-", "-o", &partial]).stdin(rows).run().expect_status(3);
    let ran = gapless(["verify", &partial, &source]).run().expect_status(3);
    ran.expect_out("INCOMPLETE").expect_out("1 rows, which were rejected");
}

#[test]
fn a_kill_while_writing_leaves_no_file() {
    let place = Place::new();
    let source = place.path("in.lp");
    fs::write(&source, rows()).unwrap();
    let whole = place.save(&source, "whole", &[]);
    let mut kept = 0;
    for step in 0..12 {
        let file = place.path("killed");
        let running = gapless(["digest", &source, "-o", &file]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(step * 8));
        running.kill9();
        if Path::new(&file).exists() {
            verify(&file, &whole, 0);
            fs::remove_file(&file).unwrap();
            kept += 1;
        }
    }
    assert!(kept < 12, "some were killed before the end");
}

#[cfg(unix)]
#[test]
fn a_digest_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let source = place.path("in.lp");
    fs::write(&source, rows()).unwrap();
    let file = PathBuf::from(place.save(&source, "f", &[]));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 2, "nothing else is left");
}

/// A day of 3,000 series with a point an hour each, two days of one with a point a minute, and an hour of
/// one with 20 a second.
fn uneven() -> String {
    let mut lines = String::new();
    for host in 0..3_000 {
        for hour in 0..24 {
            writeln!(lines, "few,host={host} v={hour}i {}", START + hour * HOUR + host).unwrap();
        }
    }
    for minute in 0..48 * 60 {
        writeln!(lines, "some v={minute}i {}", START + minute * MINUTE).unwrap();
    }
    for step in 0..72_000 {
        writeln!(lines, "many v={step}i {}", START + 7 * HOUR + step * MINUTE / 1_200).unwrap();
    }
    lines
}

/// Leaves of a digest file by how long they are.
fn leaves(file: &str) -> [usize; 3] {
    let ran = gapless(["digest", file, "--jsonl"]).run().expect_status(0);
    let lengths: Vec<i64> = ran
        .out()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["end"].as_i64().unwrap() - line["start"].as_i64().unwrap())
        .collect();
    [24 * HOUR, HOUR, MINUTE].map(|one| lengths.iter().filter(|length| **length == one).count())
}

#[test]
fn leaves_are_days_hours_or_minutes_by_density_and_compare_with_any_others() {
    let place = Place::new();
    let lines = place.path("lines");
    let all = uneven();
    fs::write(&lines, &all).unwrap();
    let whole = place.save(&lines, "whole", &[]);
    assert_eq!(leaves(&whole), [3_000, 48, 60]);
    // No day is folded of which two files hold a part each.
    let (noon, end) = ("2020-07-19T12:00:00Z", "2020-07-21");
    let parts = [
        place.save(&lines, "morning", &["--start", "2020-07-19", "--end", noon]),
        place.save(&lines, "rest", &["--start", noon, "--end", end]),
    ];
    let merged = place.path("merged");
    gapless(["digest", "merge", &parts[0], &parts[1], "-o", &merged]).run().expect_status(0);
    assert_eq!(leaves(&merged), [0, 72_048, 60]);
    for (one, two) in [(&whole, &merged), (&merged, &whole), (&whole, &lines), (&lines, &merged)] {
        let report = verify(one, two, 0);
        assert_eq!(report["counts"]["matched"], 72_000 + 48 * 60 + 72_000, "{one} {two}");
    }
    let again = place.path("again");
    gapless(["digest", "merge", &merged, "-o", &again]).run().expect_status(0);
    verify(&again, &whole, 0);

    // A window cuts neither an hour nor a day that is known as a whole only.
    let run = |file: &str, start: &str| gapless(["verify", file, &lines, "--start", start]).run();
    run(&whole, "2020-07-19T05:00:00Z").expect_status(2).expect_err("cuts a day");
    run(&whole, "2020-07-20").expect_status(0);
    run(&merged, "2020-07-19T05:00:00Z").expect_status(0);

    // Differences of each kind of leaf, as files of any leaves show them.
    let changed = place.path("changed");
    let edits = [("few,host=77 v=20i ", "few,host=77 v=31i "), ("many v=4000i ", "many v=4001i ")];
    let other = edits.iter().fold(all, |all, (from, to)| all.replacen(from, to, 1));
    let gone = other.find("some v=1300i ").unwrap();
    let end = gone + other[gone..].find('\n').unwrap() + 1;
    fs::write(&changed, format!("{}{}", &other[..gone], &other[end..])).unwrap();
    let newer = place.save(&changed, "newer", &[]);
    for one in [&lines, &whole, &merged] {
        for two in [&changed, &newer] {
            let report = verify(one, two, 1);
            let mut places: Vec<String> = report["places"]
                .as_array()
                .unwrap()
                .iter()
                .map(|place| place["series"].as_str().unwrap().to_owned())
                .collect();
            places.sort();
            assert_eq!(places, ["few,host=77", "many", "some"], "{one} {two}: {report:#}");
        }
    }
    let counts = &verify(&lines, &changed, 1)["counts"];
    assert_eq!(
        (&counts["value_changed"], &counts["missing_in_destination"]),
        (&2.into(), &1.into())
    );
    // Lines hold all series of a measurement together; of the dense one, a minute is read and no hour.
    let read = &verify(&lines, &changed, 1)["read_again"];
    assert_eq!(read["places"], 3);
    assert!(read["cells"].as_u64().unwrap() < 2 * (72_000 + 1_200 + 60) + 10, "{read}");
}
