//! An archive that was begun by another process: what is recorded of it is taken over, the rest is
//! removed and written anew.
//!
//! What another process needs of a unit is its entry in the manifest, and the fields that the schema
//! did not have before. A unit is taken over where all of its files are there and match their
//! checksums.

use super::{
    ArchiveSink, State, contents_of, make_file, partial_exists, partial_of, refuse_existing, sync,
    sync_folder,
};
use crate::archive::{self, Contents, Entry, Header, MANIFEST, Part, Shared, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Namespace;
use crate::value::FieldType;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Who writes an unfinished archive: a file that is removed before the archive gets its name.
pub(super) const OWNER: &str = "owner";

/// What is recorded of an archive that was begun.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By what whoever records is known again.
    pub owner: String,
    /// What [`Sink::stored_unit`](crate::sink::Sink::stored_unit) told of each unit.
    pub units: Vec<Value>,
}

/// What another process needs of a unit.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredUnit {
    database: String,
    retention_policy: String,
    unit: Option<Unit>,
    /// Measurement, field and type, printable.
    fields: Vec<[String; 3]>,
    schema_cut: bool,
}

impl ArchiveSink {
    /// Goes on with an archive of which units are recorded; begins it where nothing of it is there.
    ///
    /// # Errors
    /// Where `directory` exists, `directory.partial` is somebody else's, a record is not understood,
    /// or what is not recorded cannot be removed.
    pub fn resume(directory: &Path, header: Header, recorded: &Recorded) -> Result<Self> {
        let partial = partial_of(directory)?;
        if let Ok(found) = partial.symlink_metadata()
            && !found.is_dir()
        {
            return Err(partial_exists(&partial));
        }
        if !partial.exists() {
            let sink = Self::create(directory, header)?;
            own(&partial, &recorded.owner)?;
            return Ok(sink);
        }
        refuse_existing(directory)?;
        let owned = is_owned(&partial, &recorded.owner)?;
        let mut contents: Contents = contents_of(&header);
        let mut state = State::default();
        let mut files = BTreeSet::new();
        let mut whole = !recorded.units.is_empty();
        for value in &recorded.units {
            let stored: StoredUnit =
                serde_json::from_value(value.clone()).map_err(not_understood)?;
            whole &= take_over(stored, &partial, &mut contents, &mut state, &mut files)?;
        }
        // Between the manifest and the last name there is a moment without an owner.
        let nearly_complete = whole && partial.join(MANIFEST).exists();
        if !owned && !nearly_complete {
            return Err(partial_exists(&partial));
        }
        files.insert(OWNER.to_owned());
        remove_others(&partial, "", &files, &mut state)?;
        own(&partial, &recorded.owner)?;
        Ok(Self {
            directory: directory.to_owned(),
            shared: Arc::new(Shared::new(partial.clone(), contents)),
            partial,
            header,
            part_plain_bytes: archive::PART_PLAIN_BYTES,
            state: Mutex::new(state),
        })
    }

    /// Removes the mark of whoever writes the archive.
    pub(super) fn disown(&self) -> Result<()> {
        let path = self.partial.join(OWNER);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(path, "remove", error))
            }
            _ => Ok(()),
        }
    }

    /// What another process needs to go on with a unit that is closed and recorded.
    pub(super) fn stored(&self, namespace: &Namespace, window: Window) -> Result<Value> {
        let key = (namespace.clone(), window);
        let (fields, schema_cut) = self.state().fresh.remove(&key).unwrap_or_default();
        let unit = {
            let place = self.shared.read();
            place.contents.get(namespace).and_then(|entry| entry.units.get(&window)).cloned()
        };
        let stored = StoredUnit {
            database: namespace.database.clone(),
            retention_policy: namespace.retention_policy.clone(),
            unit,
            fields,
            schema_cut,
        };
        serde_json::to_value(stored).map_err(not_understood)
    }

    /// True where a unit is held as it was recorded.
    pub(super) fn holds(
        &self,
        namespace: &Namespace,
        window: Window,
        stored: &Value,
    ) -> Result<bool> {
        let stored: StoredUnit = serde_json::from_value(stored.clone()).map_err(not_understood)?;
        let place = self.shared.read();
        let held = place.contents.get(namespace).and_then(|entry| entry.units.get(&window));
        Ok(held == stored.unit.as_ref())
    }
}

/// True where `owner` writes an unfinished archive, or nothing is in it.
fn is_owned(partial: &Path, owner: &str) -> Result<bool> {
    let path = partial.join(OWNER);
    match fs::read(&path) {
        // Killed between the two steps of making it, or while it was written.
        Ok(found) if owner.as_bytes().starts_with(&found) => {
            Ok(found.len() == owner.len()
                || fs::read_dir(partial).is_ok_and(|all| all.count() == 1))
        }
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries =
                fs::read_dir(partial).map_err(|error| Error::io(partial, "list", error))?;
            Ok(entries.next().is_none())
        }
        Err(error) => Err(Error::io(path, "read", error)),
    }
}

fn own(partial: &Path, owner: &str) -> Result<()> {
    let path = partial.join(OWNER);
    if fs::read(&path).ok().as_deref() != Some(owner.as_bytes()) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(path, "remove", error));
            }
            _ => {}
        }
        let mut file = make_file(&path)?;
        file.write_all(owner.as_bytes()).map_err(|error| Error::io(&path, "write", error))?;
        sync(&file, &path)?;
    }
    sync_folder(partial)
}

/// Enters a unit. False where its files are not all there.
fn take_over(
    stored: StoredUnit,
    partial: &Path,
    contents: &mut Contents,
    state: &mut State,
    files: &mut BTreeSet<String>,
) -> Result<bool> {
    let StoredUnit { database, retention_policy, unit, fields, schema_cut } = stored;
    let namespace = Namespace { database, retention_policy };
    let Some(unit) = unit else { return Ok(true) };
    for part in &unit.parts {
        archive::check_part(part, &namespace).map_err(ErrorKind::Data)?;
    }
    let is_whole = |part: &Part| {
        let path = partial.join(&part.file);
        path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == part.bytes)
            && checksum(&path).is_ok_and(|found| found == part.blake3)
    };
    let entry = contents.entry(namespace.clone()).or_default();
    record_fields(entry, fields, schema_cut)?;
    if !unit.parts.iter().all(is_whole) {
        return Ok(false);
    }
    for part in &unit.parts {
        files.insert(part.file.clone());
        let number = part.file.rsplit('.').nth(2).and_then(|number| number.parse().ok());
        let next = state.numbers.entry((namespace.clone(), archive::day(unit.start))).or_default();
        *next = number.map_or(*next, |number: u32| (number + 1).max(*next));
    }
    entry.units.insert(unit.window(), unit);
    Ok(true)
}

/// The checksum of a file, as the manifest has it.
fn checksum(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn record_fields(entry: &mut Entry, fields: Vec<[String; 3]>, cut: bool) -> Result<()> {
    for [measurement, field, name] in fields {
        let Some(field_type) = FieldType::from_name(name.as_bytes()) else {
            return Err(ErrorKind::Data(format!("{name:?} is no type of a field")).into());
        };
        entry.record_field(measurement, field, field_type);
    }
    if cut {
        entry.cut_schema();
    }
    Ok(())
}

/// Removes what is not recorded: parts of units that were being written. Folders stay.
fn remove_others(
    partial: &Path,
    folder: &str,
    files: &BTreeSet<String>,
    state: &mut State,
) -> Result<()> {
    let path = partial.join(folder);
    let entries = fs::read_dir(&path).map_err(|error| Error::io(&path, "list", error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io(&path, "list", error))?;
        let kind = entry.file_type().map_err(|error| Error::io(entry.path(), "look at", error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        if kind.is_dir() {
            remove_others(partial, &name, files, state)?;
            state.folders.insert(name);
        } else if !files.contains(&name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(|error| Error::io(path, "remove", error))?;
        }
    }
    Ok(())
}

fn not_understood(error: serde_json::Error) -> Error {
    ErrorKind::Data(format!("what a journal says of an archive is not understood: {error}")).into()
}
