//! The reject file: rows that were not moved, each with its reason.
//!
//! The file is line protocol: reasons stand in comment lines, rows follow as they were, behind
//! `# CONTEXT` lines that name the source's database and retention policy. Given to `copy` in the
//! place of the source, with the destination as it was, each row goes where it should have gone.
//! A long reason is written out once, with a number, and named by it from then on. The file is made
//! when the first row is rejected, never over an existing file, readable by its owner alone.

use crate::error::{Error, Result};
use crate::files;
use crate::influxql::create;
use crate::line;
use crate::plan::{Namespace, RpSettings};
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
/// Series that are counted apart, with each of their reasons.
const SERIES_MAX: usize = 1_000;
/// Bytes that the names of these may take.
const SERIES_BYTES_MAX: usize = 1 << 20;
/// Bytes that are shown of a row which cannot stand among others.
const SHOWN_MAX: usize = 400;

/// A row that is not moved.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    /// Where it belongs, as the source names it.
    pub namespace: &'a Namespace,
    /// Raw series key and nanoseconds, where it is a row.
    pub point: Option<(&'a [u8], i64)>,
    /// Where it comes from, for people ("line 17, column 5 of x.lp").
    pub place: &'a str,
    /// Why; the same for rows that were rejected for the same cause.
    pub reason: &'a str,
    /// Its line; empty where line protocol cannot express it.
    pub row: &'a [u8],
}

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
    /// Namespace of the rows that the file's end would take in.
    context: Namespace,
    /// Bytes of the names in the summary's series.
    series_bytes: usize,
}

/// What was rejected so far.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows, or lines that are no rows.
    pub rows: u64,
    /// How many by reason, without their places.
    pub reasons: BTreeMap<String, u64>,
    /// Where they lie, up to a limit.
    pub series: BTreeMap<Series, Extent>,
    /// Rows of further series, and lines that are no rows.
    pub elsewhere: u64,
    /// The file, once there is one.
    pub file: Option<PathBuf>,
}

/// A series with rejected rows, and one reason for which they were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// As the source names it.
    pub namespace: Namespace,
    /// Raw series key.
    pub key: Vec<u8>,
    /// The reason.
    pub reason: String,
}

/// How many rows, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub rows: u64,
    /// The earliest, nanoseconds.
    pub first: i64,
    /// The latest.
    pub last: i64,
}

impl Rejects {
    /// Rejects go to `path`, or to a numbered name beside it where that exists; without a path they
    /// are only counted.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Records a row.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn add(&self, rejected: &Rejected<'_>) -> Result<()> {
        let Rejected { namespace, place, reason, row, .. } = *rejected;
        let mut state = self.lock();
        let state = &mut *state;
        state.count(rejected);
        let reason = written(&mut state.numbers, reason);
        if let (None, Some(path)) = (&state.file, &self.path) {
            let (path, file) = create(path)?;
            state.summary.file = Some(path.clone());
            state.file = Some((path, BufWriter::new(file)));
        }
        let Some((path, file)) = &mut state.file else { return Ok(()) };
        let mut text = format!("# {}: {}\n", comment(place), comment(&reason)).into_bytes();
        let is_named = *namespace == state.context || announce(namespace, &mut text);
        if is_named && line::ends_with_its_line(row) {
            state.context.clone_from(namespace);
            text.extend_from_slice(row);
        } else {
            text.extend_from_slice(misfit(namespace, is_named, row).as_bytes());
        }
        text.push(b'\n');
        file.write_all(&text).map_err(|error| Error::io(path.clone(), "write", error))
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

impl State {
    fn count(&mut self, rejected: &Rejected<'_>) {
        let Rejected { namespace, point, reason, .. } = *rejected;
        let summary = &mut self.summary;
        summary.rows += 1;
        let counted = summary.reasons.len() < REASONS_MAX || summary.reasons.contains_key(reason);
        let reason = if counted { reason } else { "other reasons" };
        *summary.reasons.entry(reason.to_owned()).or_default() += 1;
        let Some((key, time)) = point else {
            summary.elsewhere += 1;
            return;
        };
        let (namespace, key, reason) = (namespace.clone(), key.to_vec(), reason.to_owned());
        let bytes = key.len() + reason.len();
        let series = Series { namespace, key, reason };
        if let Some(extent) = summary.series.get_mut(&series) {
            extent.rows += 1;
            extent.first = extent.first.min(time);
            extent.last = extent.last.max(time);
        } else if summary.series.len() < SERIES_MAX && self.series_bytes + bytes <= SERIES_BYTES_MAX
        {
            self.series_bytes += bytes;
            summary.series.insert(series, Extent { rows: 1, first: time, last: time });
        } else {
            summary.elsewhere += 1;
        }
    }
}

/// Writes the lines that say where the next row belongs; false where no lines can. What blanks at
/// the ends of a name mean is told by a statement.
fn announce(namespace: &Namespace, text: &mut Vec<u8>) -> bool {
    if !namespace.is_bare() {
        let Namespace { database, retention_policy } = namespace;
        let known = RpSettings::default();
        let policy = (!retention_policy.is_empty()).then_some((&**retention_policy, &known));
        let statement = create::database(database, policy);
        let Some(statement) = statement.ok().filter(|text| !text.contains("\\n")) else {
            return false;
        };
        text.extend_from_slice(format!("# DDL\n{statement}\n# DML\n").as_bytes());
    }
    text.extend_from_slice(namespace.context_lines().as_bytes());
    true
}

/// A comment in the place of a row that would take in the lines behind it, or of which no line can
/// say where it belongs.
fn misfit(namespace: &Namespace, is_named: bool, row: &[u8]) -> String {
    let why = if is_named {
        "a quote or backslash in it is open: it stands here as text"
    } else {
        "its database cannot be named here: it stands here as text"
    };
    let shown = comment_bytes(&row[..row.len().min(SHOWN_MAX)]);
    let namespace = comment(&format!("{:?} {:?}", namespace.database, namespace.retention_policy));
    format!("# {namespace}: {why}: {shown}")
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
    comment_bytes(text.as_bytes())
}

fn comment_bytes(text: &[u8]) -> String {
    Printable(text).to_string().replace('"', "'").replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(rejects: &Rejects, place: &str, reason: &str, row: &[u8]) {
        let namespace = &Namespace::default();
        rejects.add(&Rejected { namespace, point: None, place, reason, row }).unwrap();
    }

    #[test]
    fn rows_are_written_as_they_were_behind_their_reasons() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(Some(dir.path().join("r.lp")));
        assert!(rejects.finish().unwrap().file.is_none());
        add(&rejects, "line 1", "bad \"quote\"\n\\", b"m v=\xff");
        add(&rejects, "line 2", "bad \"quote\"\n\\", b"m w=");
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
            add(&rejects, &format!("line {line}"), reason, b"x");
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
            add(&rejects, "x", &reason(at), b"x");
        }
        add(&rejects, "x", &reason(1), b"x");
        let summary = rejects.finish().unwrap();
        assert_eq!(summary.reasons.len(), REASONS_MAX + 1);
        assert_eq!(summary.reasons[&reason(1)], 2, "a known reason is still counted apart");
        assert_eq!(summary.reasons["other reasons"], REASONS_MAX as u64);
        let text = std::fs::read_to_string(summary.file.unwrap()).unwrap();
        assert_eq!(text.lines().filter(|line| line.len() > 100).count(), REASONS_MAX);
        assert!(text.ends_with("# x: reason 2\nx\n"), "{text}");
    }

    #[test]
    fn rows_stand_behind_the_names_of_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(Some(dir.path().join("r.lp")));
        let row = |database: &str, retention_policy: &str, row: &[u8]| {
            let namespace = Namespace {
                database: database.to_owned(),
                retention_policy: retention_policy.to_owned(),
            };
            let (namespace, place, reason) = (&namespace, "x", "bad");
            rejects.add(&Rejected { namespace, point: None, place, reason, row }).unwrap();
        };
        row("", "", b"m v=1");
        row("a", "r", b"m v=2");
        row("a", "r", b"m v=3");
        row(" b", "r", b"m v=4");
        row("c\n", "r", b"m v=5");
        row("a", "r", b"m s=\"open");
        row("a", "r", b"m v=6");
        row("", "", b"m v=7");
        let text = std::fs::read_to_string(rejects.finish().unwrap().file.unwrap()).unwrap();
        let expected = "# x: bad\nm v=1\n\
            # x: bad\n# CONTEXT-DATABASE:a\n# CONTEXT-RETENTION-POLICY:r\nm v=2\n\
            # x: bad\nm v=3\n\
            # x: bad\n# DDL\nCREATE DATABASE \" b\" WITH NAME \"r\"\n# DML\n\
            # CONTEXT-DATABASE: b\n# CONTEXT-RETENTION-POLICY:r\nm v=4\n\
            # x: bad\n# 'c/n' 'r': its database cannot be named here: it stands here as text: m v=5\n\
            # x: bad\n# CONTEXT-DATABASE:a\n# CONTEXT-RETENTION-POLICY:r\n\
            # 'a' 'r': a quote or backslash in it is open: it stands here as text: m s='open\n\
            # x: bad\n# CONTEXT-DATABASE:a\n# CONTEXT-RETENTION-POLICY:r\nm v=6\n\
            # x: bad\n# CONTEXT-DATABASE:\n# CONTEXT-RETENTION-POLICY:\nm v=7\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn rows_are_counted_by_series_and_reason_up_to_a_limit() {
        let rejects = Rejects::new(None);
        let namespace = &Namespace::default();
        let add = |key: &str, time: i64, reason: &str| {
            let (point, row) = (Some((key.as_bytes(), time)), &b"x"[..]);
            rejects.add(&Rejected { namespace, point, place: "x", reason, row }).unwrap();
        };
        for (time, reason) in [(7, "one"), (-3, "one"), (5, "other")] {
            add("m,h=a", time, reason);
        }
        let found = rejects.summary();
        let extents: Vec<Extent> = found.series.into_values().collect();
        let one = Extent { rows: 2, first: -3, last: 7 };
        assert_eq!(extents, [one, Extent { rows: 1, first: 5, last: 5 }]);
        for at in 0..2 * SERIES_MAX {
            add(&format!("m,h={at}"), 1, "one");
        }
        add("m,h=a", 8, "one");
        let found = rejects.summary();
        assert_eq!(found.series.len(), SERIES_MAX);
        assert_eq!(found.elsewhere, SERIES_MAX as u64 + 2);
        let rows: u64 = found.series.values().map(|extent| extent.rows).sum();
        assert_eq!(rows + found.elsewhere, found.rows);
        let long = "k".repeat(SERIES_BYTES_MAX);
        let rejects = Rejects::new(None);
        let point = Some((long.as_bytes(), 1));
        rejects.add(&Rejected { namespace, point, place: "x", reason: "r", row: b"x" }).unwrap();
        assert_eq!((rejects.summary().series.len(), rejects.summary().elsewhere), (0, 1));
    }

    #[test]
    fn an_existing_file_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.lp");
        std::fs::write(&path, "mine").unwrap();
        let rejects = Rejects::new(Some(path.clone()));
        add(&rejects, "line 1", "bad", b"x");
        assert_eq!(rejects.finish().unwrap().file.unwrap(), dir.path().join("r.lp.2"));
        assert_eq!(std::fs::read(path).unwrap(), b"mine");
    }
}
