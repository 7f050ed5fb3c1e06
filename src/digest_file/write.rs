//! Writes a digest file: units as they come, then the dictionary, the names and the contents.

use super::frame::{FULL, HEADER, Kind, seal};
use super::{
    CUT, Contents, Dictionary, DictionaryFrame, HIDDEN, LEAF_BYTES, LEVEL_AT, MAGIC, NAME_UNKNOWN,
    UnitEntry, VERSION,
};
use crate::digest::cell::{CANON_VERSION, SeriesHash};
use crate::digest::grid::Level;
use crate::digest::leaf::{Flags, Leaf};
use crate::digest::node::Node;
use crate::digest::set::{self, DigestSet};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::window::Window;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes of measurements' names that are kept.
const NAME_BYTES_MAX: usize = 16 << 20;

/// A digest file in the making. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    offset: u64,
    numbers: HashMap<Box<[u8]>, u32>,
    names: Vec<u8>,
    name_frames: Vec<Vec<u8>>,
    name_bytes: usize,
    finished: bool,
}

impl Writer {
    /// Begins a file that will be called `path`.
    ///
    /// # Errors
    /// Where something has that name, or it cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        refuse_existing(path)?;
        let created = files::create_beside(path);
        let (beside, file) = created.map_err(|error| Error::io(path, "create", error))?;
        let mut writer = Self {
            path: path.to_owned(),
            beside,
            file,
            hasher: blake3::Hasher::new(),
            offset: 0,
            numbers: HashMap::new(),
            names: Vec::new(),
            name_frames: Vec::new(),
            name_bytes: 0,
            finished: false,
        };
        writer.append(MAGIC)?;
        writer.append(&VERSION.to_le_bytes())?;
        writer.append(&[CANON_VERSION, 0, 0, 0])?;
        Ok(writer)
    }

    /// Writes the leaves of a unit, `memory` bytes of them at a time; nothing where there is none.
    ///
    /// # Errors
    /// Where the set cannot be read or the file not be written.
    pub fn unit(
        &mut self,
        window: Window,
        set: &DigestSet,
        memory: usize,
    ) -> Result<Option<UnitEntry>> {
        let Window { start, end } = window;
        let offset = self.offset;
        let mut unit = UnitEntry {
            start,
            end,
            digest: Node::default(),
            leaves: 0,
            days: 0,
            offset,
            frames: 0,
        };
        let mut plain = Vec::with_capacity(FULL);
        for range in set::ranges(set, &DigestSet::default(), memory) {
            for leaf in &*set.leaves(range)? {
                let name =
                    set.measurement(leaf).map_or(Ok(NAME_UNKNOWN), |name| self.name(name))?;
                encode(leaf, name, &mut plain);
                unit.digest += leaf.node;
                unit.leaves += 1;
                unit.days += u64::from(leaf.bucket().level() == Level::Day);
                if plain.len() + LEAF_BYTES > FULL {
                    unit.frames += self.frame(Kind::Leaves, &mut plain)?;
                }
            }
        }
        unit.frames += self.frame(Kind::Leaves, &mut plain)?;
        Ok((unit.leaves > 0).then_some(unit))
    }

    /// Writes the rest, and gives the file its name.
    ///
    /// # Errors
    /// Where it cannot be written, or something has its name by now.
    pub fn finish(mut self, mut contents: Contents, dictionary: Dictionary) -> Result<()> {
        contents.frames.dictionary.clear();
        contents.series = 0;
        let (mut plain, mut first) = (Vec::with_capacity(FULL), None);
        dictionary.finish(&mut |series, key| {
            first.get_or_insert(series);
            contents.series += 1;
            plain.extend_from_slice(&series.0.to_le_bytes());
            plain.extend_from_slice(&length(key)?.to_le_bytes());
            plain.extend_from_slice(key);
            if plain.len() > FULL {
                self.dictionary_frame(&mut plain, first.take(), &mut contents)?;
            }
            Ok(())
        })?;
        self.dictionary_frame(&mut plain, first, &mut contents)?;
        self.close_names();
        contents.frames.names.clear();
        for mut plain in std::mem::take(&mut self.name_frames) {
            contents.frames.names.push(self.offset);
            self.frame(Kind::Names, &mut plain)?;
        }
        let place = self.offset;
        let failed = |error| ErrorKind::Data(format!("the digest cannot be described: {error}"));
        let mut json = serde_json::to_vec(&contents).map_err(failed)?;
        self.frame(Kind::Contents, &mut json)?;
        self.append(&place.to_le_bytes())?;
        let checksum = *self.hasher.finalize().as_bytes();
        self.append(&checksum)?;
        refuse_existing(&self.path)?;
        files::put_in_place(&self.file, &self.beside, &self.path)
            .map_err(|error| Error::io(&self.path, "write", error))?;
        self.finished = true;
        Ok(())
    }

    fn dictionary_frame(
        &mut self,
        plain: &mut Vec<u8>,
        first: Option<SeriesHash>,
        contents: &mut Contents,
    ) -> Result<()> {
        let Some(first) = first else { return Ok(()) };
        let entry = DictionaryFrame { first: format!("{:032x}", first.0), offset: self.offset };
        contents.frames.dictionary.push(entry);
        self.frame(Kind::Dictionary, plain)?;
        Ok(())
    }

    /// The number of a measurement.
    fn name(&mut self, name: &[u8]) -> Result<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(NAME_UNKNOWN);
        // An entry of the table, and the name with its length.
        self.name_bytes += name.len() + 64;
        if self.name_bytes > NAME_BYTES_MAX || number >= NAME_UNKNOWN {
            return Ok(NAME_UNKNOWN);
        }
        self.names.extend_from_slice(&length(name)?.to_le_bytes());
        self.names.extend_from_slice(name);
        if self.names.len() > FULL {
            self.close_names();
        }
        self.numbers.insert(name.into(), number);
        Ok(number)
    }

    fn close_names(&mut self) {
        if !self.names.is_empty() {
            self.name_frames.push(std::mem::take(&mut self.names));
        }
    }

    /// Writes what was gathered as one frame; returns how many that were.
    fn frame(&mut self, kind: Kind, plain: &mut Vec<u8>) -> Result<u64> {
        if plain.is_empty() {
            return Ok(0);
        }
        let frame = seal(kind, plain)?;
        debug_assert!(frame.len() > HEADER, "a zstd frame is never empty");
        plain.clear();
        self.append(&frame)?;
        Ok(1)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| Error::io(&self.beside, "write", error))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // What remains is named `.NAME.N.partial`.
            let _remains = std::fs::remove_file(&self.beside);
        }
    }
}

fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Error::location(path.display(), "exists, and a digest file never replaces anything")
        .with_next("name another file, or remove that one first"))
}

fn length(part: &[u8]) -> Result<u32> {
    u32::try_from(part.len())
        .map_err(|_long| ErrorKind::Data("a series key is longer than 4 GiB".into()).into())
}

fn encode(leaf: &Leaf, name: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&leaf.series.0.to_le_bytes());
    let [k0, k1] = leaf.node.keys;
    let [v0, v1] = leaf.node.values;
    for word in [leaf.node.cells, k0, k1, v0, v1] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let Flags { hidden, cut } = leaf.flags();
    let name = name | if hidden { HIDDEN } else { 0 } | if cut { CUT } else { 0 };
    let name = name | leaf.bucket().level().code() << LEVEL_AT;
    out.extend_from_slice(&leaf.bucket().minute().to_le_bytes());
    out.extend_from_slice(&name.to_le_bytes());
}
