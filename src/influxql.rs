//! Statements of InfluxQL: how names are written in them, and the questions about what exists.
//!
//! Replies are asked for in MessagePack, so that names which are not UTF-8 survive. Every
//! statement is complete in itself: databases and retention policies (RPs) are named in it.
//!
//! It refuses names that a statement cannot express and replies that are not understood; it never
//! guesses. Data are not read here.

pub mod create;

use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, Body, BodyReader, Call, Client, form, shorten};
use crate::msgpack::{Cell, Event, Fragment, Problem, Replies, Row};
use crate::plan::RpSettings;
use crate::series::Printable;
use crate::value::FieldType;
use crate::window::Window;
use std::collections::BTreeMap;

/// Parts of what a server says that is busy or restarts.
const PASSING: [&str; 4] = [
    "max-concurrent-queries limit exceeded",
    "query engine shutdown",
    "engine is closed",
    "shard is disabled",
];

/// Most rows of a reply about what exists.
const ROWS_MAX: usize = 50_000_000;

/// The types of each field of a measurement, fields and types sorted.
pub type Fields = BTreeMap<Vec<u8>, Vec<FieldType>>;

/// Encodes a name as a quoted identifier; `None` where quotes cannot express it.
///
/// InfluxQL is read as UTF-8, a carriage return becomes a line feed, and NUL is the end of input.
#[must_use]
pub fn quote(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '\r' | '\0' => return None,
            '\n' => out.push_str("\\n"),
            '"' | '\\' => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    out.push('"');
    Some(out)
}

fn quote_name(what: &str, name: &str) -> Result<String> {
    quote(name.as_bytes()).ok_or_else(|| {
        ErrorKind::Data(format!("{what} {name:?} cannot be named in InfluxQL")).into()
    })
}

/// A measurement as it stands after `FROM "db"."rp".`: quoted, or as a regular expression where
/// quotes cannot express it. The expression may match other measurements too ([`matches_also`]),
/// so that replies have to be filtered by the exact name.
#[must_use]
pub fn measurement(name: &[u8]) -> String {
    if let Some(quoted) = quote(name) {
        return quoted;
    }
    let mut out = String::from("/(?s)^");
    for unit in units(name) {
        match unit {
            Some(character) if is_wild(character) => out.push('.'),
            // Go reads each byte that is not UTF-8 as one character.
            None => out.push('.'),
            Some(character) => {
                if "\\.+*?()|[]{}^$/".contains(character) {
                    out.push('\\');
                }
                out.push(character);
            }
        }
    }
    out.push_str("$/");
    out
}

/// True where the expression that [`measurement`] makes for `name` matches `other` too.
#[must_use]
pub fn matches_also(name: &[u8], other: &[u8]) -> bool {
    if quote(name).is_some() {
        return name == other;
    }
    let mut others = units(other);
    units(name).all(|unit| match (unit, others.next()) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(_)) if is_wild(one) => true,
        (Some(one), Some(other)) => other.unwrap_or(char::REPLACEMENT_CHARACTER) == one,
    }) && others.next().is_none()
}

fn is_wild(character: char) -> bool {
    matches!(character, '\r' | '\n' | '\0')
}

/// Characters as Go's regular expressions see them, `None` for each byte that is not UTF-8.
fn units(name: &[u8]) -> impl Iterator<Item = Option<char>> + '_ {
    name.utf8_chunks().flat_map(|chunk| {
        chunk.valid().chars().map(Some).chain(chunk.invalid().iter().map(|_| None))
    })
}

/// `"db"."rp"`, ready for `FROM`.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn namespace(database: &str, retention_policy: &str) -> Result<String> {
    let database = quote_name("database", database)?;
    let policy = quote_name("retention policy", retention_policy)?;
    Ok(format!("{database}.{policy}"))
}

/// Runs a statement and hands its reply over as it comes.
///
/// # Errors
/// Where the server cannot be reached or refuses the statement at once.
pub fn run(client: &Client, statement: &str) -> Result<Replies<BodyReader>> {
    let what = format!("the query {}", shorten(statement));
    let parameters =
        [("q", statement.as_bytes()), ("epoch", b"ns".as_slice()), ("chunked", b"true")];
    let call = Call {
        what: &what,
        path: "/query",
        headers: &[
            ("Accept", "application/x-msgpack"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        body: Some(Body::from(form(&parameters).into_bytes())),
        ..Call::default()
    };
    client.stream(&call).map(Replies::new)
}

/// The error of a reply that cannot be used.
#[must_use]
pub fn failed(client: &Client, statement: &str, problem: &Problem) -> Error {
    let (server, query) = (client.name(), shorten(statement));
    let Problem::Server(words) = problem else {
        return ErrorKind::Reply { server, query, reason: problem.to_string() }.into();
    };
    for (prefix, what) in
        [("database not found: ", "database"), ("retention policy not found: ", "retention policy")]
    {
        if let Some(name) = words.strip_prefix(prefix) {
            let what = format!("{what} {:?}", shorten(name));
            return ErrorKind::NotFound { what, place: format!("on {server}") }.into();
        }
    }
    ErrorKind::Query { server, query, message: shorten(words) }.into()
}

/// True where the same statement may succeed later.
#[must_use]
pub fn is_passing(problem: &Problem) -> bool {
    match problem {
        Problem::Read(_) | Problem::CutShort { .. } => true,
        Problem::Malformed { .. } => false,
        Problem::Server(words) => PASSING.iter().any(|part| words.contains(part)),
    }
}

/// Runs a statement and folds its rows; repeated from the start after passing failures.
fn fold<T: Default>(
    client: &Client,
    statement: &str,
    step: impl Fn(&mut T, &Fragment, &Row) -> Result<(), String>,
) -> Result<T> {
    let mut attempts = Attempts::new(client.retry());
    loop {
        let mut replies = run(client, statement)?;
        match fold_once(&mut replies, &step) {
            Ok(folded) => return Ok(folded),
            Err(problem) => {
                if !is_passing(&problem) || !attempts.wait(None) {
                    return Err(failed(client, statement, &problem));
                }
            }
        }
    }
}

fn fold_once<T: Default>(
    replies: &mut Replies<BodyReader>,
    step: impl Fn(&mut T, &Fragment, &Row) -> Result<(), String>,
) -> Result<T, Problem> {
    let mut folded = T::default();
    let mut rows = 0;
    while let Some(event) = replies.next_event()? {
        if event == Event::Row {
            rows += 1;
            let taken = step(&mut folded, replies.fragment(), replies.row());
            let over = (rows > ROWS_MAX).then(|| format!("more than {ROWS_MAX} rows"));
            if let Some(reason) = taken.err().or(over) {
                return Err(Problem::Malformed { offset: replies.offset(), reason });
            }
        }
    }
    Ok(folded)
}

/// A column of a row, by its name.
fn column<'a>(fragment: &Fragment, row: &'a Row, name: &str) -> Result<Cell<'a>, String> {
    let at = fragment.columns.iter().position(|column| column == name.as_bytes());
    at.map(|at| row.cell(at)).ok_or_else(|| format!("no column {name:?}"))
}

fn bytes<'a>(fragment: &Fragment, row: &'a Row, name: &str) -> Result<&'a [u8], String> {
    match column(fragment, row, name)? {
        Cell::String(bytes) => Ok(bytes),
        other => Err(format!("column {name:?} holds {other:?} where a string was expected")),
    }
}

fn text(fragment: &Fragment, row: &Row, name: &str) -> Result<String, String> {
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

/// Earliest and latest time of a measurement in a window; `None` where it holds nothing.
///
/// Exact only for measurements whose fields have one type each: where types differ between
/// shards, a query over several of them leaves some values out.
///
/// # Errors
/// Where the server cannot be asked.
pub fn time_range(
    client: &Client,
    from: &str,
    name: &[u8],
    window: Window,
) -> Result<Option<Window>> {
    let end_of = |order| {
        let statement = format!(
            "SELECT *::field FROM {from}.{} WHERE {} ORDER BY time {order} LIMIT 1",
            measurement(name),
            within(window)
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

/// `time >= a AND time < b`.
#[must_use]
pub fn within(window: Window) -> String {
    format!("time >= {} AND time < {}", window.start, window.end)
}

/// The time of a row of data, which stands in its first column.
///
/// # Errors
/// Where it does not.
pub fn row_time(fragment: &Fragment, row: &Row) -> Result<i64, String> {
    if fragment.columns.first().is_none_or(|column| column != b"time") {
        return Err("the first column is not the time".into());
    }
    match row.cell(0) {
        Cell::Small(time) => Ok(i64::from(time)),
        Cell::Integer(time) | Cell::Time(time) => Ok(time),
        Cell::Unsigned(time) => i64::try_from(time).map_err(|error| error.to_string()),
        other => Err(format!("the time is {other:?}")),
    }
}

/// Asks for the version, which shows that an InfluxDB 1.x answers. The server's clock is known
/// afterwards ([`Client::clock`]).
///
/// # Errors
/// Where the server cannot be reached or is none.
pub fn ping(client: &Client) -> Result<String> {
    let call = Call { what: "a ping", path: "/ping", ..Call::default() };
    let reply = client.call(&call)?;
    if matches!(reply.status, 401 | 403) {
        return Err(client.refused(call.what, &reply));
    }
    let place = client.name();
    let Some(version) = reply.version else {
        let reason = format!("what answers is no InfluxDB (a ping gave HTTP {})", reply.status);
        return Err(Error::location(place, reason)
            .with_next("check the port, and the path if the server stands behind a proxy"));
    };
    let number = version.trim_start_matches('v');
    if !number.starts_with("1.") && !number.starts_with("0.") {
        let reason = format!("this is InfluxDB {}, and 1.x is expected", shorten(&version));
        return Err(Error::location(place, reason));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_or_matched() {
        let name = |name: &[u8]| measurement(name);
        assert_eq!(name(b"cpu load"), "\"cpu load\"");
        assert_eq!(name("a\"b\\c\né".as_bytes()), r#""a\"b\\c\né""#);
        assert_eq!(name(b"a.\xff\r/z"), r"/(?s)^a\...\/z$/");
        assert_eq!(name(b"\0"), "/(?s)^.$/");
    }

    #[test]
    fn the_names_that_an_expression_matches_too_are_known() {
        assert!(matches_also(b"a\rb", b"a\rb"));
        assert!(matches_also(b"a\rb", "aéb".as_bytes()));
        assert!(matches_also(b"a\xffb", b"axb"));
        assert!(!matches_also(b"a\xffb", b"ab"));
        assert!(!matches_also(b"a\xffb", b"axbc"));
        assert!(!matches_also(b"a.b", b"axb"), "it is quoted");
        assert!(matches_also("\u{fffd}\r".as_bytes(), b"\xff\r"));
    }

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

    #[test]
    fn a_restart_passes_and_a_query_that_takes_too_long_does_not() {
        let passes = |words: &str| is_passing(&Problem::Server(words.into()));
        assert!(passes("query engine shutdown"));
        assert!(passes("[shard 7] engine is closed"));
        assert!(passes("shard is disabled"));
        assert!(passes("max-concurrent-queries limit exceeded(5, 5)"));
        assert!(!passes("query-timeout limit exceeded"));
        assert!(!passes("timeout"));
    }

    #[test]
    fn a_missing_database_is_told_from_other_errors() {
        use crate::http::{Role, Server};
        let server = Server {
            tls: false,
            host: "h".into(),
            port: 1,
            prefix: String::new(),
            user: None,
            password: None,
            ca: None,
        };
        let client = Client::new(server, Role::Source).unwrap();
        let kind = |words: &str| failed(&client, "Q", &Problem::Server(words.into())).to_string();
        assert_eq!(kind("database not found: x"), "database \"x\" not found on h:1");
        assert_eq!(kind("timeout"), "h:1 failed the query Q: timeout");
    }
}
