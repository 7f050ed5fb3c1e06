//! What a server says of how it would run a query: how many shards it reads, and blocks of which
//! types. Read rights suffice, where `SHOW SHARD GROUPS` wants those of an administrator.
//!
//! Only numbers that the server gives are used; a plan without them is an error, a server that
//! knows no `EXPLAIN` (before 1.4) or refuses it to this user is `None`.

use super::{fold, measurement, within};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Client;
use crate::msgpack::{Cell, Fragment, Row};
use crate::value::FieldType;
use crate::window::Window;
use std::fmt;

/// What a query would read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Shards whose time range meets the window and that know the measurement.
    pub shards: u64,
    /// Values in the window that are in memory only, not in blocks yet.
    pub cached: u64,
}

/// What one run of a query read.
#[derive(Default)]
struct Analysis {
    /// Shards that told what they read.
    shards: u64,
    /// Types of which blocks were decoded.
    types: Vec<FieldType>,
}

/// What a query of a measurement in a window would read: of one field, given as a quoted
/// identifier, or without one of no series at all, which counts the shards at no cost.
///
/// # Errors
/// Where the server cannot be asked or its plan is not understood.
pub fn touched(
    client: &Client,
    from: &str,
    name: &[u8],
    window: Window,
    field: Option<&str>,
) -> Result<Option<Touched>> {
    let nobody = if field.is_some() { "" } else { " AND \"gapless\"::tag = 'no such series'" };
    let field = field.unwrap_or("\"gapless\"");
    let statement = format!(
        "EXPLAIN SELECT {field}::float FROM {from}.{} WHERE {}{nobody}",
        measurement(name),
        within(window)
    );
    let step = |found: &mut [Option<u64>; 2], _: &Fragment, row: &Row| {
        let line = line(row)?;
        for (at, name) in ["NUMBER OF SHARDS: ", "CACHED VALUES: "].into_iter().enumerate() {
            if let Some(number) = line.strip_prefix(name) {
                let number: u64 = number.parse().map_err(|error| format!("{line:?}: {error}"))?;
                found[at] = Some(found[at].unwrap_or(0) + number);
            }
        }
        Ok(())
    };
    let Some([shards, cached]) = known(fold(client, &statement, step))? else { return Ok(None) };
    match (shards, cached) {
        (Some(shards), Some(cached)) => Ok(Some(Touched { shards, cached })),
        _ => Err(not_understood(client, statement)),
    }
}

/// The types among `Float`, `Integer`, `Unsigned`, `Boolean` and `String` of which a field, given
/// as a quoted identifier, may have values in a window that are stored in blocks; more than occur
/// only where a block begins before and ends after it. `None` where not all of the `shards` tell.
///
/// A cursor that goes forward decodes the first block that ends in or behind the window, one that
/// goes back the last that begins in or before it: values in the window are in blocks that both
/// find.
///
/// # Errors
/// Where the server cannot be asked or its plan is not understood.
pub fn read_types(
    client: &Client,
    from: &str,
    name: &[u8],
    window: Window,
    field: &str,
    shards: u64,
) -> Result<Option<Vec<FieldType>>> {
    let analyse = |order: &str| {
        let statement = format!(
            "EXPLAIN ANALYZE SELECT {field}::float FROM {from}.{} WHERE {} \
             ORDER BY time {order} LIMIT 1",
            measurement(name),
            within(window)
        );
        let step = |found: &mut Analysis, _: &Fragment, row: &Row| analysed(found, line(row)?);
        let found = known(fold(client, &statement, step))?;
        Ok::<_, Error>(found.filter(|found| found.shards >= shards))
    };
    let (Some(forward), Some(back)) = (analyse("ASC")?, analyse("DESC")?) else {
        return Ok(None);
    };
    let mut types = forward.types;
    types.retain(|one| back.types.contains(one));
    types.sort_unstable();
    types.dedup();
    Ok(Some(types))
}

/// Takes one line of the tree that `EXPLAIN ANALYZE` draws.
fn analysed(found: &mut Analysis, line: &str) -> Result<(), String> {
    let line = line.trim_start_matches(['│', '├', '└', '─', ' ', '\u{a0}']);
    if line.starts_with("shard_id: ") {
        found.shards += 1;
    } else if let Some((name, number)) = line.split_once("_blocks_decoded: ")
        && number.trim() != "0"
    {
        let field_type = FieldType::from_name(name.as_bytes())
            .ok_or_else(|| format!("blocks of the type {name:?}"))?;
        found.types.push(field_type);
    }
    Ok(())
}

fn line(row: &Row) -> Result<&str, String> {
    match row.cell(0) {
        Cell::String(bytes) => std::str::from_utf8(bytes).map_err(|error| error.to_string()),
        other => Err(format!("{other:?} where a line of a plan was expected")),
    }
}

/// `None` where the server has no plans for this user.
fn known<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::Refused { status: 400 | 403, .. }) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn not_understood(client: &Client, query: impl fmt::Display) -> Error {
    let (server, query) = (client.name(), crate::http::shorten(&query.to_string()));
    ErrorKind::Reply { server, query, reason: "a plan without its numbers".into() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_and_types_are_found_in_the_tree_of_an_analysis() {
        let mut found = Analysis::default();
        for line in [
            "            │   ├── create_iterator",
            "            │   │   └── shard_id: 6",
            "            │   ├── cursors_aux: 2",
            "            │   ├── float_blocks_decoded: 0",
            "            │   ├── integer_blocks_decoded: 2",
            "                │   └── shard_id: 7",
            "                ├── string_blocks_decoded: 1",
            "                └── planning_time: 12.919µs",
            "",
        ] {
            analysed(&mut found, line).unwrap();
        }
        assert_eq!(found.shards, 2);
        assert_eq!(found.types, [FieldType::Integer, FieldType::String]);
        assert!(analysed(&mut found, "└── complex_blocks_decoded: 1").is_err());
    }
}
