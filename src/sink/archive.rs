//! Writes an archive (the format is [`crate::archive`]'s).
//!
//! Owns `DIR.partial` while it is filled: units that are open, the files of those that are closed,
//! and the rename to `DIR` when everything is in place. A unit that is closed is on disk, and can
//! be read back before the archive is completed ([`ArchiveSink::reader`]).
//!
//! Refused: a directory that exists, another writer's `DIR.partial`, units that overlap, and
//! writes to a unit that is closed: rows would come twice, or out of order. Such a unit is
//! discarded and sent whole again ([`ArchiveSink::discard_unit`]). Files are made anew (`O_EXCL`,
//! which follows no links), readable by their owner only. A sink that is dropped before
//! [`ArchiveSink::complete`] leaves `DIR.partial` as it is.

use crate::archive::{self, Contents, Header, MANIFEST, Manifest, Part, Shared, Unit};
use crate::digest::node::Node;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{Decoder, Item, Options};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::sink::{Ack, Batch, Sink};
use crate::source::archive::ArchiveSource;
use crate::types::TypeTable;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
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

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<(Namespace, Window), Arc<Mutex<OpenUnit>>>,
    /// Number of the next part of a namespace and day.
    numbers: BTreeMap<(Namespace, String), u32>,
    /// Folders that were made, below the archive's directory.
    folders: BTreeSet<String>,
    completed: bool,
}

impl ArchiveSink {
    /// Begins an archive that will be `directory`, and is `directory.partial` until then.
    ///
    /// # Errors
    /// Where either exists, or the latter cannot be made.
    pub fn create(directory: &Path, header: Header) -> Result<Self> {
        let Some(name) = directory.file_name() else {
            return Err(Error::usage(format!(
                "{} cannot be the name of a new directory",
                directory.display()
            )));
        };
        let mut partial_name = name.to_owned();
        partial_name.push(".partial");
        let partial = directory.with_file_name(partial_name);
        refuse_existing(directory)?;
        make_folder(&partial).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => partial_exists(&partial),
            io::ErrorKind::NotFound => Error::io(&partial, "create", error)
                .with_next("make the directory in which the archive is to stand"),
            _ => Error::io(&partial, "create", error),
        })?;
        let mut contents = Contents::new();
        for held in &header.namespaces {
            let entry = contents.entry(held.namespace.clone()).or_default();
            entry.settings.clone_from(&held.settings);
        }
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

    /// Records for the manifest's schema that a measurement has a field.
    pub fn record_field(
        &self,
        namespace: &Namespace,
        measurement: &[u8],
        field: &[u8],
        field_type: FieldType,
    ) {
        let measurement = Printable(measurement).to_string();
        let field = Printable(field).to_string();
        let mut place = self.shared.change();
        let entry = place.contents.entry(namespace.clone()).or_default();
        entry.record_field(measurement, field, field_type);
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
        let mut place = self.shared.change();
        fs::rename(&self.partial, &self.directory)
            .map_err(|error| Error::io(&self.directory, "rename", error))?;
        place.root.clone_from(&self.directory);
        state.completed = true;
        sync_folder(parent(&self.directory))
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
                make_folder(&path).map_err(|error| Error::io(path, "create", error))?;
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
        for (measurement, field, field_type) in types.fields() {
            self.record_field(namespace, measurement, field, field_type);
        }
        self.record_digest(namespace, window, digest)
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
            directory.display()
        ))),
    }
}

fn partial_exists(partial: &Path) -> Error {
    Error::location(
        partial.display(),
        "an unfinished archive is in the way, which another command may still be writing",
    )
    .with_next(format!(
        "name another directory, or, if nothing is writing it, remove it: rm -r {}",
        partial.display()
    ))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a folder that only its owner can enter.
fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a file that did not exist and that only its owner can read.
fn make_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Error::io(path, "create", error))
}

fn sync(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| Error::io(path, "sync", error))
}

/// Makes the names in a folder durable.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    sync(&folder, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Held, RpSettings};
    use crate::source::Source;
    use crate::window::DAY;
    use std::io::Read;

    fn namespace() -> Namespace {
        Namespace { database: "nab".into(), retention_policy: "auto/gen".into() }
    }

    fn header() -> Header {
        let settings =
            RpSettings { duration: 0, shard_duration: 7 * DAY, replication: 1, default: true };
        Header {
            window: Window { start: 0, end: 9 * DAY },
            source: "a test".into(),
            created: 0,
            namespaces: vec![Held { namespace: namespace(), settings: Some(settings) }],
        }
    }

    fn unit(day: i64) -> Window {
        Window { start: day * DAY, end: (day + 1) * DAY }
    }

    /// Rows of one series on one day.
    fn batch(day: i64, host: &str, rows: u64) -> Batch {
        let mut body = Vec::new();
        for row in 0..rows {
            let time = day * DAY + i64::try_from(row).unwrap();
            writeln!(body, "cpu,host={host} note=\"a\nb\",v={row}i {time}").unwrap();
        }
        Batch { namespace: namespace(), window: unit(day), body, rows, cells: 2 * rows }
    }

    struct Fixture {
        _dir: tempfile::TempDir,
        target: PathBuf,
        sink: ArchiveSink,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let sink = ArchiveSink::create(&target, header()).unwrap();
        Fixture { _dir: dir, target, sink }
    }

    fn plain(path: &Path) -> Vec<u8> {
        let mut content = Vec::new();
        let file = File::open(path).unwrap();
        zstd::Decoder::new(file).unwrap().read_to_end(&mut content).unwrap();
        content
    }

    fn rows(source: &ArchiveSource, window: Window) -> Result<usize> {
        let partition =
            crate::plan::Partition { namespace: namespace(), window, measurement: None };
        let mut reader = source.open(&partition)?;
        let mut rows = 0;
        while let Some(block) = reader.next_block()? {
            rows += block.rows();
        }
        Ok(rows)
    }

    #[test]
    fn a_part_is_the_plain_lines_with_a_checksum_of_the_stored_bytes() {
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(3, "a", 2)).unwrap();
        sink.write(batch(3, "b", 3)).unwrap();
        sink.close_unit(&namespace(), unit(3)).unwrap();
        sink.complete().unwrap();
        let path = target.join("nab/auto%2Fgen/1970-01-04.0000.lp.zst");
        assert_eq!(plain(&path), [batch(3, "a", 2).body, batch(3, "b", 3).body].concat());
        let contents = Manifest::read(&target).unwrap().contents(&target).unwrap();
        let part = &contents[&namespace()].units[&unit(3)].parts[0];
        let stored = fs::read(&path).unwrap();
        assert_eq!(part.blake3, blake3::hash(&stored).to_hex().to_string());
        assert_eq!((part.rows, part.cells, part.bytes), (5, 10, stored.len() as u64));
        assert_eq!(part.first_series, "cpu,host=a");
        assert_eq!(part.last_series, "cpu,host=b");
        assert!(contents[&namespace()].settings.as_ref().is_some_and(|known| known.default));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_an_archive() {
        use std::os::unix::fs::PermissionsExt;
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(0, "a", 2)).unwrap();
        sink.close_unit(&namespace(), unit(0)).unwrap();
        sink.complete().unwrap();
        let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode();
        for folder in ["", "nab", "nab/auto%2Fgen"] {
            assert_eq!(mode(folder) & 0o777, 0o700, "{folder}");
        }
        for file in [MANIFEST, "nab/auto%2Fgen/1970-01-01.0000.lp.zst"] {
            assert_eq!(mode(file) & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn what_exists_is_never_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let refusal = || {
            let error = ArchiveSink::create(&target, header()).unwrap_err();
            assert!(error.next_step().is_some());
            error.to_string()
        };
        fs::create_dir(&target).unwrap();
        assert!(refusal().contains("exists already"));
        fs::remove_dir(&target).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("nowhere", &target).unwrap();
            assert!(refusal().contains("exists already"));
            fs::remove_file(&target).unwrap();
        }
        let sink = ArchiveSink::create(&target, header()).unwrap();
        assert!(refusal().contains("unfinished archive"));
        fs::create_dir(&target).unwrap();
        assert!(sink.complete().unwrap_err().to_string().contains("exists already"));
        assert!(sink.partial().is_dir());
        for name in ["/", "..", "a/.."] {
            assert!(ArchiveSink::create(Path::new(name), header()).is_err(), "{name}");
        }
        let deep = dir.path().join("none/out");
        assert!(ArchiveSink::create(&deep, header()).unwrap_err().next_step().is_some());
    }

    #[test]
    fn a_sink_dropped_before_completion_leaves_a_partial_that_is_no_archive() {
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(0, "a", 2)).unwrap();
        let partial = sink.partial().to_owned();
        drop(sink);
        assert!(partial.is_dir() && !target.exists());
        assert!(!archive::is_archive(&partial));
        let error = ArchiveSource::open(&partial).unwrap_err();
        assert!(error.to_string().contains("no complete archive"), "{error}");
    }

    #[test]
    fn units_are_written_in_parallel_and_read_back_before_and_after_completion() {
        let Fixture { _dir, target, sink } = fixture();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let sink = &sink;
                scope.spawn(move || {
                    for day in (worker..40).step_by(4) {
                        for host in ["a", "b", "c"] {
                            sink.write(batch(day, host, 100)).unwrap();
                        }
                        sink.close_unit(&namespace(), unit(day)).unwrap();
                        assert_eq!(rows(&sink.reader(), unit(day)).unwrap(), 300);
                    }
                });
            }
        });
        let reader = sink.reader();
        let digest = Node { cells: 600, keys: [1, 2], values: [3, u64::MAX] };
        sink.record_digest(&namespace(), unit(7), digest).unwrap();
        assert!(sink.record_digest(&namespace(), unit(77), digest).is_err());
        sink.record_field(&namespace(), b"cpu", b"v", FieldType::Integer);
        sink.complete().unwrap();
        let opened = ArchiveSource::open(&target).unwrap();
        for source in [reader, opened] {
            assert_eq!(rows(&source, Window::ALL).unwrap(), 12_000);
            assert_eq!(source.units(&namespace(), unit(7))[0].digest, Some(digest));
        }
        let manifest = Manifest::read(&target).unwrap();
        assert_eq!(manifest.namespaces[0].schema[0].fields[0].field_type, "integer");
    }

    #[test]
    fn a_large_unit_is_spread_over_parts() {
        let Fixture { _dir, target, mut sink } = fixture();
        sink.part_plain_bytes = 1000;
        for host in ["a", "b", "c", "d"] {
            sink.write(batch(0, host, 20)).unwrap();
        }
        sink.write(batch(1, "e", 1)).unwrap();
        sink.write(batch(1, "f", 1)).unwrap();
        sink.close_unit(&namespace(), unit(0)).unwrap();
        sink.close_unit(&namespace(), unit(1)).unwrap();
        sink.complete().unwrap();
        let source = ArchiveSource::open(&target).unwrap();
        let parts = |day| source.units(&namespace(), unit(day)).remove(0).parts;
        let series: Vec<_> = parts(0).into_iter().map(|part| part.first_series).collect();
        assert_eq!(series, ["cpu,host=a", "cpu,host=b", "cpu,host=c", "cpu,host=d"]);
        assert_eq!(parts(0)[3].file, "nab/auto%2Fgen/1970-01-01.0003.lp.zst");
        assert_eq!(parts(1).len(), 1);
        assert_eq!(rows(&source, Window::ALL).unwrap(), 82);
    }

    #[test]
    fn a_closed_unit_is_written_again_only_when_discarded() {
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(0, "a", 2)).unwrap();
        sink.close_unit(&namespace(), unit(0)).unwrap();
        sink.close_unit(&namespace(), unit(0)).unwrap();
        let error = sink.write(batch(0, "b", 2)).unwrap_err();
        assert!(error.to_string().contains("discarded"), "{error}");
        sink.discard_unit(&namespace(), unit(0)).unwrap();
        sink.write(batch(0, "b", 3)).unwrap();
        sink.discard_unit(&namespace(), unit(0)).unwrap();
        sink.write(batch(0, "c", 4)).unwrap();
        sink.close_unit(&namespace(), unit(0)).unwrap();
        sink.discard_unit(&namespace(), unit(5)).unwrap();
        sink.complete().unwrap();
        assert!(sink.discard_unit(&namespace(), unit(0)).is_err());
        let source = ArchiveSource::open(&target).unwrap();
        assert_eq!(rows(&source, Window::ALL).unwrap(), 4);
        let folder = target.join("nab/auto%2Fgen");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn units_that_overlap_are_refused_open_or_closed() {
        let Fixture { _dir, target: _, sink } = fixture();
        sink.write(batch(0, "a", 2)).unwrap();
        let overlapping = Window { start: 5, end: 2 * DAY };
        let write = |window| sink.write(Batch { window, ..batch(0, "a", 1) });
        let text = write(overlapping).unwrap_err().to_string();
        assert!(text.contains("overlaps"), "{text}");
        sink.close_unit(&namespace(), unit(0)).unwrap();
        assert!(write(overlapping).is_err());
        assert!(sink.close_unit(&namespace(), overlapping).is_err());
        assert!(write(Window { start: 3 * DAY, end: 3 * DAY }).is_err());
    }

    #[test]
    fn an_archive_is_not_completed_around_an_open_unit() {
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(0, "a", 2)).unwrap();
        assert!(sink.complete().unwrap_err().to_string().contains("still open"));
        sink.close_unit(&namespace(), unit(0)).unwrap();
        sink.complete().unwrap();
        assert!(target.is_dir() && !sink.partial().exists());
        for result in [
            sink.write(batch(1, "a", 1)).map(|_| ()),
            sink.close_unit(&namespace(), unit(1)),
            sink.complete(),
        ] {
            assert!(result.unwrap_err().to_string().contains("is complete"));
        }
    }

    #[test]
    fn a_unit_whose_write_failed_stays_failed_until_it_is_discarded() {
        let Fixture { _dir, target, sink } = fixture();
        sink.write(batch(1, "a", 1)).unwrap();
        let planted = sink.partial().join("nab/auto%2Fgen/1970-01-01.0000.lp.zst");
        fs::write(&planted, b"not ours").unwrap();
        let error = sink.write(batch(0, "a", 2)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { action: "create", .. }), "{error}");
        assert!(sink.write(batch(0, "a", 2)).unwrap_err().to_string().contains("failed"));
        assert!(sink.close_unit(&namespace(), unit(0)).is_err());
        sink.discard_unit(&namespace(), unit(0)).unwrap();
        sink.write(batch(0, "a", 2)).unwrap();
        for day in [0, 1] {
            sink.close_unit(&namespace(), unit(day)).unwrap();
        }
        sink.complete().unwrap();
        assert_eq!(rows(&ArchiveSource::open(&target).unwrap(), Window::ALL).unwrap(), 3);
    }

    #[test]
    fn a_batch_that_ends_inside_a_line_is_refused() {
        let Fixture { _dir, target: _, sink } = fixture();
        let mut cut = batch(0, "a", 2);
        cut.body.pop();
        assert!(sink.write(cut).unwrap_err().to_string().contains("line feed"));
        let empty = Batch { body: Vec::new(), rows: 0, cells: 0, ..batch(0, "a", 0) };
        sink.write(empty).unwrap();
        sink.complete().unwrap();
    }

    #[test]
    fn an_empty_unit_is_on_record() {
        let Fixture { _dir, target, sink } = fixture();
        sink.close_unit(&namespace(), unit(4)).unwrap();
        sink.complete().unwrap();
        let source = ArchiveSource::open(&target).unwrap();
        assert_eq!(source.units(&namespace(), Window::ALL).len(), 1);
        assert_eq!(rows(&source, Window::ALL).unwrap(), 0);
    }
}
