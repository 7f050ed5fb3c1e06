//! Reads a digest file, whose every byte is verified before anything of it is used.

use super::frame::{HEADER, Header, Kind};
use super::names::head;
use super::{
    CUT, Contents, HIDDEN, LEAF_BYTES, LEVEL_AT, MAGIC, NAME_UNKNOWN, NAME_UNKNOWN_FIRST,
    NamespaceEntry, UnitEntry, VERSION, VERSION_FIRST, damaged, whole_hours,
};
use crate::digest::cell::{CANON_VERSION, SeriesHash};
use crate::digest::grid::{Bucket, Level};
use crate::digest::leaf::{Flags, Leaf};
use crate::digest::node::Node;
use crate::digest::set::{self, DigestSet, FOLD_FROM};
use crate::error::{Error, Result};
use crate::plan::Namespace;
use crate::spill;
use crate::window::{DAY, HOUR, Window};
use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes before the first frame.
const HEAD: usize = 24;
/// Bytes behind the last.
const FOOT: usize = 40;

/// Takes leaves, each with its measurement where that is known.
pub type EachLeaf<'a> = &'a mut dyn FnMut(&Leaf, Option<&Arc<[u8]>>) -> Result<()>;

/// A digest file that was verified and is open.
#[derive(Debug)]
pub struct DigestFile {
    path: PathBuf,
    file: Mutex<File>,
    version: u32,
    contents: Contents,
    /// Measurements by number.
    names: Vec<Arc<[u8]>>,
    /// First series and offset of each frame of the dictionary.
    dictionary: Vec<(SeriesHash, u64)>,
}

/// True where a regular file begins as a digest file does.
///
/// # Errors
/// Where it cannot be read.
pub fn is_digest_file(path: &Path) -> Result<bool> {
    // A pipe can be read only once: it is line protocol.
    if !path.metadata().is_ok_and(|held| held.is_file()) {
        return Ok(false);
    }
    let failed = |error| Error::io(path, "read", error);
    let mut first = [0; MAGIC.len()];
    match File::open(path).map_err(failed)?.read_exact(&mut first) {
        Ok(()) => Ok(first == *MAGIC),
        Err(error) if error.kind() == IoErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

impl DigestFile {
    /// Opens a file and reads it once, by way of `counted`, to verify it.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged or cut short, or is of another version.
    pub fn open(path: &Path, counted: impl FnOnce(File) -> Box<dyn Read>) -> Result<Self> {
        let failed = |error| Error::io(path, "open", error);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let inner = counted(file.try_clone().map_err(failed)?);
        let hasher = blake3::Hasher::new();
        let inner = &mut { inner };
        let mut pass = Pass { path, inner, hasher, offset: 0, length, version: VERSION };
        let contents = pass.run()?;
        let mut read = Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            version: pass.version,
            contents,
            names: Vec::new(),
            dictionary: Vec::new(),
        };
        read.check()?;
        for offset in read.contents.frames.names.clone() {
            let (plain, _) = read.frame(Kind::Names, offset)?;
            read.add_names(&plain).ok_or_else(|| read.contradicts("a list of names"))?;
        }
        Ok(read)
    }

    /// What it says about itself.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entry of a namespace.
    #[must_use]
    pub fn namespace(&self, namespace: &Namespace) -> Option<&NamespaceEntry> {
        self.contents.namespaces.iter().find(|entry| {
            entry.database == namespace.database
                && entry.retention_policy == namespace.retention_policy
        })
    }

    /// The windows in which it can speak of a namespace.
    #[must_use]
    pub fn coverage(&self, namespace: &Namespace) -> Vec<Window> {
        let listed = self.namespace(namespace).map(|entry| &entry.coverage);
        let spans = listed.unwrap_or(&self.contents.every_namespace);
        spans.iter().map(|span| (*span).into()).collect()
    }

    /// The units of a namespace that meet a window.
    pub fn units(
        &self,
        namespace: &Namespace,
        window: Window,
    ) -> impl Iterator<Item = &UnitEntry> + '_ {
        let units = self.namespace(namespace).map_or(&[][..], |entry| &entry.units);
        units.iter().filter(move |unit| unit.window().intersect(window).is_some())
    }

    /// The length of the buckets that a time is not to cut, because one may be known as a whole only: a
    /// day where a unit that holds all of it has leaves of days, else an hour. Of all namespaces.
    #[must_use]
    pub fn grain(&self, time: i64) -> i64 {
        let day = Bucket::holding(Level::Day, time).window();
        let holds = |unit: &UnitEntry| unit.days > 0 && unit.window().intersect(day) == Some(day);
        let mut units = self.contents.namespaces.iter().flat_map(|entry| &entry.units);
        if units.any(holds) { DAY } else { HOUR }
    }

    /// Hands the leaves of a namespace on whose buckets meet a window, each with its measurement where
    /// that is known, unit after unit, within each sorted by place.
    ///
    /// # Errors
    /// Where the file cannot be read or contradicts itself, or `each` fails.
    pub fn leaves(&self, namespace: &Namespace, window: Window, each: EachLeaf<'_>) -> Result<()> {
        for unit in self.units(namespace, window) {
            self.unit(unit, &mut |leaf, name| match leaf.bucket().window().intersect(window) {
                Some(_) => each(leaf, name),
                None => Ok(()),
            })?;
        }
        Ok(())
    }

    /// The digests of a namespace in a window.
    ///
    /// # Errors
    /// Where the file cannot be read, or what does not fit in memory not be written.
    pub fn set(
        &self,
        namespace: &Namespace,
        window: Window,
        memory: usize,
        spill: &spill::Place,
    ) -> Result<DigestSet> {
        let builder = set::Builder::new(memory, spill.clone());
        let mut builder = builder.fold_days(window, FOLD_FROM);
        self.leaves(namespace, window, &mut |leaf, name| {
            builder.add_leaf(leaf, name.map(|name| &**name))
        })?;
        builder.finish()
    }

    /// Number of cells of a namespace in a window; a bucket that the window cuts counts as a whole.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn cells(&self, namespace: &Namespace, window: Window) -> Result<u64> {
        let mut cells = 0;
        self.leaves(namespace, window, &mut |leaf, _| {
            cells += leaf.node.cells;
            Ok(())
        })?;
        Ok(cells)
    }

    /// The leaves of one unit.
    fn unit(&self, unit: &UnitEntry, each: EachLeaf<'_>) -> Result<()> {
        let wrong = || self.contradicts(&format!("the unit {}", unit.window()));
        let (mut offset, mut total, mut leaves) = (unit.offset, Node::default(), 0);
        let (mut days, mut last) = (0, None::<Leaf>);
        for _ in 0..unit.frames {
            let (plain, end) = self.frame(Kind::Leaves, offset)?;
            offset = end;
            let (records, []) = plain.as_chunks::<LEAF_BYTES>() else { return Err(wrong()) };
            for record in records {
                let (leaf, number) = self.decode(record).ok_or_else(wrong)?;
                let is_day = leaf.bucket().level() == Level::Day;
                let window = leaf.bucket().window();
                let inside = match window.intersect(unit.window()) {
                    Some(part) => !is_day || part == window,
                    None => false,
                };
                let name = number.and_then(|number| self.names.get(number));
                let named = name.is_some() || number.is_none();
                if last.is_some_and(|last| !last.is_before(&leaf)) || !inside || !named {
                    return Err(wrong());
                }
                last = Some(leaf);
                total += leaf.node;
                leaves += 1;
                days += u64::from(is_day);
                each(&leaf, name)?;
            }
        }
        let as_said = (total, leaves, days) == (unit.digest, unit.leaves, unit.days);
        if as_said { Ok(()) } else { Err(wrong()) }
    }

    /// A leaf, and the number of its measurement where that is kept. `None` for what no writer makes.
    fn decode(&self, record: &[u8; LEAF_BYTES]) -> Option<(Leaf, Option<usize>)> {
        fn at<const N: usize>(record: &[u8; LEAF_BYTES], start: usize) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(&record[start..start + N]);
            out
        }
        let word = |start| u64::from_le_bytes(at(record, start));
        let series = SeriesHash(u128::from_le_bytes(at(record, 0)));
        let (keys, values) = ([word(24), word(32)], [word(40), word(48)]);
        let node = Node { cells: word(16), keys, values };
        let time = i32::from_le_bytes(at(record, 56));
        let name = u32::from_le_bytes(at(record, 60));
        let flags = Flags { hidden: name & HIDDEN != 0, cut: name & CUT != 0 };
        let rest = name & !(HIDDEN | CUT);
        let (bucket, number, unknown) = match self.version {
            VERSION_FIRST => {
                let bucket = Bucket::starting(Level::Hour, time.checked_mul(60)?)?;
                (bucket, rest, NAME_UNKNOWN_FIRST)
            }
            _ => {
                let level = Level::of(rest >> LEVEL_AT)?;
                (Bucket::starting(level, time)?, rest & NAME_UNKNOWN, NAME_UNKNOWN)
            }
        };
        let known = (number != unknown).then_some(number);
        let number = known.map(usize::try_from).transpose().ok()?;
        Some((Leaf::new((series, bucket), node, flags), number))
    }

    /// The raw keys of series, one each, where the dictionary has them. `wanted` is sorted.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn keys(&self, wanted: &[SeriesHash]) -> Result<Vec<(SeriesHash, Box<[u8]>)>> {
        let mut found: Vec<(SeriesHash, Box<[u8]>)> = Vec::new();
        for (at, (first, offset)) in self.dictionary.iter().enumerate() {
            let next = self.dictionary.get(at + 1).map(|(next, _)| *next);
            let wants = wanted.get(wanted.partition_point(|hash| hash < first));
            // A series with several keys may go on in the next frame.
            if wants.is_none_or(|hash| next.is_some_and(|next| *hash > next)) {
                continue;
            }
            self.dictionary_frame(*offset, &mut |series, key| {
                let known = found.last().is_some_and(|(last, _)| *last == series);
                if !known && wanted.binary_search(&series).is_ok() {
                    found.push((series, key.into()));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Hands every entry of the dictionary on, in order.
    ///
    /// # Errors
    /// Where the file cannot be read, or `each` fails.
    pub fn dictionary(&self, each: &mut dyn FnMut(SeriesHash, &[u8]) -> Result<()>) -> Result<()> {
        self.dictionary.iter().try_for_each(|(_, offset)| self.dictionary_frame(*offset, each))
    }

    fn dictionary_frame(
        &self,
        offset: u64,
        each: &mut dyn FnMut(SeriesHash, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (plain, _) = self.frame(Kind::Dictionary, offset)?;
        let mut rest = &plain[..];
        while !rest.is_empty() {
            let entry = head(rest).and_then(|(series, length)| {
                let (key, after) = rest.get(20..)?.split_at_checked(length)?;
                Some((series, key, after))
            });
            let Some((series, key, after)) = entry else {
                return Err(self.contradicts("the dictionary"));
            };
            each(SeriesHash(series), key)?;
            rest = after;
        }
        Ok(())
    }

    /// The plain bytes of a frame, and the offset behind it.
    fn frame(&self, kind: Kind, offset: u64) -> Result<(Vec<u8>, u64)> {
        let path = &self.path;
        let failed = |error: std::io::Error| match error.kind() {
            IoErrorKind::UnexpectedEof => damaged(path, offset, "the file ends inside a frame"),
            _ => Error::io(path, "read", error),
        };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(failed)?;
        let header = Header::parse(path, offset, &header)?;
        if header.kind != kind {
            return Err(self.contradicts("its list of frames"));
        }
        let mut stored = vec![0; header.stored];
        file.read_exact(&mut stored).map_err(failed)?;
        drop(file);
        header.check(path, offset, &stored)?;
        let end = offset + (HEADER + header.stored) as u64;
        Ok((header.plain(path, offset, &stored)?, end))
    }

    fn add_names(&mut self, mut plain: &[u8]) -> Option<()> {
        while !plain.is_empty() {
            let (length, rest) = plain.split_first_chunk()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (name, rest) = rest.split_at_checked(length)?;
            self.names.push(name.into());
            plain = rest;
        }
        Some(())
    }

    /// Checks what the contents say for contradictions.
    fn check(&mut self) -> Result<()> {
        for entry in &self.contents.namespaces {
            let mut covered: Option<Window> = None;
            for window in entry.coverage.iter().map(|span| Window::from(*span)) {
                if window.is_empty() || covered.is_some_and(|last| last.end >= window.start) {
                    return Err(self.contradicts("its coverage"));
                }
                covered = Some(window);
            }
            let mut last: Option<Window> = None;
            for window in entry.units.iter().map(UnitEntry::window) {
                let hours = whole_hours(window);
                let inside = entry
                    .coverage
                    .iter()
                    .any(|span| Window::from(*span).intersect(window) == Some(window));
                if !inside || last.is_some_and(|last| last.end > hours.start) {
                    return Err(self.contradicts("its list of units"));
                }
                last = Some(hours);
            }
        }
        let names =
            |entry: &NamespaceEntry| (entry.database.clone(), entry.retention_policy.clone());
        if !self.contents.namespaces.iter().map(names).is_sorted_by(|one, two| one < two) {
            return Err(self.contradicts("its list of namespaces"));
        }
        let frames = self.contents.frames.dictionary.iter();
        let dictionary: Option<Vec<_>> = frames
            .map(|frame| {
                let first = u128::from_str_radix(&frame.first, 16).ok()?;
                Some((SeriesHash(first), frame.offset))
            })
            .collect();
        let dictionary = dictionary.filter(|frames| frames.is_sorted());
        self.dictionary = dictionary.ok_or_else(|| self.contradicts("its dictionary"))?;
        Ok(())
    }

    /// The error of whoever asks for rows.
    #[must_use]
    pub fn has_no_rows(&self) -> Error {
        Error::location(self.path.display(), "a digest file holds digests and no rows")
            .with_next("name the source that it was made of")
    }

    fn contradicts(&self, what: &str) -> Error {
        damaged(&self.path, 0, format!("the digest file contradicts itself in {what}"))
    }
}

/// One way through the whole file, from its first byte to its last.
struct Pass<'a> {
    path: &'a Path,
    inner: &'a mut dyn Read,
    hasher: blake3::Hasher,
    offset: u64,
    length: u64,
    version: u32,
}

impl Pass<'_> {
    /// Verifies everything and returns what the file says about itself.
    fn run(&mut self) -> Result<Contents> {
        self.head()?;
        loop {
            let begins = self.offset;
            let (header, stored) = self.frame()?;
            if header.kind == Kind::Contents {
                self.foot(begins)?;
                let plain = header.plain(self.path, begins, &stored)?;
                return serde_json::from_slice(&plain).map_err(|error| {
                    damaged(self.path, begins, format!("its contents cannot be read ({error})"))
                });
            }
        }
    }

    fn head(&mut self) -> Result<()> {
        let mut head = [0; HEAD];
        self.take(&mut head)?;
        if head[..MAGIC.len()] != *MAGIC {
            return Err(damaged(self.path, 0, "this is no digest file"));
        }
        let version = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
        self.version = version;
        if !(VERSION_FIRST..=VERSION).contains(&version) {
            let reason = format!(
                "byte 16: the digest file has format version {version}, and this gapless reads \
                 versions {VERSION_FIRST} to {VERSION}"
            );
            return Err(Error::location(self.path.display(), reason)
                .with_next("use the version of gapless that made it"));
        }
        if head[20] != CANON_VERSION {
            let reason = format!(
                "byte 20: its cells were hashed by version {} of the canonical form, and this \
                 gapless hashes by version {CANON_VERSION}: the two can never be compared",
                head[20]
            );
            return Err(Error::location(self.path.display(), reason)
                .with_next("use the version of gapless that made it for both sides"));
        }
        if head[21..] != [0, 0, 0] {
            return Err(damaged(self.path, 21, "bytes that are always zero are not"));
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(Header, Vec<u8>)> {
        let begins = self.offset;
        let mut header = [0; HEADER];
        self.take(&mut header)?;
        let header = Header::parse(self.path, begins, &header)?;
        if header.stored as u64 > self.length.saturating_sub(self.offset) {
            return Err(damaged(self.path, self.length, "the digest file is cut short"));
        }
        let mut stored = vec![0; header.stored];
        self.take(&mut stored)?;
        header.check(self.path, begins, &stored)?;
        Ok((header, stored))
    }

    fn foot(&mut self, contents: u64) -> Result<()> {
        let mut foot = [0; FOOT];
        let begins = self.offset;
        self.take(&mut foot[..8])?;
        let expected = *self.hasher.clone().finalize().as_bytes();
        self.take(&mut foot[8..])?;
        if foot[..8] != contents.to_le_bytes() {
            return Err(damaged(self.path, begins, "its last bytes point to another place"));
        }
        if foot[8..] != expected {
            let reason = "the digest file does not match its checksum: it was damaged or edited";
            return Err(damaged(self.path, begins + 8, reason));
        }
        let more =
            self.inner.read(&mut [0]).map_err(|error| Error::io(self.path, "read", error))?;
        if more > 0 {
            return Err(damaged(self.path, self.offset, "bytes stand behind the end"));
        }
        Ok(())
    }

    fn take(&mut self, into: &mut [u8]) -> Result<()> {
        self.inner.read_exact(into).map_err(|error| match error.kind() {
            IoErrorKind::UnexpectedEof => {
                damaged(self.path, self.length, "the digest file is cut short")
            }
            _ => Error::io(self.path, "read", error),
        })?;
        self.hasher.update(into);
        self.offset += into.len() as u64;
        Ok(())
    }
}
