//! Real servers with tight limits: a copy completes or stops as documented, with exact counts.

use crate::common::{Gapless, Influxd};
use crate::work::{assert_accounts, report};
use std::path::Path;

const WEEK: i64 = 7 * 86_400_000_000_000;
const START: i64 = 1_700_000_000_000_000_000;

fn copy(dir: &Path, server: &Influxd, input: &str) -> Gapless {
    std::fs::write(dir.join("in.lp"), input).unwrap();
    let arguments = ["copy", "in.lp", &server.location("db"), "--report", "report.json"];
    Gapless::new(arguments).dir(dir)
}

#[test]
fn requests_larger_than_a_server_takes_are_cut_and_a_row_that_is_stays_behind() {
    let server = Influxd::builder().max_body_size(3_000).start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    let mut input: String = (0..2_000).map(|at| format!("m v={at}i {at}\n")).collect();
    input.push_str(&format!("m s=\"{}\" 5000\n", "x".repeat(4_000)));
    copy(dir.path(), &server, &input)
        .run()
        .expect_status(3)
        .expect_out("larger than the server takes");
    assert_accounts(dir.path(), &[("decoded", 2_001), ("sent", 2_000), ("refused", 1)]);
    assert_eq!(server.count("db", ""), 2_000);
}

#[test]
fn a_server_that_takes_one_write_at_a_time_gets_them_all() {
    let http = Influxd::builder().config("http", "max-concurrent-write-limit = 1");
    let server = http.config("http", "max-enqueued-write-limit = 1").start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    // More than one batch a shard group.
    let row = |at: i64| format!("m,h={} v={at}i {}\n", at % 100, START + at / 50_000 * WEEK + at);
    let input: String = (0..150_000).map(row).collect();
    let copy = copy(dir.path(), &server, &input).args(["--jobs", "16"]);
    copy.run().expect_status(0).expect_out("IDENTICAL");
    assert_accounts(dir.path(), &[("decoded", 150_000), ("sent", 150_000), ("refused", 0)]);
    assert_eq!(server.count("db", ""), 150_000);
}

#[test]
fn a_server_that_ends_long_queries_is_read_back_in_parts() {
    let server = Influxd::builder().config("coordinator", "query-timeout = \"300ms\"").start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    let input: String =
        (0..200_000).map(|at| format!("m,h={} a={at}i,b={at} {at}000\n", at % 3)).collect();
    copy(dir.path(), &server, &input).run().expect_status(0).expect_out("IDENTICAL");
    assert_accounts(dir.path(), &[("decoded", 400_000), ("sent", 400_000)]);
}

#[test]
fn what_a_retention_policy_would_drop_is_named_with_its_policy_and_not_sent() {
    let server = Influxd::start();
    server.query("CREATE DATABASE db WITH DURATION 1h SHARD DURATION 1h NAME short");
    let dir = tempfile::tempdir().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_nanos()).unwrap();
    let minute = 60_000_000_000;
    // Nothing near the floor: ten minutes of this hour, and five hours before two hours ago.
    let young = (0..10).map(|at| format!("m v={at},w={at}i {}\n", now - at * minute));
    let old = (0..300).map(|at| format!("m v={at},w={at}i {}\n", now - (120 + at) * minute));
    let input: String = young.chain(old).collect();
    let words = "600 cells older than";
    let policy = "the retention policy of db.short drops them";
    let planned = copy(dir.path(), &server, &input).arg("--dry-run").run();
    planned.expect_status(0).expect_out(words).expect_out(policy);
    assert_eq!(server.count("db", ""), 0);
    let ran = copy(dir.path(), &server, &input).run().expect_status(0);
    ran.expect_out(words).expect_out(policy).expect_err(policy).expect_out("IDENTICAL");
    assert_accounts(dir.path(), &[("decoded", 620), ("expired", 600), ("sent", 20)]);
    let expired = &report(dir.path())["expired"]["policies"];
    assert_eq!((&expired[0]["database"], &expired[0]["cells"]), (&"db".into(), &600.into()));
    assert_eq!(expired[0]["retention_policy"], "short");
    assert_eq!(server.count("db", ""), 20);
}

#[test]
fn a_type_that_the_server_cannot_hold_stops_a_copy_or_stays_behind() {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", format!("m,h=a v=\"text\" {START}"));
    let dir = tempfile::tempdir().unwrap();
    let input: String =
        (1..=50).map(|at| format!("m,h=b v={at},w={at}i {}\n", START + at)).collect();
    copy(dir.path(), &server, &input).run().expect_status(4).expect_err("50 float cells");
    assert_eq!(server.count("db", ""), 1);
    let reject = copy(dir.path(), &server, &input).arg("--on-type-conflict=reject");
    reject.run().expect_status(3).expect_out("50 rows were rejected");
    assert_accounts(dir.path(), &[("decoded", 100), ("sent", 50), ("refused", 50)]);
    let series = &report(dir.path())["rejected_series"][0];
    assert_eq!((&series["series"], &series["rows"]), (&"m,h=b".into(), &50.into()));
    assert_eq!((&series["start"], &series["end"]), (&(START + 1).into(), &(START + 51).into()));
}
