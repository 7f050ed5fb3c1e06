//! A directory in which a backup is being made: what is backed up, and that nobody else does it.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::plan::Namespace;
use crate::window::format_time;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Version of the mark.
const VERSION: u32 = 1;
/// The end of its name.
const MARK: &str = ".unfinished";
/// Most bytes of a mark.
const MARK_MAX: u64 = 64 << 10;

/// What is backed up, as the mark says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Version of this structure.
    version: u32,
    /// Version of gapless.
    gapless: String,
    /// The server, without secrets.
    source: String,
    /// Database; empty for all.
    database: String,
    /// Retention policy; empty for all.
    retention_policy: String,
    /// When it was begun, nanoseconds since 1970, by this machine's clock.
    time: i64,
}

impl Begun {
    /// The backup of what is `wanted` of a server, begun at a time.
    #[must_use]
    pub fn new(source: String, wanted: &Namespace, time: i64) -> Self {
        let Namespace { database, retention_policy } = wanted.clone();
        let gapless = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, gapless, source, database, retention_policy, time }
    }

    fn is_of(&self, other: &Self) -> bool {
        (&self.source, &self.database, &self.retention_policy)
            == (&other.source, &other.database, &other.retention_policy)
    }
}

/// A directory in which a backup is being made. Nobody else makes one there meanwhile.
#[derive(Debug)]
pub struct Unfinished {
    directory: PathBuf,
    /// `20060102T150405Z`.
    stamp: String,
    begun: Begun,
    resumed: bool,
    /// Locked until it is dropped.
    _mark: File,
}

impl Unfinished {
    /// Goes on with the backup that was begun in a directory, or begins one in an empty directory, which
    /// is made where it is missing.
    ///
    /// # Errors
    /// Where the directory holds anything else, a backup of something else, or one that another process is
    /// making; where it cannot be written.
    pub fn open(directory: &Path, wanted: Begun) -> Result<Self> {
        match files::create_folder(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(directory, "create", error));
            }
            _ => {}
        }
        let names = names(directory)?;
        let marks: Vec<&String> = names.iter().filter(|name| name.ends_with(MARK)).collect();
        match marks[..] {
            [] if names.is_empty() => Self::begin(directory, wanted),
            [] if names.iter().any(|name| name.ends_with(".manifest")) => {
                Err(Error::location(directory.display(), "holds a whole backup already").with_next(
                    "name another directory; gapless verify says whether the server still holds the same",
                ))
            }
            [] => Err(Error::location(
                directory.display(),
                "is not empty, and no backup was begun in it: nothing is written",
            )
            .with_next("name a directory that is empty, or does not exist")),
            [mark] => Self::go_on(directory, mark, &wanted),
            _ => Err(Error::location(directory.display(), "two backups were begun in it")
                .with_next("name another directory")),
        }
    }

    fn begin(directory: &Path, begun: Begun) -> Result<Self> {
        let stamp = stamp(begun.time);
        let path = directory.join(format!("{stamp}{MARK}"));
        let failed = |error| Error::io(&path, "write", error);
        let mut mark = files::create_new(&path).map_err(failed)?;
        lock(&mark, directory)?;
        let text = serde_json::to_string(&begun)
            .map_err(|error| ErrorKind::Data(format!("the mark cannot be written: {error}")))?;
        mark.write_all(text.as_bytes()).and_then(|()| mark.sync_all()).map_err(failed)?;
        files::sync_folder(directory).map_err(failed)?;
        if names(directory)?.len() != 1 {
            return Err(in_use(directory));
        }
        let directory = directory.to_owned();
        Ok(Self { directory, stamp, begun, resumed: false, _mark: mark })
    }

    fn go_on(directory: &Path, name: &str, wanted: &Begun) -> Result<Self> {
        let path = directory.join(name);
        let failed = |error| Error::io(&path, "read", error);
        let mark = files::open_existing(&path).map_err(failed)?;
        lock(&mark, directory)?;
        let mut text = Vec::new();
        (&mark).take(MARK_MAX).read_to_end(&mut text).map_err(failed)?;
        let begun: Option<Begun> = serde_json::from_slice(&text).ok();
        let Some(begun) = begun.filter(|begun| begun.version == VERSION) else {
            return Err(Error::location(
                path.display(),
                "does not say what is backed up here, or in the words of another version",
            )
            .with_next("name another directory"));
        };
        let stamp = name.strip_suffix(MARK).unwrap_or(name).to_owned();
        if !begun.is_of(wanted) || stamp != self::stamp(begun.time) {
            let Begun { source, database, .. } = &begun;
            let of = if database.is_empty() { String::new() } else { format!(" {database:?} of") };
            return Err(Error::location(
                directory.display(),
                format!("a backup of{of} {source} was begun in it, and not of what is asked for"),
            )
            .with_next("name another directory, or the same server, --db and --rp"));
        }
        // Files that a killed run was writing.
        for name in names(directory)?.iter().filter(|name| is_remains(name, &stamp)) {
            let remains = directory.join(name);
            fs::remove_file(&remains).map_err(|error| Error::io(&remains, "remove", error))?;
        }
        let directory = directory.to_owned();
        Ok(Self { directory, stamp, begun, resumed: true, _mark: mark })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The name of one of its files: `TIME.NAME`.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        format!("{}.{name}", self.stamp)
    }

    /// When it was begun, nanoseconds since 1970, by this machine's clock.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.begun.time
    }

    /// True where an earlier run began it.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Takes the mark away: the backup is whole.
    pub(super) fn remove(self) -> Result<()> {
        let path = self.directory.join(self.file("unfinished"));
        fs::remove_file(&path)
            .and_then(|()| files::sync_folder(&self.directory))
            .map_err(|error| Error::io(&path, "remove", error))
    }
}

/// True for what [`files::create_beside`] made for a file of the backup.
fn is_remains(name: &str, stamp: &str) -> bool {
    name.strip_prefix('.').is_some_and(|name| name.starts_with(stamp)) && name.ends_with(".partial")
}

fn lock(mark: &File, directory: &Path) -> Result<()> {
    match mark.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use(directory)),
        Err(TryLockError::Error(error)) => Err(Error::io(directory, "lock", error)),
    }
}

fn in_use(directory: &Path) -> Error {
    Error::location(directory.display(), "another process makes a backup in it")
        .with_next("wait until it has ended, or name another directory")
}

/// The time as portable backups have it in their names: whole seconds, rounded down.
fn stamp(time: i64) -> String {
    let text = format_time(time.div_euclid(1_000_000_000).saturating_mul(1_000_000_000));
    text.chars().filter(|letter| !matches!(letter, '-' | ':')).collect()
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io(directory, "list", error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_second_in_which_it_was_begun() {
        assert_eq!(stamp(1_595_116_805_999_999_999), "20200719T000005Z");
        assert_eq!(stamp(0), "19700101T000000Z");
    }
}
