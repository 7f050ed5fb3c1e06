//! Opens places that hold a server's own files.

use super::{Reading, SourceSide};
use crate::error::{Error, Result};
use crate::http::Retry;
use crate::journal::now;
use crate::location::{InfluxLocation, Location};
use crate::meta::Meta;
use crate::plan::Namespace;
use crate::snapshot::Port;
use crate::source::Source;
use crate::source::tsm::backup::Backup;
use crate::source::tsm::directory::{self, Directory, Layout};
use crate::source::tsm::live::Live;
use crate::source::tsm::packed::Room;
use crate::source::tsm::{Place as _, TsmSource};
use crate::spill::Place as Spill;
use std::path::Path;
use std::sync::Arc;

/// Files of a server: its data directory, or a backup; nothing where the directory is neither. The
/// clock is that of this machine, where the server may be running.
pub(super) fn open_files(path: &Path, reading: &Reading) -> Result<Option<SourceSide>> {
    // All that are asked for are picked out later; only the server's own is there when it is named.
    let internal = Some(&reading.lines.namespace.database).filter(|name| *name == "_internal");
    let database = internal.cloned().unwrap_or_default();
    let wanted = Namespace { database, retention_policy: String::new() };
    let side = |source: Box<dyn Source>, clock| {
        Some(SourceSide { source, lines: None, clock, identity: None })
    };
    if let Some(layout) = Layout::of(path, &reading.parts)? {
        let options = directory::Options {
            salvage: reading.salvage,
            log_max: share(reading) / 2,
            spill: reading.lines.spill.clone(),
        };
        let place = Directory::new(path.to_owned(), layout, options);
        let clock = place.is_recent().then(now);
        return Ok(side(Box::new(TsmSource::new(place, wanted)), clock));
    }
    let backup = Backup::open(path, room(reading), reading.salvage)?;
    Ok(backup.and_then(|backup| side(Box::new(TsmSource::new(backup, wanted)), None)))
}

/// What the meta store of a data directory, a backup or a server's snapshot port says; nothing where a
/// location is none of these. `meta_dir` is the directory of `meta.db` where that stands apart. The data
/// beside it are not looked at, and may be missing.
///
/// # Errors
/// Where it cannot be read.
pub fn meta_of(location: &Location, meta_dir: Option<&Path>) -> Result<Option<Arc<Meta>>> {
    let room = Room { memory: 0, spill: Spill::new(None) };
    if let Some(directory) = meta_dir {
        return directory::read_meta(directory).map(|meta| Some(Arc::new(meta)));
    }
    match location {
        Location::Path(path) if path.join("meta/meta.db").is_file() => {
            directory::read_meta(&path.join("meta")).map(|meta| Some(Arc::new(meta)))
        }
        Location::Path(path) if path.is_dir() => {
            // With salvage, files of shards that are gone are passed over.
            let backup = Backup::open(path, room, true)?;
            backup.map(|backup| backup.meta()).transpose()
        }
        Location::Snapshot(snapshot) => {
            let Some(node) = snapshot.nodes.first() else { return Ok(None) };
            let port = Port::new(node.host.clone(), node.port, Retry::default());
            Live::new(port, room, false)?.meta().map(Some)
        }
        _ => Ok(None),
    }
}

/// The snapshot port of a server.
pub(super) fn open_snapshot(
    location: &InfluxLocation,
    reading: &Reading,
) -> Result<TsmSource<Live>> {
    let Some(node) = location.nodes.first() else {
        return Err(Error::usage("the location names no host"));
    };
    let port = Port::new(node.host.clone(), node.port, Retry::default());
    let wanted = Namespace {
        database: location
            .database
            .clone()
            .unwrap_or_else(|| reading.lines.namespace.database.clone()),
        retention_policy: location.retention_policy.clone().unwrap_or_default(),
    };
    Ok(TsmSource::new(Live::new(port, room(reading), reading.salvage)?, wanted))
}

fn room(reading: &Reading) -> Room {
    Room { memory: share(reading) / 4, spill: reading.lines.spill.clone() }
}

/// Memory for one shard: as many are open at once as work is done, on each side.
fn share(reading: &Reading) -> usize {
    reading.lines.memory_max / reading.jobs.max(1)
}
