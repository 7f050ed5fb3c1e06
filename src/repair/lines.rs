//! Cells as line protocol: what is sent, and the undo file, which is written before anything is.
//!
//! The undo file holds the former values of what is overwritten or deleted as lines that `copy
//! --overwrite` sends back, and, behind them, what is created as comments: nothing sends those.

use super::{Action, Difference};
use crate::compare::OwnedValue;
use crate::error::{Error, Result};
use crate::files;
use crate::line::encode;
use crate::plan::Namespace;
use crate::series::Printable;
use crate::value::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Numbered names that are tried for an undo file.
const NAMES_MAX: u32 = 10_000;

/// Lines by namespace of the destination, and how many cells they hold.
pub type Lines = BTreeMap<Namespace, Vec<u8>>;

/// The rows of some cells: by namespace, raw series key and time.
type Rows<'a> = BTreeMap<(&'a Namespace, &'a [u8], i64), Vec<(&'a [u8], Value<'a>)>>;

fn rows<'a>(
    differences: &'a [Difference],
    value: impl Fn(&'a Difference) -> Option<&'a OwnedValue>,
) -> Rows<'a> {
    let mut rows = Rows::new();
    for difference in differences {
        let cell = &difference.cell;
        let Some(value) = value(difference) else { continue };
        let key = (&difference.destination, cell.series.key(), cell.time);
        rows.entry(key).or_default().push((&cell.field, value.value()));
    }
    rows
}

/// Says whether the source's value can be written as a line.
///
/// # Errors
/// Why not, in one clause.
pub(super) fn check(difference: &Difference) -> Result<(), String> {
    let cell = &difference.cell;
    let Some(value) = &cell.source else { return Err("it has no value".into()) };
    let fields = [(&*cell.field, value.value())];
    encode::row(&mut Vec::new(), cell.series.key(), &fields, cell.time)
        .map_err(|unwritable| unwritable.to_string())
}

/// What is sent for one action. What cannot be written was refused before.
///
/// # Errors
/// Where several fields of a row cannot stand in one line although each can alone.
pub fn to_send(differences: &[Difference], action: Action) -> Result<Lines> {
    let wanted = |one: &Difference| one.action == action;
    let mut lines = Lines::new();
    for ((namespace, key, time), fields) in
        rows(differences, |one| one.cell.source.as_ref().filter(|_| wanted(one)))
    {
        let out = lines.entry(namespace.clone()).or_default();
        for field in one_by_one(&fields) {
            encode::row(out, key, field, time).map_err(|unwritable| {
                Error::from(crate::error::ErrorKind::Data(format!(
                    "{namespace}, series {}, time {time}: {unwritable}",
                    Printable(key)
                )))
            })?;
        }
    }
    Ok(lines)
}

/// Whole where all fields have names of their own, else one after the other.
fn one_by_one<'a, 'b>(fields: &'b [(&'a [u8], Value<'a>)]) -> Vec<&'b [(&'a [u8], Value<'a>)]> {
    let mut names: Vec<&[u8]> = fields.iter().map(|field| field.0).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() == fields.len() { vec![fields] } else { fields.chunks(1).collect() }
}

/// Writes the undo file, if anything is to be done, and gives its name: `path`, or a numbered name
/// beside it, for what an earlier run did is never written over.
///
/// # Errors
/// Where it cannot be written: nothing must be done then.
pub fn write_undo(
    path: &Path,
    destination: &str,
    differences: &[Difference],
) -> Result<Option<PathBuf>> {
    if !differences.iter().any(|one| one.action.acts()) {
        return Ok(None);
    }
    let text = undo(destination, differences);
    let path = free_name(path)?;
    files::replace(&path, &text).map_err(|error| {
        Error::io(path.clone(), "write", error).with_next("nothing was sent: name another file")
    })?;
    Ok(Some(path))
}

fn free_name(path: &Path) -> Result<PathBuf> {
    let numbered = |number: u32| match number {
        1 => path.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", path.display())),
    };
    let free = (1..NAMES_MAX).map(numbered).find(|path| path.symlink_metadata().is_err());
    free.ok_or_else(|| {
        Error::location(path.display(), "is taken, and every numbered name beside it")
    })
}

fn undo(destination: &str, differences: &[Difference]) -> Vec<u8> {
    let mut text = format!(
        "# What gapless repair changes at {}: former values come first, and are sent back by\n\
         # gapless copy --overwrite THIS_FILE {}\n\
         # What it creates stands behind them in comments, to be deleted by hand.\n",
        Printable(destination.as_bytes()),
        Printable(destination.as_bytes())
    )
    .replace(['"', '\''], "?")
    .into_bytes();
    let changed = |one: &Difference| matches!(one.action, Action::Overwrite | Action::Delete);
    let former = rows(differences, |one| one.cell.destination.as_ref().filter(|_| changed(one)));
    let mut context = None;
    let mut left_over = Vec::new();
    for ((namespace, key, time), fields) in &former {
        if context != Some(namespace) {
            text.extend_from_slice(namespace.context_lines().as_bytes());
            context = Some(namespace);
        }
        if encode::row(&mut text, key, fields, *time).is_err() {
            left_over.push(format!("# no line can hold: {} {time}\n", Printable(key)));
        }
    }
    text.extend_from_slice(left_over.concat().as_bytes());
    let sent = |one: &Difference| one.action == Action::Send;
    let created = rows(differences, |one| one.cell.source.as_ref().filter(|_| sent(one)));
    for ((namespace, key, time), fields) in &created {
        let mut line = Vec::new();
        if encode::row(&mut line, key, fields, *time).is_err() {
            continue;
        }
        text.extend_from_slice(format!("# created in {namespace}: ").replace('\n', " ").as_bytes());
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        for &byte in line {
            text.push(byte);
            if byte == b'\n' {
                text.extend_from_slice(b"# ");
            }
        }
        text.push(b'\n');
    }
    text
}
