//! What of a log does not fit in memory: files on disk, written as a server writes its cache.
//!
//! Each run holds what the log had collected, one TSM file for the first type of each key and more where
//! types changed. What the log deletes later stands in files of deletions, TSM files of integers: the first time of a
//! span at its time, the last as its value. A file of deletions hides what the runs before it hold.

use super::log::Logged;
use super::shard::StoredFile;
use crate::error::{Damage, ErrorKind, Result};
use crate::mapped::Bytes;
use crate::spill::Place;
use crate::tsm::index::Tsm;
use crate::tsm::tombstone::Tombstones;
use crate::tsm::write::Writer;
use crate::tsm::{Points, Span, Values};
use crate::value::FieldType;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that a key takes in a map, besides itself.
const KEY_BYTES: usize = 128;

/// Deletions by key.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    spans: BTreeMap<Box<[u8]>, Vec<Span>>,
    bytes: usize,
}

impl Deleted {
    /// Adds one, which is not empty.
    pub(super) fn add(&mut self, key: &[u8], span: Span) {
        let spans = match self.spans.get_mut(key) {
            Some(spans) => spans,
            None => {
                self.bytes += key.len() + KEY_BYTES;
                self.spans.entry(key.into()).or_default()
            }
        };
        let before = spans.capacity();
        if !spans.last().is_some_and(|last| last.holds(span)) {
            spans.push(span);
        }
        self.bytes += (spans.capacity() - before) * size_of::<Span>();
    }

    /// Bytes this occupies in memory, about.
    pub(super) fn memory(&self) -> usize {
        self.bytes
    }
}

/// Files of deletions that came later than a run.
#[derive(Clone, Debug)]
pub(super) struct Later {
    all: Arc<Vec<Tsm<Bytes>>>,
    from: usize,
}

impl Later {
    /// Appends what was deleted of a key.
    pub(super) fn of(&self, key: &[u8], hidden: &mut Vec<Span>) -> Result<(), Damage> {
        for file in &self.all[self.from..] {
            let Some(found) = file.find(key)? else { continue };
            let mut spans = Points { times: Vec::new(), values: Values::new(FieldType::Integer) };
            for entry in found.entries() {
                file.append(entry, &mut spans)?;
            }
            if let Values::Integer(last) = &spans.values {
                let pairs = spans.times.iter().zip(last);
                hidden.extend(pairs.map(|(min, max)| Span { min: *min, max: *max }));
            }
        }
        Ok(())
    }
}

/// The files of a log.
#[derive(Debug)]
pub(super) struct Runs {
    place: Place,
    /// Each with the number of files of deletions that were there before it.
    runs: Vec<(Tsm<Bytes>, usize)>,
    deletions: Vec<Tsm<Bytes>>,
}

impl Runs {
    /// None yet.
    pub(super) fn new(place: Place) -> Self {
        Self { place, runs: Vec::new(), deletions: Vec::new() }
    }

    /// True where points of a key may be in a run.
    pub(super) fn hold(&self, key: &[u8]) -> bool {
        self.runs.iter().any(|(run, _)| !matches!(run.find(key), Ok(None)))
    }

    /// Adds what was deleted of the runs that are here, then a run.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub(super) fn add(&mut self, keys: Vec<Logged>, deleted: Deleted) -> Result<()> {
        if !deleted.spans.is_empty() {
            let points = deleted.spans.into_iter().map(|(key, spans)| (key, as_points(spans)));
            let file = self.write(points)?;
            self.deletions.push(file);
        }
        let most = keys.iter().map(|(_, of_key)| of_key.len()).max().unwrap_or(0);
        for at in 0..most {
            let of_type = keys.iter().filter_map(|(key, of_key)| Some((key, of_key.get(at)?)));
            let file = self.write(of_type)?;
            self.runs.push((file, self.deletions.len()));
        }
        Ok(())
    }

    fn write<K: AsRef<[u8]>, P: Borrow<Points>>(
        &self,
        keys: impl Iterator<Item = (K, P)>,
    ) -> Result<Tsm<Bytes>> {
        let mut file = self.place.file()?;
        let mut sink = |bytes: &[u8]| file.append(bytes).map(|_| ());
        let mut writer = Writer::new();
        for (key, points) in keys {
            if !writer.add(key.as_ref(), points.borrow(), &mut sink)? {
                let what = "what the log holds of one key".to_owned();
                return Err(ErrorKind::Limit { what, max: "65,535 blocks at once".into() }.into());
            }
        }
        writer.finish(&mut sink)?;
        Tsm::open(file.into_bytes()?).map_err(|damage| damage.in_file(self.path()))
    }

    /// What names a file in messages.
    fn path(&self) -> PathBuf {
        self.place.directory().join("(what does not fit in memory of a write-ahead log)")
    }

    /// The runs, of which later ones win.
    pub(super) fn finish(self) -> Vec<StoredFile> {
        let path = self.path();
        let all = Arc::new(self.deletions);
        let file = |(tsm, from)| StoredFile {
            path: path.clone(),
            tsm,
            tombstones: Tombstones::default(),
            deleted: Some(Later { all: Arc::clone(&all), from }),
            salvage: None,
        };
        self.runs.into_iter().map(file).collect()
    }
}

/// Spans in order, those that touch made one.
fn as_points(mut spans: Vec<Span>) -> Points {
    spans.sort_unstable();
    let (mut first, mut last): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
    for span in spans {
        match last.last_mut() {
            Some(last) if span.min <= last.saturating_add(1) => *last = span.max.max(*last),
            _ => {
                first.push(span.min);
                last.push(span.max);
            }
        }
    }
    Points { times: first, values: Values::Integer(last) }
}
