//! The reject file is given back: each row goes where it should have gone.

use crate::common::{Gapless, Influxd};

#[test]
fn rejected_rows_of_several_databases_go_back_to_where_they_belong() {
    let source = Influxd::start();
    let destination = Influxd::start();
    // A name that begins and ends in blanks, too: a CONTEXT line alone does not carry it.
    let databases = ["a", " b "];
    for server in [&source, &destination] {
        for (at, database) in databases.into_iter().enumerate() {
            server.create_database(database);
            server.query(&format!(
                "CREATE RETENTION POLICY \"keep {at}\" ON {database:?} DURATION 0s REPLICATION 1"
            ));
        }
    }
    for (at, database) in databases.into_iter().enumerate() {
        let rp = format!("keep {at}");
        for policy in ["autogen", &rp] {
            let lines = format!("m,in={at} v={at}.5,w=1i 7\nm,in={at} v={at}.25 8\n");
            assert_eq!(source.post_write(database, policy, lines, "ns").0, 204);
            assert_eq!(
                destination.post_write(database, policy, "m,in=x v=\"text\" 9", "ns").0,
                204
            );
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (source.location(""), destination.location(""));
    let copy = Gapless::new(["copy", &from, &to, "--on-type-conflict=reject"]).dir(dir.path());
    copy.run().expect_status(3).expect_out("8 rows were rejected");

    for database in databases {
        let form = format!("/query?db={}", crate::common::http::encode(database));
        let body = b"q=DROP%20MEASUREMENT%20m";
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(destination.request("POST", &form, &kind, body).status, 200);
    }
    let rejects = dir.path().join("gapless-rejected.lp");
    let text = std::fs::read_to_string(&rejects).unwrap();
    let back = Gapless::new(["copy", "gapless-rejected.lp", &to]).dir(dir.path());
    back.run().expect_status(0).expect_out("IDENTICAL");
    for (at, database) in databases.into_iter().enumerate() {
        for policy in ["autogen".to_owned(), format!("keep {at}")] {
            let query = format!("SELECT v, \"in\"::tag FROM {database:?}.{policy:?}.m");
            let reply = destination.query(&query);
            let rows = crate::common::influxd::rows(&reply);
            let (first, second) = (format!("{at}.5"), format!("{at}.25"));
            let shown: Vec<String> = rows.iter().map(|row| row[1].to_string()).collect();
            assert_eq!(shown, [first, second], "{database:?} {policy}: {text}");
            let tag = at.to_string();
            assert!(rows.iter().all(|row| row[2].as_str() == Some(&tag)), "{rows:?}");
        }
    }
    // With what the first copy would send now, both sides are the same.
    Gapless::new(["copy", &from, &to]).dir(dir.path()).run().expect_status(0);
    let verify = Gapless::new(["verify", &from, &to]).dir(dir.path());
    verify.run().expect_status(0).expect_out("IDENTICAL");
}

#[test]
fn a_line_with_an_open_quote_does_not_take_in_the_rows_behind_it() {
    let server = Influxd::builder().max_body_size(1_000).start();
    server.create_database("db");
    let dir = tempfile::tempdir().unwrap();
    let long = "x".repeat(2_000);
    // The server refuses the first row; the last line is open to the end of the input.
    let input = format!("m s=\"{long}\" 1\nm v=1 2\nm s=\"open 3\n");
    std::fs::write(dir.path().join("in.lp"), input).unwrap();
    let copy = Gapless::new(["copy", "in.lp", &server.location("db")]).dir(dir.path());
    copy.run().expect_status(3).expect_out("2 rows were rejected");
    let other = Influxd::start();
    other.create_database("db");
    let back = Gapless::new(["copy", "gapless-rejected.lp", &other.location("db")]);
    back.dir(dir.path()).run().expect_status(0).expect_out("1 cells");
    assert_eq!(other.count("db", ""), 1);
}
