//! The statement that deletes one point, and what has to be known for it.
//!
//! `DELETE` of an InfluxDB 1.x names neither a retention policy nor a field: it takes the whole point
//! out of every policy of the database. A tag that it does not name may have any value, so that tags
//! which the series has not are named as empty. Whoever deletes looks first what else would be hit.

use super::{
    column, failed, fold, fold_once, literal, quote, quote_name, run_on, wait_to_ask_again,
};
use crate::error::Result;
use crate::http::{Attempts, Client};
use crate::msgpack::Cell;
use crate::series::{Printable, Series};

/// The statement that deletes one point of one series; `known` are the tag keys of its measurement.
///
/// # Errors
/// Why a statement cannot name it exactly, in one clause.
pub fn point(series: &Series, known: &[Vec<u8>], time: i64) -> Result<String, String> {
    let unnamed = |what: &str, name: &[u8]| {
        format!("the {what} {} cannot be named in a DELETE", Printable(name))
    };
    let name = series.measurement();
    let name = quote(name).ok_or_else(|| unnamed("measurement", name))?;
    let mut statement = format!("DELETE FROM {name} WHERE time = {time}");
    let has = |key: &[u8]| series.tag(key).is_some();
    let absent = known.iter().map(Vec::as_slice).filter(|key| !has(key)).map(|key| (key, &b""[..]));
    for (key, value) in series.tags().iter().map(|(key, value)| (&**key, &**value)).chain(absent) {
        let named = super::tag(key).ok_or_else(|| unnamed("tag", key))?;
        let text = std::str::from_utf8(value).ok().and_then(literal);
        let text = text.ok_or_else(|| unnamed("tag value", value))?;
        statement.push_str(&format!(" AND {named} = {text}"));
    }
    Ok(statement)
}

/// The tag keys of a measurement, over all retention policies of a database.
///
/// # Errors
/// Where the server cannot be asked.
pub fn tag_keys(client: &Client, database: &str, measurement: &[u8]) -> Result<Vec<Vec<u8>>> {
    let on = quote_name("database", database)?;
    let from = super::measurement(measurement);
    let statement = format!("SHOW TAG KEYS ON {on} FROM {from}");
    fold(client, &statement, |keys: &mut Vec<Vec<u8>>, fragment, row| {
        match column(fragment, row, "tagKey")? {
            Cell::String(key) => keys.push(key.to_vec()),
            other => return Err(format!("the tag key is {other:?}")),
        }
        Ok(())
    })
}

/// Runs a statement that deletes in a database. Repeated after passing failures: to delete once more
/// what is gone changes nothing.
///
/// # Errors
/// Where the server cannot be reached or refuses it.
pub fn execute(client: &Client, database: &str, statement: &str) -> Result<()> {
    let mut attempts = Attempts::new(client.retry());
    loop {
        let mut replies = run_on(client, statement, statement, Some(database))?;
        let done: Result<(), _> = fold_once(&mut replies, |(): &mut (), _, _| Ok(()));
        let Err(problem) = done else { return Ok(()) };
        drop(replies);
        if !wait_to_ask_again(client, &problem, &mut attempts) {
            return Err(failed(client, statement, &problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::key;

    #[test]
    fn every_tag_of_the_measurement_is_named() {
        let tag = |key: &str, value: &str| (key.as_bytes().into(), value.as_bytes().into());
        let series = key::build(b"m \"x", vec![tag("a", "it's\n\\"), tag("b", "1")]);
        let known = [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
        assert_eq!(
            point(&series, &known, -5).unwrap(),
            r#"DELETE FROM "m \"x" WHERE time = -5 AND "a"::tag = 'it\'s\n\\' AND "b"::tag = '1' AND "c"::tag = ''"#
        );
        for (name, value) in [("_x", "1"), ("time", "1"), ("a", "b\rc")] {
            assert!(point(&key::build(b"m", vec![tag(name, value)]), &[], 0).is_err(), "{name}");
        }
        assert!(point(&key::build(b"\xff", vec![]), &[], 0).is_err());
    }
}
