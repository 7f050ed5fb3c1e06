//! The journal of a copy: what is to be done, and which units are proven, each recorded on disk when
//! it is.
//!
//! A copy that is started again with the same journal goes on where it was, after any interruption,
//! in another process or on another machine. Only units of which every cell is proven to be at the
//! destination are recorded: the others are compared again, which sends only what is lacking. Names
//! of files stand in it for people only; a source file is known again by its content.
//!
//! [`Journal::open`] refuses a journal of other work, of a newer version, damaged, or in use.

mod log;
mod record;

pub use record::{Done, Identity, Proof, Work};

use self::log::{Log, Opened};
use self::record::{At, Begun, Changed, FORMAT, Key, Record, UnitRecord, VERSION, key};
use crate::compare::Unit;
use crate::error::{Error, ErrorKind, Result};
use crate::window::{Window, format_time};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the file in the journal's directory.
const FILE: &str = "journal";

/// Now, nanoseconds since 1970 by this machine's clock.
#[must_use]
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// The journal of one copy. Shared by worker threads.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    work: Work,
    /// Bytes of a record that was not written to its end, and that was cut off.
    cut: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The file; `None` until the work begins.
    log: Option<Log>,
    begun: Option<Begun>,
    /// What was read, as it is now.
    source: Option<Identity>,
    units: HashMap<Key, Done>,
    proof: Option<Proof>,
    /// What is read now, where that is not what was read before.
    changed: Option<Identity>,
}

impl Journal {
    /// Opens the journal in `directory`, if there is one. Nothing is made yet.
    ///
    /// # Errors
    /// Where it is damaged, in use, of a newer version, or of other work than `work`.
    pub fn open(directory: PathBuf, work: Work) -> Result<Self> {
        let path = directory.join(FILE);
        let mut state = State::default();
        let mut cut_off = 0;
        if let Some(Opened { log, lines, cut }) = Log::open(&path)? {
            cut_off = cut;
            for (at, line) in lines.iter().enumerate() {
                let record =
                    serde_json::from_str(line).map_err(|error| unread(&path, at, &error))?;
                state.take(record);
            }
            match &state.begun {
                None if lines.is_empty() => {}
                None => return Err(no_journal(&path)),
                Some(begun) => check(begun, &work, &path)?,
            }
            state.log = Some(log);
        }
        Ok(Self { directory, work, cut: cut_off, state: Mutex::new(state) })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The window of the work that was begun, and when that was.
    #[must_use]
    pub fn begun(&self) -> Option<(Window, i64)> {
        self.state().begun.as_ref().map(|begun| (begun.window.into(), begun.time))
    }

    /// Bytes of the last record that were on disk without the rest of it, and are cut off: what it
    /// was to say is done again.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// How the work ended, if it did, and what it was done with.
    #[must_use]
    pub fn proof(&self) -> Option<(Proof, Option<Identity>)> {
        let state = self.state();
        state.proof.clone().map(|proof| (proof, state.source.clone()))
    }

    /// Number of units that are proven.
    #[must_use]
    pub fn units(&self) -> usize {
        self.state().units.len()
    }

    /// Looks whether the source is what it was when the work was begun. True where it is not: what
    /// was recorded is then forgotten.
    ///
    /// # Errors
    /// Where the journal was begun with another file.
    pub fn look_at_source(&self, now: Option<&Identity>) -> Result<bool> {
        let mut state = self.state();
        match (&state.source, now) {
            (Some(before), Some(now)) if !before.same_content(now) => {
                if before.path != now.path {
                    return Err(self.another_file(before, now));
                }
                state.changed = Some(now.clone());
                state.units.clear();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// What the destination needs to go on with the units that are recorded.
    #[must_use]
    pub fn stored(&self) -> Vec<serde_json::Value> {
        let state = self.state();
        let mut done: Vec<&Done> = state.units.values().collect();
        done.sort_by_key(|done| done.time);
        done.into_iter().filter_map(|done| done.stored.clone()).collect()
    }

    /// Begins the work, or goes on with it.
    ///
    /// # Errors
    /// Where the journal cannot be written.
    pub fn begin(&self, window: Window, source: Option<Identity>) -> Result<()> {
        let mut state = self.state();
        let time = now();
        if state.begun.is_none() {
            if state.log.is_none() {
                state.log = Some(Log::create(&self.directory.join(FILE))?);
            }
            let begun = Begun {
                format: FORMAT.into(),
                version: VERSION,
                gapless: env!("CARGO_PKG_VERSION").into(),
                time,
                work: self.work.clone(),
                window: window.into(),
                source,
            };
            return state.append(Record::Begun(begun));
        }
        state.append(Record::Resumed(At { time }))?;
        match state.changed.take() {
            Some(source) => state.append(Record::SourceChanged(Changed { time, source })),
            None => Ok(()),
        }
    }

    /// What is known of a unit, if it is proven.
    #[must_use]
    pub fn done(&self, unit: &Unit) -> Option<Done> {
        self.state().units.get(&key(unit)).cloned()
    }

    /// Records that a unit is proven; on disk when this returns.
    ///
    /// # Errors
    /// Where the journal cannot be written.
    pub fn record(&self, unit: &Unit, done: Done) -> Result<()> {
        self.state().append(Record::Unit(Box::new(UnitRecord::new(unit, done))))
    }

    /// Records that everything is proven.
    ///
    /// # Errors
    /// Where the journal cannot be written.
    pub fn finish(&self, text: String, json: String) -> Result<()> {
        self.state().append(Record::Finished(Box::new(Proof { time: now(), text, json })))
    }

    /// Removes the journal: it was only there in case of an interruption.
    ///
    /// # Errors
    /// Where its file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(log) = state.log.take() {
            let path = self.directory.join(FILE);
            fs::remove_file(&path).map_err(|error| Error::io(&path, "remove", error))?;
            // Until then nobody else may open it.
            drop(log);
        }
        match fs::remove_dir(&self.directory) {
            // Somebody else's file in it is none of ours.
            Err(error)
                if ![io::ErrorKind::NotFound, io::ErrorKind::DirectoryNotEmpty]
                    .contains(&error.kind()) =>
            {
                Err(Error::io(&self.directory, "remove", error))
            }
            _ => Ok(()),
        }
    }

    fn another_file(&self, before: &Identity, now: &Identity) -> Error {
        Error::usage(format!(
            "{}: the journal is of another source: {} with {} bytes, and not {} with {} bytes",
            self.directory.display(),
            before.path,
            before.size,
            now.path,
            now.size
        ))
        .with_next("name another journal with --journal DIR, or the source that it was begun with")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, record: Record) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Err(ErrorKind::Data("the journal was not begun, or is removed".into()).into());
        };
        log.append(&record.json()?)?;
        self.take(record);
        Ok(())
    }

    /// Follows a record.
    fn take(&mut self, record: Record) {
        match record {
            Record::Begun(begun) => {
                self.source.clone_from(&begun.source);
                self.begun = Some(begun);
            }
            Record::Resumed(_) => self.proof = None,
            Record::SourceChanged(changed) => {
                self.source = Some(changed.source);
                self.units.clear();
            }
            Record::Unit(unit) => {
                let (key, done) = unit.into_pair();
                self.units.insert(key, done);
            }
            Record::Finished(proof) => self.proof = Some(*proof),
        }
    }
}

fn check(begun: &Begun, work: &Work, path: &Path) -> Result<()> {
    if begun.format != FORMAT || begun.version > VERSION {
        let reason =
            format!("the journal has version {}, and this gapless knows {VERSION}", begun.version);
        return Err(Error::location(path.display(), reason)
            .with_next(format!("go on with gapless {} or newer", begun.gapless)));
    }
    let differences = work.differences(&begun.work);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: the journal is of other work, begun {}: {}",
        path.display(),
        format_time(begun.time),
        differences.join("; ")
    ))
    .with_next(
        "give the arguments that it was begun with, or name another journal with --journal DIR",
    ))
}

fn no_journal(path: &Path) -> Error {
    Error::location(path.display(), "is no journal of gapless: its first line says something else")
}

fn unread(path: &Path, at: usize, error: &serde_json::Error) -> Error {
    let reason = format!("line {} is intact and not understood: {error}", at + 1);
    Error::location(path.display(), reason)
        .with_next("was it written by a newer gapless? go on with that one")
}

#[cfg(test)]
mod tests;
