//! Cells as line protocol: what is sent, and the undo file, to which each kind of change is added before
//! it is made.
//!
//! The undo file holds the former values of what is overwritten or deleted as lines that `copy
//! --overwrite` sends back, and, behind them, what is created as comments ([`crate::undo`]).

use super::{Action, Difference};
use crate::compare::OwnedValue;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::line::encode;
use crate::plan::Namespace;
use crate::series::Printable;
use crate::undo::{Created, comment_out};
use crate::value::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Numbered names that are tried for a file.
const NAMES_MAX: u32 = 10_000;

/// Lines by namespace of the destination, and how many cells they hold.
pub type Lines = BTreeMap<Namespace, Vec<u8>>;

/// The rows of some cells: by namespace, raw series key and time.
type Rows<'a> = BTreeMap<(&'a Namespace, &'a [u8], i64), Vec<(&'a [u8], Value<'a>)>>;

fn rows<'a>(
    differences: &'a [Difference],
    value: impl Fn(usize, &'a Difference) -> Option<&'a OwnedValue>,
) -> Rows<'a> {
    let mut rows = Rows::new();
    for (number, difference) in differences.iter().enumerate() {
        let cell = &difference.cell;
        let Some(value) = value(number, difference) else { continue };
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

/// Says whether an undo file can hold the destination's value.
///
/// # Errors
/// Why not, in one clause.
pub(super) fn check_former(difference: &Difference) -> Result<(), String> {
    let cell = &difference.cell;
    let Some(value) = &cell.destination else { return Err("it has no former value".into()) };
    let fields = [(&*cell.field, value.value())];
    encode::row(&mut Vec::new(), cell.series.key(), &fields, cell.time)
        .map_err(|unwritable| format!("no undo file can hold its former value: {unwritable}"))
}

/// The source's values of some cells. What cannot be written was refused before.
///
/// # Errors
/// Where a row cannot be written although each of its fields can alone.
pub fn to_send(
    differences: &[Difference],
    wanted: impl Fn(usize, &Difference) -> bool,
) -> Result<Lines> {
    let mut lines = Lines::new();
    let rows =
        rows(differences, |number, one| one.cell.source.as_ref().filter(|_| wanted(number, one)));
    for (row, fields) in rows {
        write_row(lines.entry(row.0.clone()).or_default(), row, &fields)?;
    }
    Ok(lines)
}

fn write_row(
    out: &mut Vec<u8>,
    (namespace, key, time): (&Namespace, &[u8], i64),
    fields: &[(&[u8], Value<'_>)],
) -> Result<()> {
    for field in one_by_one(fields) {
        encode::row(out, key, field, time).map_err(|unwritable| {
            let series = Printable(key);
            let reason = format!("{namespace}, series {series}, time {time}: {unwritable}");
            Error::from(ErrorKind::Data(reason))
        })?;
    }
    Ok(())
}

/// Whole where all fields have names of their own, else one after the other.
fn one_by_one<'a, 'b>(fields: &'b [(&'a [u8], Value<'a>)]) -> Vec<&'b [(&'a [u8], Value<'a>)]> {
    let mut names: Vec<&[u8]> = fields.iter().map(|field| field.0).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() == fields.len() { vec![fields] } else { fields.chunks(1).collect() }
}

/// Makes a file that nobody else has: `path`, or a numbered name beside it, for what an earlier run
/// wrote is never written over.
///
/// # Errors
/// Where it cannot be made.
pub fn reserve(path: &Path) -> Result<PathBuf> {
    for number in 1..NAMES_MAX {
        let name = match number {
            1 => path.to_owned(),
            _ => PathBuf::from(format!("{}.{number}", path.display())),
        };
        match files::create_new(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(Error::io(name, "create", error)
                    .with_next("nothing was sent or deleted: name another file"));
            }
            Ok(_) => return Ok(name),
        }
    }
    Err(Error::location(path.display(), "is taken, and every numbered name beside it"))
}

/// The undo file of one run.
#[derive(Debug)]
pub struct Undo {
    path: PathBuf,
    destination: String,
}

impl Undo {
    /// Takes the file's name, as [`reserve`] does.
    ///
    /// # Errors
    /// As [`reserve`].
    pub fn create(path: &Path, destination: &str) -> Result<Self> {
        Ok(Self { path: reserve(path)?, destination: destination.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts down the cells to which something was done or is about to be, in place of what was put down.
    ///
    /// # Errors
    /// Where it cannot be written: what is added must not be done then.
    pub fn write(
        &self,
        differences: &[Difference],
        wanted: impl Fn(usize, &Difference) -> bool,
    ) -> Result<()> {
        let text = undo(&self.destination, differences, wanted)?;
        files::replace(&self.path, &text).map_err(|error| {
            Error::io(self.path.clone(), "write", error)
                .with_next("nothing was sent or deleted that is not in it: make room and run again")
        })
    }
}

fn undo(
    destination: &str,
    differences: &[Difference],
    wanted: impl Fn(usize, &Difference) -> bool,
) -> Result<Vec<u8>> {
    let mut text = format!(
        "# What gapless repair changes at {}: former values come first, and are sent back by\n\
         # gapless copy --overwrite THIS_FILE {}\n\
         # What it creates stands behind them in comments, to be deleted by hand.\n",
        Printable(destination.as_bytes()),
        Printable(destination.as_bytes())
    )
    .replace(['"', '\''], "?")
    .into_bytes();
    let former = rows(differences, |number, one| {
        let changed = one.action != Action::Send && wanted(number, one);
        one.cell.destination.as_ref().filter(|_| changed)
    });
    let mut context = None;
    for (row, fields) in &former {
        if context != Some(row.0) {
            text.extend_from_slice(row.0.context_lines().as_bytes());
            context = Some(row.0);
        }
        write_row(&mut text, *row, fields)?;
    }
    let created = rows(differences, |number, one| {
        let sent = one.action == Action::Send && wanted(number, one);
        one.cell.source.as_ref().filter(|_| sent)
    });
    for (row, fields) in &created {
        let mut lines = Vec::new();
        write_row(&mut lines, *row, fields)?;
        comment_out(Created::Known, row.0, &lines, &mut text);
    }
    Ok(text)
}
