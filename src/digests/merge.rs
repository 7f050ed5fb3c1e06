//! Merges digest files of disjoint scopes into one that holds what a digest of the whole would.

use super::save::{Options, Saved};
use crate::archive::Span;
use crate::digest::set::{Builder, FOLD_FROM};
use crate::digest_file::{Contents, DigestFile, NamespaceEntry, UnitEntry, Writer, whole_hours};
use crate::error::{Error, Result};
use crate::plan::Namespace;
use crate::window::Window;
use std::collections::BTreeMap;
use std::path::Path;

/// Merges files into one that will be `path`.
///
/// # Errors
/// Where their scopes overlap, they were made otherwise than each other, or the file cannot be written.
pub fn merge(files: &[DigestFile], path: &Path, options: &Options) -> Result<()> {
    let Some((first, rest)) = files.split_first() else {
        return Err(Error::usage("name the digest files that are to be merged"));
    };
    rest.iter().try_for_each(|file| refuse_unlike(first, file))?;
    let every = united(files.iter().map(|file| (file, &file.contents().every_namespace[..])))?;
    let mut writer = Writer::create(path)?;
    let mut namespaces = Vec::new();
    for (namespace, settled) in of_all(files) {
        let coverage = match every.is_empty() {
            false => every.clone(),
            true => {
                let listed =
                    files.iter().filter_map(|file| Some((file, file.namespace(&namespace)?)));
                united(listed.map(|(file, entry)| (file, &entry.coverage[..])))?
            }
        };
        let units = units(files, &namespace, &mut writer, options)?;
        namespaces.push(NamespaceEntry { coverage, units, ..settled });
    }
    let mut dictionary = options.dictionary();
    for file in files {
        file.dictionary(&mut |series, key| dictionary.add(series, key))?;
    }
    let contents = Contents { every_namespace: every, ..described(files) };
    Saved { writer, dictionary, namespaces }.finish(contents)
}

/// What the merged file says about itself, but for what is in it.
fn described(files: &[DigestFile]) -> Contents {
    let gather = |of: &dyn Fn(&Contents) -> Vec<String>| {
        let mut all: Vec<String> = files.iter().flat_map(|file| of(file.contents())).collect();
        all.sort();
        all.dedup();
        all
    };
    let mut origins: Vec<_> =
        files.iter().flat_map(|file| file.contents().origins.clone()).collect();
    origins.sort();
    origins.dedup();
    let first = files.first().map(DigestFile::contents);
    Contents {
        origins,
        filter: first.map(|contents| contents.filter.clone()).unwrap_or_default(),
        raw_keys: first.is_some_and(|contents| contents.raw_keys),
        cuts_keys: first.is_some_and(|contents| contents.cuts_keys),
        not_covered: gather(&|contents| contents.not_covered.clone()),
        not_read: gather(&|contents| contents.not_read.clone()),
        ..Contents::default()
    }
}

/// The namespaces of all files, with the settings that the newest window knows.
fn of_all(files: &[DigestFile]) -> BTreeMap<Namespace, NamespaceEntry> {
    let mut all: BTreeMap<Namespace, NamespaceEntry> = BTreeMap::new();
    let end = |entry: &NamespaceEntry| entry.coverage.last().map(|span| span.end);
    for entry in files.iter().flat_map(|file| &file.contents().namespaces) {
        match all.get(&entry.namespace()) {
            Some(known) if end(known) >= end(entry) => {}
            _ => drop(all.insert(entry.namespace(), entry.clone())),
        }
    }
    all
}

/// The units of a namespace in all files. Those that hold cells of one hour become one.
fn units(
    files: &[DigestFile],
    namespace: &Namespace,
    writer: &mut Writer,
    options: &Options,
) -> Result<Vec<UnitEntry>> {
    let mut pieces: Vec<(Window, &DigestFile)> = files
        .iter()
        .flat_map(|file| file.units(namespace, Window::ALL).map(move |unit| (unit.window(), file)))
        .collect();
    pieces.sort_by_key(|(window, _)| *window);
    let shares = |one: &(Window, &DigestFile), two: &(Window, &DigestFile)| {
        whole_hours(one.0).end > whole_hours(two.0).start
    };
    let mut units = Vec::new();
    for group in pieces.chunk_by(shares) {
        let (Some((first, _)), Some((last, _))) = (group.first(), group.last()) else { continue };
        let window = Window { start: first.start, end: last.end };
        let set = Builder::new(options.leaves(), options.spill.clone());
        let mut set = set.fold_days(window, FOLD_FROM);
        for (window, file) in group {
            file.leaves(namespace, *window, &mut |leaf, name| {
                set.add_leaf(leaf, name.map(|name| &**name))
            })?;
        }
        units.extend(writer.unit(window, &set.finish()?, options.leaves())?);
    }
    Ok(units)
}

/// Windows of several files as one list: those that touch become one.
fn united<'a>(parts: impl Iterator<Item = (&'a DigestFile, &'a [Span])>) -> Result<Vec<Span>> {
    let mut windows: Vec<(Window, &DigestFile)> = parts
        .flat_map(|(file, spans)| spans.iter().map(move |span| (Window::from(*span), file)))
        .collect();
    windows.sort_by_key(|(window, _)| *window);
    let mut united: Vec<Window> = Vec::new();
    let mut before: Option<&(Window, &DigestFile)> = None;
    for part in &windows {
        let (window, file) = part;
        if let Some((last, other)) = before {
            if last.end > window.start {
                return Err(both(other, file, "cover the same time, which would count twice"));
            }
            if last.end < window.start && whole_hours(*last).end > whole_hours(*window).start {
                return Err(both(other, file, "leave out a part of an hour between them"));
            }
        }
        match united.last_mut().filter(|last| last.end == window.start) {
            Some(last) => last.end = window.end,
            None => united.push(*window),
        }
        before = Some(part);
    }
    Ok(united.into_iter().map(Span::from).collect())
}

fn refuse_unlike(one: &DigestFile, two: &DigestFile) -> Result<()> {
    let (ours, theirs) = (one.contents(), two.contents());
    if ours.filter != theirs.filter {
        return Err(both(one, two, "were made with different --measurement, --tag or --exclude"));
    }
    if (ours.raw_keys, ours.cuts_keys) != (theirs.raw_keys, theirs.cuts_keys) {
        return Err(both(
            one,
            two,
            "were made of sources that name series otherwise: one of stored files, the other not",
        ));
    }
    if ours.every_namespace.is_empty() != theirs.every_namespace.is_empty() {
        return Err(both(one, two, "were made, one of every database and one of named ones"));
    }
    Ok(())
}

fn both(one: &DigestFile, two: &DigestFile, what: &str) -> Error {
    let (one, two) = (one.path().display(), two.path().display());
    Error::location(one, format!("this file and {two} {what}"))
        .with_next("merge files that were made alike and have no namespace and time in common")
}
