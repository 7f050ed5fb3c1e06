//! `backup`: the shards of a server by its snapshot port, as a portable backup that
//! `influxd restore -portable` takes.
//!
//! ```text
//! TIME.unfinished    what is backed up; while it is there, the backup is not whole
//! TIME.meta          the whole meta store: users, grants and continuous queries, too
//! TIME.sID.tar.gz    a shard, which has this name when all of it is on disk
//! TIME.digest        the digest of every cell in it
//! TIME.manifest      names the others, and comes last
//! ```
//!
//! A server has no way to say that it failed: a tar that does not end as tars do is asked for again. What
//! has its name is whole, so that nothing else has to be remembered to go on with a backup that was
//! interrupted. A backup is whole when the digest was made of it: for that every byte is read again.

mod shard;
mod unfinished;

pub use self::unfinished::{Begun, Unfinished};

use self::shard::Fetch;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::meta::backup::{self as frame, Manifest, MetaFile, ShardFile};
use crate::meta::{self, Meta};
use crate::pipeline::{self, Progress, Stage};
use crate::plan::Namespace;
use crate::snapshot::{Port, ShardName};
use crate::stop::Stop;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The server's own database, which is left out unless it is named.
const INTERNAL: &str = "_internal";
/// Most bytes of a meta store.
const META_MAX: u64 = 256 << 20;

/// What a backup is told, and tells, while it is made.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "progress does not ask for Debug")]
pub struct Surroundings<'a> {
    /// Is told what is done.
    pub progress: &'a dyn Progress,
    /// Says whether to come to an end.
    pub stop: &'a Stop,
}

/// What was fetched.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The manifest, which is not written yet.
    pub manifest: Manifest,
    /// Bytes of the files on disk.
    pub stored: u64,
    /// Shards that an earlier run had fetched.
    pub before: usize,
    /// Shards that hold deletes which are not compacted.
    pub tombstones: usize,
    /// Shards that the server had when the backup was begun, and not when they were asked for.
    pub gone: Vec<String>,
}

/// Fetches the meta store and every shard that is wanted and not there yet, `jobs` at a time.
///
/// # Errors
/// Where the server cannot be reached or does not hand over what it has, where a file cannot be written,
/// or an end was asked for. What has its name stays.
pub fn fetch(
    port: &Port,
    backup: &Unfinished,
    wanted: &Namespace,
    jobs: usize,
    surroundings: Surroundings<'_>,
) -> Result<Fetched> {
    let (meta, size) = meta_store(port, backup)?;
    let shards = wanted_shards(port, &meta, wanted)?;
    let fetched = Mutex::new(Fetched::default());
    surroundings.progress.units(shards.len());
    surroundings.progress.done(Stage::Read, 0, 0);
    pipeline::for_each(jobs, &shards, |(namespace, id)| {
        surroundings.stop.check()?;
        let Namespace { database, retention_policy } = namespace;
        let shard = ShardName { database, retention_policy, id: *id };
        let name = backup.file(&format!("s{id}.tar.gz"));
        let path = backup.directory().join(&name);
        let got = Fetch { port, shard, path: &path, surroundings }.run()?;
        let mut fetched = fetched.lock().unwrap_or_else(PoisonError::into_inner);
        match got {
            Some(got) => {
                fetched.before += usize::from(got.before);
                fetched.tombstones += usize::from(got.tombstones);
                fetched.stored += path.metadata().map_or(0, |file| file.len());
                fetched.manifest.files.push(ShardFile {
                    database: database.clone(),
                    policy: retention_policy.clone(),
                    shard: *id,
                    name,
                    size: got.bytes,
                    modified: 0,
                });
            }
            None => fetched.gone.push(format!("shard {id} of {namespace}")),
        }
        surroundings.progress.unit_done();
        Ok(())
    })?;
    let mut fetched = fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
    fetched.manifest.meta = MetaFile { name: backup.file("meta"), size };
    fetched.manifest.files.sort_by_key(|file| file.shard);
    fetched.gone.sort();
    Ok(fetched)
}

/// The meta store: as it was when the backup was begun. Gives its length, too.
fn meta_store(port: &Port, backup: &Unfinished) -> Result<(Meta, u64)> {
    let path = backup.directory().join(backup.file("meta"));
    let bytes = if path.exists() {
        let held = path.metadata().map_err(|error| Error::io(&path, "read", error))?.len();
        if held > META_MAX {
            let what = format!("the size of {}", path.display());
            return Err(ErrorKind::Limit { what, max: format!("{} MiB", META_MAX >> 20) }.into());
        }
        let packet = fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
        frame::packet(&packet).map_err(|damage| damage.in_file(&path))?
    } else {
        let reply = port.meta()?;
        let framed = frame::framed(&reply).map_err(|damage| unread(port, damage.to_string()))?;
        let packet = frame::packet_of(framed.meta);
        files::replace(&path, &packet).map_err(|error| Error::io(&path, "write", error))?;
        framed.meta.to_vec()
    };
    let meta = meta::decode(&bytes).map_err(|damage| unread(port, damage.to_string()))?;
    Ok((meta, bytes.len() as u64))
}

fn unread(port: &Port, reason: String) -> Error {
    let (server, query) = (port.name(), "the meta store".to_owned());
    ErrorKind::Reply { server, query, reason }.into()
}

/// The shards that are wanted and that the server has files of.
fn wanted_shards(port: &Port, meta: &Meta, wanted: &Namespace) -> Result<Vec<(Namespace, u64)>> {
    let named = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
    let (mut shards, mut found) = (Vec::new(), false);
    let policies = meta
        .databases
        .iter()
        .flat_map(|database| database.rps.iter().map(move |policy| (&database.name, &policy.name)));
    for (database, policy) in policies {
        if !named(&wanted.database, database)
            || !named(&wanted.retention_policy, policy)
            || (database == INTERNAL && wanted.database != INTERNAL)
        {
            continue;
        }
        found = true;
        for id in port.shards(database, policy)? {
            let (database, retention_policy) = (database.clone(), policy.clone());
            shards.push((Namespace { database, retention_policy }, id));
        }
    }
    if !found && !wanted.is_empty() {
        let what = wanted.to_string();
        return Err(ErrorKind::NotFound { what, place: format!("at {}", port.name()) }.into());
    }
    Ok(shards)
}

/// Writes the manifest: from now on the directory is a backup.
///
/// # Errors
/// Where it cannot be written.
pub fn complete(backup: Unfinished, manifest: &Manifest) -> Result<()> {
    let path = backup.directory().join(backup.file("manifest"));
    let text = manifest.text()?;
    files::replace(&path, text.as_bytes()).map_err(|error| Error::io(&path, "write", error))?;
    backup.remove()
}

/// Removes a digest that an interrupted run left: it may not be that of what is there now.
///
/// # Errors
/// Where it is there and cannot be removed.
pub fn remove_digest(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path, "remove", error))
        }
        _ => Ok(()),
    }
}
