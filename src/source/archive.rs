//! Reads an archive (the format is [`crate::archive`]'s).
//!
//! Every stored byte that is read is checked: size, BLAKE3 and content of each part, and its
//! numbers of rows and cells, against the manifest. A part that is missing, longer, shorter, or
//! holds anything but rows of its unit is damage, never something to skip. Files that the
//! manifest does not name are no part of the archive.
//!
//! Memory: a chunk of text or one row of at most 64 MiB, a row log of at most 65,536 rows or about
//! 8 MiB and that row, and the blocks made of it.

use crate::archive::{Contents, Entry, Manifest, Part, Shared, Unit, advised, damaged};
use crate::block::log::RowLog;
use crate::block::{BYTES_MAX, Block, ROWS_MAX};
use crate::compress::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{Decoder, Item, Options, Row};
use crate::line::key;
use crate::plan::{FilterEntry, Held, Namespace, Partition, Scope};
use crate::source::{Reader, Source};
use crate::types::FieldTypes;
use crate::window::Window;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Plain bytes that are decoded at a time.
const CHUNK: usize = 64 << 10;

/// An archive that can be read: complete, or what was closed so far of one that is written.
#[derive(Clone, Debug)]
pub struct ArchiveSource {
    shared: Arc<Shared>,
    /// The window that the archive was made for.
    coverage: Window,
    /// The series that it was made of.
    made_of: FilterEntry,
}

impl ArchiveSource {
    /// Opens the archive in `dir`.
    ///
    /// # Errors
    /// Where its manifest is missing, damaged or of a newer version.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let coverage = Window { start: manifest.window.start, end: manifest.window.end };
        let contents = manifest.contents(dir)?;
        Ok(Self {
            shared: Arc::new(Shared::new(dir.to_owned(), contents)),
            coverage,
            made_of: manifest.filter,
        })
    }

    pub(crate) fn over(shared: Arc<Shared>) -> Self {
        Self { shared, coverage: Window::ALL, made_of: FilterEntry::default() }
    }

    /// The units of a namespace that meet a window, in time order.
    #[must_use]
    pub fn units(&self, namespace: &Namespace, window: Window) -> Vec<Unit> {
        let place = self.shared.read();
        let entry = place.contents.get(namespace);
        entry.map_or_else(Vec::new, |entry| entry.meeting(window).cloned().collect())
    }
}

fn not_found(contents: &Contents, namespace: &Namespace, root: &Path) -> Error {
    let held: Vec<_> = contents.keys().take(20).map(Namespace::to_string).collect();
    let error = Error::from(ErrorKind::NotFound {
        what: format!("{namespace}"),
        place: format!("in the archive {}", root.display()),
    });
    if held.is_empty() {
        return error.with_next("it holds nothing at all: check the archive's name");
    }
    error.with_next(format!("it holds: {}", held.join(", ")))
}

impl Source for ArchiveSource {
    fn name(&self) -> String {
        format!("archive {}", self.shared.read().root.display())
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        let place = self.shared.read();
        let held = place.contents.iter().map(|(namespace, entry)| Held {
            namespace: namespace.clone(),
            settings: entry.settings.clone(),
        });
        Ok(held.collect())
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let place = self.shared.read();
        let Some(entry) = place.contents.get(&scope.namespace) else {
            return Err(not_found(&place.contents, &scope.namespace, &place.root));
        };
        let windows = entry.meeting(scope.window);
        let windows = windows.filter_map(|unit| unit.window().intersect(scope.window));
        let partitions = windows.map(|window| Partition::new(&scope.namespace, window, None));
        Ok(partitions.collect())
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let root = self.shared.read().root.clone();
        let units = self.units(&partition.namespace, partition.window);
        let parts = units.into_iter().flat_map(|unit| {
            let window = unit.window();
            unit.parts.into_iter().map(move |part| (window, part))
        });
        Ok(Box::new(ArchiveReader {
            root,
            parts: parts.collect(),
            current: None,
            rows: Rows::new(partition),
        }))
    }

    fn field_types(&self, scope: &Scope) -> Result<Option<FieldTypes>> {
        let place = self.shared.read();
        Ok(place.contents.get(&scope.namespace).and_then(Entry::field_types))
    }

    fn cells(&self, namespace: &Namespace, window: Window) -> Option<u64> {
        let units = self.units(namespace, window);
        Some(units.iter().flat_map(|unit| &unit.parts).map(|part| part.cells).sum())
    }

    fn coverage(&self) -> Window {
        self.coverage
    }

    fn made_of(&self) -> Option<FilterEntry> {
        Some(self.made_of.clone()).filter(|filter| *filter != FilterEntry::default())
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

/// Blocks of some parts, one after another.
struct ArchiveReader {
    root: PathBuf,
    parts: VecDeque<(Window, Part)>,
    current: Option<OpenPart>,
    rows: Rows,
}

impl Reader for ArchiveReader {
    fn next_block(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.rows.ready.pop_front() {
                return Ok(Some(block));
            }
            if let Some(part) = &mut self.current {
                if !part.read(&mut self.rows)? {
                    self.current = None;
                }
            } else if let Some((unit, part)) = self.parts.pop_front() {
                self.current = Some(OpenPart::open(&self.root, unit, part)?);
            } else {
                return Ok(None);
            }
        }
    }
}

/// The rows that were decoded and are not yet in blocks.
struct Rows {
    window: Window,
    /// The only measurement wanted, unescaped.
    measurement: Option<Vec<u8>>,
    /// The measurement of every row in the log.
    logged: Box<[u8]>,
    log: RowLog,
    ready: VecDeque<Block>,
}

impl Rows {
    fn new(partition: &Partition) -> Self {
        Self {
            window: partition.window,
            measurement: partition.measurement.clone(),
            logged: Box::default(),
            log: RowLog::default(),
            ready: VecDeque::new(),
        }
    }

    /// Appends a row, if it is wanted. Returns false where a cell turned out to stand twice.
    fn push(&mut self, row: &Row<'_>) -> bool {
        if !self.window.contains(row.time) {
            return true;
        }
        let mut unique = true;
        let number = match self.log.find_series(row.key) {
            Some(number) => number,
            None => {
                let series = key::parse(row.key);
                let measurement = series.measurement();
                if self.measurement.as_ref().is_some_and(|only| only != measurement) {
                    return true;
                }
                if *self.logged != *measurement {
                    unique = self.flush();
                    self.logged = measurement.into();
                }
                self.log.add_series(Arc::new(series))
            }
        };
        self.log.begin_row(number, row.time);
        for (field, value) in row.fields() {
            self.log.push(field, value);
        }
        if self.log.rows() >= ROWS_MAX || self.log.memory() >= BYTES_MAX {
            unique &= self.flush();
        }
        unique
    }

    /// Makes blocks of the log. Returns false where a cell stood twice.
    fn flush(&mut self) -> bool {
        let table = std::mem::take(&mut self.log).resolve();
        self.ready.extend(table.blocks(self.window));
        table.superseded() == 0
    }
}

/// A part that is being read.
struct OpenPart {
    path: PathBuf,
    unit: Window,
    part: Part,
    stored: Arc<Mutex<Stored>>,
    input: Input,
    decoder: Decoder,
    chunk: Box<[u8]>,
    plain_bytes: u64,
    rows: u64,
    cells: u64,
}

impl OpenPart {
    fn open(root: &Path, unit: Window, part: Part) -> Result<Self> {
        let path = root.join(&part.file);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                damaged(&path, 0, "this part of the archive is missing".into())
            }
            _ => Error::io(&path, "open", error),
        })?;
        let bytes = file.metadata().map_err(|error| Error::io(&path, "look up", error))?.len();
        if bytes != part.bytes {
            let reason =
                format!("the part has {bytes} bytes, and had {} when it was written", part.bytes);
            return Err(damaged(&path, bytes.min(part.bytes), reason));
        }
        let stored = Arc::new(Mutex::new(Stored::default()));
        let hashing = Hashing { file, stored: Arc::clone(&stored) };
        Ok(Self {
            input: Input::from_reader(path.clone(), Box::new(hashing)),
            path,
            unit,
            part,
            stored,
            decoder: Decoder::new(Options::default()),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            plain_bytes: 0,
            rows: 0,
            cells: 0,
        })
    }

    /// Decodes one chunk. Returns false at the end of the part, when everything was checked.
    fn read(&mut self, rows: &mut Rows) -> Result<bool> {
        let read = self.input.read(&mut self.chunk).map_err(advised)?;
        self.plain_bytes += read as u64;
        if self.plain_bytes > self.part.plain_bytes {
            return Err(self.differs("bytes of text", self.plain_bytes, self.part.plain_bytes));
        }
        if read == 0 {
            self.decoder.finish();
        } else {
            self.decoder.feed(&self.chunk[..read]);
        }
        if let Err(reason) = self.decode(rows) {
            return Err(self.damaged(reason));
        }
        if read > 0 {
            return Ok(true);
        }
        self.check()?;
        // A series may go on in the next part, but its rows here are complete.
        if rows.flush() { Ok(false) } else { Err(self.damaged(TWICE.into())) }
    }

    fn decode(&mut self, rows: &mut Rows) -> Result<(), String> {
        while let Some(item) = self.decoder.next_item().map_err(|error| error.to_string())? {
            let row = match item {
                Item::Row(row) => row,
                Item::Comment(_) => return Err("a comment stands where a row should".into()),
                Item::Bad(bad) => return Err(format!("line {}: {}", bad.line, bad.reason)),
            };
            if row.dropped_time_field || !self.unit.contains(row.time) {
                return Err(format!(
                    "line {}: the row does not belong to this unit, {}",
                    row.line, self.unit
                ));
            }
            self.rows += 1;
            self.cells += row.fields().len() as u64;
            if !rows.push(&row) {
                return Err(format!("line {} or above: {TWICE}", row.line));
            }
        }
        Ok(())
    }

    /// Compares what was read with the manifest.
    fn check(&self) -> Result<()> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = [
            ("stored bytes", stored.bytes, self.part.bytes),
            ("bytes of text", self.plain_bytes, self.part.plain_bytes),
            ("rows", self.rows, self.part.rows),
            ("cells", self.cells, self.part.cells),
        ];
        let checksum = stored.checksum.finalize().to_hex();
        drop(stored);
        if *checksum != *self.part.blake3 {
            return Err(self.damaged("the part does not match its checksum".into()));
        }
        for (what, found, expected) in pairs {
            if found != expected {
                return Err(self.differs(what, found, expected));
            }
        }
        Ok(())
    }

    fn differs(&self, what: &str, found: u64, expected: u64) -> Error {
        self.damaged(format!("{found} {what} were read, and the manifest says {expected}"))
    }

    fn damaged(&self, reason: String) -> Error {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        damaged(&self.path, stored.bytes, reason)
    }
}

const TWICE: &str = "a cell stands twice";

/// What was read of a stored file.
#[derive(Default)]
struct Stored {
    checksum: blake3::Hasher,
    bytes: u64,
}

/// A file whose bytes are counted and hashed as they are read.
struct Hashing {
    file: File,
    stored: Arc<Mutex<Stored>>,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.checksum.update(&into[..read]);
        stored.bytes += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
