//! A backup that a server of InfluxDB 1.x made into a directory: portable, or of the older form.
//!
//! ```text
//! portable   TIME.manifest  TIME.meta  TIME.sID.tar.gz, several times over
//! older      meta.NN  DATABASE.RP.SHARD.NN
//! ```
//!
//! Of several portable backups the newest gives the meta store, and for each shard the newest that
//! names it counts, as `influxd restore -portable` resolves them. Of the older form all numbers are
//! taken, the greater winning.

use super::packed::{self, Failure, Room, Salvage, Unpacked, not_whole};
use super::shard::{Shard, advised};
use super::{Place, policies};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::backup::{self, Manifest};
use crate::meta::{self, Meta};
use crate::plan::Namespace;
use crate::window::{format_time, parse_time};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of a manifest or meta store.
const META_MAX: u64 = 256 << 20;

/// A backup.
#[derive(Debug)]
pub struct Backup {
    root: PathBuf,
    meta: Arc<Meta>,
    /// The shards' files, those that win behind.
    shards: BTreeMap<(Namespace, u64), Vec<Packed>>,
    /// When the newest of them was begun, nanoseconds since 1970.
    time: Option<i64>,
    room: Room,
    /// Damage is passed over and named.
    salvage: Option<Salvage>,
}

/// The file of a shard.
#[derive(Clone, Debug)]
struct Packed {
    path: PathBuf,
    /// Length of the tar, and that it is compressed.
    portable: Option<u64>,
}

impl Backup {
    /// Opens the backup in a directory, if there is one. With `salvage`, damage of shards is passed over
    /// and counted.
    ///
    /// # Errors
    /// Where a part of it is missing, or damaged.
    pub fn open(root: &Path, room: Room, salvage: bool) -> Result<Option<Self>> {
        let salvage = salvage.then(|| Salvage { torn: true, ..Salvage::default() });
        let names = names(root)?;
        let manifests: Vec<&String> =
            names.iter().filter(|name| name.ends_with(".manifest")).collect();
        if !manifests.is_empty() {
            return Self::portable(root, &manifests, room, salvage).map(Some);
        }
        let metas = names.iter().filter(|name| number_of(name, "meta").is_some());
        match metas.max_by_key(|name| number_of(name, "meta")) {
            Some(meta) => Self::older(root, meta, &names, room, salvage).map(Some),
            None => Ok(None),
        }
    }

    fn portable(
        root: &Path,
        manifests: &[&String],
        room: Room,
        salvage: Option<Salvage>,
    ) -> Result<Self> {
        let mut shards: BTreeMap<(Namespace, u64), Vec<Packed>> = BTreeMap::new();
        let mut newest = None;
        for name in manifests {
            let path = root.join(name);
            let manifest = Manifest::read(&read(&path)?).map_err(|damage| damage.in_file(&path))?;
            for file in &manifest.files {
                let (database, retention_policy) = (file.database.clone(), file.policy.clone());
                let key = (Namespace { database, retention_policy }, file.shard);
                let packed = Packed { path: root.join(&file.name), portable: Some(file.size) };
                if !packed.path.is_file() {
                    let error = missing(&path, &packed.path);
                    let Some(salvage) = &salvage else { return Err(error) };
                    salvage.remarks.add(error.to_string());
                    continue;
                }
                shards.insert(key, vec![packed]);
            }
            newest = Some((name, manifest.meta));
        }
        let Some((name, file)) = newest else {
            return Err(Error::location(root.display(), "there is no manifest"));
        };
        let path = root.join(&file.name);
        let bytes = backup::packet(&read(&path)?).map_err(|damage| damage.in_file(&path))?;
        if bytes.len() as u64 != file.size {
            let reason =
                format!("the meta store has {} bytes, and {} are named", bytes.len(), file.size);
            return Err(ErrorKind::Damaged { path, offset: 0, reason }.into());
        }
        let meta = meta::decode(&bytes).map_err(|damage| damage.in_file(&path))?;
        let time = name.strip_suffix(".manifest").and_then(time_of);
        Ok(Self { root: root.to_owned(), meta: Arc::new(meta), shards, time, room, salvage })
    }

    fn older(
        root: &Path,
        meta: &str,
        names: &[String],
        room: Room,
        salvage: Option<Salvage>,
    ) -> Result<Self> {
        let path = root.join(meta);
        let bytes = read(&path)?;
        let framed = backup::framed(&bytes).map_err(|damage| damage.in_file(&path))?;
        let meta = meta::decode(framed.meta).map_err(|damage| damage.in_file(&path))?;
        let mut shards: BTreeMap<(Namespace, u64), Vec<Packed>> = BTreeMap::new();
        for (namespace, policy) in policies(&meta) {
            for shard in policy.groups.iter().flat_map(|group| &group.shards) {
                let Namespace { database, retention_policy } = &namespace;
                let prefix = format!("{database}.{retention_policy}.{:05}", shard.id);
                let mut found: Vec<_> = names
                    .iter()
                    .filter_map(|name| Some((number_of(name, &prefix)?, root.join(name))))
                    .collect();
                found.sort_unstable();
                let packed = found.into_iter().map(|(_, path)| Packed { path, portable: None });
                let packed: Vec<_> = packed.collect();
                if !packed.is_empty() {
                    shards.insert((namespace.clone(), shard.id), packed);
                }
            }
        }
        let time = path.metadata().and_then(|file| file.modified()).ok().and_then(|time| {
            let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
            i64::try_from(since.as_nanos()).ok()
        });
        Ok(Self { root: root.to_owned(), meta: Arc::new(meta), shards, time, room, salvage })
    }

    fn unpack(&self, packed: &Packed) -> Result<Shard> {
        let path = &packed.path;
        let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
        let salvage = self.salvage.as_ref();
        let unpacked = match packed.portable {
            Some(_) => {
                let tar = flate2::read::MultiGzDecoder::new(file);
                packed::salvage(tar, path, &self.room, salvage)
            }
            None => packed::salvage(io::BufReader::new(file), path, &self.room, salvage),
        };
        let Unpacked { shard, bytes } = unpacked.map_err(|failure| match failure {
            Failure::Tar(problem) => advised(not_whole(path, &problem)),
            Failure::Other(error) => error,
        })?;
        if let (Some(size), Some(bytes)) = (packed.portable, bytes)
            && size != bytes
        {
            let reason = format!("the tar has {bytes} bytes, and the manifest says {size}");
            let error = Error::from(ErrorKind::Damaged { path: path.clone(), offset: 0, reason });
            match salvage {
                Some(salvage) => salvage.remarks.add(error.to_string()),
                None => return Err(advised(error)),
            }
        }
        Ok(shard)
    }
}

impl Place for Backup {
    fn name(&self) -> String {
        match self.time {
            Some(time) => format!("backup {} of {}", self.root.display(), format_time(time)),
            None => format!("backup {}", self.root.display()),
        }
    }

    fn meta(&self) -> Result<Arc<Meta>> {
        Ok(Arc::clone(&self.meta))
    }

    fn made(&self) -> Option<i64> {
        self.time
    }

    fn unread(&self) -> Vec<String> {
        self.salvage.as_ref().map_or_else(Vec::new, |salvage| salvage.remarks.texts())
    }

    fn open(&self, namespace: &Namespace, shard: u64) -> Result<Option<Arc<Shard>>> {
        let Some(packed) = self.shards.get(&(namespace.clone(), shard)) else { return Ok(None) };
        let mut all = Shard::default();
        for one in packed {
            all.files.extend(self.unpack(one)?.files);
        }
        // The same file may be in several backups of the older form.
        all.files.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(Some(Arc::new(all)))
    }
}

fn names(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root).map_err(|error| Error::io(root, "list", error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(root, "list", error))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
    let mut bytes = Vec::new();
    let read = file.take(META_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Error::io(path, "read", error))?;
    Ok(bytes)
}

fn missing(manifest: &Path, file: &Path) -> Error {
    Error::location(
        manifest.display(),
        format!("names {}, which is not there: a part of the backup is lost", file.display()),
    )
    .with_next("copy the whole directory, or make the backup again")
}

/// NN of `PREFIX.NN`.
fn number_of(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('.')?;
    (digits.len() >= 2).then(|| digits.parse().ok()).flatten()
}

/// The time that a portable backup has in its names: `20060102T150405Z`.
fn time_of(name: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| name.get(range);
    let (date, clock) = (digits(0..8)?, digits(9..15)?);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        date.get(..4)?,
        date.get(4..6)?,
        date.get(6..8)?,
        clock.get(..2)?,
        clock.get(2..4)?,
        clock.get(4..6)?
    );
    parse_time(&text).ok()
}
