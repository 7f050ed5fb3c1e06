//! Files that the command makes: their owner's alone whatever the umask, and never written through
//! a link that somebody planted.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::Gapless;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ROWS: &str = "m,h=a v=1 1\nthis is no row\nm,h=a v=2 2\n";

/// Every file and folder below, with its mode; links are not followed.
fn modes(dir: &Path, found: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let held = path.symlink_metadata().unwrap();
        found.push((path.clone(), held.permissions().mode() & 0o777));
        if held.is_dir() {
            modes(&path, found);
        }
    }
}

/// Runs the command by a shell that lets everybody read what is made.
fn with_open_umask(dir: &Path, arguments: &str) -> common::Ran {
    let gapless = env!("CARGO_BIN_EXE_gapless");
    let script = format!("umask 000; exec {gapless} {arguments}");
    Gapless::program("sh", ["-c", &script]).dir(dir).stdin(ROWS).run()
}

#[test]
fn what_is_made_is_its_owners_alone_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    with_open_umask(dir.path(), "copy - a --report r.json --reject x.lp").expect_status(3);
    let mut found = Vec::new();
    modes(dir.path(), &mut found);
    let names = ["a/manifest.json", "r.json", "x.lp"];
    for name in names.map(|name| dir.path().join(name)) {
        assert!(found.iter().any(|(path, _)| *path == name), "{name:?}: {found:?}");
    }
    assert!(found.iter().any(|(path, _)| path.extension().is_some_and(|part| part == "zst")));
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
}

/// A directory with a file of ours, and links to it and to nothing at the names of outputs.
fn trapped(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("elsewhere/victim"), "mine").unwrap();
    for name in names {
        symlink(dir.path().join("elsewhere/victim"), dir.path().join(name)).unwrap();
        symlink(dir.path().join("elsewhere/new"), dir.path().join(format!("{name}.2"))).unwrap();
    }
    dir
}

fn assert_untouched(dir: &Path) {
    assert_eq!(fs::read(dir.join("elsewhere/victim")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(dir.join("elsewhere")).unwrap().count(), 1, "nothing was made there");
}

#[test]
fn a_link_at_the_name_of_a_reject_file_or_report_is_not_followed() {
    let dir = trapped(&["x.lp", "r.json"]);
    let ran = Gapless::new(["copy", "-", "null:", "--reject", "x.lp", "--report", "r.json"])
        .dir(dir.path())
        .stdin(ROWS)
        .run();
    ran.expect_status(3).expect_out("x.lp.3");
    assert_untouched(dir.path());
    let report = dir.path().join("r.json");
    assert!(report.symlink_metadata().unwrap().is_file(), "the link was replaced");
    assert!(fs::read_to_string(report).unwrap().contains("\"verdict\""));
}

#[test]
fn a_link_at_the_name_of_an_archive_is_refused() {
    for name in ["a", "a.partial"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("elsewhere")).unwrap();
        fs::write(dir.path().join("elsewhere/victim"), "mine").unwrap();
        symlink("elsewhere", dir.path().join(name)).unwrap();
        Gapless::new(["copy", "-", "a"]).dir(dir.path()).stdin("m v=1 1\n").run().expect_status(4);
        assert_untouched(dir.path());
    }
}
