//! Writes an archive (the format is [`crate::archive`]'s).
//!
//! Owns `DIR.partial` while it is filled: units that are open, the files of those that are closed,
//! and the rename to `DIR` when everything is in place. A unit that is closed is on disk, and can
//! be read back before the archive is completed ([`ArchiveSink::reader`]).
//!
//! Refused: a directory that exists, another writer's `DIR.partial`, units that overlap, and
//! writes to a unit that is closed: rows would come twice, or out of order. Such a unit is
//! discarded and sent whole again ([`ArchiveSink::discard_unit`]). Files and folders are made anew, by
//! the rules of [`crate::files`]. A sink that is dropped before [`ArchiveSink::complete`] leaves
//! `DIR.partial` as it is; [`ArchiveSink::resume`] goes on with it.

mod resume;

pub use self::resume::Recorded;

use crate::archive::{self, Contents, Header, MANIFEST, Manifest, Part, Shared, Unit};
use crate::digest::node::Node;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::line::decode::{Decoder, Item, Options};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::sink::{Ack, Batch, Epoch, Sink};
use crate::source::archive::ArchiveSource;
use crate::types::TypeTable;
use crate::value::FieldType;
use crate::window::Window;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Compression level: zstd's own default.
const LEVEL: i32 = 3;

/// An archive that is being written.
#[derive(Debug)]
pub struct ArchiveSink {
    directory: PathBuf,
    partial: PathBuf,
    header: Header,
    part_plain_bytes: u64,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// Measurement, field and type, printable, and whether there are more.
type Fresh = (Vec<[String; 3]>, bool);

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<(Namespace, Window), Arc<Mutex<OpenUnit>>>,
    /// Number of the next part of a namespace and day.
    numbers: BTreeMap<(Namespace, String), u32>,
    /// Folders that were made, below the archive's directory.
    folders: BTreeSet<String>,
    /// Fields that the schema did not have before a unit was recorded, and whether it is cut.
    fresh: BTreeMap<(Namespace, Window), Fresh>,
    completed: bool,
    abandoned: bool,
}

impl ArchiveSink {
    /// Begins an archive that will be `directory`, and is `directory.partial` until then.
    ///
    /// # Errors
    /// Where either exists, or the latter cannot be made.
    pub fn create(directory: &Path, header: Header) -> Result<Self> {
        let partial = partial_of(directory)?;
        refuse_existing(directory)?;
        files::create_folder(&partial).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => partial_exists(&partial),
            io::ErrorKind::NotFound => Error::io(&partial, "create", error)
                .with_next("make the directory in which the archive is to stand"),
            _ => Error::io(&partial, "create", error),
        })?;
        let contents = contents_of(&header);
        Ok(Self {
            directory: directory.to_owned(),
            shared: Arc::new(Shared::new(partial.clone(), contents)),
            partial,
            header,
            part_plain_bytes: archive::PART_PLAIN_BYTES,
            state: Mutex::default(),
        })
    }

    /// Where the archive is until it is complete: what is left behind by a failure.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Reads the units that are closed, those included that will be closed later.
    #[must_use]
    pub fn reader(&self) -> ArchiveSource {
        ArchiveSource::over(Arc::clone(&self.shared))
    }

    /// Records the digest of a unit that is closed.
    ///
    /// # Errors
    /// Where no such unit is closed.
    pub fn record_digest(&self, namespace: &Namespace, window: Window, digest: Node) -> Result<()> {
        let mut place = self.shared.change();
        let entry = place.contents.get_mut(namespace);
        match entry.and_then(|entry| entry.units.get_mut(&window)) {
            Some(unit) => unit.digest = Some(digest),
            None => {
                let reason =
                    format!("{namespace}, {window}: no such unit of the archive is closed");
                return Err(ErrorKind::Data(reason).into());
            }
        }
        Ok(())
    }

    /// Records for the manifest's schema that a measurement has a field. True where that is new.
    pub fn record_field(
        &self,
        namespace: &Namespace,
        measurement: &[u8],
        field: &[u8],
        field_type: FieldType,
    ) -> bool {
        let measurement = Printable(measurement).to_string();
        let field = Printable(field).to_string();
        let mut place = self.shared.change();
        let entry = place.contents.entry(namespace.clone()).or_default();
        entry.record_field(measurement, field, field_type)
    }

    /// Forgets a unit, open or closed, and removes its files, so that it can be written anew.
    ///
    /// # Errors
    /// Where the archive is complete, or a file cannot be removed.
    pub fn discard_unit(&self, namespace: &Namespace, window: Window) -> Result<()> {
        let open = {
            let mut state = self.state();
            self.refuse_completed(&state)?;
            state.open.remove(&(namespace.clone(), window))
        };
        let mut files = Vec::new();
        if let Some(unit) = open {
            let mut unit = lock(&unit);
            unit.failed = true;
            files.extend(unit.parts.drain(..).map(|part| part.file));
            files.extend(unit.open.take().map(|open| open.file));
        }
        let mut place = self.shared.change();
        let entry = place.contents.get_mut(namespace);
        if let Some(unit) = entry.and_then(|entry| entry.units.remove(&window)) {
            files.extend(unit.parts.into_iter().map(|part| part.file));
        }
        drop(place);
        for file in files {
            let path = self.partial.join(file);
            fs::remove_file(&path).map_err(|error| Error::io(path, "remove", error))?;
        }
        Ok(())
    }

    /// Writes the manifest and gives the archive its name. From then on it never changes.
    ///
    /// # Errors
    /// Where units are still open, or something cannot be made durable: `DIR.partial` then
    /// remains.
    pub fn complete(&self) -> Result<()> {
        let mut state = self.state();
        self.refuse_completed(&state)?;
        if let Some((namespace, window)) = state.open.keys().next() {
            let reason = format!("{namespace}, {window}: the unit is still open");
            return Err(ErrorKind::Data(reason).into());
        }
        refuse_existing(&self.directory)?;
        let manifest = Manifest::new(&self.header, &self.shared.read().contents).seal()?;
        let path = self.partial.join(MANIFEST);
        let mut file = make_file(&path)?;
        file.write_all(&manifest).map_err(|error| Error::io(&path, "write", error))?;
        sync(&file, &path)?;
        for folder in &state.folders {
            sync_folder(&self.partial.join(folder))?;
        }
        sync_folder(&self.partial)?;
        self.disown()?;
        let mut place = self.shared.change();
        fs::rename(&self.partial, &self.directory)
            .map_err(|error| Error::io(&self.directory, "rename", error))?;
        place.root.clone_from(&self.directory);
        state.completed = true;
        files::sync_folder(files::parent(&self.directory))
            .map_err(|error| Error::io(&self.directory, "sync the name", error))
    }

    /// Removes `DIR.partial` where nothing was stored, so that it is not in the way of another
    /// try. Only what this sink made is removed; where a unit holds rows, or the archive is
    /// complete, everything is left as it is.
    ///
    /// # Errors
    /// Where a folder cannot be removed, as where another program put a file into it.
    pub fn abandon(&self) -> Result<()> {
        let mut state = self.state();
        let place = self.shared.change();
        let mut units = place.contents.values().flat_map(|entry| entry.units.values());
        let is_stored = !state.open.is_empty() || units.any(|unit| !unit.parts.is_empty());
        if state.completed || state.abandoned || is_stored {
            return Ok(());
        }
        let remove =
            |path: &Path| fs::remove_dir(path).map_err(|error| Error::io(path, "remove", error));
        // A folder stands in front of those inside it.
        while let Some(folder) = state.folders.last().cloned() {
            remove(&self.partial.join(&folder))?;
            state.folders.remove(&folder);
        }
        self.disown()?;
        remove(&self.partial)?;
        state.abandoned = true;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn refuse_completed(&self, state: &State) -> Result<()> {
        if state.completed {
            return Err(Error::location(
                self.directory.display(),
                "the archive is complete and is never changed",
            ));
        }
        if state.abandoned {
            return Err(Error::location(self.directory.display(), "the archive was abandoned"));
        }
        Ok(())
    }

    /// The open unit of a batch, which is new if its window is.
    fn unit(&self, namespace: &Namespace, window: Window) -> Result<Arc<Mutex<OpenUnit>>> {
        let mut state = self.state();
        self.refuse_completed(&state)?;
        let key = (namespace.clone(), window);
        if let Some(unit) = state.open.get(&key) {
            return Ok(Arc::clone(unit));
        }
        self.refuse_overlap(&state, namespace, window)?;
        self.make_folders(&mut state, namespace)?;
        let unit = Arc::new(Mutex::new(OpenUnit::new(namespace.clone(), window)));
        state.open.insert(key, Arc::clone(&unit));
        Ok(unit)
    }

    fn refuse_overlap(&self, state: &State, namespace: &Namespace, window: Window) -> Result<()> {
        let place = self.shared.read();
        let closed = place.contents.get(namespace);
        let closed = closed.and_then(|entry| entry.overlapping(window));
        let open = state
            .open
            .keys()
            .find(|(other, open)| other == namespace && open.intersect(window).is_some())
            .map(|(_, open)| *open);
        let reason = match (closed, open) {
            _ if window.is_empty() => "the window is empty".to_owned(),
            (Some(closed), _) if closed == window => {
                "this unit of the archive was closed: it must be discarded and sent whole".into()
            }
            (Some(other), _) | (None, Some(other)) => {
                format!("this unit of the archive overlaps another one, {other}")
            }
            (None, None) => return Ok(()),
        };
        Err(ErrorKind::Data(format!("{namespace}, {window}: {reason}")).into())
    }

    fn make_folders(&self, state: &mut State, namespace: &Namespace) -> Result<()> {
        let [database, rp] = archive::folders(namespace);
        for folder in [database.clone(), format!("{database}/{rp}")] {
            if !state.folders.contains(&folder) {
                let path = self.partial.join(&folder);
                files::create_folder(&path).map_err(|error| Error::io(path, "create", error))?;
                state.folders.insert(folder);
            }
        }
        Ok(())
    }

    fn next_file(&self, namespace: &Namespace, window: Window) -> String {
        let day = archive::day(window.start);
        let mut state = self.state();
        let number = state.numbers.entry((namespace.clone(), day)).or_default();
        let file = archive::part_file(namespace, window.start, *number);
        *number += 1;
        file
    }
}

impl Sink for ArchiveSink {
    fn write(&self, batch: Batch) -> Result<Ack> {
        if batch.body.is_empty() && batch.rows == 0 {
            return Ok(Ack::default());
        }
        if batch.body.last() != Some(&b'\n') {
            let (namespace, window) = (&batch.namespace, batch.window);
            let reason = format!("{namespace}, {window}: a batch does not end with a line feed");
            return Err(ErrorKind::Data(reason).into());
        }
        let unit = self.unit(&batch.namespace, batch.window)?;
        lock(&unit).write(self, batch)?;
        Ok(Ack { requests: 1, ..Ack::default() })
    }

    fn close_unit(&self, namespace: &Namespace, window: Window) -> Result<()> {
        let key = (namespace.clone(), window);
        let open = {
            let state = self.state();
            self.refuse_completed(&state)?;
            state.open.get(&key).map(Arc::clone)
        };
        let parts = match open {
            Some(unit) => lock(&unit).close(self)?,
            None => {
                let place = self.shared.read();
                let entry = place.contents.get(namespace);
                if entry.is_some_and(|entry| entry.units.contains_key(&window)) {
                    return Ok(());
                }
                drop(place);
                self.refuse_overlap(&self.state(), namespace, window)?;
                Vec::new()
            }
        };
        let unit = Unit { start: window.start, end: window.end, digest: None, parts };
        // Both under one lock, so that no write finds the unit neither open nor closed.
        let mut state = self.state();
        let mut place = self.shared.change();
        let entry = place.contents.entry(namespace.clone()).or_default();
        entry.units.insert(window, unit);
        state.open.remove(&key);
        Ok(())
    }

    /// Rows of a unit are sorted across batches.
    fn writers_max(&self) -> usize {
        1
    }

    fn reopen_unit(&self, namespace: &Namespace, window: Window) -> Result<bool> {
        self.discard_unit(namespace, window)?;
        Ok(true)
    }

    fn record_unit(
        &self,
        namespace: &Namespace,
        window: Window,
        digest: Node,
        types: &TypeTable,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        for (measurement, field, field_type) in types.fields() {
            if self.record_field(namespace, measurement, field, field_type) {
                let names = [measurement, field].map(|name| Printable(name).to_string());
                let [measurement, field] = names;
                fresh.push([measurement, field, field_type.name().to_owned()]);
            }
        }
        {
            let mut state = self.state();
            let known = state.fresh.entry((namespace.clone(), window)).or_default();
            known.0.extend(fresh);
            known.1 |= types.is_cut();
        }
        if types.is_cut() {
            self.shared.change().contents.entry(namespace.clone()).or_default().cut_schema();
        }
        self.record_digest(namespace, window, digest)
    }

    /// Files that are closed stay as they are: any process may go on with them.
    fn epoch(&self) -> Epoch {
        Epoch { number: 0, name: Some("files".into()) }
    }

    fn stored_unit(&self, namespace: &Namespace, window: Window) -> Result<Option<Value>> {
        self.stored(namespace, window).map(Some)
    }

    fn restore_unit(&self, namespace: &Namespace, window: Window, stored: &Value) -> Result<bool> {
        self.holds(namespace, window, stored)
    }
}

/// A unit that is being written, by one thread at a time.
#[derive(Debug)]
struct OpenUnit {
    namespace: Namespace,
    window: Window,
    parts: Vec<Part>,
    open: Option<OpenPart>,
    /// A write failed half done: only discarding the unit helps.
    failed: bool,
}

impl OpenUnit {
    fn new(namespace: Namespace, window: Window) -> Self {
        Self { namespace, window, parts: Vec::new(), open: None, failed: false }
    }

    fn write(&mut self, sink: &ArchiveSink, batch: Batch) -> Result<()> {
        self.begin_change()?;
        let bytes = batch.body.len() as u64;
        let full = |open: &OpenPart| open.plain_bytes + bytes > sink.part_plain_bytes;
        if self.open.as_ref().is_some_and(full) {
            self.finish_part()?;
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => OpenPart::create(sink, sink.next_file(&self.namespace, self.window))?,
        };
        self.open.insert(open).write(batch)?;
        self.failed = false;
        Ok(())
    }

    fn close(&mut self, sink: &ArchiveSink) -> Result<Vec<Part>> {
        self.begin_change()?;
        self.finish_part()?;
        let [database, rp] = archive::folders(&self.namespace);
        sync_folder(&sink.partial.join(database).join(rp))?;
        // The unit stays failed: nothing may be written after this.
        Ok(std::mem::take(&mut self.parts))
    }

    /// Marks the unit as failed until the change is done.
    fn begin_change(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.failed, true) {
            let (namespace, window) = (&self.namespace, self.window);
            let reason = format!(
                "{namespace}, {window}: an earlier write to this unit of the archive failed: it \
                 must be discarded and sent whole"
            );
            return Err(ErrorKind::Data(reason).into());
        }
        Ok(())
    }

    fn finish_part(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            self.parts.push(open.finish()?);
        }
        Ok(())
    }
}

/// A part that is being written.
struct OpenPart {
    file: String,
    path: PathBuf,
    encoder: zstd::Encoder<'static, Stored>,
    rows: u64,
    cells: u64,
    plain_bytes: u64,
    first_series: String,
    /// The newest batch, in which the last series stands.
    newest: Vec<u8>,
}

impl fmt::Debug for OpenPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPart({}, {} bytes)", self.file, self.plain_bytes)
    }
}

impl OpenPart {
    fn create(sink: &ArchiveSink, file: String) -> Result<Self> {
        let path = sink.partial.join(&file);
        let stored = Stored { file: make_file(&path)?, checksum: blake3::Hasher::new(), bytes: 0 };
        let mut encoder = zstd::Encoder::new(stored, LEVEL)
            .map_err(|error| Error::io(&path, "compress", error))?;
        encoder.include_checksum(true).map_err(|error| Error::io(&path, "compress", error))?;
        Ok(Self {
            file,
            path,
            encoder,
            rows: 0,
            cells: 0,
            plain_bytes: 0,
            first_series: String::new(),
            newest: Vec::new(),
        })
    }

    fn write(&mut self, batch: Batch) -> Result<()> {
        if self.plain_bytes == 0 {
            self.first_series = series(&batch.body, true);
        }
        self.encoder
            .write_all(&batch.body)
            .map_err(|error| Error::io(&self.path, "write", error))?;
        self.rows += batch.rows;
        self.cells += batch.cells;
        self.plain_bytes += batch.body.len() as u64;
        self.newest = batch.body;
        Ok(())
    }

    fn finish(self) -> Result<Part> {
        let last_series = series(&self.newest, false);
        let stored =
            self.encoder.finish().map_err(|error| Error::io(&self.path, "write", error))?;
        sync(&stored.file, &self.path)?;
        Ok(Part {
            file: self.file,
            rows: self.rows,
            cells: self.cells,
            bytes: stored.bytes,
            plain_bytes: self.plain_bytes,
            blake3: stored.checksum.finalize().to_hex().to_string(),
            first_series: self.first_series,
            last_series,
        })
    }
}

/// The series of the first or the last row of some lines, for people.
fn series(body: &[u8], first: bool) -> String {
    let mut decoder = Decoder::new(Options::default());
    decoder.feed(body);
    decoder.finish();
    let mut key = Vec::new();
    while let Ok(Some(item)) = decoder.next_item() {
        if let Item::Row(row) = item {
            key.clear();
            key.extend_from_slice(row.key);
            if first {
                break;
            }
        }
    }
    Printable(&key).to_string()
}

/// A file whose bytes are counted and hashed as they are written.
struct Stored {
    file: File,
    checksum: blake3::Hasher,
    bytes: u64,
}

impl Write for Stored {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refuse_existing(directory: &Path) -> Result<()> {
    match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(directory, "look up", error)),
        Ok(_) => Err(Error::location(
            directory.display(),
            "it exists already, and an archive is only ever made anew",
        )
        .with_next(format!(
            "name another directory, or compare with this one: gapless verify SOURCE {}",
            shell_word(directory)
        ))),
    }
}

/// Where an archive is until it is complete.
fn partial_of(directory: &Path) -> Result<PathBuf> {
    let Some(name) = directory.file_name() else {
        return Err(Error::usage(format!(
            "{} cannot be the name of a new directory",
            directory.display()
        )));
    };
    let mut partial = name.to_owned();
    partial.push(".partial");
    Ok(directory.with_file_name(partial))
}

/// What an archive holds before anything was written.
fn contents_of(header: &Header) -> Contents {
    let mut contents = Contents::new();
    for held in &header.namespaces {
        let entry = contents.entry(held.namespace.clone()).or_default();
        entry.settings.clone_from(&held.settings);
    }
    contents
}

fn partial_exists(partial: &Path) -> Error {
    Error::location(
        partial.display(),
        "an unfinished archive is in the way, which another command may still be writing",
    )
    .with_next(format!(
        "name another directory, or, if nothing is writing it, remove it: rm -r {}",
        shell_word(partial)
    ))
}

/// A path as one word of a POSIX shell that is no option.
fn shell_word(path: &Path) -> String {
    let mut word = path.display().to_string();
    if word.starts_with('-') {
        word.insert_str(0, "./");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    if word.bytes().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn make_file(path: &Path) -> Result<File> {
    files::create_new(path).map_err(|error| Error::io(path, "create", error))
}

fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| Error::io(path, "sync", error))
}

fn sync_folder(path: &Path) -> Result<()> {
    files::sync_folder(path).map_err(|error| Error::io(path, "sync", error))
}

#[cfg(test)]
mod tests;
