//! A backup that a server of InfluxDB 1.x made into a directory: portable, or of the older form.
//!
//! ```text
//! portable   TIME.manifest  TIME.meta  TIME.sID.tar.gz, several times over
//! older      meta.NN  DATABASE.RP.SHARD.NN
//! ```
//!
//! Of several portable backups the newest gives the meta store, and for each shard the newest counts
//! that names it and whose file is there, as `influxd restore -portable` resolves them. Of the older form
//! all numbers are taken as one, the greater winning file by file: a later number may hold nothing but
//! what was deleted from the files of an earlier one.

use super::packed::{Files, Room, Salvage, not_whole};
use super::remarks::Remarks;
use super::shard::{Shard, advised};
use super::{Absence, Made, Place, policies};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::backup::{self, Manifest, ShardFile};
use crate::meta::{self, Meta};
use crate::plan::Namespace;
use crate::tarball::Failure;
use crate::window::{format_time, parse_time};
use std::collections::{BTreeMap, BTreeSet};
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
    shards: Shards,
    /// When the meta store was put aside.
    time: Option<Made>,
    /// Manifests say which shards there are.
    manifest: bool,
    room: Room,
    remarks: Arc<Remarks>,
    /// Damage is passed over and named.
    salvage: Option<Salvage>,
}

type Shards = BTreeMap<(Namespace, u64), Vec<Packed>>;

/// The file of a shard.
#[derive(Clone, Debug)]
struct Packed {
    path: PathBuf,
    /// Length of the tar, and that it is compressed.
    portable: Option<u64>,
    /// When it was made.
    time: Option<Made>,
    /// The newer file in whose place it stands, which is lost.
    instead_of: Option<PathBuf>,
}

impl Backup {
    /// Opens the backup in a directory, if there is one. With `salvage`, damage of shards is passed over
    /// and counted.
    ///
    /// # Errors
    /// Where a part of it is missing, or damaged.
    pub fn open(root: &Path, room: Room, salvage: bool) -> Result<Option<Self>> {
        let remarks: Arc<Remarks> = Arc::default();
        let salvage = salvage.then(|| Salvage { torn: true, remarks: Arc::clone(&remarks) });
        let names = names(root)?;
        let manifests: Vec<&String> =
            names.iter().filter(|name| name.ends_with(".manifest")).collect();
        if !manifests.is_empty() {
            return Self::portable(root, &manifests, room, remarks, salvage).map(Some);
        }
        let metas = names.iter().filter(|name| number_of(name, "meta").is_some());
        match metas.max_by_key(|name| number_of(name, "meta")) {
            Some(meta) => Self::older(root, meta, &names, room, remarks, salvage).map(Some),
            None => Ok(None),
        }
    }

    fn portable(
        root: &Path,
        manifests: &[&String],
        room: Room,
        remarks: Arc<Remarks>,
        salvage: Option<Salvage>,
    ) -> Result<Self> {
        let mut newest = None;
        let mut resolved = Resolved::default();
        for name in manifests.iter().rev() {
            let path = root.join(name);
            let manifest = Manifest::read(&read(&path)?).map_err(|damage| damage.in_file(&path))?;
            let time = name.strip_suffix(".manifest").and_then(time_of).map(Made::begun);
            resolved.add(&path, manifest.files, time);
            newest.get_or_insert((manifest.meta, time));
        }
        for (error, _) in resolved.lost.into_values() {
            let Some(salvage) = &salvage else { return Err(error) };
            salvage.remarks.leave_out_file(error.to_string());
        }
        let Some((file, time)) = newest else {
            return Err(Error::location(root.display(), "there is no manifest"));
        };
        let meta = Arc::new(read_packet(root.join(&file.name), file.size)?);
        let (root, shards) = (root.to_owned(), resolved.shards);
        Ok(Self { root, meta, shards, time, manifest: true, room, remarks, salvage })
    }

    /// The backup in a directory of which a manifest is to be written.
    ///
    /// # Errors
    /// Where a part of it is missing, or damaged.
    pub fn unwritten(root: &Path, manifest: &Manifest, time: i64, room: Room) -> Result<Self> {
        let mut resolved = Resolved::default();
        let time = Some(Made::begun(time));
        resolved.add(&root.join("the manifest"), manifest.files.clone(), time);
        if let Some((error, _)) = resolved.lost.into_values().next() {
            return Err(error);
        }
        let meta = Arc::new(read_packet(root.join(&manifest.meta.name), manifest.meta.size)?);
        let (root, shards) = (root.to_owned(), resolved.shards);
        let remarks = Arc::default();
        Ok(Self { root, meta, shards, time, manifest: true, room, remarks, salvage: None })
    }

    fn older(
        root: &Path,
        meta: &str,
        names: &[String],
        room: Room,
        remarks: Arc<Remarks>,
        salvage: Option<Salvage>,
    ) -> Result<Self> {
        let path = root.join(meta);
        let bytes = read(&path)?;
        let framed = backup::framed(&bytes).map_err(|damage| damage.in_file(&path))?;
        let meta = meta::decode(framed.meta).map_err(|damage| damage.in_file(&path))?;
        let mut shards = Shards::new();
        for (namespace, _) in policies(&meta) {
            let Namespace { database, retention_policy } = &namespace;
            let prefix = format!("{database}.{retention_policy}.");
            let mut found: Vec<_> = names
                .iter()
                .filter_map(|name| {
                    let (shard, number) = shard_of(name, &prefix)?;
                    Some((shard, number, root.join(name)))
                })
                .collect();
            found.sort_unstable();
            for (shard, _, path) in found {
                let time = changed(&path);
                let packed = Packed { path, portable: None, time, instead_of: None };
                shards.entry((namespace.clone(), shard)).or_default().push(packed);
            }
        }
        let (time, meta, root) = (changed(&path), Arc::new(meta), root.to_owned());
        Ok(Self { root, meta, shards, time, manifest: false, room, remarks, salvage })
    }

    /// Adds the files of a tar.
    fn unpack(&self, packed: &Packed, files: &mut Files<'_>) -> Result<()> {
        let path = &packed.path;
        if let Some(newer) = &packed.instead_of {
            self.remarks.add(format!(
                "{}, which is not there: a part of the backup is lost, and the older {} stands in its \
                 place",
                newer.display(),
                path.display()
            ));
        }
        let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
        let salvage = self.salvage.as_ref();
        let added = match packed.portable {
            Some(_) => files.add(flate2::read::MultiGzDecoder::new(file), path, salvage),
            None => files.add(io::BufReader::new(file), path, salvage),
        };
        let bytes = added.map_err(|failure| match failure {
            Failure::Tar(problem) => advised(not_whole(path, &problem)),
            Failure::Other(error) => error,
        })?;
        if let (Some(size), Some(bytes)) = (packed.portable, bytes)
            && size != bytes
        {
            let reason = format!("the tar has {bytes} bytes, and the manifest says {size}");
            let offset = size.min(bytes);
            let error = Error::from(ErrorKind::Damaged { path: path.clone(), offset, reason });
            match salvage {
                Some(salvage) => salvage.remarks.add(error.to_string()),
                None => return Err(advised(error)),
            }
        }
        Ok(())
    }

    /// When all of it was made, where that is one time.
    fn one_time(&self) -> Option<i64> {
        let mut times = self.shards.values().flatten().map(|packed| packed.time).chain([self.time]);
        let first = times.next().flatten().filter(|made| made.exact)?;
        times.all(|time| time == Some(first)).then_some(first.time)
    }
}

/// Which file of several portable backups counts for each shard.
#[derive(Default)]
struct Resolved {
    shards: Shards,
    /// Shards of which no file is there yet: the error, and the newest file that is lost.
    lost: BTreeMap<(Namespace, u64), (Error, PathBuf)>,
}

impl Resolved {
    /// Adds the files of a manifest that is older than all before.
    fn add(&mut self, manifest: &Path, files: Vec<ShardFile>, time: Option<Made>) {
        let root = manifest.parent().unwrap_or(Path::new(""));
        for ShardFile { database, policy: retention_policy, shard, name, size, .. } in files {
            let key = (Namespace { database, retention_policy }, shard);
            if self.shards.contains_key(&key) {
                continue;
            }
            let path = root.join(name);
            if path.is_file() {
                let instead_of = self.lost.remove(&key).map(|(_, newer)| newer);
                let packed = Packed { path, portable: Some(size), time, instead_of };
                self.shards.insert(key, vec![packed]);
            } else {
                self.lost.entry(key).or_insert_with(|| (missing(manifest, &path), path));
            }
        }
    }
}

/// Reads the meta store of a portable backup.
fn read_packet(path: PathBuf, size: u64) -> Result<Meta> {
    let bytes = backup::packet(&read(&path)?).map_err(|damage| damage.in_file(&path))?;
    if bytes.len() as u64 != size {
        let reason = format!("the meta store has {} bytes, and {size} are named", bytes.len());
        return Err(ErrorKind::Damaged { path, offset: 0, reason }.into());
    }
    meta::decode(&bytes).map_err(|damage| damage.in_file(&path))
}

/// When a file was last changed: it holds nothing newer, however often it was copied since.
fn changed(path: &Path) -> Option<Made> {
    let time = path.metadata().and_then(|file| file.modified()).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Made { time: i64::try_from(since.as_nanos()).ok()?, exact: false })
}

/// Shard and NN of `PREFIXSHARD.NN`.
fn shard_of(name: &str, prefix: &str) -> Option<(u64, u32)> {
    let (shard, _) = name.strip_prefix(prefix)?.split_once('.')?;
    let number = number_of(name, &format!("{prefix}{shard}"))?;
    let digits = shard.len() >= 5 && shard.bytes().all(|byte| byte.is_ascii_digit());
    Some((digits.then(|| shard.parse().ok())??, number))
}

impl Place for Backup {
    fn name(&self) -> String {
        match self.one_time() {
            Some(time) => format!("backup {} of {}", self.root.display(), format_time(time)),
            None => format!("backup {}", self.root.display()),
        }
    }

    fn meta(&self) -> Result<Arc<Meta>> {
        Ok(Arc::clone(&self.meta))
    }

    fn made(&self, shard: Option<(&Namespace, u64)>) -> Option<Made> {
        let Some((namespace, shard)) = shard else { return self.time };
        let packed = self.shards.get(&(namespace.clone(), shard))?;
        let times = packed.iter().filter_map(|packed| packed.time);
        // The meta store of the older form is put aside before its shards, and may be copied later.
        times.chain(self.time.filter(|made| !made.exact)).min_by_key(|made| made.time)
    }

    fn unread(&self) -> Vec<String> {
        self.remarks.texts()
    }

    fn absence(&self) -> Absence {
        if self.manifest { Absence::Told } else { Absence::Untold }
    }

    /// A backup may be limited to a database, and has the meta store of all of them.
    fn holds(&self, database: &str) -> bool {
        self.shards.keys().any(|(namespace, _)| namespace.database == database)
    }

    fn stored(&self, namespace: &Namespace) -> Result<BTreeSet<u64>> {
        let of = self.shards.keys().filter(|(of, _)| of == namespace);
        Ok(of.map(|(_, shard)| *shard).collect())
    }

    fn open(&self, namespace: &Namespace, shard: u64) -> Result<Option<Arc<Shard>>> {
        let Some(packed) = self.shards.get(&(namespace.clone(), shard)) else { return Ok(None) };
        let mut files = Files::new(&self.room);
        for one in packed {
            self.unpack(one, &mut files)?;
        }
        files.shard(self.salvage.as_ref()).map(|shard| Some(Arc::new(shard)))
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
