//! Opens places that hold a server's own files.

use super::{Reading, SourceSide};
use crate::error::{Error, Result};
use crate::http::Retry;
use crate::journal::now;
use crate::location::InfluxLocation;
use crate::plan::Namespace;
use crate::snapshot::Port;
use crate::source::Source;
use crate::source::tsm::TsmSource;
use crate::source::tsm::backup::Backup;
use crate::source::tsm::directory::{self, Directory, Layout};
use crate::source::tsm::live::Live;
use crate::source::tsm::packed::Room;
use std::path::Path;

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
        let options =
            directory::Options { salvage: reading.salvage, log_max: reading.lines.memory_max / 2 };
        let place = Directory::new(path.to_owned(), layout, options);
        let clock = place.is_recent().then(now);
        return Ok(side(Box::new(TsmSource::new(place, wanted)), clock));
    }
    let backup = Backup::open(path, room(reading), reading.salvage)?;
    Ok(backup.and_then(|backup| side(Box::new(TsmSource::new(backup, wanted)), None)))
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

/// Memory for the files of a shard, of which two are open at once on each side.
fn room(reading: &Reading) -> Room {
    Room { memory: reading.lines.memory_max / 4, spill: reading.lines.spill.clone() }
}
