//! Disks that fail: the command runs with the n-th operation of one kind failing on the files whose
//! path holds a text, for n = 1, 2, and so on until a run has none left to fail.
//!
//! The operations are those of the C library, which the command calls; `disk_fault.c`, built by the
//! tests with `cc`, stands before it. A machine without `cc` fails the test.

use super::run::Gapless;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What a fault answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ENOSPC.
    NoSpace,
    /// EIO.
    Broken,
    /// Half of what was asked for is done, which is no failure.
    Half,
}

/// Where a disk fails.
#[derive(Clone, Debug)]
pub struct DiskFault {
    /// `open`, `mkdir`, `read`, `write`, `fsync` or `rename`.
    pub kind: &'static str,
    /// Part of the absolute path of the files.
    pub path: String,
    pub answer: Answer,
    /// Once it failed, it fails for ever.
    pub stays: bool,
}

/// A fault for one run.
#[derive(Debug)]
pub struct Strike<'a> {
    fault: &'a DiskFault,
    at: u32,
    mark: PathBuf,
    _dir: tempfile::TempDir,
}

impl DiskFault {
    /// The fault at the `at`-th operation, from 1.
    pub fn at(&self, at: u32) -> Strike<'_> {
        let dir = tempfile::Builder::new().prefix("mark-").tempdir().expect("a dir");
        Strike { fault: self, at, mark: dir.path().join("struck"), _dir: dir }
    }
}

impl Strike<'_> {
    /// Has the run meet the fault.
    pub fn arm(&self, gapless: Gapless) -> Gapless {
        let errno = match self.fault.answer {
            Answer::NoSpace => "28",
            Answer::Broken => "5",
            Answer::Half => "0",
        };
        let gapless = gapless
            .env("LD_PRELOAD", library())
            .env("FAULT_KIND", self.fault.kind)
            .env("FAULT_PATH", &self.fault.path)
            .env("FAULT_AT", self.at.to_string())
            .env("FAULT_ERRNO", errno)
            .env("FAULT_MARK", &self.mark);
        if self.fault.stays { gapless.env("FAULT_STAYS", "1") } else { gapless }
    }

    /// True where the fault was met.
    pub fn struck(&self) -> bool {
        self.mark.exists()
    }
}

/// The library that stands before the C library, built once for this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/disk_fault.c");
        let built = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("disk_fault-{}.so", std::process::id()));
        let cc = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&built)
            .arg(source)
            .arg("-ldl")
            .output()
            .expect("these tests need a C compiler (cc)");
        assert!(cc.status.success(), "cc: {}", String::from_utf8_lossy(&cc.stderr));
        built
    })
}
