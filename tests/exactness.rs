//! Whatever line protocol can hold goes from file to server and back unchanged, and what a server's
//! queries cannot show is never passed as proven.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd};
use std::path::Path;

/// Lines that go wrong in tools that are less exact, each a reason why.
const HOSTILE: &[&[u8]] = &[
    // A backslash that is part of a tag value, and the same series without it.
    b"paths,file=c\\temp v=1i 1000000000",
    b"paths,file=ctemp v=2i 1000000000",
    // A field named like a tag.
    b"named,host=a host=\"not the tag\",v=1 1000000000",
    // Strings with line feeds, quotes, backslashes, a comment's sign, commas, equals signs.
    b"text,k=1 s=\"two\nlines\" 1000000000",
    b"text,k=1 s=\"# no comment\n# at all\n\n\" 2000000000",
    b"text,k=1 s=\"say \\\"hi\\\" \\\\ done\",t=\"\" 3000000000",
    b"text,k=1 s=\"a,b=c d\",u=\"\\\\\" 4000000000",
    // Bytes that are not UTF-8, in a string and a tag.
    b"bytes s=\"\xff\xfe\x80\" 1000000000",
    b"bytes,tag=\xe9t\xe9 v=1 1000000000",
    // Integers beyond what a double holds, and both ends.
    b"numbers i=9007199254740993i,max=9223372036854775807i,min=-9223372036854775808i 1000000000",
    // Floats: negative zero, subnormals, extremes, many digits.
    b"numbers zero=-0,tiny=5e-324,big=1.7976931348623157e308,third=0.3333333333333333 2000000000",
    b"numbers whole=5,wide=123456789012345680000 3000000000",
    // Escapes in every place, unicode, quotes in names.
    b"we\\ ird\\,name,ta\\ g\\=k=va\\,l\\ ue\\= fi\\ eld\\,\\==1i 1000000000",
    "температура,місто=Київ значення=21.5 1000000000".as_bytes(),
    b"quote\"d,\"t\"=\"v\" f\"g=t 1000000000",
    // Times before 1970 and at both ends of what a server stores.
    b"ends v=1 -9223372036854775806",
    b"ends v=2 9223372036854775806",
    b"ends v=3 -1",
    b"ends v=4 0",
];

fn write_file(dir: &Path, name: &str, lines: &[&[u8]]) -> String {
    let path = dir.join(name);
    let mut bytes = lines.join(&b"\n"[..]);
    bytes.push(b'\n');
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The digest that a report prints, and the verdict.
fn digest(source: &str, destination: &str) -> (String, String) {
    let ran = Gapless::new(["verify", source, destination, "--json", "--quiet"]).run();
    let report: serde_json::Value = serde_json::from_str(&ran.out()).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    (text(&report["source_digest"]["digest"]), text(&report["verdict"]))
}

#[test]
fn hostile_lines_go_to_a_server_and_back_by_cat_with_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let file = write_file(dir.path(), "in.lp", HOSTILE);
    let server = Influxd::start();
    server.create_database("db");
    let location = server.location("db");

    let copy = Gapless::new(["copy", &file, &location, "--quiet"]).dir(dir.path()).run();
    copy.expect_status(0).expect_out("IDENTICAL").expect_out("unprovable 0");

    let everything = ["--end", "9223372036854775807"];
    let cat = Gapless::new(["cat", &location, "--quiet"]).args(everything).run().expect_status(0);
    let back = dir.path().join("back.lp");
    std::fs::write(&back, &cat.stdout).unwrap();
    let (ours, _) = digest(&file, &location);
    let (theirs, verdict) = digest(back.to_str().unwrap(), &location);
    assert_eq!(verdict, "identical");
    assert_eq!(ours, theirs);

    // And from server to server, whole.
    let other = Influxd::start();
    let copy = Gapless::new(["copy", "--create", &location, &other.location("db"), "--quiet"]);
    copy.args(everything).run().expect_status(0).expect_out("IDENTICAL");
}

/// A server acknowledges names of measurements and fields that are not UTF-8, and cannot open the
/// shard again after a restart: they are never sent, and everything else arrives and stays.
#[test]
fn names_that_would_make_a_shard_unreadable_are_set_aside_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = HOSTILE.to_vec();
    lines.insert(3, b"m\xff v=1 1000000000");
    lines.insert(7, b"bytes caf\xe9=1 2000000000");
    let file = write_file(dir.path(), "in.lp", &lines);
    let mut server = Influxd::start();
    server.create_database("db");
    let copy = Gapless::new(["copy", &file, &server.location("db"), "--quiet"]).dir(dir.path());
    let copy = copy.run().expect_status(3).expect_out("2 rows were rejected");
    copy.expect_out("is not UTF-8");
    server.restart();
    // After a restart the server itself no longer shows the first time there is.
    let kept: Vec<&[u8]> =
        HOSTILE.iter().filter(|line| !line.starts_with(b"ends v=1 ")).copied().collect();
    let kept = write_file(dir.path(), "kept.lp", &kept);
    let (_, verdict) = digest(&kept, &server.location("db"));
    assert_eq!(verdict, "identical");
}

#[test]
fn an_archive_keeps_hostile_lines_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = write_file(dir.path(), "in.lp", HOSTILE);
    let archive = dir.path().join("a");
    let archive = archive.to_str().unwrap();
    let copy = Gapless::new(["copy", &file, archive, "--quiet"]).run().expect_status(0);
    copy.expect_out("IDENTICAL");
    let cat = Gapless::new(["cat", archive, "--quiet"]).run().expect_status(0);
    let again = Gapless::new(["cat", "-", "--quiet"]).stdin(cat.stdout.clone()).run();
    assert_eq!(again.expect_status(0).stdout.len(), cat.stdout.len());
}

#[test]
fn what_queries_cannot_show_is_unprovable_and_never_passed() {
    let dir = tempfile::tempdir().unwrap();
    // Two raw keys of one identity; a redundant escape; a tag at which files split the key.
    let lines: &[&[u8]] = &[
        b"m=x v=1i 1000000000",
        b"m\\=x v=2i 2000000000",
        b"t,a=b#!~#c v=3i 1000000000",
        b"plain v=4i 1000000000",
    ];
    let file = write_file(dir.path(), "in.lp", lines);
    let server = Influxd::start();
    server.create_database("db");
    let copy = Gapless::new(["copy", &file, &server.location("db"), "--quiet"]).run();
    let copy = copy.expect_status(3).expect_out("INCOMPLETE").expect_out("unprovable 3");
    copy.expect_out("matched 1 ").expect_out("missing_in_destination 0");

    // Between a file and an archive both keys are seen, and proven.
    let archive = dir.path().join("a");
    let copy = Gapless::new(["copy", &file, archive.to_str().unwrap(), "--quiet"]).run();
    copy.expect_status(0).expect_out("IDENTICAL").expect_out("unprovable 0");
}
