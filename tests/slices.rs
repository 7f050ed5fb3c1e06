//! Slices of a verification: together they find each difference once, and an empty one proves nothing.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::Gapless;
use serde_json::Value;
use std::fmt::Write;

/// 2020-07-19T00:00:00Z.
const START: i64 = 1_595_116_800_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

#[test]
fn the_slices_together_find_each_planted_difference_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (one, two, digest) = (path("one.lp"), path("two.lp"), path("one.digest"));
    let (mut source, mut copy, mut planted) = (String::new(), String::new(), Vec::new());
    for hour in 0..12 * 24 {
        let time = START + hour * HOUR;
        writeln!(source, "m,h=a v={hour}i {time}").unwrap();
        // One difference a day, at another hour of each.
        let is_planted = hour % 25 == 0;
        writeln!(copy, "m,h=a v={}i {time}", if is_planted { -1 } else { hour }).unwrap();
        planted.extend(is_planted.then_some(time));
    }
    std::fs::write(&one, source).unwrap();
    std::fs::write(&two, copy).unwrap();
    Gapless::new(["digest", &one, "-o", &digest, "--quiet"]).run().expect_status(0);

    let (mut found, mut cells, mut places) = (Vec::new(), 0, 0);
    for number in 1..=5 {
        let slice = format!("{number}/5");
        let verify = ["verify", &one, &two, "--json", "--quiet", "--slice", &slice];
        let report: Value =
            serde_json::from_str(&Gapless::new(verify).run().expect_status(1).out()).unwrap();
        let times = report["cells"].as_array().unwrap().iter();
        found.extend(times.map(|cell| cell["time"].as_i64().unwrap()));
        cells += report["counts"]["source"].as_i64().unwrap();
        let left_out = report["not_covered"].to_string();
        assert!(left_out.contains(&format!("the other slices: this was {slice}")), "{left_out}");
        let saved = ["verify", &digest, &two, "--json", "--quiet", "--slice", &slice];
        let report: Value =
            serde_json::from_str(&Gapless::new(saved).run().expect_status(1).out()).unwrap();
        places += report["places"].as_array().unwrap().len();
    }
    found.sort_unstable();
    assert_eq!((found.len(), cells, places), (planted.len(), 12 * 24, planted.len()));
    assert_eq!(found, planted);

    let empty = Gapless::new(["verify", &one, &two, "--quiet", "--slice", "1/1000"]).run();
    empty.expect_status(3).expect_out("nothing was compared");
    for slice in ["0/5", "6/5", "5", "x/y"] {
        Gapless::new(["verify", &one, &two, "--slice", slice]).run().expect_status(2);
    }
}
