//! The reject file: rows that were not moved, each with its reason.
//!
//! The file is line protocol: reasons stand in comment lines, rows follow as they were. A long
//! reason is written out once, with a number, and named by it from then on. The file is made when
//! the first row is rejected, never over an existing file, readable by its owner alone.

use crate::error::{Error, Result};
use crate::files;
use crate::series::Printable;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Distinct reasons that are counted apart; further ones are counted together.
const REASONS_MAX: usize = 100;
/// Bytes of a reason that is written out with each row.
const SHORT_MAX: usize = 60;
/// Numbered names that are tried before giving up.
const NAMES_MAX: u32 = 10_000;

/// Collects rejected rows. Shared by worker threads.
#[derive(Debug)]
pub struct Rejects {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<(PathBuf, BufWriter<File>)>,
    summary: Summary,
    /// Numbers of the long reasons that were written out.
    numbers: HashMap<String, usize>,
}

/// What was rejected so far.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows, or lines that are no rows.
    pub rows: u64,
    /// How many by reason, without their places.
    pub reasons: BTreeMap<String, u64>,
    /// The file, once there is one.
    pub file: Option<PathBuf>,
}

impl Rejects {
    /// Rejects go to `path`, or to a numbered name beside it where that exists; without a path they
    /// are only counted.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Records a row. `place` says where it comes from ("line 17, column 5 of x.lp"); `reason` is
    /// the same for rows that were rejected for the same cause.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn add(&self, place: &str, reason: &str, row: &[u8]) -> Result<()> {
        let mut state = self.lock();
        state.summary.rows += 1;
        let reasons = &mut state.summary.reasons;
        let counted = reasons.len() < REASONS_MAX || reasons.contains_key(reason);
        let key = if counted { reason } else { "other reasons" };
        *reasons.entry(key.to_owned()).or_default() += 1;
        let reason = written(&mut state.numbers, reason);
        if let (None, Some(path)) = (&state.file, &self.path) {
            let (path, file) = create(path)?;
            state.summary.file = Some(path.clone());
            state.file = Some((path, BufWriter::new(file)));
        }
        let Some((path, file)) = &mut state.file else { return Ok(()) };
        writeln!(file, "# {}: {}", comment(place), comment(&reason))
            .and_then(|()| file.write_all(row))
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| Error::io(path.clone(), "write", error))
    }

    /// What was rejected so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.lock().summary.clone()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(&self) -> Result<Summary> {
        let mut state = self.lock();
        if let Some((path, file)) = &mut state.file {
            file.flush()
                .and_then(|()| file.get_ref().sync_all())
                .and_then(|()| files::sync_folder(files::parent(path)))
                .map_err(|error| Error::io(path.clone(), "write", error))?;
        }
        Ok(state.summary.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reason as it stands beside a row: short ones as they are, longer ones with a number at first
/// and as that number later. Beyond the reasons that have numbers, their beginnings have to do.
fn written<'a>(numbers: &mut HashMap<String, usize>, reason: &'a str) -> Cow<'a, str> {
    if reason.len() <= SHORT_MAX {
        return reason.into();
    }
    if let Some(number) = numbers.get(reason) {
        return format!("reason {number}").into();
    }
    let number = numbers.len() + 1;
    if number > REASONS_MAX {
        return format!("{}...", &reason[..reason.floor_char_boundary(SHORT_MAX)]).into();
    }
    numbers.insert(reason.to_owned(), number);
    format!("reason {number}: {reason}").into()
}

/// Creates `path`, or `path.2`, `path.3` and so on where it exists.
fn create(path: &Path) -> Result<(PathBuf, File)> {
    for number in 1..NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        if number > 1 {
            name.push(format!(".{number}"));
        }
        match files::create_new(Path::new(&name)) {
            Ok(file) => return Ok((name.into(), file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::io(name, "create", error)
                    .with_next("name another place for rejected rows with --reject FILE"));
            }
        }
    }
    Err(Error::usage(format!("{} and thousands of numbered names beside it exist", path.display())))
}

/// Text for a comment line. A server's comments know quotes and backslashes, and would swallow the
/// line that follows.
fn comment(text: &str) -> String {
    Printable(text.as_bytes()).to_string().replace('"', "'").replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_as_they_were_behind_their_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(Some(dir.path().join("r.lp")));
        assert!(rejects.finish().unwrap().file.is_none());
        rejects.add("line 1", "bad \"quote\"\n\\", b"m v=\xff").unwrap();
        rejects.add("line 2", "bad \"quote\"\n\\", b"m w=").unwrap();
        let summary = rejects.finish().unwrap();
        assert_eq!((summary.rows, summary.reasons.len()), (2, 1));
        let text = std::fs::read(summary.file.unwrap()).unwrap();
        assert_eq!(text, b"# line 1: bad 'quote'/n/\nm v=\xff\n# line 2: bad 'quote'/n/\nm w=\n");
    }

    #[test]
    fn a_long_reason_is_written_out_once() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(Some(dir.path().join("r.lp")));
        let (short, long) = ("s".repeat(SHORT_MAX), "l".repeat(SHORT_MAX + 1));
        for (line, reason) in [(1, &long), (2, &short), (3, &long), (4, &short)] {
            rejects.add(&format!("line {line}"), reason, b"x").unwrap();
        }
        let summary = rejects.finish().unwrap();
        assert_eq!(summary.reasons, BTreeMap::from([(short.clone(), 2), (long.clone(), 2)]));
        let text = std::fs::read_to_string(summary.file.unwrap()).unwrap();
        let expected = format!(
            "# line 1: reason 1: {long}\nx\n# line 2: {short}\nx\n# line 3: reason 1\nx\n\
             # line 4: {short}\nx\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn reasons_beyond_those_that_are_counted_apart_are_cut_and_counted_together() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(Some(dir.path().join("r.lp")));
        let reason = |at: usize| format!("{at}{}", "\u{e9}".repeat(100));
        for at in 0..2 * REASONS_MAX {
            rejects.add("x", &reason(at), b"x").unwrap();
        }
        rejects.add("x", &reason(1), b"x").unwrap();
        let summary = rejects.finish().unwrap();
        assert_eq!(summary.reasons.len(), REASONS_MAX + 1);
        assert_eq!(summary.reasons[&reason(1)], 2, "a known reason is still counted apart");
        assert_eq!(summary.reasons["other reasons"], REASONS_MAX as u64);
        let text = std::fs::read_to_string(summary.file.unwrap()).unwrap();
        assert_eq!(text.lines().filter(|line| line.len() > 100).count(), REASONS_MAX);
        assert!(text.ends_with("# x: reason 2\nx\n"), "{text}");
    }

    #[test]
    fn an_existing_file_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.lp");
        std::fs::write(&path, "mine").unwrap();
        let rejects = Rejects::new(Some(path.clone()));
        rejects.add("line 1", "bad", b"x").unwrap();
        assert_eq!(rejects.finish().unwrap().file.unwrap(), dir.path().join("r.lp.2"));
        assert_eq!(std::fs::read(path).unwrap(), b"mine");
    }
}
