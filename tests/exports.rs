//! Exports of the stock `influx_inspect export`: whole ones arrive, whatever they are named and
//! however they are packed; what they hold is what the server holds; and where the stock tools
//! lose or falsify something, that is shown by those tools themselves.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;
mod line_tools;

use common::http::encode;
use common::influxd::{ident, rows};
use common::{Gapless, Influxd, Ran};
use line_tools::naive;
use line_tools::outcome::{Bytes, Outcome, Stored};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// 2020-09-13T12:26:40Z, nanoseconds.
const BASE: i64 = 1_600_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Names that go wrong wherever they are cut, trimmed, or not quoted; a server takes them all.
const HOSTILE_DATABASE: &str = "met: \"rics\" é日 ";
const HOSTILE_RPS: [&str; 2] = ["1:y it's", " lead\"="];

/// Runs the command in `dir`, to which reject files go, in a window that is not cut at the newest
/// ten minutes.
fn gapless(dir: &Path, arguments: &[&str]) -> Ran {
    Gapless::new(arguments).args(["--quiet", "--end", "2100-01-01"]).dir(dir).run()
}

/// A database and RP of a server as gapless names it.
fn named(server: &Influxd, database: &str, rp: &str) -> String {
    server.location(&format!("{}/{}", encode(database), encode(rp)))
}

#[track_caller]
fn write(server: &Influxd, database: &str, rp: &str, lines: &str) {
    let (status, reply) = server.post_write(database, rp, lines, "ns");
    assert_eq!(status, 204, "{reply}");
}

/// The namespaces of the export tests, with the statements that make them.
fn namespaces() -> [(&'static str, &'static str, String); 3] {
    let (database, [one, two]) = (HOSTILE_DATABASE, HOSTILE_RPS);
    let quoted = |name: &str| ident(name);
    [
        (database, one, format!("CREATE DATABASE {} WITH NAME {}", quoted(database), quoted(one))),
        (
            database,
            two,
            format!(
                "CREATE RETENTION POLICY {} ON {} DURATION 1000w REPLICATION 1 SHARD DURATION 1d",
                quoted(two),
                quoted(database)
            ),
        ),
        ("plain_db", "autogen", "CREATE DATABASE plain_db".into()),
    ]
}

/// Lines over several shards: all types, strings of several lines, names that need escapes.
fn lines(seed: i64) -> String {
    let mut lines = String::new();
    for at in 0..600 {
        let time = BASE + at * DAY / 30 + seed;
        let (host, float) = (at % 7, f64::from(i32::try_from(at * seed).unwrap()) / 8.0);
        writeln!(
            lines,
            "cpu,host=h{host},dc=é\\ 1 usage={float},n={at}i,up={} {time}",
            at % 2 == 0
        )
        .unwrap();
        writeln!(
            lines,
            "we\\ ird\\,name,ta\\ g\\=k=va\\,l\\ ue\\= fi\\ eld\\,\\=\\\"={at}i {time}"
        )
        .unwrap();
        if at % 50 == 0 {
            writeln!(lines, "log text=\"a\n# b\n\n c=\\\"{at}\\\\ \" {time}").unwrap();
        }
    }
    lines
}

/// A stopped server whose data lie in TSM files and in the write-ahead log, some values
/// overwritten from one to the other.
fn filled() -> Influxd {
    let mut server = Influxd::start();
    for (seed, (database, rp, make)) in (1..).zip(namespaces()) {
        server.query(&make);
        write(&server, database, rp, &lines(seed));
    }
    server.flush();
    for (seed, (database, rp, _)) in (1..).zip(namespaces()) {
        let over = format!("cpu,host=h0,dc=é\\ 1 usage=-1,more={seed}i {}\n", BASE + seed);
        write(&server, database, rp, &over);
        write(&server, database, rp, &lines(seed).replace("cpu,", "mem,"));
    }
    server.stop();
    server
}

/// What a text of one namespace holds, the last of several values, by a decoder of the tests' own.
#[track_caller]
fn cells(text: &[u8]) -> BTreeMap<(Bytes, Bytes, i64), Stored> {
    let mut cells = BTreeMap::new();
    for outcome in naive::decode(text, 1, None) {
        let Outcome::Row(point) = outcome else { panic!("{outcome:?}") };
        for (field, value) in point.fields {
            cells.insert((point.key.clone(), field, point.time), value);
        }
    }
    cells
}

fn policies(server: &Influxd, database: &str) -> Vec<(String, String, String, bool)> {
    let reply = server.query(&format!("SHOW RETENTION POLICIES ON {}", ident(database)));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut policies: Vec<_> = rows(&reply)
        .iter()
        .map(|row| (text(&row[0]), text(&row[1]), text(&row[2]), row[4] == true))
        .collect();
    policies.sort();
    policies
}

#[test]
fn an_export_of_two_databases_and_three_rps_goes_into_a_second_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = filled();
    let export = dir.path().join("export.gz");
    source.export(&["-compress"], &export);
    assert!(std::fs::read(&export).unwrap().starts_with(&[0x1f, 0x8b]), "it is gzip");
    let destination = Influxd::start();
    let location = destination.location("");

    let refused = gapless(dir.path(), &["copy", "export.gz", &location]).expect_status(4);
    let made = [
        format!(
            "CREATE DATABASE {} WITH DURATION INF REPLICATION 1 NAME {}; -- not said by the source: \
             DURATION INF, REPLICATION 1, the server's own SHARD DURATION, that {:?} is the \
             default retention policy",
            ident(HOSTILE_DATABASE),
            ident(HOSTILE_RPS[1]),
            HOSTILE_RPS[1],
        ),
        format!(
            "CREATE RETENTION POLICY {} ON {} DURATION INF REPLICATION 1; -- not said by the source: \
             DURATION INF, REPLICATION 1, the server's own SHARD DURATION",
            ident(HOSTILE_RPS[0]),
            ident(HOSTILE_DATABASE),
        ),
        "CREATE DATABASE \"plain_db\" WITH DURATION INF REPLICATION 1 NAME \"autogen\"; -- not said \
         by the source: DURATION INF, REPLICATION 1, the server's own SHARD DURATION"
            .to_owned(),
    ];
    let refused = refused.expect_err("nothing was sent").expect_err("gapless copy --create");
    made.iter().fold(refused, |refused, line| refused.expect_err(&format!("\n    {line}\n")));
    let databases = destination.query("SHOW DATABASES").to_string();
    assert!(!databases.contains("values"), "nothing was created: {databases}");

    let copy = gapless(dir.path(), &["copy", "export.gz", &location, "--create"]);
    let copy = copy.expect_status(0).expect_out("IDENTICAL").expect_out("superseded 1,839");
    made.iter().fold(copy, |copy, line| copy.expect_out(&format!("  created: {line}\n")));
    let held = policies(&destination, HOSTILE_DATABASE);
    let names: Vec<(&str, bool)> = held.iter().map(|(name, .., is)| (&name[..], *is)).collect();
    assert_eq!(names, [(HOSTILE_RPS[1], true), (HOSTILE_RPS[0], false)]);

    // The server itself agrees, and says what the export could not.
    source.restart();
    let verify = gapless(dir.path(), &["verify", &source.location(""), &location]);
    let verify = verify.expect_status(0).expect_out("IDENTICAL").expect_out("unprovable 0");
    verify.expect_out(&format!(
        "  settings differ: {HOSTILE_DATABASE}.{}: DURATION 7000d at the source, INF at the \
         destination; SHARD DURATION 1d at the source, 7d at the destination; DEFAULT no at the \
         source, yes at the destination\n",
        HOSTILE_RPS[1]
    ));
    // From server to server, settings go along.
    let third = Influxd::start();
    let copy = ["copy", &source.location(""), &third.location(""), "--create"];
    let copy = gapless(dir.path(), &copy).expect_status(0).expect_out("IDENTICAL");
    assert!(!copy.out().contains("settings differ"), "{}", copy.describe());
    for database in [HOSTILE_DATABASE, "plain_db"] {
        assert_eq!(policies(&third, database), policies(&source, database));
    }
}

#[test]
fn an_export_is_the_same_plain_by_zstd_and_without_a_header() {
    let dir = tempfile::tempdir().unwrap();
    let source = filled();
    let plain = dir.path().join("plain.lp");
    source.export(&[], &plain);
    let text = std::fs::read(&plain).unwrap();
    std::fs::write(dir.path().join("export.zst"), zstd::encode_all(&text[..], 1).unwrap()).unwrap();
    let destination = Influxd::start();
    let location = destination.location("");
    let copy = gapless(dir.path(), &["copy", "plain.lp", &location, "--create"]);
    copy.expect_status(0).expect_out("IDENTICAL").expect_out("already there 0");
    let copy = gapless(dir.path(), &["copy", "export.zst", &location]).expect_status(0);
    copy.expect_out("IDENTICAL").expect_out("sent 0 cells");

    let other = Influxd::start();
    for (at, (database, rp, _)) in namespaces().into_iter().enumerate() {
        let name = format!("{at}.lp");
        let file = dir.path().join(&name);
        source.export(&["-database", database, "-retention", rp, "-lponly"], &file);
        let head = std::fs::read(&file).unwrap();
        assert!(head.starts_with(b"cpu,"), "no header");
        let there = named(&destination, database, rp);
        gapless(dir.path(), &["verify", &name, &there]).expect_status(0).expect_out("IDENTICAL");
        let options = ["--db", database, "--rp", rp];
        let arguments = ["copy", &name, &other.location(""), "--create"];
        let copy = Gapless::new(arguments).args(options).arg("--quiet").dir(dir.path()).run();
        copy.expect_status(0).expect_out("IDENTICAL");
        let path = ["copy", &name, &named(&other, "by path", rp), "--create"];
        gapless(dir.path(), &path).expect_status(0).expect_out("IDENTICAL");
        gapless(dir.path(), &["verify", &there, &named(&other, database, rp)]).expect_status(0);
    }
}

#[test]
fn cat_of_a_server_is_its_export_cell_for_cell() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = filled();
    source.export(&[], &dir.path().join("all.lp"));
    let exported = namespaces().map(|(database, rp, _)| {
        let file = dir.path().join("one.lp");
        source.export(&["-database", database, "-retention", rp, "-lponly"], &file);
        std::fs::read(file).unwrap()
    });
    source.restart();
    let verify = gapless(dir.path(), &["verify", "all.lp", &source.location("")]);
    verify.expect_status(0).expect_out("IDENTICAL").expect_out("unprovable 0");
    for ((database, rp, _), exported) in namespaces().into_iter().zip(exported) {
        let cat = gapless(dir.path(), &["cat", &named(&source, database, rp)]).expect_status(0);
        let (ours, theirs) = (cells(&cat.stdout), cells(&exported));
        assert!(ours == theirs && ours.len() > 4_000, "{} and {}", ours.len(), theirs.len());
    }
    // And all of it in one text, with the settings.
    let cat = gapless(dir.path(), &["cat", &source.location("")]).expect_status(0);
    std::fs::write(dir.path().join("cat.lp"), &cat.stdout).unwrap();
    let other = Influxd::start();
    let copy = gapless(dir.path(), &["copy", "cat.lp", &other.location(""), "--create"]);
    copy.expect_status(0).expect_out("IDENTICAL");
    for database in [HOSTILE_DATABASE, "plain_db"] {
        assert_eq!(policies(&other, database), policies(&source, database));
    }
    gapless(dir.path(), &["verify", "all.lp", &other.location("")]).expect_status(0);
}

#[test]
fn one_field_of_three_types_in_three_shard_groups_arrives_from_an_export_and_from_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Influxd::start();
    source.create_database("db");
    for (week, value) in ["1i", "2.5", "\"three\n# lines\n\n\""].into_iter().enumerate() {
        let time = BASE + 7 * DAY * i64::try_from(week).unwrap();
        for series in 0..20 {
            source.write("db", format!("m,s={series} v={value},w={series}i {}", time + series));
        }
        source.flush();
        // One of them is overwritten, later in the export.
        source.write("db", format!("m,s=0 v={value},w=-1i {time}"));
    }
    source.stop();
    source.export(&["-compress"], &dir.path().join("e.gz"));
    let (first, second) = (Influxd::start(), Influxd::start());
    let copy = gapless(dir.path(), &["copy", "e.gz", &first.location(""), "--create"]);
    copy.expect_status(0).expect_out("IDENTICAL").expect_out("100 % of 120 cells");
    source.restart();
    let copy = ["copy", &source.location("db"), &second.location("db"), "--create"];
    let copy = gapless(dir.path(), &copy).expect_status(0).expect_out("IDENTICAL");
    copy.expect_out("100 % of 120 cells");
    for location in [source.location("db"), second.location("db")] {
        let verify = gapless(dir.path(), &["verify", &first.location("db"), &location]);
        verify.expect_status(0).expect_out("IDENTICAL").expect_out("matched 120");
    }
}

/// A stopped server with the database `db`, after its writes, and its export.
fn exported(dir: &Path, steps: impl FnOnce(&Influxd)) -> (Influxd, PathBuf) {
    let mut server = Influxd::start();
    server.create_database("db");
    steps(&server);
    server.stop();
    let export = dir.join("export.lp");
    server.export(&[], &export);
    (server, export)
}

/// Lines of data of an export.
fn data(export: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(export).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with(['#', 'C']));
    rows.map(str::to_owned).collect()
}

#[test]
fn an_export_repeats_overwritten_values_and_the_last_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, export) = exported(dir.path(), |server| {
        for value in 1..=3 {
            server.write("db", format!("m v={value}i 1"));
            server.flush();
        }
        server.write("db", "m v=4i 1");
        server.write("db", "m v=5i 1");
    });
    let values = [1, 2, 3, 4, 5].map(|value| format!("m v={value}i 1"));
    assert_eq!(data(&export), values);
    server.restart();
    let copy = gapless(dir.path(), &["copy", "export.lp", &server.location("")]).expect_status(0);
    copy.expect_out("IDENTICAL").expect_out("superseded 4").expect_out("already there 1 ");
}

#[track_caller]
fn delete(server: &Influxd, statement: &str) {
    let target = format!("/query?db=db&q={}", encode(statement));
    let reply = server.request("POST", &target, &[], b"").text();
    assert!(!reply.contains("error"), "{reply}");
}

#[test]
fn an_export_brings_back_what_was_deleted_from_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, export) = exported(dir.path(), |server| {
        server.write("db", "m v=1i 1\nm v=2i 2\nm v=3i 3");
        server.flush();
        delete(server, "DELETE FROM m WHERE time = 2");
        server.write("db", "m v=4i 4\nm v=5i 5");
        delete(server, "DELETE FROM m WHERE time = 5");
    });
    let line = |value: i64| format!("m v={value}i {value}");
    assert_eq!(data(&export), [1, 3, 4, 5].map(line), "5 was deleted, too");
    server.restart();
    assert_eq!(server.count("db", ""), 3);
    let verify = gapless(dir.path(), &["verify", "export.lp", &server.location("")]);
    let verify = verify.expect_status(1).expect_out("matched 3   missing_in_destination 1 ");
    verify.expect_out("v at 1970-01-01T00:00:00.000000005Z: missing_in_destination");
}

#[test]
fn an_export_lists_the_keys_of_a_write_in_any_order_and_the_digest_does_not_mind() {
    let dir = tempfile::tempdir().unwrap();
    let (server, export) = exported(dir.path(), |server| {
        let lines: String = (0..30).map(|at| format!("m,s={at} a={at},b=\"x\" {at}\n")).collect();
        server.write("db", lines);
    });
    let first = data(&export);
    let digest = |name: &str| {
        let out = gapless(dir.path(), &["copy", name, "null:"]).expect_status(0).out();
        out.split("digest ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    let of_first = digest("export.lp");
    let other = dir.path().join("other.lp");
    server.export(&[], &other);
    let second = data(&other);
    assert_ne!(first, second, "60 keys in the same order twice");
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(first), sorted(second));
    assert_eq!(of_first, digest("other.lp"));
}

/// A server does so itself, but only once it has been restarted: until then it shows what was
/// written, and its files cannot.
#[test]
fn an_export_splits_a_tag_at_the_separator_of_keys_and_verify_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Influxd::start();
    server.create_database("db");
    server.write("db", "m,a=b#!~#c v=1i 1\nm,a=b v=2i 2\nm,a=b f#!~#g=3i 3");
    let export = dir.path().join("export.lp");
    server.export(&[], &export);
    let mut lines = data(&export);
    lines.sort();
    assert_eq!(lines, ["m,a=b c#!~#v=1i 1", "m,a=b f#!~#g=3i 3", "m,a=b v=2i 2"]);
    let verify = gapless(dir.path(), &["verify", "export.lp", &server.location("")]);
    let verify = verify.expect_status(1).expect_out("missing_in_destination 1 ");
    verify.expect_out("c#!~#v at 1970").expect_out("matched 2 ");
    server.restart();
    let verify = gapless(dir.path(), &["verify", "export.lp", &server.location("")]);
    verify.expect_status(0).expect_out("IDENTICAL").expect_out("matched 3 ");
}

#[test]
fn an_export_during_a_backup_takes_old_files_for_the_newest_and_verify_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, export) = exported(dir.path(), |server| {
        server.write("db", "m v=1i 1\nn v=1i 1");
        server.flush();
        // What a backup that was cut short leaves behind: links to the files of its time.
        let shard = server.data_dir().join("data/db/autogen/1");
        let links = shard.join("1.tmp");
        std::fs::create_dir(&links).unwrap();
        let file = "000000001-000000001.tsm";
        std::fs::hard_link(shard.join(file), links.join(file)).unwrap();
        server.write("db", "m v=2i 1");
        server.flush();
    });
    let expected = ["m v=1i 1", "n v=1i 1", "m v=2i 1", "m v=1i 1", "n v=1i 1"];
    assert_eq!(data(&export), expected);
    server.restart();
    let verify = gapless(dir.path(), &["verify", "export.lp", &server.location("")]);
    let verify = verify.expect_status(1).expect_out("matched 1 ").expect_out("superseded 3 ");
    verify.expect_out("value_changed: source 1i, destination 2i");
}

/// What the stock client makes of an export in a server of its own, and what this command makes of
/// it in another; both as `SELECT` shows them.
fn imported(dir: &Path, export: &Path, q: &str) -> (Vec<String>, Vec<String>) {
    let (theirs, ours) = (Influxd::start(), Influxd::start());
    theirs.influx_cli_run(["-import", "-path", export.to_str().unwrap()]);
    let name = export.file_name().unwrap().to_str().unwrap();
    let copy = gapless(dir, &["copy", name, &ours.location(""), "--create"]);
    copy.expect_status(0).expect_out("IDENTICAL").expect_out("rejected 0");
    let shown = |server: &Influxd| {
        let reply = server.query(q);
        rows(&reply).iter().map(|row| row[1].as_str().unwrap().to_owned()).collect()
    };
    (shown(&theirs), shown(&ours))
}

#[test]
fn lines_inside_strings_which_the_stock_importer_doubles_or_drops_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let strings = ["one\ntwo", "one\n# two\nthree", "one\n\n\ntwo", "one\n#two\" x=\n"];
    let (_server, export) = exported(dir.path(), |server| {
        for (at, string) in (1..).zip(strings) {
            server.write("db", format!("m s=\"{}\" {at}", string.replace('"', "\\\"")));
        }
    });
    let (theirs, ours) = imported(dir.path(), &export, "SELECT s FROM db.autogen.m");
    assert_eq!(theirs[0], "one\n\ntwo", "a line feed is doubled");
    assert_eq!(theirs[1], "one\n\nthree", "a line that begins with # is dropped");
    assert_eq!(theirs[2], "one\n\ntwo", "blank lines are dropped");
    assert_ne!(theirs.get(3).map_or("", |string| string), strings[3]);
    assert_eq!(ours, strings);
}

#[test]
fn an_unterminated_last_line_which_the_stock_importer_drops_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, export) = exported(dir.path(), |server| {
        server.write("db", "m s=\"a\" 1\nm s=\"b\" 2");
    });
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, text.trim_end()).unwrap();
    let (theirs, ours) = imported(dir.path(), &export, "SELECT s FROM db.autogen.m");
    assert_eq!((theirs.len(), ours.len()), (1, 2));
}

#[test]
fn a_name_with_a_colon_at_which_the_stock_importer_cuts_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, export) = exported(dir.path(), |server| {
        server.query("CREATE RETENTION POLICY \"a:b\" ON db DURATION INF REPLICATION 1");
        write(server, "db", "a:b", "m s=\"x\" 1");
    });
    let (theirs, ours) = imported(dir.path(), &export, "SELECT s FROM db.\"a:b\".m");
    assert_eq!((theirs.len(), ours.len()), (0, 1));
}
