//! Runs `backup`: fetches, digests what was fetched, and writes the manifest.

use super::digest::contents;
use super::ended;
use crate::archive::Span;
use crate::backup::{self, Begun, Fetched, Surroundings, Unfinished};
use crate::cli::{BackupArgs, bytes};
use crate::digest_file::DigestFile;
use crate::digests;
use crate::error::{Error, Result};
use crate::http::Retry;
use crate::journal::now;
use crate::location::{InfluxLocation, Location};
use crate::pipeline::Progress;
use crate::plan::{Filter, Namespace};
use crate::progress::Meter;
use crate::report::Printed;
use crate::report::backup::{BackupReport, Made};
use crate::side::warn_snapshot;
use crate::snapshot::Port;
use crate::source::Source;
use crate::source::digest_file::DigestSource;
use crate::source::tsm::TsmSource;
use crate::source::tsm::backup::Backup;
use crate::source::tsm::packed::Room;
use crate::spill::Place;
use crate::stop::Stop;
use crate::window::Window;
use std::path::Path;

/// One of so many parts of the memory is for the files of the shards that are open.
const FILES_SHARE: usize = 2;

/// Runs `backup`.
///
/// # Errors
/// Where it could not be carried out; what was fetched stays.
pub fn backup(arguments: &BackupArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (server, wanted) = arguments.source()?;
    let location = Location::Snapshot(server.clone());
    progress.begin("backup", &[("source", &location)]);
    let run = || backed_up(arguments, &server, &wanted, stop, progress);
    run().map_err(|error| {
        let error = ended(error, stop);
        match error.next_step() {
            None => error.with_next("the same command goes on with what is left"),
            Some(_) => error,
        }
    })
}

fn backed_up(
    arguments: &BackupArgs,
    server: &InfluxLocation,
    wanted: &Namespace,
    stop: &Stop,
    progress: &Meter,
) -> Result<Printed> {
    let Some(node) = server.nodes.first() else {
        return Err(Error::usage("the location names no host"));
    };
    let port = Port::new(node.host.clone(), node.port, Retry::default());
    let location = Location::Snapshot(server.clone());
    warn_snapshot(&location, progress);
    let begun = Begun::new(location.to_string(), wanted, now());
    let unfinished = Unfinished::open(&arguments.directory, begun)?;
    progress.stage("fetch");
    let surroundings = Surroundings { progress, stop };
    let jobs = usize::from(arguments.jobs);
    let fetched = backup::fetch(&port, &unfinished, wanted, jobs, surroundings)?;
    let (file, time) = (unfinished.file("digest"), unfinished.time());
    let resumed = unfinished.is_resumed();
    if !fetched.manifest.files.is_empty() {
        progress.stage("digest");
        let digested = Digested { arguments, fetched: &fetched, time, every: wanted.is_empty() };
        digested.save(&arguments.directory.join(&file), &location, stop, progress)?;
    }
    stop.check()?;
    let made = Made {
        source: location.to_string(),
        directory: arguments.directory.clone(),
        digest: sum(&arguments.directory.join(&file), progress)?.map(|node| (file, node)),
        time,
        resumed,
        internal_left_out: wanted.is_empty(),
        elapsed: progress.elapsed(),
    };
    backup::complete(unfinished, &fetched.manifest)?;
    BackupReport::of(made, &fetched).printed()
}

/// What was fetched, to be digested.
struct Digested<'a> {
    arguments: &'a BackupArgs,
    fetched: &'a Fetched,
    time: i64,
    /// All databases were asked for.
    every: bool,
}

impl Digested<'_> {
    /// Reads every byte again, as a restore would, and saves the digests.
    fn save(&self, path: &Path, from: &Location, stop: &Stop, progress: &Meter) -> Result<()> {
        backup::remove_digest(path)?;
        let memory = bytes(self.arguments.memory);
        let spill = Place::new(self.arguments.spill.clone());
        let jobs = usize::from(self.arguments.jobs);
        let room = Room { memory: memory / FILES_SHARE / jobs, spill: spill.clone() };
        let directory = &self.arguments.directory;
        let backup = Backup::unwritten(directory, &self.fetched.manifest, self.time, room)?;
        let source = TsmSource::new(backup, Namespace::default());
        let held = source.namespaces()?;
        stop.check()?;
        let options = digests::Options {
            window: Window::ALL,
            filter: Filter::default(),
            jobs,
            memory: memory / FILES_SHARE,
            spill,
        };
        let saved = digests::save(&source, &held, path, &options, progress)?;
        let mut contents = contents(&source, from.to_string(), self.time);
        contents.every_namespace.extend(self.every.then(|| Span::from(Window::ALL)));
        saved.finish(contents)
    }
}

/// The digest of all that a file holds; nothing where there is none.
fn sum(path: &Path, progress: &Meter) -> Result<Option<crate::digest::node::Node>> {
    if !path.exists() {
        return Ok(None);
    }
    let file = DigestSource::new(DigestFile::open(path, |file| Box::new(file))?);
    let held = file.namespaces()?;
    let names: Vec<Namespace> = held.into_iter().map(|held| held.namespace).collect();
    let digests = digests::run(&file, &names, Window::ALL, &Filter::default(), 1, progress)?;
    let mut sum = crate::digest::node::Node::default();
    digests.into_values().for_each(|node| sum += node);
    Ok(Some(sum))
}
