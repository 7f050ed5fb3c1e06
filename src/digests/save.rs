//! Digests a source into a digest file: unit after unit, several at once.

use crate::digest::set::{Builder, FOLD_FROM};
use crate::digest_file::{Contents, Dictionary, NamespaceEntry, UnitEntry, Writer};
use crate::error::Result;
use crate::pipeline::{self, Progress, Stage};
use crate::plan::{Filter, Grid, Held, RpSettings, SHARD_DURATION, Scope};
use crate::source::{Source, for_each_block};
use crate::spill;
use crate::units::by_whole_hours;
use crate::window::Window;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One of so many parts of the memory is for the leaves of the units under way.
const LEAVES_SHARE: usize = 4;
/// One of so many is for series that are told apart.
const DICTIONARY_SHARE: usize = 8;

/// What is digested, and with how much.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time range.
    pub window: Window,
    /// The series.
    pub filter: Filter,
    /// Units at once.
    pub jobs: usize,
    /// Bytes for data.
    pub memory: usize,
    /// Where data go that do not fit in memory.
    pub spill: spill::Place,
}

impl Options {
    pub(super) fn dictionary(&self) -> Dictionary {
        Dictionary::new(self.memory / DICTIONARY_SHARE, self.spill.clone())
    }

    pub(super) fn leaves(&self) -> usize {
        self.memory / LEAVES_SHARE / self.jobs.max(1)
    }
}

/// A digest file that has everything but its contents.
#[derive(Debug)]
pub struct Saved {
    pub(super) writer: Writer,
    pub(super) dictionary: Dictionary,
    pub(super) namespaces: Vec<NamespaceEntry>,
}

impl Saved {
    /// Writes what the file says about itself, and gives it its name.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn finish(self, contents: Contents) -> Result<()> {
        let namespaces = self.namespaces;
        self.writer.finish(Contents { namespaces, ..contents }, self.dictionary)
    }
}

/// Reads everything that `held` names once, and writes its digests to a file that will be `path`.
///
/// # Errors
/// Where the source cannot be read or the file not be written.
pub fn save(
    source: &dyn Source,
    held: &[Held],
    path: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Saved> {
    let mut units = Vec::new();
    for (number, held) in held.iter().enumerate() {
        let scope = Scope::new(&held.namespace, options.window, &options.filter);
        let windows: Vec<Window> =
            source.plan(&scope)?.into_iter().map(|partition| partition.window).collect();
        let grid =
            held.settings.as_ref().map_or(Grid { duration: SHARD_DURATION }, RpSettings::grid);
        let windows = by_whole_hours(grid.cells(&windows, options.window)?, options.window);
        units.extend(windows.into_iter().map(|window| (number, Scope { window, ..scope.clone() })));
    }
    let entry = |held| NamespaceEntry::new(held, options.window);
    let output = Mutex::new((Writer::create(path)?, held.iter().map(entry).collect::<Vec<_>>()));
    let dictionary = Mutex::new(options.dictionary());
    progress.units(units.len());
    progress.done(Stage::Verify, 0, 0);
    pipeline::for_each(options.jobs, &units, |(number, scope)| {
        let set = digest(source, scope, options, &dictionary, progress)?;
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, namespaces) = &mut *output;
        let unit = writer.unit(scope.window, &set, options.leaves())?;
        namespaces[*number].units.extend(unit);
        progress.unit_done();
        Ok(())
    })?;
    let (writer, mut namespaces) = output.into_inner().unwrap_or_else(PoisonError::into_inner);
    namespaces.iter_mut().for_each(|entry| entry.units.sort_by_key(UnitEntry::window));
    let dictionary = dictionary.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Saved { writer, dictionary, namespaces })
}

fn digest(
    source: &dyn Source,
    scope: &Scope,
    options: &Options,
    dictionary: &Mutex<Dictionary>,
    progress: &dyn Progress,
) -> Result<crate::digest::set::DigestSet> {
    let set = Builder::new(options.leaves(), options.spill.clone());
    let mut set = set.fold_days(scope.window, FOLD_FROM);
    for_each_block(source, &source.plan(scope)?, |block| {
        set.add_block(block, |series| options.filter.admits(series))?;
        progress.done(Stage::Verify, block.cells(), 0);
        let mut dictionary = dictionary.lock().unwrap_or_else(PoisonError::into_inner);
        dictionary.add_block(block, |series| options.filter.admits(series))
    })?;
    set.finish()
}
