//! The series of a measurement, and conditions that name some of them.

use super::{column, fold, literal};
use crate::error::Result;
use crate::http::Client;
use crate::line::key;
use crate::msgpack::Cell;
use crate::plan::Namespace;
use crate::series::Series;

/// The series of a measurement in a retention policy, as the server lists them; `None` where there are
/// more than `most`. Without the policy it would list those of the default one.
///
/// # Errors
/// Where the server cannot be asked.
pub fn series(
    client: &Client,
    namespace: &Namespace,
    measurement: &[u8],
    most: usize,
) -> Result<Option<Vec<Series>>> {
    let from = super::namespace(&namespace.database, &namespace.retention_policy)?;
    let name = super::measurement(measurement);
    let statement = format!("SHOW SERIES FROM {from}.{name} LIMIT {}", most + 1);
    let found = fold(client, &statement, |found: &mut Vec<Series>, fragment, row| {
        match column(fragment, row, "key")? {
            Cell::String(raw) => found.push(key::parse(raw)),
            other => return Err(format!("the series key is {other:?}")),
        }
        Ok(())
    })?;
    Ok((found.len() <= most).then_some(found))
}

/// ` AND (…)`, ready to stand behind a window: rows of at least these series. `None` where their tags do
/// not tell them from others, or a statement cannot name them.
#[must_use]
pub fn any_of(series: impl IntoIterator<Item = Series>) -> Option<String> {
    let each: Option<Vec<String>> = series.into_iter().map(|one| tags_of(&one)).collect();
    each.filter(|each| !each.is_empty()).map(|each| format!(" AND ({})", each.join(" OR ")))
}

fn tags_of(series: &Series) -> Option<String> {
    let tag = |(key, value): &(Box<[u8]>, Box<[u8]>)| {
        let value = std::str::from_utf8(value).ok().and_then(literal)?;
        Some(format!("{} = {value}", super::tag(key)?))
    };
    let tags: Option<Vec<String>> = series.tags().iter().map(tag).collect();
    tags.filter(|tags| !tags.is_empty()).map(|tags| format!("({})", tags.join(" AND ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_named_by_their_tags() {
        let named = |keys: &[&str]| {
            let series: Vec<Series> = keys.iter().map(|one| key::parse(one.as_bytes())).collect();
            any_of(series)
        };
        assert_eq!(
            named(&["m,a=1,b=x\\ y", "m,a=it's"]).unwrap(),
            r#" AND (("a"::tag = '1' AND "b"::tag = 'x y') OR ("a"::tag = 'it\'s'))"#
        );
        assert_eq!(named(&[]), None);
        assert_eq!(named(&["m,a=1", "m"]), None, "nothing tells the second from the first");
        assert_eq!(named(&["m,_a=1"]), None);
    }
}
