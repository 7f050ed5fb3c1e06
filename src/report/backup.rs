//! The report of `backup`: what is in it, what was left out, and what comes next.

use super::next::quote;
use super::text::figure;
use super::{Digest, Printed, json};
use crate::backup::Fetched;
use crate::digest::node::Node;
use crate::error::Result;
use crate::window::format_time;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

/// What the command knows about what it made.
#[derive(Debug)]
pub struct Made {
    /// The server, without secrets.
    pub source: String,
    /// Where the backup is.
    pub directory: PathBuf,
    /// The name of the digest file, and the digest of all that is in it.
    pub digest: Option<(String, Node)>,
    /// When it was begun, nanoseconds since 1970, by this machine's clock.
    pub time: i64,
    /// An earlier run began it.
    pub resumed: bool,
    /// All databases were asked for, of which the server's own is left out.
    pub internal_left_out: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// A backup.
#[derive(Debug, Serialize)]
pub struct BackupReport {
    /// Version of this structure.
    pub version: u32,
    /// `backup`.
    pub command: &'static str,
    /// `complete` or `incomplete`.
    pub verdict: &'static str,
    /// Exit status of the command.
    pub exit_status: u8,
    /// Why the verdict is no better, one reason a line.
    pub reasons: Vec<String>,
    /// The server, without secrets.
    pub source: String,
    /// Where the backup is.
    pub directory: String,
    /// When it was begun, nanoseconds since 1970: what is written later is the gap.
    pub begun: i64,
    /// Databases of which it holds shards.
    pub databases: Vec<String>,
    /// Shards.
    pub shards: u64,
    /// Shards that an earlier run had fetched.
    pub shards_before: u64,
    /// Shards that hold deletes which are not compacted: the stock tool restores them without.
    pub shards_with_deletes: u64,
    /// Bytes of the shards as the server gave them.
    pub bytes: u64,
    /// Bytes of the shards on disk.
    pub stored: u64,
    /// The name of the digest file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_file: Option<String>,
    /// Digest of all that it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What it does not hold, one remark a line.
    pub not_covered: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The next command.
    pub next: Option<String>,
}

impl BackupReport {
    /// The report of what was made.
    #[must_use]
    pub fn of(made: Made, fetched: &Fetched) -> Self {
        let files = &fetched.manifest.files;
        let databases: BTreeSet<&String> = files.iter().map(|file| &file.database).collect();
        let mut reasons: Vec<String> = fetched
            .gone
            .iter()
            .map(|shard| {
                format!("{shard}: the server had it when the backup was begun, and has it no more")
            })
            .collect();
        if files.is_empty() {
            reasons.push("the server has no files of what is wanted: nothing was backed up".into());
        }
        let whole = reasons.is_empty();
        let mut not_covered = vec![format!(
            "what was written after {}: the backup was begun then",
            format_time(made.time)
        )];
        if made.internal_left_out {
            not_covered.push("the server's own database _internal (--db _internal)".into());
        }
        let directory = made.directory.display().to_string();
        let (digest_file, digest) = made.digest.unzip();
        let next = (!files.is_empty())
            .then(|| format!("gapless gaps {} {}", quote(&made.source), quote(&directory)));
        Self {
            version: 1,
            command: "backup",
            verdict: if whole { "complete" } else { "incomplete" },
            exit_status: if whole { 0 } else { 3 },
            reasons,
            source: made.source,
            directory,
            begun: made.time,
            databases: databases.into_iter().cloned().collect(),
            shards: files.len() as u64,
            shards_before: fetched.before as u64,
            shards_with_deletes: fetched.tombstones as u64,
            bytes: files.iter().map(|file| file.size).sum(),
            stored: fetched.stored,
            digest_file,
            digest: digest.map(Digest::of),
            not_covered,
            seconds: made.elapsed.as_secs_f64(),
            next,
        }
    }

    /// The report as it is given out.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn printed(&self) -> Result<Printed> {
        Ok(Printed::kept(self.to_string(), json(self)?, self.exit_status))
    }
}

impl Display for BackupReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let word = if self.exit_status == 0 { "COMPLETE" } else { "INCOMPLETE" };
        let cells = self.digest.as_ref().map_or(0, |digest| digest.node.cells);
        writeln!(
            f,
            "{word}   {} shards of {} databases   {} cells   {} bytes, {} on disk   {:.1} s",
            figure(self.shards),
            figure(self.databases.len() as u64),
            figure(cells),
            figure(self.bytes),
            figure(self.stored),
            self.seconds
        )?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  {reason}"))?;
        writeln!(f, "  backup of {} in {}", self.source, self.directory)?;
        if self.shards_before > 0 {
            let before = figure(self.shards_before);
            writeln!(f, "  {before} shards had been fetched before an interruption")?;
        }
        if self.shards_with_deletes > 0 {
            writeln!(
                f,
                "  {} of the shards hold deletes that the server has not compacted: influxd restore leaves \
                 those out, and the deleted points come back; gapless copy does not, and gapless repair \
                 --delete-extra takes them out again",
                figure(self.shards_with_deletes)
            )?;
        }
        if let (Some(file), Some(digest)) = (&self.digest_file, &self.digest) {
            writeln!(f, "  digest {}   {file}", digest.digest)?;
        }
        self.not_covered.iter().try_for_each(|remark| writeln!(f, "  not covered: {remark}"))?;
        self.next.iter().try_for_each(|next| writeln!(f, "  next: {next}"))
    }
}
