//! What backups of InfluxDB 1.x are framed in: the meta store, and the manifest of a portable backup.
//!
//! ```text
//! meta.NN, port 8088   u64 0x59590101, u64 length, meta.db, u64 length, the node's JSON
//! TIME.meta            protobuf {1: meta.db, 2: a number}, without magic
//! TIME.manifest        JSON: the meta file, and the shards with their tar files
//! TIME.sID.tar.gz      DATABASE/RP/SHARD/NAME.tsm and .tombstone, in a tar
//! ```
//!
//! TIME is `20060102T150405Z`, UTC. Nothing here opens a file.

use super::message::Packet;
use crate::error::{Damage, ErrorKind, Result as Outcome};
use crate::tsm::input::Input;
use prost::Message;
use serde::{Deserialize, Serialize};

/// First word of a framed meta store (`BackupMagicHeader`).
const MAGIC: u64 = 0x5959_0101;

/// A meta store as legacy backups and the snapshot port hand it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The bytes of `meta.db`.
    pub meta: &'a [u8],
    /// JSON that names the node; `null` in InfluxDB OSS.
    pub node: &'a [u8],
}

/// Unwraps the meta store of a legacy backup, or a reply of the snapshot port.
///
/// # Errors
/// Where it is none, is cut short, or goes on behind its end.
pub fn framed(bytes: &[u8]) -> Result<Framed<'_>, Damage> {
    let mut input = Input::new(bytes, 0);
    if input.u64("the magic of a meta store")? != MAGIC {
        return Err(Damage::new(0, "this is no backup of a meta store: its magic is missing"));
    }
    let length = input.u64("the meta store's length")?;
    let meta = input.take_long(length, "the meta store")?;
    let length = input.u64("the length of the node's description")?;
    let node = input.take_long(length, "the node's description")?;
    if !input.is_empty() {
        return Err(input.damaged("bytes behind the backup of a meta store"));
    }
    Ok(Framed { meta, node })
}

/// Unwraps the meta store of a portable backup: the bytes of `meta.db`.
///
/// # Errors
/// Where it is none, or holds nothing.
pub fn packet(bytes: &[u8]) -> Result<Vec<u8>, Damage> {
    let packet = Packet::decode(bytes).map_err(|error| {
        Damage::new(0, format!("this is no meta store of a portable backup: {error}"))
    })?;
    if packet.meta.is_empty() {
        return Err(Damage::new(0, "the portable backup holds no meta store"));
    }
    Ok(packet.meta)
}

/// Wraps the bytes of `meta.db` as a portable backup holds them.
#[must_use]
pub fn packet_of(meta: &[u8]) -> Vec<u8> {
    Packet { meta: meta.to_vec(), node_max: 0 }.encode_to_vec()
}

/// What a portable backup consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Manifest {
    /// The meta store, which is always that of the whole server.
    pub meta: MetaFile,
    /// True would say that not all databases are there; servers write false whatever they leave out.
    #[serde(default)]
    pub limited: bool,
    /// The shards.
    #[serde(default, deserialize_with = "or_none")]
    pub files: Vec<ShardFile>,
}

/// The file that holds the meta store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct MetaFile {
    /// Its name, beside the manifest.
    #[serde(rename = "fileName")]
    pub name: String,
    /// Bytes of the `meta.db` inside.
    pub size: u64,
}

/// The file that holds a shard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ShardFile {
    /// Database name.
    pub database: String,
    /// Name of the retention policy.
    pub policy: String,
    /// Number of the shard.
    #[serde(rename = "shardID")]
    pub shard: u64,
    /// Its name, beside the manifest.
    #[serde(rename = "fileName")]
    pub name: String,
    /// Bytes of the tar, decompressed.
    pub size: u64,
    /// Servers write 0.
    #[serde(rename = "lastModified", default)]
    pub modified: i64,
}

/// Servers write `null` where there is no shard.
fn or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<ShardFile>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Manifest {
    /// The manifest as servers write it.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn text(&self) -> Outcome<String> {
        serde_json::to_string_pretty(self)
            .map_err(|error| ErrorKind::Data(format!("the manifest: {error}")).into())
    }

    /// Reads a manifest, whose files then all stand beside it.
    ///
    /// # Errors
    /// Where it is none, or names a file elsewhere.
    pub fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| {
            let before = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len);
            let line: usize = before.take(error.line().saturating_sub(1)).sum();
            let reason = format!("this is no manifest of a portable backup: {error}");
            Damage::new((line + error.column().saturating_sub(1)) as u64, reason)
        })?;
        let names = manifest.files.iter().map(|file| &file.name).chain([&manifest.meta.name]);
        for name in names {
            if name.is_empty() || name.contains(['/', '\\']) || name == "." || name == ".." {
                return Err(Damage::new(0, format!("{name:?} is no name of a file beside it")));
            }
        }
        Ok(manifest)
    }
}
