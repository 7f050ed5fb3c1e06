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
use crate::plan::{Held, Namespace, RpSettings};
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
pub const VERSION: u32 = 1;
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

/// Settings of a retention policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long points are kept, nanoseconds; 0 for ever.
    pub duration: i64,
    /// Length of a shard group, nanoseconds.
    pub shard_duration: i64,
    /// Copies that a cluster keeps.
    pub replication: u32,
    /// True where this RP takes the writes that name none.
    pub default: bool,
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
    /// Records that a measurement has a field, both printable.
    pub fn record_field(&mut self, measurement: String, field: String, field_type: FieldType) {
        let entry = FieldEntry { field, field_type: field_type.name().to_owned() };
        let known = self.schema.get(&measurement);
        if known.is_some_and(|fields| fields.contains(&entry)) {
            return;
        }
        // A name more costs its tree and its quotes, too.
        let bytes = self.schema_bytes + measurement.len() + entry.field.len() + 64;
        if bytes > SCHEMA_BYTES_MAX {
            self.schema_cut = true;
            return;
        }
        self.schema_bytes = bytes;
        self.schema.entry(measurement).or_default().insert(entry);
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

fn check_part(part: &Part, namespace: &Namespace) -> Result<(), String> {
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
#[must_use]
pub fn is_archive(dir: &Path) -> bool {
    let mut head = Vec::new();
    let read =
        File::open(dir.join(MANIFEST)).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && memchr::memmem::find(&head, FORMAT.as_bytes()).is_some()
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
mod tests {
    use super::*;
    use crate::window::DAY;
    use proptest::prelude::*;

    fn namespace(database: &str, rp: &str) -> Namespace {
        Namespace { database: database.into(), retention_policy: rp.into() }
    }

    fn part(file: &str) -> Part {
        Part {
            file: file.into(),
            rows: 3,
            cells: 4,
            bytes: 60,
            plain_bytes: 50,
            blake3: blake3::hash(b"x").to_hex().to_string(),
            first_series: "cpu".into(),
            last_series: "mem".into(),
        }
    }

    fn unit(start: i64, parts: Vec<Part>) -> Unit {
        let digest = Node { cells: 4, keys: [u64::MAX, 1], values: [0, u64::MAX - 1] };
        Unit { start, end: start + DAY, digest: Some(digest), parts }
    }

    fn header() -> Header {
        Header { window: Window::ALL, source: "a test".into(), created: 5, namespaces: Vec::new() }
    }

    fn contents() -> Contents {
        let mut entry = Entry {
            settings: Some(RpSettings {
                duration: 0,
                shard_duration: 7 * DAY,
                replication: 2,
                default: true,
            }),
            ..Entry::default()
        };
        entry.record_field("cpu".into(), "v".into(), FieldType::Float);
        entry.record_field("cpu".into(), "v".into(), FieldType::Integer);
        entry.record_field("cpu".into(), "v".into(), FieldType::Float);
        for unit in [unit(0, vec![part("a%2Fb/_/1970-01-01.0000.lp.zst")]), unit(DAY, Vec::new())] {
            entry.units.insert(unit.window(), unit);
        }
        Contents::from([(namespace("a/b", ""), entry), (namespace("c", "d"), Entry::default())])
    }

    fn parse(bytes: &[u8]) -> Result<Contents> {
        Manifest::parse(Path::new("m"), bytes)?.contents(Path::new("d"))
    }

    #[test]
    fn every_name_becomes_one_safe_component() {
        for (name, component) in [
            ("", "_"),
            ("_", "%5F"),
            ("__", "__"),
            (".", "%2E"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("-rf", "%2Drf"),
            ("a/b", "a%2Fb"),
            ("Wetter Köln", "Wetter%20K%C3%B6ln"),
            ("100%", "100%25"),
            ("a\0b", "a%00b"),
            ("manifest.json", "%6Danifest.json"),
            ("telegraf-1.autogen_2", "telegraf-1.autogen_2"),
        ] {
            assert_eq!(encode_name(name), component);
            assert_eq!(decode_name(component).as_deref(), Some(name));
        }
    }

    #[test]
    fn components_that_no_name_makes_are_refused() {
        for component in ["", "%", "%4", "%zz", "%61", "a/b", ".", "..", "%2e", "%FF", "ö", "%+1"]
        {
            assert_eq!(decode_name(component), None, "{component}");
        }
    }

    #[test]
    fn names_too_long_for_a_file_system_stay_apart() {
        let [one, two] = ["a", "b"].map(|end| encode_name(&("ü".repeat(300) + end)));
        assert_ne!(one, two);
        for component in [one, two] {
            assert!(component.len() <= NAME_MAX && component.contains('~'), "{component}");
            assert_eq!(decode_name(&component), None);
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(name in any::<String>().prop_filter("short", |name| name.len() < 60)) {
            let component = encode_name(&name);
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%".contains(&byte);
            prop_assert!(component.bytes().all(safe) && !component.starts_with('.'));
            prop_assert_ne!(&component, MANIFEST);
            prop_assert_eq!(decode_name(&component), Some(name));
        }
    }

    #[test]
    fn parts_are_named_by_namespace_day_and_number() {
        assert_eq!(
            part_file(&namespace("nab", "a.b"), DAY - 1, 12),
            "nab/a.b/1970-01-01.0012.lp.zst"
        );
        assert_eq!(day(i64::MIN), "1677-09-21");
        assert_eq!(day(i64::MAX), "2262-04-11");
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
        let manifest = Manifest::parse(Path::new("m"), &bytes).unwrap();
        assert_eq!(manifest.created, "1970-01-01T00:00:00.000000005Z");
        let read = manifest.contents(Path::new("d")).unwrap();
        assert_eq!(Manifest::new(&header(), &read).seal().unwrap(), bytes);
        let entry = &read[&namespace("a/b", "")];
        assert_eq!(entry.units.len(), 2);
        assert!(entry.settings.as_ref().is_some_and(|settings| settings.default));
        assert_eq!(entry.schema["cpu"].len(), 2);
    }

    #[test]
    fn no_flipped_bit_and_no_cut_of_a_manifest_goes_unnoticed() {
        let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(parse(&flipped).is_err(), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert!(parse(&[&bytes[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn a_newer_version_is_named_before_anything_else() {
        let text = br#"{"format": "gapless archive", "version": 2, "shape": "unknown"}"#;
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains("made by a newer version"), "{error}");
        assert!(error.next_step().is_some());
        assert!(parse(br#"{"format": "another", "version": 1}"#).is_err());
    }

    /// The error of a well-sealed manifest whose contents were changed.
    fn contradiction(change: impl FnOnce(&mut Manifest)) -> String {
        let mut manifest = Manifest::new(&header(), &contents());
        change(&mut manifest);
        parse(&manifest.seal().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_refused() {
        for file in [
            "../../etc/passwd",
            "/etc/passwd",
            "a%2Fb/_/../x.lp.zst",
            "a%2Fb/_/.lp.zst",
            "c/d/1970-01-01.0000.lp.zst",
        ] {
            let text = contradiction(|m| m.namespaces[0].units[0].parts[0].file = file.into());
            assert!(text.contains("is not where parts"), "{text}");
        }
        let text = contradiction(|m| {
            let part = m.namespaces[0].units[0].parts[0].clone();
            m.namespaces[0].units[1].parts.push(part);
        });
        assert!(text.contains("stands twice"), "{text}");
        let text = contradiction(|m| m.namespaces[0].units[1].start -= 1);
        assert!(text.contains("overlaps"), "{text}");
        let text = contradiction(|m| m.namespaces[0].units[1].end = DAY);
        assert!(text.contains("empty"), "{text}");
        let text = contradiction(|m| m.namespaces[1] = m.namespaces[0].clone());
        assert!(text.contains("stands twice"), "{text}");
        let text = contradiction(|m| {
            m.namespaces[0].units[0].parts[0].blake3 = "é".repeat(32);
        });
        assert!(text.contains("no BLAKE3"), "{text}");
    }

    #[test]
    fn the_units_that_meet_a_window_are_found() {
        let entry = contents().remove(&namespace("a/b", "")).unwrap();
        let meeting = |start, end| {
            let units = entry.meeting(Window { start, end });
            units.map(|unit| unit.start / DAY).collect::<Vec<_>>()
        };
        assert_eq!(meeting(-5, 1), [0]);
        assert_eq!(meeting(-5, 0), [0_i64; 0]);
        assert_eq!(meeting(5, DAY), [0]);
        assert_eq!(meeting(5, DAY + 1), [0, 1]);
        assert_eq!(meeting(DAY, DAY + 1), [1]);
        assert_eq!(meeting(2 * DAY, 3 * DAY), [0_i64; 0]);
        assert_eq!(meeting(5, 5), [0_i64; 0]);
        assert_eq!(meeting(i64::MIN, i64::MAX), [0, 1]);
    }

    #[test]
    fn a_schema_too_large_is_cut_and_says_so() {
        let mut entry = Entry::default();
        for number in 0..40_000 {
            entry.record_field("m".repeat(60), format!("f{number}"), FieldType::Float);
        }
        assert!(entry.schema_cut && entry.schema_bytes <= SCHEMA_BYTES_MAX);
        let contents = Contents::from([(namespace("a", "b"), entry)]);
        let bytes = Manifest::new(&header(), &contents).seal().unwrap();
        assert!(parse(&bytes).unwrap()[&namespace("a", "b")].schema_cut);
    }

    #[test]
    fn an_archive_is_known_by_its_manifest() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_archive(dir.path()));
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("no complete archive"), "{error}");
        let path = dir.path().join(MANIFEST);
        std::fs::write(&path, b"{\"name\": \"other\"}").unwrap();
        assert!(!is_archive(dir.path()));
        let bytes = Manifest::new(&header(), &contents()).seal().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert!(is_archive(dir.path()));
        assert!(Manifest::read(dir.path()).is_ok());
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(is_archive(dir.path()), "damaged, but an archive");
    }
}
