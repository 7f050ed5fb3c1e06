//! Runs `digest`, saves and merges digest files, and shows what is in one.

use super::job::Job;
use super::{Listing, SERIES_SHARE, open_to_read};
use crate::archive::Span;
use crate::cli::{DigestArgs, MergeArgs, bytes};
use crate::digest_file::{Contents, DigestFile, Origin};
use crate::digests;
use crate::error::{Error, Result};
use crate::journal::now;
use crate::location::Location;
use crate::pipeline::Progress;
use crate::plan::{Filter, FilterEntry, Held, Namespace};
use crate::progress::Meter;
use crate::report::digest_file::of_digest_file;
use crate::report::digests::of_digests;
use crate::source::Source;
use crate::source::digest_file::DigestSource;
use crate::spill::Place;
use crate::window::Window;
use std::io::Write;
use std::path::Path;

/// Runs `digest`.
///
/// # Errors
/// Where it could not be carried out.
pub fn digest(arguments: &DigestArgs, progress: &Meter) -> Result<Listing> {
    let made = now();
    let place = (&arguments.common, source(arguments)?);
    let (mut job, location) = open_to_read("digest", place, progress)?;
    job.by_whole_hours(None)?;
    if let Some(output) = &arguments.output {
        return save(&mut job, &location, output, made, progress);
    }
    let namespaces = names(&job.held()?);
    let (source, filter, jobs) = (&*job.side.source, &job.settings.filter, job.settings.jobs);
    let digests = digests::run(source, &namespaces, job.window, filter, jobs, progress)?;
    let rejected = job.rejects.finish()?.rows;
    let unread = job.note_unread();
    let report = of_digests(location.to_string(), job.window, job.not_covered, rejected, digests);
    let incomplete = rejected > 0 || unread || report.is_empty();
    Ok(Listing { text: report.to_string(), json: report.json()?, incomplete })
}

/// Digests the source into a file, and lists what that holds.
fn save(
    job: &mut Job,
    location: &Location,
    output: &Path,
    made: i64,
    progress: &Meter,
) -> Result<Listing> {
    if let Some(file) = job.side.source.digest_file() {
        let reason = "is a digest file already: copy it by any other tool, or merge some into one";
        return Err(Error::location(file.path().display(), reason));
    }
    if job.window.is_empty() {
        let reason = "there is no time in the window that can be read: nothing is saved";
        return Err(Error::usage(reason).with_next("name an earlier --start, or a later --end"));
    }
    let held = job.held()?;
    let options = digests::Options {
        window: job.window,
        filter: job.settings.filter.clone(),
        jobs: job.settings.jobs,
        memory: job.settings.memory,
        spill: job.settings.spill.clone(),
    };
    let source = &*job.side.source;
    let saved = digests::save(source, &held, output, &options, progress)?;
    let rejected = job.rejects.finish()?.rows;
    let not_read = (rejected > 0).then(|| format!("{rejected} rows, which were rejected"));
    let named = match location {
        Location::Influx(influx) | Location::Snapshot(influx) => influx.database.is_some(),
        _ => false,
    };
    let every = job.settings.namespace.is_empty() && !named;
    let mut contents = contents(source, location.to_string(), made);
    contents.every_namespace.extend(every.then(|| Span::from(job.window)));
    contents.filter = FilterEntry::from(&job.settings.filter);
    contents.not_covered.clone_from(&job.not_covered);
    contents.not_read.extend(not_read);
    saved.finish(contents)?;
    let unread = job.note_unread();
    let not_covered = job.not_covered.clone();
    list(output, location.to_string(), job.window, not_covered, (rejected, unread), progress)
}

/// What a digest file says of its source.
pub(super) fn contents(source: &dyn Source, location: String, made: i64) -> Contents {
    let gapless = env!("CARGO_PKG_VERSION").to_owned();
    Contents {
        origins: vec![Origin { source: location, made, gapless }],
        raw_keys: source.sees_raw_keys(),
        cuts_keys: source.cuts_keys(),
        not_read: source.unread(),
        ..Contents::default()
    }
}

/// Reads a file that was just written, and lists the digests that it holds.
fn list(
    path: &Path,
    source: String,
    window: Window,
    not_covered: Vec<String>,
    (rejected, unread): (u64, bool),
    progress: &Meter,
) -> Result<Listing> {
    let file = DigestSource::new(open(path)?);
    let namespaces = names(&file.namespaces()?);
    let filter = Filter::default();
    let digests = digests::run(&file, &namespaces, Window::ALL, &filter, 1, progress)?;
    let mut report = of_digests(source, window, not_covered, rejected, digests);
    report.saved = Some(path.display().to_string());
    let incomplete = rejected > 0 || unread || report.is_empty();
    Ok(Listing { text: report.to_string(), json: report.json()?, incomplete })
}

/// Runs `digest merge`.
///
/// # Errors
/// Where it could not be carried out.
pub fn merge(arguments: &MergeArgs, progress: &Meter) -> Result<Listing> {
    progress.stage("merge");
    let files: Vec<DigestFile> =
        arguments.files.iter().map(|path| open(path)).collect::<Result<_>>()?;
    let options = digests::Options {
        window: Window::ALL,
        filter: Filter::default(),
        jobs: 1,
        memory: bytes(arguments.memory),
        spill: Place::new(arguments.spill.clone()),
    };
    digests::merge(&files, &arguments.output, &options)?;
    let merged = DigestSource::new(open(&arguments.output)?);
    let (window, unread) = (merged.coverage(), merged.unread());
    let name = arguments.output.display().to_string();
    let mut not_covered = remarks(&merged);
    not_covered.extend(unread.iter().map(|remark| format!("not read: {remark}")));
    list(&arguments.output, name, window, not_covered, (0, !unread.is_empty()), progress)
}

fn remarks(source: &dyn Source) -> Vec<String> {
    source.digest_file().map_or_else(Vec::new, |file| file.contents().not_covered.clone())
}

/// Runs `digest --jsonl`; false where there was nothing to write, or something is missing.
///
/// # Errors
/// Where it could not be carried out.
pub fn export(arguments: &DigestArgs, progress: &Meter, out: &mut dyn Write) -> Result<bool> {
    let place = (&arguments.common, source(arguments)?);
    let (mut job, location) = open_to_read("digest", place, progress)?;
    job.by_whole_hours(None)?;
    let namespaces = names(&job.held()?);
    let source = &job.side.source;
    let Some(file) = source.digest_file() else {
        return Err(Error::usage(format!("--jsonl is for digest files, and {location} is none"))
            .with_next(format!("gapless digest {location} -o FILE, then --jsonl FILE")));
    };
    let lines = digests::export(file, &namespaces, job.window, out)?;
    Ok(lines > 0 && source.unread().is_empty())
}

/// Runs `inspect` on a digest file.
pub(super) fn inspect(mut job: Job) -> Result<Listing> {
    job.by_whole_hours(None)?;
    let held = job.held()?;
    let unread = job.note_unread();
    let series_max = job.settings.memory / SERIES_SHARE;
    let Some(file) = job.side.source.digest_file() else {
        return Err(Error::usage("this is no digest file"));
    };
    let report = of_digest_file(file, &held, job.window, job.not_covered.clone(), series_max)?;
    let incomplete = unread || report.is_empty();
    Ok(Listing { text: report.to_string(), json: report.json()?, incomplete })
}

fn source(arguments: &DigestArgs) -> Result<&str> {
    arguments.source.as_deref().ok_or_else(|| Error::usage("no source is named"))
}

fn names(held: &[Held]) -> Vec<Namespace> {
    held.iter().map(|held| held.namespace.clone()).collect()
}

fn open(path: &Path) -> Result<DigestFile> {
    DigestFile::open(path, |file| Box::new(file))
}
