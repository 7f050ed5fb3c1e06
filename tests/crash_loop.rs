//! Copies that are killed, and servers that are killed under them, at random instants: the copy goes
//! on where it was, and in the end every cell is proven to be there.
//!
//! `GAPLESS_TEST_KILLS=200` kills so often (12 times by default), `GAPLESS_TEST_SEED` gives another
//! course of events; both are printed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code that prints its seed")]

mod common;

use common::{Gapless, Influxd};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Partitions that are filled at once, and that a kill may cost.
const OPEN: usize = 2;
/// Days, each a shard group of its own at the destination.
const DAYS: i64 = 40;
const DAY: i64 = 86_400_000_000_000;
const START: i64 = 1_600_041_600_000_000_000;
const ROWS_A_DAY: i64 = 250;

/// Numbers that look random, the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = setting("GAPLESS_TEST_SEED", 20_261_124);
        println!("{test}: GAPLESS_TEST_SEED={seed} GAPLESS_TEST_KILLS={}", kills());
        Self(seed)
    }

    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn pause(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.next(longest))
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

fn kills() -> u64 {
    setting("GAPLESS_TEST_KILLS", 12)
}

/// Rows of several types over [`DAYS`], in no order, some written twice.
fn lines() -> String {
    let mut text = String::new();
    for row in 0..DAYS * ROWS_A_DAY {
        let at = (row * 7_919) % (DAYS * ROWS_A_DAY);
        let time = START + at * (DAY / ROWS_A_DAY);
        let host = at % 7;
        text.push_str(&format!(
            "cpu,host=h{host} load={}.25,jobs={at}i,up={},note=\"n\\\"{at}\" {time}\n",
            at % 100,
            at % 3 == 0
        ));
        if at % 50 == 0 {
            text.push_str(&format!("cpu,host=h{host} load=-1.5 {time}\n"));
        }
    }
    text
}

struct Place {
    dir: TempDir,
    server: Influxd,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in.lp"), lines()).unwrap();
        Self { dir, server: Influxd::start() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> String {
        self.path("in.lp").to_str().unwrap().to_owned()
    }

    /// A copy into a new database of this place's server.
    fn course(&self, source: String, name: &str) -> Copy {
        self.database(name);
        let journal = self.path(&format!("{name}.journal"));
        Copy { source, destination: self.server.location(name), journal }
    }

    fn database(&self, name: &str) {
        self.server.query(&format!("CREATE DATABASE {name} WITH DURATION INF SHARD DURATION 1d"));
    }
}

/// A copy that can be started again.
struct Copy {
    source: String,
    destination: String,
    journal: PathBuf,
}

impl Copy {
    fn command(&self) -> Gapless {
        Gapless::new(["copy", &self.source, &self.destination, "--json", "--end", "2030-01-01"])
            .args(["--journal", self.journal.to_str().unwrap()])
    }

    /// Windows of the partitions that the journal says are proven.
    fn recorded(&self) -> Vec<(i64, i64)> {
        let Ok(text) = std::fs::read(self.journal.join("journal")) else { return Vec::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        let records = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        records
            .filter_map(|line| serde_json::from_str::<Value>(line.get(17..)?).ok())
            .filter(|record| record["record"] == "unit")
            .map(|record| {
                let bound = |name: &str| record["window"][name].as_i64().unwrap();
                (bound("start"), bound("end"))
            })
            .collect()
    }

    fn is_finished(&self) -> bool {
        let text = std::fs::read(self.journal.join("journal")).unwrap_or_default();
        String::from_utf8_lossy(&text).contains("\"record\":\"finished\"")
    }

    /// What the journal says is proven must be there: nothing that a verify misses lies in it.
    fn expect_no_false_claim(&self) {
        let recorded = self.recorded();
        if recorded.is_empty() || self.destination.starts_with('/') {
            return;
        }
        let ran = Gapless::new(["verify", &self.source, &self.destination, "--json", "--quiet"])
            .args(["--end", "2030-01-01"])
            .run();
        let report: Value = serde_json::from_str(&ran.out()).unwrap();
        for place in report["places"].as_array().unwrap() {
            let (start, end) = (place["start"].as_i64().unwrap(), place["end"].as_i64().unwrap());
            let claimed = recorded.iter().any(|(from, to)| start < *to && end > *from);
            assert!(!claimed, "the journal claims what is missing: {place}");
        }
    }

    /// Runs it, killing it at random instants before it ends, until it ends by itself. Gives its
    /// report and the number of kills.
    fn survive(&self, whole: Duration, most: u64, random: &mut Random) -> (Value, u64) {
        let mut killed = 0;
        loop {
            let before = self.recorded().len();
            let finished = self.is_finished();
            let mut running = self.command().spawn();
            if killed < most {
                std::thread::sleep(random.pause(whole));
            }
            let ran = if killed < most && running.is_running() {
                running.kill9()
            } else {
                running.wait().expect_status(0)
            };
            let after = self.recorded();
            let distinct: BTreeSet<_> = after.iter().collect();
            assert_eq!(distinct.len(), after.len(), "no partition is proven twice");
            assert!(after.len() >= before, "records are never lost");
            // It may have ended at the very moment of the kill.
            let Ok(report) = serde_json::from_str::<Value>(&ran.out()) else {
                killed += 1;
                if random.next(4) == 0 {
                    self.expect_no_false_claim();
                }
                continue;
            };
            let proven = report["resumed"]["proven_before"].as_u64();
            // A finished journal repeats what was said when it was.
            let same = |proven| {
                // An archive that has its name already is compared as a whole.
                let whole = self.destination.starts_with('/') && proven == 0;
                finished || whole || proven == before as u64
            };
            assert!(proven.is_none_or(same), "{}", ran.describe());
            return (report, killed);
        }
    }
}

/// Makes copies, each killed over and over until it ends, until there were [`kills`] kills.
fn kill_copies(test: &str, course: impl Fn(&str) -> Copy, check: impl Fn(&Copy, &Value, u64)) {
    let mut random = Random::new(test);
    let undisturbed = course("undisturbed").command().run().expect_status(0).elapsed;
    println!("{test}: an undisturbed copy takes {undisturbed:?}");
    let (mut killed, mut number) = (0, 0);
    while killed < kills() {
        let copy = course(&format!("x{number}"));
        let (report, times) = copy.survive(undisturbed, kills() - killed, &mut random);
        check(&copy, &report, times);
        (killed, number) = (killed + times, number + 1);
    }
    println!("{test}: {number} copies survived {killed} kills");
}

fn cells(report: &Value) -> (u64, u64) {
    (report["counts"]["source"].as_u64().unwrap(), report["counts"]["matched"].as_u64().unwrap())
}

fn expect_identical(copy: &Copy, report: &Value, killed: u64) {
    assert_eq!(report["verdict"], "identical", "{report}");
    let all = u64::try_from(DAYS * ROWS_A_DAY * 4).unwrap();
    assert_eq!(cells(report), (all, all));
    let sent = &report["sent"];
    let (sent, there) = (sent["cells"].as_u64().unwrap(), sent["already_there"].as_u64().unwrap());
    assert_eq!(sent + there, all, "every cell was sent or found there: {report}");
    // Each kill may leave what was sent of the partitions that were open.
    let most = killed * (OPEN as u64) * u64::try_from(ROWS_A_DAY * 4).unwrap();
    assert!(there <= most, "{there} cells were found there");
    Gapless::new(["verify", &copy.source, &copy.destination, "--quiet"])
        .args(["--end", "2030-01-01"])
        .run()
        .expect_status(0)
        .expect_out("IDENTICAL");
}

#[test]
fn copies_of_a_file_survive_being_killed() {
    let place = Place::new();
    let course = |name: &str| place.course(place.file(), name);
    kill_copies("file", course, expect_identical);
}

#[test]
fn copies_of_a_server_survive_being_killed() {
    let place = Place::new();
    place.database("s");
    place.server.write("s", lines());
    let course = |name: &str| place.course(place.server.location("s"), name);
    kill_copies("server", course, expect_identical);
}

#[test]
fn copies_of_an_archive_survive_being_killed() {
    let place = Place::new();
    let archive = place.path("archive").to_str().unwrap().to_owned();
    Gapless::new(["copy", &place.file(), &archive]).run().expect_status(0);
    let course = |name: &str| place.course(archive.clone(), name);
    kill_copies("archive", course, expect_identical);
}

#[test]
fn archives_in_the_making_survive_being_killed() {
    let place = Place::new();
    let course = |name: &str| Copy {
        source: place.file(),
        destination: place.path(name).to_str().unwrap().to_owned(),
        journal: place.path(&format!("{name}.journal")),
    };
    kill_copies("new archive", course, |copy, report, _| {
        assert_eq!(report["verdict"], "identical", "{report}");
        assert!(!Path::new(&format!("{}.partial", copy.destination)).exists());
        assert!(!Path::new(&copy.destination).join("owner").exists());
        Gapless::new(["verify", &copy.source, &copy.destination]).run().expect_status(0);
    });
}

/// A server that is killed and started again under a copy, once, twice and more in a row. Rows that
/// were under way are suspects: they have to be tried again.
#[test]
fn a_copy_survives_the_death_of_its_destination() {
    let (mut random, mut place) = (Random::new("destination"), Place::new());
    for round in 0..kills().div_ceil(4) {
        let name = format!("x{round}");
        let copy = place.course(place.file(), &name);
        let mut running = copy.command().arg("--retry-suspects").spawn();
        // Before the first contact a server that does not answer is more likely a wrong address.
        while running.is_running() && copy.recorded().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..=random.next(3) {
            std::thread::sleep(random.pause(Duration::from_millis(400)));
            place.server.kill9();
            place.server.restart();
        }
        let ran = running.wait().expect_status(0);
        let report: Value = serde_json::from_str(&ran.out()).unwrap();
        assert_eq!(report["verdict"], "identical", "{}", ran.describe());
        Gapless::new(["verify", &copy.source, &copy.destination, "--quiet"])
            .run()
            .expect_status(0)
            .expect_out("IDENTICAL");
    }
}
