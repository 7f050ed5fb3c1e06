//! The questions about what a server holds.
//!
//! It refuses replies that it does not understand. Data are not read here.

use super::{Fields, column, fold, namespace, quote_name, row_time, within};
use crate::error::{ErrorKind, Result};
use crate::http::{Call, Client};
use crate::msgpack::{Cell, Fragment, Row};
use crate::plan::RpSettings;
use crate::series::Printable;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::BTreeMap;
use std::time::Duration;

fn bytes<'a>(fragment: &Fragment, row: &'a Row, name: &str) -> Result<&'a [u8], String> {
    match column(fragment, row, name)? {
        Cell::String(bytes) => Ok(bytes),
        other => Err(format!("column {name:?} holds {other:?} where a string was expected")),
    }
}

pub(super) fn text(fragment: &Fragment, row: &Row, name: &str) -> Result<String, String> {
    let bytes = bytes(fragment, row, name)?;
    let text = std::str::from_utf8(bytes)
        .map_err(|_ignored| format!("the name {} is not UTF-8", Printable(bytes)))?;
    Ok(text.to_owned())
}

/// Names of the databases that the user may see, sorted.
///
/// # Errors
/// Where the server cannot be asked.
pub fn databases(client: &Client) -> Result<Vec<String>> {
    let mut names = fold(client, "SHOW DATABASES", |names: &mut Vec<String>, fragment, row| {
        names.push(text(fragment, row, "name")?);
        Ok(())
    })?;
    names.sort_unstable();
    Ok(names)
}

/// By what one run of the server is known from the next: its process and when it started. `None`
/// where it does not say. To administrators it does, and to everybody by `/debug/vars` unless that is
/// turned off.
///
/// # Errors
/// Where the server cannot be reached.
pub fn incarnation(client: &Client) -> Result<Option<String>> {
    let found =
        fold(client, "SHOW DIAGNOSTICS FOR 'system'", |found: &mut String, fragment, row| {
            let (process, started) =
                (column(fragment, row, "PID")?, column(fragment, row, "started")?);
            *found = match started {
                Cell::String(started) => format!("{process:?} {}", Printable(started)),
                started => format!("{process:?} {started:?}"),
            };
            Ok(())
        });
    match found {
        Ok(found) => Ok(Some(found).filter(|found| !found.is_empty())),
        Err(error) if matches!(error.kind(), ErrorKind::Refused { status: 403, .. }) => {
            Ok(system_of(&variables(client)?).map(|system| system.started))
        }
        Err(error) => match error.kind() {
            ErrorKind::Refused { status: 401, .. }
            | ErrorKind::Query { .. }
            | ErrorKind::Reply { .. } => Ok(None),
            _ => Err(error),
        },
    }
}

/// The RPs of a database with their settings, sorted by name.
///
/// # Errors
/// Where the server cannot be asked or the database does not exist.
pub fn retention_policies(client: &Client, database: &str) -> Result<Vec<(String, RpSettings)>> {
    let statement = format!("SHOW RETENTION POLICIES ON {}", quote_name("database", database)?);
    let mut policies = fold(client, &statement, |found: &mut Vec<_>, fragment, row| {
        let duration = |name| {
            let text = text(fragment, row, name)?;
            parse_duration(&text).ok_or_else(|| format!("{text:?} is no duration"))
        };
        let settings = RpSettings {
            duration: Some(duration("duration")?),
            shard_duration: Some(duration("shardGroupDuration")?),
            replication: Some(count(fragment, row, "replicaN")?),
            default: Some(column(fragment, row, "default")? == Cell::Boolean(true)),
        };
        found.push((text(fragment, row, "name")?, settings));
        Ok(())
    })?;
    policies.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    Ok(policies)
}

fn count(fragment: &Fragment, row: &Row, name: &str) -> Result<u32, String> {
    let value = match column(fragment, row, name)? {
        Cell::Small(value) => Some(u32::from(value)),
        Cell::Integer(value) => u32::try_from(value).ok(),
        Cell::Unsigned(value) => u32::try_from(value).ok(),
        _ => None,
    };
    value.ok_or_else(|| format!("column {name:?} holds no count"))
}

/// How long the server has run, of several nodes the youngest; `None` where it does not say.
///
/// Where users are checked only an administrator may ask; what the server tells everybody about
/// itself (`/debug/vars`) says it too, unless that is turned off.
///
/// # Errors
/// Where the server cannot be asked.
pub fn uptime(client: &Client) -> Result<Option<Duration>> {
    let step = |found: &mut Option<i64>, fragment: &Fragment, row: &Row| {
        let text = text(fragment, row, "uptime")?;
        let uptime = parse_duration(&text).ok_or_else(|| format!("{text:?} is no duration"))?;
        *found = Some(found.map_or(uptime, |other| other.min(uptime)));
        Ok(())
    };
    let nanoseconds = match fold(client, "SHOW DIAGNOSTICS FOR 'system'", step) {
        Err(error) if matches!(error.kind(), ErrorKind::Refused { status: 403, .. }) => {
            uptime_of(&variables(client)?)
        }
        outcome => outcome?,
    };
    Ok(nanoseconds.and_then(duration))
}

/// The same of one node, where it tells everybody.
#[must_use]
pub fn uptime_of_node(client: &Client, node: usize) -> Option<Duration> {
    let reply = client.once_at(node, &variables_call()).ok()?;
    uptime_of(&reply.body).and_then(duration)
}

/// A duration that was told in nanoseconds; none is negative.
fn duration(nanoseconds: i64) -> Option<Duration> {
    u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
}

fn variables_call() -> Call<'static> {
    Call { what: "its own variables", path: "/debug/vars", ..Call::default() }
}

/// What a server tells everybody about itself.
fn variables(client: &Client) -> Result<Vec<u8>> {
    Ok(client.call(&variables_call())?.body)
}

/// The object `system` of a server's variables.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct System {
    current_time: String,
    started: String,
}

/// Nanoseconds between the two times in the object `system` of a server's variables.
fn uptime_of(variables: &[u8]) -> Option<i64> {
    let system = system_of(variables)?;
    i64::try_from(time(&system.current_time).ok()? - time(&system.started).ok()?).ok()
}

/// The object `system` of a server's variables, which may be cut behind it.
fn system_of(variables: &[u8]) -> Option<System> {
    const NAME: &[u8] = b"\"system\":";
    let object = &variables[memchr::memmem::find(variables, NAME)? + NAME.len()..];
    let end = memchr::memchr(b'}', object)? + 1;
    serde_json::from_slice(&object[..end]).ok()
}

/// A duration as Go writes it (`168h0m0s`, `1.5s`), in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        total = total.checked_add(whole.parse::<i64>().ok()?.checked_mul(unit)?)?;
        let mut place = unit;
        for digit in fraction.chars() {
            place /= 10;
            total = total.checked_add(place * i64::from(digit.to_digit(10)?))?;
        }
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Time ranges of the shard groups of an RP, sorted; `None` where the user may not ask.
///
/// Times are given to the second. A group that begins before, or ends after, what 64 bits hold is
/// open on that side.
///
/// # Errors
/// Where the server cannot be asked.
pub fn shard_groups(
    client: &Client,
    database: &str,
    retention_policy: &str,
) -> Result<Option<Vec<Window>>> {
    let step = |found: &mut Vec<Window>, fragment: &Fragment, row: &Row| {
        if bytes(fragment, row, "database")? == database.as_bytes()
            && bytes(fragment, row, "retention_policy")? == retention_policy.as_bytes()
        {
            let start = time(&text(fragment, row, "start_time")?)?;
            let end = time(&text(fragment, row, "end_time")?)?;
            found.extend(group(start, end));
        }
        Ok(())
    };
    match fold(client, "SHOW SHARD GROUPS", step) {
        Ok(mut groups) => {
            groups.sort_unstable();
            Ok(Some(groups))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Refused { status: 403, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn time(text: &str) -> Result<i128, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_ignored| format!("{text:?} is no time"))?;
    Ok(time.as_nanosecond())
}

/// The windows of a shard group. A group that holds the first or last time there is has a bound
/// that 64 bits cannot hold; after a restart a server reports it wrapped, as a start behind the
/// end: it is then open at both ends of time, and empty between. Fractions of a second are left
/// out of the texts.
fn group(start: i128, end: i128) -> Vec<Window> {
    const SECOND: i128 = 1_000_000_000;
    let all = Window::ALL;
    let open_start = |time: i128| match i64::try_from(time) {
        Ok(time) if i128::from(time) >= i128::from(all.start) + SECOND => time,
        _ => all.start,
    };
    let open_end = |time: i128| match i64::try_from(time) {
        Ok(time) if i128::from(time) + SECOND <= i128::from(all.end) => time,
        _ => all.end,
    };
    let (start, end) = (open_start(start), open_end(end));
    let windows = if start < end {
        vec![Window { start, end }]
    } else {
        vec![Window { start: all.start, end }, Window { start, end: all.end }]
    };
    windows.into_iter().filter(|window| !window.is_empty()).collect()
}

/// The measurements that have fields in an RP, with the types of their fields in all shards.
///
/// # Errors
/// Where the server cannot be asked, or the database or RP does not exist.
pub fn field_keys(
    client: &Client,
    database: &str,
    retention_policy: &str,
) -> Result<BTreeMap<Vec<u8>, Fields>> {
    let (on, from) = (quote_name("database", database)?, namespace(database, retention_policy)?);
    let statement = format!("SHOW FIELD KEYS ON {on} FROM {from}./^/");
    fold(client, &statement, |found: &mut BTreeMap<Vec<u8>, Fields>, fragment, row| {
        let field = bytes(fragment, row, "fieldKey")?;
        let name = bytes(fragment, row, "fieldType")?;
        let field_type = FieldType::from_name(name)
            .ok_or_else(|| format!("the field type {}", Printable(name)))?;
        // Entries are looked up before they are made: most rows repeat the measurement.
        if !found.contains_key(&fragment.name) {
            found.insert(fragment.name.clone(), Fields::new());
        }
        if let Some(fields) = found.get_mut(&fragment.name) {
            let types = fields.entry(field.to_vec()).or_default();
            types.push(field_type);
            types.sort_unstable();
            types.dedup();
        }
        Ok(())
    })
}

/// Earliest and latest time of what a query finds in a window; `None` where it finds nothing. The
/// query is given by its `fields`, what it is `from`, and the `tags` behind the window.
///
/// Exact only where each field is read as one type: where types differ between shards, a query of
/// all fields over several of them leaves some values out.
///
/// # Errors
/// Where the server cannot be asked.
pub fn time_range(
    client: &Client,
    fields: &str,
    from: &str,
    window: Window,
    tags: &str,
) -> Result<Option<Window>> {
    let end_of = |order| {
        let within = within(window);
        let statement = format!(
            "SELECT {fields} FROM {from} WHERE {within}{tags} ORDER BY time {order} LIMIT 1"
        );
        fold(client, &statement, |found: &mut Option<i64>, fragment, row| {
            let time = row_time(fragment, row)?;
            // A regular expression may bring in others, which only widens the range.
            *found = Some(match *found {
                Some(other) if order == "ASC" => other.min(time),
                Some(other) => other.max(time),
                None => time,
            });
            Ok(())
        })
    };
    let Some(first) = end_of("ASC")? else {
        return Ok(None);
    };
    let last = end_of("DESC")?.unwrap_or(first);
    Ok(Some(Window { start: first, end: last.saturating_add(1) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, nanoseconds) in [
            ("0s", 0),
            ("168h0m0s", 604_800_000_000_000),
            ("1h30m0s", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("20µs", 20_000),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
        }
        for text in ["", "1", "h", "1x", "1.2.3s", "9999999999h", "INF", "-1s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_age_of_a_server_is_found_in_its_variables() {
        let system = r#"{"currentTime":"2026-11-24T19:04:17.5Z","started":"2026-11-24T19:04:14Z"}"#;
        let variables = format!("{{\n\"system\": {system},\n\"cmdline\": [\"infl");
        assert_eq!(uptime_of(variables.as_bytes()), Some(3_500_000_000));
        for other in ["", "<html>", "{\"system\": {}}", "{\"system\": 7, \"x\": {}}"] {
            assert_eq!(uptime_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn shard_groups_at_the_ends_of_time_are_open() {
        let at = |start: &str, end: &str| group(time(start).unwrap(), time(end).unwrap());
        let all = Window::ALL;
        assert_eq!(
            at("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"),
            [Window { start: 0, end: 1_000_000_000 }]
        );
        assert_eq!(at("1677-09-20T00:00:00Z", "1677-09-27T00:00:00Z")[0].start, all.start);
        assert_eq!(at("2262-04-07T00:00:00Z", "2262-04-11T23:47:16Z")[0].end, all.end);
        // Wrapped: the ends of time, and not the centuries between.
        let wrapped = at("2262-04-10T23:34:33Z", "1677-09-27T00:00:00Z");
        assert_eq!((wrapped[0].start, wrapped[1].end), (all.start, all.end));
        assert!(wrapped.iter().all(|window| !window.contains(0)));
    }
}
