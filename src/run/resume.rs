//! The journal of a copy as the arguments name it: where it is, what work it is of, and how a copy
//! that was interrupted goes on.

use crate::cli::CopyArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::journal::{Identity, Journal, Work};
use crate::location::{InfluxLocation, Location};
use crate::pipeline::Progress;
use crate::report::{Printed, Report, Resumed, Verdict, next};
use crate::side;
use crate::sink::archive::Recorded;
use crate::window::format_time;
use std::env;
use std::path::{Path, PathBuf};

/// How a copy is recorded.
#[derive(Debug)]
pub(super) struct Recording {
    journal: Journal,
    /// The operator named the place: the journal stays there as a proof.
    named: bool,
    /// There was no journal before.
    fresh: bool,
    /// The destination is a directory, of which an unfinished part may be there.
    files: bool,
}

/// Opens the journal of a copy, where it has one.
pub(super) fn open(
    arguments: &CopyArgs,
    source: &Location,
    target: &Location,
    progress: &dyn Progress,
) -> Result<Option<Recording>> {
    let proves = !arguments.dry_run && !arguments.no_read_back && *target != Location::Null;
    if !proves || *source == Location::Stdin {
        if arguments.journal.is_some() {
            let why = if proves {
                "standard input is gone once it was read"
            } else {
                "nothing is proven"
            };
            return Err(Error::usage(format!("--journal cannot be used here: {why}")));
        }
        if proves {
            progress.warn(
                "standard input cannot be read twice: this copy cannot be resumed; copy a file in its \
                 place to be able to",
            );
        }
        return Ok(None);
    }
    let work = work(arguments, source, target);
    let named = arguments.journal.is_some();
    let place = arguments.journal.clone().or_else(|| default_place(&work, source));
    let Some(place) = place else {
        progress.warn(
            "neither XDG_STATE_HOME nor HOME is set: only --journal DIR makes this copy resumable",
        );
        return Ok(None);
    };
    let journal = Journal::open(place, work)?;
    let fresh = journal.begun().is_none();
    Ok(Some(Recording { journal, named, fresh, files: matches!(target, Location::Path(_)) }))
}

impl Recording {
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What a finished journal has to say, where its source is not known to have changed.
    pub(super) fn proof(&self, source: &Location) -> Option<Printed> {
        let (proof, identity) = self.journal.proof()?;
        if let (Location::Path(path), Some(identity)) = (source, identity)
            && !side::is_unchanged(path, &identity)
        {
            return None;
        }
        let text = format!(
            "{}  proven {}; not re-read: {} is finished\n",
            proof.text,
            format_time(proof.time),
            self.journal.directory().display()
        );
        Some(Printed::kept(text, not_re_read(proof.json, proof.time), 0))
    }

    /// Says how a copy goes on that was begun before.
    pub(super) fn announce(&self, progress: &dyn Progress) {
        if self.journal.cut() > 0 {
            progress.warn(&format!(
                "{}: the last record was not written to its end ({} bytes) and is cut off",
                self.journal.directory().display(),
                self.journal.cut()
            ));
        }
        let Some((window, begun)) = self.journal.begun() else { return };
        progress.warn(&format!(
            "this goes on with the copy begun {} (window {window}, {} partitions proven; remove {} to \
             begin anew)",
            format_time(begun),
            self.journal.units(),
            self.journal.directory().display()
        ));
    }

    /// Looks whether the source is what it was, and says so where it is not.
    pub(super) fn look_at_source(
        &self,
        identity: Option<&Identity>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let known = self.journal.units();
        if self.journal.look_at_source(identity)? {
            progress.warn(&format!(
                "the source is another one than when the copy was begun: all of it is read again, and \
                 {known} partitions that were proven do not count"
            ));
        }
        Ok(())
    }

    /// Ends the work with its report, which says what earlier runs did.
    pub(super) fn finish(&self, mut report: Report, before: u64, units: u64) -> Result<Printed> {
        let begun = self.journal.begun().map(|(_, begun)| begun);
        report.resumed =
            begun.map(|begun| Resumed { begun, proven_before: before, partitions: units });
        let printed = report.printed()?;
        if !self.named && report.verdict != Verdict::Lost {
            // The verdict counts more than a journal that stays.
            drop(self.journal.remove());
        } else if self.named && printed.exit_status == 0 {
            self.journal.finish(printed.text.clone(), printed.json.clone())?;
        }
        Ok(printed)
    }

    /// What the destination needs to go on.
    pub(super) fn recorded(&self) -> Recorded {
        let begun = self.journal.begun().map_or(0, |(_, begun)| begun);
        Recorded { owner: begun.to_string(), units: self.journal.stored() }
    }

    /// True where there was no journal before.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Says how a copy goes on that failed on its way; `lists` where cells are listed that it created.
    pub(super) fn interrupted(&self, error: Error, lists: bool) -> Error {
        let interrupted = matches!(error.kind(), ErrorKind::Interrupted);
        if self.fresh && !self.files && !interrupted && !lists && self.journal.units() == 0 {
            // Nothing came of it: the next try begins with a window of its own.
            // Why it failed is what counts; what may be left of the journal does no harm.
            drop(self.journal.remove());
            return error;
        }
        if self.journal.begun().is_none() || matches!(error.kind(), ErrorKind::Usage(_)) {
            return error;
        }
        let words: Vec<String> =
            env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let Some(command) = next::resume(&words, self.journal.directory()) else { return error };
        let resume = if interrupted { command } else { format!("{command} goes on") };
        let next = error.next_step().map_or(resume.clone(), |next| format!("{next}; {resume}"));
        error.with_next(next)
    }
}

/// The report of a finished journal, with when it was proven.
fn not_re_read(json: String, time: i64) -> String {
    let Ok(serde_json::Value::Object(mut report)) = serde_json::from_str(&json) else {
        return json;
    };
    report.insert("proven".into(), format_time(time).into());
    report.insert("not_re_read".into(), true.into());
    serde_json::to_string_pretty(&report).map_or(json, |text| text + "\n")
}

/// The arguments that define the work. Jobs, rate, memory, secrets and nodes may change on the way.
fn work(arguments: &CopyArgs, source: &Location, target: &Location) -> Work {
    let common = &arguments.sides.common;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let list = |values: &[String]| {
        let mut values = values.to_vec();
        values.sort_unstable();
        values.join(", ")
    };
    let place = match source {
        // A file is known again by what it holds.
        Location::Path(_) => "a path".to_owned(),
        other => place_of(other),
    };
    let work = Work::default()
        .with("source", place)
        .with_nodes("source", &nodes_of(source))
        .with("destination", place_of(target))
        .with_nodes("destination", &nodes_of(target))
        .with("--start", text(&common.start))
        .with("--end", text(&common.end))
        .with("--db", text(&common.db))
        .with("--rp", text(&common.rp))
        .with("--measurement", list(&common.measurement))
        .with("--tag", list(&common.tag))
        .with("--exclude", list(&common.exclude))
        .with("--precision", common.precision.clone())
        .with("--default-time", text(&common.default_time))
        .with("--overwrite", if arguments.overwrite { "given" } else { "" })
        .with("--on-type-conflict", arguments.on_type_conflict.clone());
    match &arguments.undo_file {
        Some(file) => work.with("--undo-file", absolute(file).display().to_string()),
        None => work,
    }
}

/// A location by which work is told apart: whoever does it, and by whichever node.
fn place_of(location: &Location) -> String {
    match location {
        Location::Influx(influx) => {
            let (user, nodes) = (None, Vec::new());
            Location::Influx(InfluxLocation { user, nodes, ..influx.clone() }).to_string()
        }
        Location::Path(path) => absolute(path).display().to_string(),
        other => other.to_string(),
    }
}

fn nodes_of(location: &Location) -> Vec<String> {
    match location {
        Location::Influx(influx) => influx.nodes.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_unknown| path.to_owned())
}

/// Where the journal of some work is unless the operator says otherwise: the same for the same
/// arguments.
fn default_place(work: &Work, source: &Location) -> Option<PathBuf> {
    let directory =
        |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = directory("XDG_STATE_HOME")
        .or_else(|| directory("HOME").map(|home| home.join(".local").join("state")))?;
    let source = match source {
        Location::Path(path) => absolute(path).display().to_string(),
        _ => String::new(),
    };
    let id = blake3::hash(format!("{}{source}", work.text()).as_bytes()).to_hex();
    Some(state.join("gapless").join(&id[..16]))
}
