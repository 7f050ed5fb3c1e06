//! Backups and directories that lack a part, are older than they look, or bring back what was deleted;
//! snapshot ports that break off.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Gapless, Influxd, Ran};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const END: [&str; 2] = ["--end", "2030-01-01"];
const WEEK: i64 = 7 * 86_400_000_000_000;

fn run(command: &str, place: &Path, options: &[&str]) -> Ran {
    Gapless::new([command, place.to_str().unwrap(), "--quiet"]).args(END).args(options).run()
}

/// The lines that `cat` gives of a place.
fn lines(place: &Path, options: &[&str], status: i32) -> Vec<String> {
    let out = run("cat", place, options).expect_status(status).out();
    out.lines().filter(|line| line.starts_with("m ")).map(str::to_owned).collect()
}

/// The files of a directory whose names hold both texts, sorted.
fn files(directory: &Path, begin: &str, end: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = all
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(begin) && name.ends_with(end)
        })
        .collect();
    all.sort();
    all
}

/// A server with a database of points at 1, 2 and 3 ns in a file.
fn three_points() -> Influxd {
    let server = Influxd::start();
    server.create_database("d");
    server.write("d", "m v=1i 1\nm v=2i 2\nm v=3i 3");
    server.flush();
    server
}

/// Names and bytes of a tar.
fn unpacked(tar: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

fn pack<'a>(tar: &Path, files: impl Iterator<Item = &'a (String, Vec<u8>)>) {
    let mut builder = tar::Builder::new(fs::File::create(tar).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap();
}

#[test]
fn an_older_backup_in_several_numbers_does_not_bring_deleted_points_back() {
    let server = three_points();
    let dir = tempfile::tempdir().unwrap();
    let older = dir.path().join("older");
    server.backup(&["-database", "d"], &older);
    let delete = |time: i64| {
        let body = format!("db=d&q=DELETE FROM m WHERE time %3D {time}");
        let form = [("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(server.request("POST", "/query", &form, body.as_bytes()).status, 200);
    };
    delete(2);
    server.backup(&["-database", "d"], &older);
    assert_eq!(lines(&older, &[], 0), ["m v=1i 1", "m v=3i 3"]);
    delete(3);
    server.backup(&["-database", "d"], &older);
    assert_eq!(lines(&older, &[], 0), ["m v=1i 1"]);
    // A later number that holds what was deleted, and nothing else.
    let last = files(&older, "d.autogen.", ".02").remove(0);
    let content = unpacked(&last);
    pack(&last, content.iter().filter(|(name, _)| name.ends_with(".tombstone")));
    assert_eq!(lines(&older, &[], 0), ["m v=1i 1"]);
    // The file that it was deleted from is in none.
    for number in [".00", ".01"] {
        fs::remove_file(files(&older, "d.autogen.", number).remove(0)).unwrap();
    }
    let lost = run("cat", &older, &[]).expect_status(4);
    lost.expect_err(".tombstone").expect_err("without the TSM file");
    run("cat", &older, &["--salvage"]).expect_status(3).expect_err("the file is left out");
}

/// A server with two databases, and two portable backups of it in one directory: of both, then of one.
fn two_backups(dir: &Path) -> (Influxd, Vec<String>) {
    let server = three_points();
    server.create_database("e");
    server.write("e", "m v=5i 5");
    server.backup(&["-portable"], dir);
    // The name of a backup is its second.
    std::thread::sleep(Duration::from_millis(1_100));
    server.write("d", "m v=4i 4");
    server.backup(&["-portable", "-database", "d"], dir);
    let names = files(dir, "", ".manifest").into_iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (date, clock) = (&name[..8], &name[9..15]);
        let date = format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]);
        format!("{date}T{}:{}:{}Z", &clock[..2], &clock[2..4], &clock[4..])
    });
    let times: Vec<String> = names.collect();
    assert_eq!(times.len(), 2);
    (server, times)
}

#[test]
fn of_several_portable_backups_the_oldest_that_is_read_says_when_it_was_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, times) = two_backups(dir.path());
    let begun = |options: &[&str], time: &str| {
        let text = format!("what was written after {time}: the backup was begun then");
        run("inspect", dir.path(), options).expect_status(0).expect_out(&text);
    };
    begun(&["--db", "d"], &times[1]);
    begun(&["--db", "e"], &times[0]);
    begun(&[], &times[0]);
}

#[test]
fn an_older_backup_was_begun_at_the_time_of_its_oldest_file_at_the_latest() {
    let server = three_points();
    let dir = tempfile::tempdir().unwrap();
    let older = dir.path().join("older");
    server.backup(&["-database", "d"], &older);
    let put = |begin: &str, end: &str, seconds: u64| {
        let file = fs::File::options().write(true).open(files(&older, begin, end).remove(0));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        file.unwrap().set_modified(time).unwrap();
    };
    let says = |time: &str| {
        let text = format!("the backup was begun: at {time} at the latest");
        run("inspect", &older, &[]).expect_status(0).expect_out(&text);
    };
    put("meta.", ".00", 1_700_000_100);
    put("d.autogen.", ".00", 1_700_000_000);
    says("2023-11-14T22:13:20Z");
    put("d.autogen.", ".00", 1_700_000_200);
    says("2023-11-14T22:15:00Z");
}

#[test]
fn a_file_that_a_newer_backup_replaces_may_be_lost_and_the_other_way_round_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, times) = two_backups(dir.path());
    let compact = |time: &str| time.replace(['-', ':'], "");
    let tar = |time: &str| files(dir.path(), &compact(time), ".s2.tar.gz");
    let shards = |time: &str| files(dir.path(), &compact(time), ".tar.gz");
    let newer = shards(&times[1]).remove(0);
    let name = newer.file_name().unwrap().to_str().unwrap().to_owned();
    let older = dir.path().join(name.replace(&compact(&times[1]), &compact(&times[0])));
    assert!(older.is_file(), "{older:?} {:?}", tar(&times[0]));
    let kept = [fs::read(&older).unwrap(), fs::read(&newer).unwrap()];
    fs::remove_file(&older).unwrap();
    assert_eq!(lines(dir.path(), &["--db", "d"], 0).len(), 4);
    fs::write(&older, &kept[0]).unwrap();
    fs::remove_file(&newer).unwrap();
    assert_eq!(lines(dir.path(), &["--db", "d"], 3).len(), 3);
    let ran = run("inspect", dir.path(), &["--db", "d"]).expect_status(3);
    ran.expect_out("stands in its place").expect_out(&name).expect_out(&times[0]);
    run("inspect", dir.path(), &["--db", "e"]).expect_status(0).expect_nowhere("stands in");
    fs::remove_file(&older).unwrap();
    run("cat", dir.path(), &[]).expect_status(4).expect_err(&name).expect_err("not there");
    // Where damage is in a tar, its place is said.
    fs::write(&newer, &kept[1][..kept[1].len() / 2]).unwrap();
    run("cat", dir.path(), &["--db", "d"])
        .expect_status(4)
        .expect_err("decompressed")
        .expect_nowhere("byte 0:");
}

#[test]
fn a_portable_backup_of_one_database_does_not_hold_the_others_empty() {
    let server = three_points();
    server.create_database("e");
    server.write("e", "m v=5i 5");
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    server.backup(&["-portable", "-database", "d"], &backup);
    let all = run("inspect", &backup, &[]).expect_status(0);
    all.expect_out("d.autogen").expect_nowhere("e.autogen").expect_out("database e: it is not in");
    run("inspect", &backup, &["--db", "e"]).expect_status(4).expect_err("it holds d.autogen");
}

#[test]
fn a_shard_that_is_lost_is_said_to_be_and_one_that_may_never_have_been_is_no_fault() {
    let mut server = three_points();
    server.write("d", format!("m v=1i {}\nm v=9i {}", WEEK, 100 * WEEK));
    server.flush();
    let dir = tempfile::tempdir().unwrap();
    let older = dir.path().join("older");
    server.backup(&["-database", "d"], &older);
    server.stop();
    run("inspect", server.data_dir(), &[]).expect_status(0).expect_nowhere("not covered");
    let below = |part: &str| server.data_dir().join(part).join("d").join("autogen");
    let shards: Vec<String> = files(&below("data"), "", "")
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse::<u64>().ok())
        .map(|id| id.to_string())
        .collect();
    assert_eq!(shards.len(), 3, "{shards:?}");
    // Made with the week before it, as a server makes groups ahead; and far from all others.
    let (next, far) = (&shards[1], &shards[2]);
    let lose = |shard: &str| {
        fs::remove_dir_all(below("data").join(shard)).unwrap();
        fs::remove_dir_all(below("wal").join(shard)).unwrap();
    };
    lose(next);
    let idle = format!("1 shards of d.autogen ({next}): the meta store names them");
    run("inspect", server.data_dir(), &[]).expect_status(0).expect_out(&idle);
    // One without a group in the meta store is named.
    let (known, stray) = (below("data").join(&shards[0]), below("data").join("77"));
    fs::create_dir(&stray).unwrap();
    run("inspect", server.data_dir(), &[]).expect_status(0).expect_nowhere("77");
    let tsm = files(&known, "", ".tsm").remove(0);
    fs::copy(&tsm, stray.join(tsm.file_name().unwrap())).unwrap();
    run("inspect", server.data_dir(), &[]).expect_status(0).expect_out("shard 77 of d.autogen");
    lose(far);
    let lost = format!("shard {far} of d.autogen (");
    let ran = run("inspect", server.data_dir(), &[]).expect_status(3);
    ran.expect_out(&lost).expect_out("nothing is here: its files are lost");
    // Outside of what is asked for, it says nothing.
    let early = Gapless::new(["inspect", server.data_dir().to_str().unwrap(), "--quiet"]);
    early.args(["--end", "1971-01-01"]).run().expect_status(0).expect_nowhere(&lost);
    // Of a backup of the older form nothing tells which files there were.
    run("inspect", &older, &[]).expect_status(0);
    fs::remove_file(files(&older, &format!("d.autogen.{next:0>5}"), ".00").remove(0)).unwrap();
    let lost = format!("shard {next} of d.autogen (");
    run("inspect", &older, &[]).expect_status(3).expect_out(&lost);
}

#[test]
fn groups_that_a_server_makes_ahead_have_no_directory_and_are_no_fault() {
    let server = Influxd::builder()
        .config("shard-precreation", "check-interval = \"100ms\"")
        .config("shard-precreation", "advance-period = \"2h\"")
        .start();
    server.create_database("d");
    server.query(
        "CREATE RETENTION POLICY h ON d DURATION INF REPLICATION 1 SHARD DURATION 1h DEFAULT",
    );
    let (status, reply) = server.post_write("d", "h", "m v=1i", "ns");
    assert_eq!(status, 204, "{reply}");
    let groups = || {
        let meta = fs::read(server.data_dir().join("meta/meta.db")).unwrap();
        let meta = gapless::meta::decode(&meta).unwrap();
        let database = meta.databases.iter().find(|database| database.name == "d").unwrap();
        database.rps.iter().find(|policy| policy.name == "h").unwrap().groups.len()
    };
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while groups() < 2 {
        assert!(std::time::Instant::now() < until, "no group was made ahead");
        std::thread::sleep(Duration::from_millis(100));
    }
    let directories = files(&server.data_dir().join("data/d/h"), "", "").len();
    assert!(directories < groups(), "{directories} directories");
    let dir = tempfile::tempdir().unwrap();
    let (portable, older) = (dir.path().join("portable"), dir.path().join("older"));
    server.backup(&["-portable"], &portable);
    server.backup(&["-database", "d"], &older);
    for place in [server.data_dir(), &portable, &older] {
        run("inspect", place, &["--db", "d"]).expect_status(0).expect_nowhere("nothing is here");
    }
}

#[test]
fn a_key_that_names_no_field_is_damage_with_its_place_and_salvage_goes_on() {
    let mut server = three_points();
    server.write("d", format!("m v=1i {WEEK}"));
    server.flush();
    server.write("d", format!("m v=7i {}\nn w=8i {WEEK}", 50 * WEEK));
    server.kill9();
    let spoil = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.windows(4).rposition(|four| four == b"#!~#").unwrap();
        bytes[at + 3] = b'_';
        fs::write(path, bytes).unwrap();
    };
    let below = |part: &str| server.data_dir().join(part).join("d").join("autogen");
    let first = |part: &str, end: &str| {
        let shards = files(&below(part), "", "").into_iter();
        shards.flat_map(|shard| files(&shard, "", end)).next().unwrap()
    };
    let whole = lines(server.data_dir(), &[], 0).len();
    let tsm = first("data", ".tsm");
    spoil(&tsm);
    let ran = run("digest", server.data_dir(), &[]).expect_status(4);
    let ran =
        ran.expect_err("names no field").expect_err(tsm.file_name().unwrap().to_str().unwrap());
    ran.expect_nowhere("byte 0:").expect_err("--salvage");
    let left = lines(server.data_dir(), &["--salvage"], 3).len();
    assert!(left > 0 && left < whole, "{left} of {whole}");
    let ran = run("digest", server.data_dir(), &["--salvage"]).expect_status(3);
    ran.expect_out("the file is left out").expect_out("left out in all: 1 files");
    let log = files(&below("wal"), "", "").into_iter();
    let log = log
        .flat_map(|shard| files(&shard, "", ".wal"))
        .find(|path| fs::read(path).unwrap().windows(4).any(|four| four == b"#!~#"));
    let log = log.unwrap();
    spoil(&log);
    let name = log.file_name().unwrap().to_str().unwrap();
    fs::remove_file(&tsm).unwrap();
    run("digest", server.data_dir(), &[]).expect_status(4).expect_err(name).expect_err("no field");
    run("digest", server.data_dir(), &["--salvage"]).expect_status(3).expect_out(name);
}

/// A snapshot port in front of a real one: `fault` may change what is answered, by the type of the request
/// and how many of that type came before.
fn faulty_port(
    real: u16,
    fault: impl Fn(u8, usize, Vec<u8>) -> Vec<u8> + Send + 'static,
) -> (u16, std::sync::Arc<[AtomicUsize; 8]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = std::sync::Arc::<[AtomicUsize; 8]>::default();
    let counted = std::sync::Arc::clone(&counts);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut request = Vec::new();
            BufReader::new(&client).read_until(b'\n', &mut request).unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", real)).unwrap();
            server.write_all(&request).unwrap();
            let mut reply = Vec::new();
            server.read_to_end(&mut reply).unwrap();
            let kind = request[1];
            let before = counted[usize::from(kind)].fetch_add(1, Ordering::SeqCst);
            // The client may have gone.
            drop(client.write_all(&fault(kind, before, reply)));
            drop(client.shutdown(Shutdown::Write));
        }
    });
    (port, counts)
}

fn cat_port(port: u16) -> Ran {
    let location = format!("influxdb-snapshot://127.0.0.1:{port}/d");
    Gapless::new(["cat", location.as_str(), "--quiet"]).args(END).run()
}

fn rows(ran: &Ran) -> usize {
    ran.out().lines().filter(|line| line.starts_with("m v=")).count()
}

const SHARD: u8 = 0;
const BARRIER: u8 = 5;

#[test]
fn a_snapshot_port_that_breaks_off_is_asked_again_after_a_pause_and_then_it_is_an_error() {
    let server = three_points();
    let cut = |reply: Vec<u8>| reply[..reply.len() - 1024].to_vec();
    let twice = move |kind, before, reply| {
        if kind == SHARD && before < 2 { cut(reply) } else { reply }
    };
    let (port, counts) = faulty_port(server.snapshot_port(), twice);
    let begun = std::time::Instant::now();
    let ran = cat_port(port).expect_status(0);
    assert_eq!(rows(&ran), 3);
    assert!(counts[usize::from(SHARD)].load(Ordering::SeqCst) >= 3);
    // Half of 0.2 and of 0.4 s at least.
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    // Other bytes behind the end are no whole tar either.
    let more = |kind, before, mut reply: Vec<u8>| {
        if kind == SHARD && before == 0 {
            reply.extend(b"more");
        }
        reply
    };
    let (port, counts) = faulty_port(server.snapshot_port(), more);
    assert_eq!(rows(&cat_port(port).expect_status(0)), 3);
    assert!(counts[usize::from(SHARD)].load(Ordering::SeqCst) >= 2);
    let always = move |kind, _, reply| if kind == SHARD { cut(reply) } else { reply };
    let (port, counts) = faulty_port(server.snapshot_port(), always);
    cat_port(port).expect_status(4).expect_err("cut short").expect_err("5 tries");
    assert_eq!(counts[usize::from(SHARD)].load(Ordering::SeqCst), 5);
}

#[test]
fn a_snapshot_port_that_answers_nothing_is_waited_for_and_an_empty_tar_is_an_empty_shard() {
    let server = three_points();
    let busy = |kind, before, reply| match kind {
        BARRIER if before < 2 => Vec::new(),
        SHARD if before < 1 => Vec::new(),
        _ => reply,
    };
    let (port, counts) = faulty_port(server.snapshot_port(), busy);
    assert_eq!(rows(&cat_port(port).expect_status(0)), 3);
    assert!(counts[usize::from(BARRIER)].load(Ordering::SeqCst) >= 4);
    let empty = |kind, _, reply| if kind == SHARD { vec![0; 1024] } else { reply };
    let (port, _) = faulty_port(server.snapshot_port(), empty);
    let ran = cat_port(port).expect_status(3);
    assert_eq!(rows(&ran), 0);
    ran.expect_nowhere("cut short").expect_nowhere("not read");
}
