//! A server's data directory: `meta/meta.db`, `data/DB/RP/SHARD/`, `wal/DB/RP/SHARD/`, also while the
//! server runs.
//!
//! A running server moves points from the log into TSM files and replaces TSM files by others that hold
//! the same. So of each shard the log is read before the TSM files are listed, and the list is made
//! again when all of them are open: unless it is the same, everything is read again. Files that are open
//! stay readable when they are taken away. The last entry of the newest segment may be on its way: it is
//! looked at again, and an end that stays cut short is damage.

use super::Place;
use super::log::{End, Failure, Log, Replay};
use super::remarks::Remarks;
use super::shard::{Shard, StoredFile, advised};
use crate::error::{Damage, Error, ErrorKind, Result};
use crate::mapped::Bytes;
use crate::meta::{self, Meta};
use crate::plan::Namespace;
use crate::spill;
use crate::tsm::wal::Segment;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

/// How often a shard whose files change is read again.
const TRIES: u32 = 20;
/// Pauses between readings of a segment whose last entry is cut short.
const TAIL: [Duration; 4] = [Duration::from_millis(50); 4];
/// Bytes of memory for what a log comes to, at the least: of smaller files there would be too many.
const LOG_MIN: usize = 256 << 10;
/// Bytes of a segment that are copied to disk at a time.
const COPY: usize = 1 << 20;
/// Most bytes of a `meta.db`.
const META_MAX: u64 = 256 << 20;

/// Where the parts of a data directory are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The directory of `meta.db`.
    pub meta: PathBuf,
    /// The directory of the databases' TSM files.
    pub data: PathBuf,
    /// The directory of the databases' write-ahead log.
    pub wal: PathBuf,
}

/// Parts of a data directory that stand elsewhere and are named.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The directory of `meta.db`.
    pub meta: Option<PathBuf>,
    /// The directory of the write-ahead log.
    pub wal: Option<PathBuf>,
}

impl Parts {
    /// True where one is named.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.meta.is_some() || self.wal.is_some()
    }
}

impl Layout {
    /// The layout of a directory, if it is a data directory. Where a part is named, `root` may also be
    /// the directory of the TSM files; what is not named is then looked for beside it.
    ///
    /// # Errors
    /// Where a part is named and no data directory is found, or a part of it is missing: without its log
    /// or its files a server would seem to hold less.
    pub fn of(root: &Path, parts: &Parts) -> Result<Option<Self>> {
        let is_data = parts.is_given() && holds_databases(root);
        let base = match root.parent() {
            Some(parent) if is_data && root.file_name().is_some() => parent.to_owned(),
            _ if is_data => root.join(".."),
            _ => root.to_owned(),
        };
        let part = |named: &Option<PathBuf>, name| named.clone().unwrap_or_else(|| base.join(name));
        let data = if is_data { root.to_owned() } else { root.join("data") };
        let layout = Self { meta: part(&parts.meta, "meta"), data, wal: part(&parts.wal, "wal") };
        let lacks = |what: &str, next: &str| {
            Err(Error::location(root.display(), what.to_owned()).with_next(next))
        };
        if !layout.meta.join("meta.db").is_file() {
            if !parts.is_given() {
                return Ok(None);
            }
            let what =
                format!("is no data directory: there is no {}/meta.db", layout.meta.display());
            return lacks(
                &what,
                "--meta-dir DIR names the directory of meta.db; --meta-dir and \
                                 --wal-dir are for data directories alone",
            );
        }
        if !layout.data.is_dir() {
            let what = format!("lacks a part: there is no {}", layout.data.display());
            return lacks(
                &what,
                "name the directory that holds DATABASE/POLICY/SHARD as the source, with \
                                 --meta-dir DIR and --wal-dir DIR",
            );
        }
        if !layout.wal.is_dir() {
            let what = format!("lacks a part: there is no {}", layout.wal.display());
            return lacks(
                &what,
                "--wal-dir DIR names the directory of the write-ahead log; an empty one, \
                                 where there is none",
            );
        }
        Ok(Some(layout))
    }
}

impl Layout {
    /// The directories of a shard's TSM files and of its log.
    fn of_shard(&self, namespace: &Namespace, shard: u64) -> [PathBuf; 2] {
        [&self.data, &self.wal].map(|root| {
            let policy = root.join(&namespace.database).join(&namespace.retention_policy);
            policy.join(shard.to_string())
        })
    }
}

/// True for the directory of the databases' TSM files itself, false for the one above it, which has a
/// `data` with databases in it. A database may be called `data`.
fn holds_databases(root: &Path) -> bool {
    let data = root.join("data");
    !data.is_dir() || (!holds_shards(&data, 2) && holds_shards(&data, 1))
}

/// True where directories with a number for a name stand so deep below a directory.
fn holds_shards(directory: &Path, depth: u32) -> bool {
    let directories = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut directories = directories.map(|entry| entry.path()).filter(|path| path.is_dir());
    directories.any(|path| match depth {
        0 => path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()).is_some(),
        _ => holds_shards(&path, depth - 1),
    })
}

/// How a place of files is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pass over damage and count it, in place of an error.
    pub salvage: bool,
    /// Bytes of memory that the log of one shard may take.
    pub log_max: usize,
    /// Where goes what of a log does not fit.
    pub spill: spill::Place,
}

/// A data directory.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    layout: Layout,
    options: Options,
    unread: Arc<Remarks>,
    doubts: Remarks,
    /// Held while an entry is decompressed that takes more than the log of a shard may.
    large: Mutex<()>,
}

impl Directory {
    /// A data directory at `root`, whose parts are where `layout` says.
    #[must_use]
    pub fn new(root: PathBuf, layout: Layout, options: Options) -> Self {
        let (unread, doubts, large) = (Arc::default(), Remarks::default(), Mutex::default());
        Self { root, layout, options, unread, doubts, large }
    }

    fn shard(&self, namespace: &Namespace, id: u64) -> Result<Option<Shard>> {
        let [data, wal] = self.layout.of_shard(namespace, id);
        for _ in 0..TRIES {
            let (logged, log) = self.log(&wal)?;
            let before = list(&data, "tsm")?;
            match self.files(&before)? {
                Some(mut files) if list(&data, "tsm")? == before => {
                    files.extend(logged);
                    self.remark_bad(&data)?;
                    let none = !data.exists() && !wal.exists();
                    if !none && !data.exists() {
                        self.unread.add(format!(
                            "{}: the log of the shard is here, and the directory of its files is not",
                            data.display()
                        ));
                    }
                    return Ok((!none).then_some(Shard { files, log }));
                }
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(Error::from(ErrorKind::Moving(format!(
            "{}: its files changed each time they were read",
            data.display()
        )))
        .with_next("run again when the server is less busy, or read its snapshot port"))
    }

    /// Opens TSM files with their tombstones. `None` where one was taken away meanwhile.
    fn files(&self, paths: &[PathBuf]) -> Result<Option<Vec<StoredFile>>> {
        let mut files = Vec::new();
        for path in paths {
            let Some(file) = open(path)? else { return Ok(None) };
            match self.file(path, &file) {
                Err(error) if self.options.salvage => {
                    self.unread.leave_out_file(format!("{error}: the file is left out"));
                }
                opened => files.push(opened?),
            }
        }
        Ok(Some(files))
    }

    fn file(&self, path: &Path, file: &File) -> Result<StoredFile> {
        let bytes = Bytes::map(path, file)?;
        let tombstone = path.with_extension("tombstone");
        let tombstones = match open(&tombstone)? {
            Some(file) => Some((tombstone.clone(), Bytes::map(&tombstone, &file)?)),
            None => None,
        };
        let salvage = self.options.salvage.then(|| Arc::clone(&self.unread));
        StoredFile::open(path.to_owned(), bytes, tombstones, salvage).map_err(advised)
    }

    /// Follows the log of a shard: what of it went to disk, and the rest.
    fn log(&self, wal: &Path) -> Result<(Vec<StoredFile>, Log)> {
        let mut log =
            Replay::new(LOG_MIN.max(self.options.log_max / 2), self.options.spill.clone());
        let mut segments = list(wal, "wal")?;
        segments.sort_by_key(|path| number(path));
        if !segments.is_sorted() {
            self.doubts.add(format!(
                "{}: from _100000.wal on, a server that restarts follows the log in the order of its \
                 files' names, which is not that of writing: what was written twice or deleted may then \
                 be otherwise. It is read here in the order of writing",
                wal.display()
            ));
        }
        for (at, path) in segments.iter().enumerate() {
            self.segment(path, at + 1 == segments.len(), &mut log)?;
        }
        log.finish()
    }

    /// The bytes of a segment, which a server may be writing to: so they are copied, to disk where they
    /// are many.
    fn content(&self, path: &Path, file: &mut File) -> Result<Bytes> {
        let most = self.options.log_max / 2;
        let mut bytes = Vec::new();
        let mut read = |file: &mut File, most: usize| {
            bytes.clear();
            let read = file.take(most as u64).read_to_end(&mut bytes);
            read.map_err(|error| Error::io(path, "read", error))?;
            Ok::<_, Error>(std::mem::take(&mut bytes))
        };
        let begin = read(file, most)?;
        if begin.len() < most {
            return Ok(Bytes::Memory(begin));
        }
        let mut copy = self.options.spill.file()?;
        copy.append(&begin)?;
        drop(begin);
        loop {
            let more = read(file, COPY)?;
            if more.is_empty() {
                return copy.into_bytes();
            }
            copy.append(&more)?;
        }
    }

    fn segment(&self, path: &Path, newest: bool, log: &mut Replay) -> Result<()> {
        let mut pauses = TAIL.iter();
        let mut length = 0;
        loop {
            // A segment is taken away when all of it is in a TSM file, which is listed later.
            let Some(mut file) = open(path)? else { return Ok(()) };
            let bytes = self.content(path, &mut file)?;
            let bytes = bytes.as_ref();
            let large = Segment::largest(bytes) > self.options.log_max as u64;
            let _one_at_a_time =
                large.then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
            let grows = bytes.len() as u64 != std::mem::replace(&mut length, bytes.len() as u64);
            if newest
                && pauses.len() > 0
                && !Replay::ends_whole(bytes)
                && let Some(pause) = pauses.next()
            {
                thread::sleep(*pause);
                continue;
            }
            let followed = log.follow(bytes, self.options.salvage);
            let (end, skipped) = followed.map_err(|failure| match failure {
                Failure::Damage(damage) => advised(damage.in_file(path)),
                Failure::Other(error) => error,
            })?;
            if skipped.places > 0 {
                let text = format!(
                    "{}: {} bytes in {} places of the log cannot be read",
                    path.display(),
                    skipped.bytes,
                    skipped.places
                );
                self.unread.leave_out_bytes(text, skipped.bytes);
            }
            return match end {
                End::Whole => Ok(()),
                // It grew at every look: a server writes there, and what is incomplete is not
                // acknowledged yet.
                End::Incomplete(..) if newest && grows => Ok(()),
                End::Incomplete(offset, length) if self.options.salvage => {
                    let text = format!(
                        "{}, byte {offset}: the last entry of the log is cut short, {length} bytes",
                        path.display()
                    );
                    self.unread.leave_out_bytes(text, length);
                    Ok(())
                }
                End::Incomplete(offset, length) => {
                    let reason = format!("the last entry of the log is cut short: {length} bytes");
                    Err(advised(Damage::new(offset, reason).in_file(path)))
                }
            };
        }
    }

    /// Names the files that a server has set aside as damaged.
    fn remark_bad(&self, data: &Path) -> Result<()> {
        for path in list(data, "bad")? {
            self.unread.add(format!("{}: a server set it aside as damaged", path.display()));
        }
        Ok(())
    }
}

/// A directory whose log was written to not longer ago than this may be that of a running server.
const RECENT: Duration = Duration::from_secs(600);

impl Directory {
    /// True where a server may be using it: its log was written to a short while ago.
    #[must_use]
    pub fn is_recent(&self) -> bool {
        newest(&self.layout.wal, 4)
            .is_some_and(|time| time.elapsed().map_or(true, |since| since < RECENT))
    }
}

/// When the newest file below a directory was changed.
fn newest(directory: &Path, depth: u32) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).ok()?;
    entries
        .flatten()
        .filter_map(|entry| match entry.file_type().ok()?.is_dir() {
            true if depth > 0 => newest(&entry.path(), depth - 1),
            true => None,
            false => entry.metadata().ok()?.modified().ok(),
        })
        .max()
}

impl Place for Directory {
    fn name(&self) -> String {
        format!("data directory {}", self.root.display())
    }

    fn meta(&self) -> Result<Arc<Meta>> {
        read_meta(&self.layout.meta).map(Arc::new)
    }

    fn open(&self, namespace: &Namespace, shard: u64) -> Result<Option<Arc<Shard>>> {
        Ok(self.shard(namespace, shard)?.map(Arc::new))
    }

    fn unread(&self) -> Vec<String> {
        self.unread.texts()
    }

    fn has_times(&self) -> bool {
        true
    }

    fn touched(&self, namespace: &Namespace, shard: u64) -> Result<Option<i64>> {
        let directories = self.layout.of_shard(namespace, shard);
        let time = directories.iter().filter_map(|directory| newest(directory, 4)).max();
        // What cannot be a time is taken for the newest there is.
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let nanos = |time| since(time).and_then(|since| i64::try_from(since.as_nanos()).ok());
        Ok(time.map(|time| nanos(time).unwrap_or(i64::MAX)))
    }

    fn doubts(&self) -> Vec<String> {
        self.doubts.texts()
    }

    fn stored(&self, namespace: &Namespace) -> Result<BTreeSet<u64>> {
        let Namespace { database, retention_policy } = namespace;
        let mut stored = BTreeSet::new();
        for root in [&self.layout.data, &self.layout.wal] {
            let policy = root.join(database).join(retention_policy);
            let extension = if *root == self.layout.data { "tsm" } else { "wal" };
            for shard in numbered(&policy)? {
                if !list(&policy.join(shard.to_string()), extension)?.is_empty() {
                    stored.insert(shard);
                }
            }
        }
        Ok(stored)
    }
}

/// Reads the meta store in the directory of `meta.db`.
///
/// # Errors
/// Where it is not there, or damaged.
pub fn read_meta(directory: &Path) -> Result<Meta> {
    let path = directory.join("meta.db");
    let file = File::open(&path).map_err(|error| Error::io(&path, "open", error))?;
    let mut bytes = Vec::new();
    file.take(META_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(&path, "read", error))?;
    if bytes.len() as u64 > META_MAX {
        let what = format!("the size of {}", path.display());
        return Err(ErrorKind::Limit { what, max: format!("{} MiB", META_MAX >> 20) }.into());
    }
    meta::decode(&bytes).map_err(|damage| damage.in_file(path))
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "open", error)),
    }
}

/// The directories below one that have a number for a name.
fn numbered(directory: &Path) -> Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(directory, "list", error)),
    };
    let number = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.map_err(|error| Error::io(directory, "list", error))?;
        Ok(entry.file_name().to_str().and_then(|name| name.parse().ok()))
    };
    entries.map(number).filter_map(Result::transpose).collect()
}

/// The files of a directory with an extension, sorted by name: the order in which TSM files win.
fn list(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(directory, "list", error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(directory, "list", error))?;
        let path = entry.path();
        if path.extension().is_some_and(|one| one == extension) {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Number of a segment: they were written in this order. A server sorts them as text, and replays
/// `_100000` before `_99999`.
fn number(path: &Path) -> u64 {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem.trim_start_matches('_').parse().unwrap_or(u64::MAX)
}
