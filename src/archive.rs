//! The archive: gapless's own immutable directory of compressed line protocol.
//!
//! ```text
//! DIR/manifest.json                              what the archive holds, sealed by a checksum
//! DIR/<database>/<rp>/<YYYY-MM-DD>.<nnnn>.lp.zst  a part: whole rows of one unit, one zstd frame
//! ```
//!
//! Owns the format: the manifest and its checks, and the names of files. A *unit* is what was
//! written and closed together, usually a day; units of a namespace never overlap, so that each
//! cell stands in one of them. Each part carries its BLAKE3 checksum (as `b3sum` prints it), its
//! sizes and its numbers of rows and cells. The manifest ends with the checksum of everything
//! before that checksum, so that no flipped byte of it goes unnoticed.
//!
//! Refused: manifests of a newer version, above 256 MiB, that do not match their own checksum, or
//! that name files outside the place that their namespace has.

use crate::digest::node::Node;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{FilterEntry, Held, Namespace, RpSettings};
use crate::types::FieldTypes;
use crate::value::FieldType;
use crate::window::{Window, format_time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What `format` says in every manifest.
pub const FORMAT: &str = "gapless archive";
/// The version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 2;
/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// Most bytes of a manifest.
pub const MANIFEST_MAX: u64 = 256 << 20;
/// Plain bytes beyond which a part is followed by another.
pub const PART_PLAIN_BYTES: u64 = 64 << 20;

/// Longest encoded name; file systems allow 255 bytes.
const NAME_MAX: usize = 200;
/// What is kept of a longer one, before `~` and 32 digits of its checksum.
const NAME_KEPT: usize = 160;
/// What follows the checksum in a manifest.
const SEAL_TAIL: &[u8] = b"\"\n}\n";
/// Hexadecimal digits of a BLAKE3 checksum.
const CHECKSUM_DIGITS: usize = 64;

/// What an archive holds, as its manifest says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of gapless that made it.
    pub gapless: String,
    /// When it was begun, RFC 3339.
    pub created: String,
    /// The window that was asked for.
    pub window: Span,
    /// Where the data came from, for people.
    pub source: String,
    /// The series that were asked for: of others it says nothing.
    pub filter: FilterEntry,
    /// The namespaces, sorted by name.
    pub namespaces: Vec<NamespaceEntry>,
    /// Checksum of the manifest's bytes before this value. Last, because it covers the rest.
    blake3: String,
}

/// `[start, end)` in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First nanosecond inside.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
}

impl From<Window> for Span {
    fn from(window: Window) -> Self {
        Self { start: window.start, end: window.end }
    }
}

impl From<Span> for Window {
    fn from(span: Span) -> Self {
        Self { start: span.start, end: span.end }
    }
}

/// One database and retention policy (RP).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceEntry {
    /// Database name; empty where the source had none.
    pub database: String,
    /// RP name; empty where the source had none.
    pub retention_policy: String,
    /// Settings of the RP; `None` where the source did not know them.
    pub settings: Option<Settings>,
    /// Measurements with their fields, sorted by name, as far as they were recorded.
    pub schema: Vec<MeasurementEntry>,
    /// True where the schema was too large to be recorded in full.
    pub schema_cut: bool,
    /// The units, in time order.
    pub units: Vec<Unit>,
}

/// Settings of a retention policy, `null` where the source did not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long points are kept, nanoseconds; 0 for ever.
    pub duration: Option<i64>,
    /// Length of a shard group, nanoseconds.
    pub shard_duration: Option<i64>,
    /// Copies that a cluster keeps.
    pub replication: Option<u32>,
    /// True where this RP takes the writes that name none.
    pub default: Option<bool>,
}

impl From<RpSettings> for Settings {
    fn from(settings: RpSettings) -> Self {
        Self {
            duration: settings.duration,
            shard_duration: settings.shard_duration,
            replication: settings.replication,
            default: settings.default,
        }
    }
}

impl From<Settings> for RpSettings {
    fn from(settings: Settings) -> Self {
        Self {
            duration: settings.duration,
            shard_duration: settings.shard_duration,
            replication: settings.replication,
            default: settings.default,
        }
    }
}

/// The fields of a measurement, for people: names are printable, not exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasurementEntry {
    /// Its name.
    pub measurement: String,
    /// Its fields, sorted by name; one that has two types stands twice.
    pub fields: Vec<FieldEntry>,
}

/// One field of a measurement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldEntry {
    /// Its name.
    pub field: String,
    /// Its type, as [`FieldType::name`] has it.
    #[serde(rename = "type")]
    pub field_type: String,
}

/// What was written and closed together: the rows of a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// First nanosecond inside.
    pub start: i64,
    /// First nanosecond after.
    pub end: i64,
    /// Digest of the unit's cells, where it was taken.
    pub digest: Option<Node>,
    /// The files, in the order in which they were written; none where the unit is empty.
    pub parts: Vec<Part>,
}

impl Unit {
    /// The time range of its rows.
    #[must_use]
    pub fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }
}

/// One file: whole rows of one unit in one zstd frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its path below the archive's directory, with `/` between names.
    pub file: String,
    /// Number of rows.
    pub rows: u64,
    /// Number of cells.
    pub cells: u64,
    /// Size of the stored file.
    pub bytes: u64,
    /// Size of its content.
    pub plain_bytes: u64,
    /// Checksum of the stored file.
    pub blake3: String,
    /// Series of the first row, printable.
    pub first_series: String,
    /// Series of the last row, printable.
    pub last_series: String,
}

/// The namespaces of an archive that is open, with their units.
pub type Contents = BTreeMap<Namespace, Entry>;

/// Most bytes of names that the schema of one namespace takes.
const SCHEMA_BYTES_MAX: usize = 4 << 20;

/// One namespace of an open archive.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Settings of its RP, where they are known.
    pub settings: Option<RpSettings>,
    /// The units by window; they do not overlap.
    pub units: BTreeMap<Window, Unit>,
    schema: BTreeMap<String, BTreeSet<FieldEntry>>,
    schema_bytes: usize,
    schema_cut: bool,
}

impl Entry {
    /// Records that a measurement has a field, both printable. True where that is new.
    pub fn record_field(
        &mut self,
        measurement: String,
        field: String,
        field_type: FieldType,
    ) -> bool {
        let entry = FieldEntry { field, field_type: field_type.name().to_owned() };
        let known = self.schema.get(&measurement);
        if known.is_some_and(|fields| fields.contains(&entry)) {
            return false;
        }
        // A name more costs its tree and its quotes, too.
        let bytes = self.schema_bytes + measurement.len() + entry.field.len() + 64;
        if bytes > SCHEMA_BYTES_MAX {
            self.schema_cut = true;
            return false;
        }
        self.schema_bytes = bytes;
        self.schema.entry(measurement).or_default().insert(entry)
    }

    /// Says that there are fields which are not recorded.
    pub fn cut_schema(&mut self) {
        self.schema_cut = true;
    }

    /// The types of the fields of all units, where the schema tells: names in it are printable, and
    /// what was escaped in one, or could have been, is not known exactly.
    #[must_use]
    pub fn field_types(&self) -> Option<FieldTypes> {
        let exact = |name: &str| !name.contains('\\');
        let mut types = FieldTypes::new();
        for (measurement, fields) in &self.schema {
            for entry in fields {
                if self.schema_cut || !exact(measurement) || !exact(&entry.field) {
                    return None;
                }
                let known = types.entry(measurement.as_bytes().into()).or_default();
                let known: &mut Vec<FieldType> =
                    known.entry(entry.field.as_bytes().into()).or_default();
                known.push(FieldType::from_name(entry.field_type.as_bytes())?);
                known.sort_unstable();
            }
        }
        let has_rows = self.units.values().any(|unit| !unit.parts.is_empty());
        (!types.is_empty() || !has_rows).then_some(types)
    }

    /// A unit that overlaps `window`, if there is one.
    #[must_use]
    pub fn overlapping(&self, window: Window) -> Option<Window> {
        self.meeting(window).next().map(Unit::window)
    }

    /// The units that meet `window`, in time order.
    pub fn meeting(&self, window: Window) -> impl Iterator<Item = &Unit> {
        // Units do not overlap: only the last one that begins before the window can reach into it.
        let first = Window { start: window.start, end: i64::MIN };
        let before = self.units.range(..first).next_back();
        before
            .into_iter()
            .chain(self.units.range(first..))
            .map(|(_, unit)| unit)
            .skip_while(move |unit| unit.end <= window.start)
            .take_while(move |unit| unit.start < window.end && !window.is_empty())
    }
}

/// An archive on disk that is being written or read: where it is and what it holds so far.
#[derive(Debug)]
pub struct Shared(RwLock<Place>);

/// Where an archive is, and what it holds.
#[derive(Debug)]
pub struct Place {
    /// The directory: `DIR`, or `DIR.partial` while it is written.
    pub root: PathBuf,
    /// What it holds.
    pub contents: Contents,
}

impl Shared {
    /// An archive in `root`.
    #[must_use]
    pub fn new(root: PathBuf, contents: Contents) -> Self {
        Self(RwLock::new(Place { root, contents }))
    }

    /// Looks at it.
    pub fn read(&self) -> RwLockReadGuard<'_, Place> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it.
    pub fn change(&self) -> RwLockWriteGuard<'_, Place> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of an archive when it is begun.
#[derive(Clone, Debug)]
pub struct Header {
    /// The window that was asked for.
    pub window: Window,
    /// Where the data come from, for people and without secrets.
    pub source: String,
    /// Now, in nanoseconds since 1970.
    pub created: i64,
    /// The series that were asked for.
    pub filter: FilterEntry,
    /// The namespaces that will be written, with their settings.
    pub namespaces: Vec<Held>,
}

impl Manifest {
    /// The manifest of an archive.
    #[must_use]
    pub fn new(header: &Header, contents: &Contents) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            gapless: env!("CARGO_PKG_VERSION").to_owned(),
            created: format_time(header.created),
            window: header.window.into(),
            source: header.source.clone(),
            filter: header.filter.clone(),
            namespaces: contents.iter().map(namespace_entry).collect(),
            blake3: "0".repeat(CHECKSUM_DIGITS),
        }
    }

    /// Its bytes, sealed by their checksum.
    ///
    /// # Errors
    /// Where it is larger than a reader would accept.
    pub fn seal(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| ErrorKind::Data(format!("the manifest cannot be written: {error}")))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(too_large("the archive's manifest"));
        }
        let end = bytes.len() - SEAL_TAIL.len();
        let start = end - CHECKSUM_DIGITS;
        let checksum = blake3::hash(&bytes[..start]).to_hex();
        bytes[start..end].copy_from_slice(checksum.as_bytes());
        Ok(bytes)
    }

    /// Reads the manifest of the archive in `dir` and checks everything in it.
    ///
    /// # Errors
    /// Where there is none, where a newer version made it, and where it is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = read_limited(&path)?;
        Self::parse(&path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let head: Head = serde_json::from_slice(bytes).map_err(|error| {
            damaged(path, 0, format!("the manifest is damaged or cut short ({error})"))
        })?;
        if head.format != FORMAT {
            return Err(Error::location(
                path.display(),
                "this is not the manifest of a gapless archive",
            ));
        }
        if head.version > VERSION {
            return Err(Error::location(
                path.display(),
                format!(
                    "the archive was made by a newer version of gapless (format {}, this one \
                     reads up to {VERSION})",
                    head.version
                ),
            )
            .with_next("use the version of gapless that made it, or a later one"));
        }
        if head.version < VERSION {
            let reason = format!(
                "the archive is of format {}, which does not say which series were left out",
                head.version
            );
            return Err(Error::location(path.display(), reason).with_next(
                "make it again from its source, or read it with the version that made it",
            ));
        }
        check_seal(path, bytes)?;
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| damaged(path, 0, format!("the manifest is unreadable ({error})")))?;
        Ok(manifest)
    }

    /// What the archive holds, checked: names, windows and files are as a sink writes them.
    ///
    /// # Errors
    /// Where the manifest in `dir` contradicts itself.
    pub fn contents(&self, dir: &Path) -> Result<Contents> {
        let mut contents = Contents::new();
        let mut files = BTreeSet::new();
        for entry in &self.namespaces {
            let (namespace, checked) = checked_entry(entry, &mut files)
                .map_err(|reason| damaged(&dir.join(MANIFEST), 0, reason))?;
            let again = format!("{namespace} stands twice in the manifest");
            if contents.insert(namespace, checked).is_some() {
                return Err(damaged(&dir.join(MANIFEST), 0, again));
            }
        }
        Ok(contents)
    }
}

/// What is read first of a manifest, whatever its version.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

fn namespace_entry((namespace, entry): (&Namespace, &Entry)) -> NamespaceEntry {
    let schema = entry.schema.iter().map(|(measurement, fields)| MeasurementEntry {
        measurement: measurement.clone(),
        fields: fields.iter().cloned().collect(),
    });
    NamespaceEntry {
        database: namespace.database.clone(),
        retention_policy: namespace.retention_policy.clone(),
        settings: entry.settings.clone().map(Settings::from),
        schema: schema.collect(),
        schema_cut: entry.schema_cut,
        units: entry.units.values().cloned().collect(),
    }
}

fn checked_entry<'a>(
    entry: &'a NamespaceEntry,
    files: &mut BTreeSet<&'a str>,
) -> Result<(Namespace, Entry), String> {
    let namespace = Namespace {
        database: entry.database.clone(),
        retention_policy: entry.retention_policy.clone(),
    };
    let mut checked = Entry {
        settings: entry.settings.clone().map(RpSettings::from),
        schema_cut: entry.schema_cut,
        ..Entry::default()
    };
    for measurement in &entry.schema {
        let fields = measurement.fields.iter().cloned().collect();
        checked.schema.insert(measurement.measurement.clone(), fields);
    }
    for unit in &entry.units {
        if unit.window().is_empty() || checked.overlapping(unit.window()).is_some() {
            return Err(format!(
                "the unit {} of {namespace} is empty or overlaps another",
                unit.window()
            ));
        }
        for part in &unit.parts {
            check_part(part, &namespace)?;
            if !files.insert(&part.file) {
                return Err(format!("the part {} stands twice in the manifest", part.file));
            }
        }
        checked.units.insert(unit.window(), unit.clone());
    }
    Ok((namespace, checked))
}

pub(crate) fn check_part(part: &Part, namespace: &Namespace) -> Result<(), String> {
    let [database, rp] = folders(namespace);
    let name = part.file.strip_prefix(&format!("{database}/{rp}/")).filter(|name| {
        let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        let stem = name.strip_suffix(".lp.zst");
        stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(plain))
    });
    if name.is_none() {
        return Err(format!("the part {:?} is not where parts of {namespace} belong", part.file));
    }
    let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    if part.blake3.len() != CHECKSUM_DIGITS || !part.blake3.bytes().all(digits) {
        return Err(format!("the checksum of {} is no BLAKE3 checksum", part.file));
    }
    Ok(())
}

fn check_seal(path: &Path, bytes: &[u8]) -> Result<()> {
    let sealed =
        bytes.strip_suffix(SEAL_TAIL).and_then(|bytes| bytes.split_last_chunk::<CHECKSUM_DIGITS>());
    let matches = sealed
        .is_some_and(|(sealed, checksum)| blake3::hash(sealed).to_hex().as_bytes() == checksum);
    if matches {
        return Ok(());
    }
    Err(damaged(
        path,
        0,
        "the manifest does not match its own checksum: it is damaged or was edited".into(),
    ))
}

fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => unfinished(path),
        _ => Error::io(path, "open", error),
    })?;
    let mut bytes = Vec::new();
    file.take(MANIFEST_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(path, "read", error))?;
    if bytes.len() as u64 > MANIFEST_MAX {
        return Err(too_large(&path.display().to_string()));
    }
    Ok(bytes)
}

fn unfinished(path: &Path) -> Error {
    let dir = path.parent().unwrap_or(path);
    let error = Error::location(
        dir.display(),
        format!("there is no {MANIFEST}: this is no complete archive"),
    );
    match dir.extension() {
        Some(extension) if extension == "partial" => error.with_next(
            "let the command that was writing it finish, or run it again with another directory",
        ),
        _ => error,
    }
}

fn too_large(what: &str) -> Error {
    ErrorKind::Limit { what: what.to_owned(), max: format!("{} MiB", MANIFEST_MAX >> 20) }.into()
}

/// Stored bytes of an archive that are not as they were written.
pub(crate) fn damaged(path: &Path, offset: u64, reason: String) -> Error {
    let path = path.to_owned();
    advised(ErrorKind::Damaged { path, offset, reason }.into())
}

/// Adds what to do about damage.
pub(crate) fn advised(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Damaged { .. } => {
            error.with_next("take another copy of the archive, or make it anew from its source")
        }
        _ => error,
    }
}

/// True where `dir` holds an archive that was completed, damaged or not.
///
/// # Errors
/// Where there is a manifest, or may be one, that cannot be read.
pub fn is_archive(dir: &Path) -> Result<bool> {
    let path = dir.join(MANIFEST);
    let mut head = Vec::new();
    match File::open(&path).and_then(|file| file.take(4096).read_to_end(&mut head)) {
        Ok(_) => Ok(memchr::memmem::find(&head, FORMAT.as_bytes()).is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, "read", error)),
    }
}

/// The two folders of a namespace.
#[must_use]
pub fn folders(namespace: &Namespace) -> [String; 2] {
    [&namespace.database, &namespace.retention_policy].map(|name| encode_name(name))
}

/// Path of a part below the archive's directory: part `number` of the day on which `start` falls.
#[must_use]
pub fn part_file(namespace: &Namespace, start: i64, number: u32) -> String {
    let [database, rp] = folders(namespace);
    format!("{database}/{rp}/{}.{number:04}.lp.zst", day(start))
}

/// The day on which a time falls, `YYYY-MM-DD`. Every i64 is between the years 1677 and 2262.
#[must_use]
pub fn day(time: i64) -> String {
    let mut text = format_time(time);
    text.truncate("2020-07-19".len());
    text
}

/// A name as one path component that is safe in every file system: letters, digits, `-`, `_` and
/// `.` as they are, other bytes as `%2F`; `_` stands for the empty name.
///
/// Names longer than a file system allows are cut and end with `~` and digits of their checksum.
#[must_use]
pub fn encode_name(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let reserved = name == "_" || name == MANIFEST;
    let mut encoded = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let plain = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => at > 0 || !reserved,
            b'.' | b'-' => at > 0,
            _ => false,
        };
        if plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    if encoded.len() > NAME_MAX {
        encoded.truncate(NAME_KEPT);
        encoded.push('~');
        encoded.push_str(&blake3::hash(name.as_bytes()).to_hex()[..32]);
    }
    encoded
}

/// The name that [`encode_name`] made a component of; `None` where it makes no such component, or
/// where the name was cut.
#[must_use]
pub fn decode_name(component: &str) -> Option<String> {
    if component == "_" {
        return Some(String::new());
    }
    let mut name = Vec::new();
    let mut bytes = component.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let text = std::str::from_utf8(&digits).ok()?;
            name.push(u8::from_str_radix(text, 16).ok()?);
        } else {
            name.push(byte);
        }
    }
    let name = String::from_utf8(name).ok()?;
    (encode_name(&name) == component).then_some(name)
}

#[cfg(test)]
mod tests;
