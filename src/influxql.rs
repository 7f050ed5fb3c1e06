//! Statements of InfluxQL: how names are written in them, and the questions about what exists.
//!
//! Replies are asked for in MessagePack, so that names which are not UTF-8 survive. Every
//! statement is complete in itself: databases and retention policies (RPs) are named in it.
//!
//! It refuses names that a statement cannot express and replies that are not understood; it never
//! guesses. Data are not read here.

pub mod accounts;
pub mod alter;
pub mod create;
pub mod delete;
mod explain;
mod schema;
mod series;
mod single;
mod stats;

pub use explain::{Touched, read_types, touched};
pub use schema::{
    databases, field_keys, incarnation, retention_policies, shard_groups, time_range, uptime,
    uptime_of_node,
};
pub use series::{any_of, series};
pub use stats::taken;

use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, Body, BodyReader, Call, Client, form, shorten};
use crate::msgpack::{Cell, Event, Fragment, Problem, Replies, Row};
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
    enclosed(std::str::from_utf8(name).ok()?, '"')
}

fn enclosed(text: &str, mark: char) -> Option<String> {
    let mut out = String::from(mark);
    for character in text.chars() {
        match character {
            '\r' | '\0' => return None,
            '\n' => out.push_str("\\n"),
            _ if character == mark || character == '\\' => out.extend(['\\', character]),
            _ => out.push(character),
        }
    }
    out.push(mark);
    Some(out)
}

fn quote_name(what: &str, name: &str) -> Result<String> {
    quote(name.as_bytes()).ok_or_else(|| {
        ErrorKind::Data(format!("{what} {name:?} cannot be named in InfluxQL")).into()
    })
}

/// Encodes text as a string literal; `None` where quotes cannot express it.
#[must_use]
pub fn literal(text: &str) -> Option<String> {
    enclosed(text, '\'')
}

/// A tag as it stands in a condition; `None` where a statement cannot name it: names that begin with an
/// underscore may be the server's own, and `time` is never a tag there.
#[must_use]
fn tag(key: &[u8]) -> Option<String> {
    let named = quote(key).filter(|_| !key.starts_with(b"_") && key != b"time")?;
    Some(format!("{named}::tag"))
}

/// ` AND "k"::tag = 'v'` for each of the tags that a statement can express exactly, ready to stand
/// behind [`within`]; the others are left out, so that the caller has to look at the rows anyway.
///
/// A tag without a value stands for its absence in a query.
#[must_use]
pub fn having(tags: &[(String, String)]) -> String {
    let mut out = String::new();
    for (key, value) in tags {
        if let (false, Some(tag), Some(value)) =
            (value.is_empty(), tag(key.as_bytes()), literal(value))
        {
            out.push_str(&format!(" AND {tag} = {value}"));
        }
    }
    out
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
    run_on(client, statement, statement, None)
}

/// The same with the database that a statement means which cannot name it. `shown` stands for the
/// statement in messages.
fn run_on(
    client: &Client,
    statement: &str,
    shown: &str,
    database: Option<&str>,
) -> Result<Replies<BodyReader>> {
    let what = format!("the query {}", shorten(shown));
    let mut parameters =
        vec![("q", statement.as_bytes()), ("epoch", b"ns".as_slice()), ("chunked", b"true")];
    parameters.extend(database.map(|name| ("db", name.as_bytes())));
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

/// True where a smaller part of the same question may be answered: it took too long, or too much.
#[must_use]
pub fn is_too_much(words: &str) -> bool {
    const PARTS: [&str; 5] =
        ["query-timeout", "max-select-point", "timeout", "memory", "deadline exceeded"];
    !PASSING.iter().any(|part| words.contains(part))
        && PARTS.iter().any(|part| words.contains(part))
}

/// Waits before a statement is asked again that failed so; false, at once, where that is of no use.
/// Where the server runs too many queries, fewer are sent at once from now on.
pub fn wait_to_ask_again(client: &Client, problem: &Problem, attempts: &mut Attempts) -> bool {
    if let Problem::Server(words) = problem
        && let Some(limit) = queries_max(words)
    {
        client.refuse_query(limit);
        return attempts.wait_for_others();
    }
    is_passing(problem) && attempts.wait(None)
}

/// `max-concurrent-queries limit exceeded(running, limit)`: the limit, if it can be read.
fn queries_max(words: &str) -> Option<Option<usize>> {
    let (_, numbers) = words.split_once("max-concurrent-queries limit exceeded")?;
    let limit = numbers.split_once(',').map(|(_, limit)| limit.trim_matches([' ', ')']));
    Some(limit.and_then(|limit| limit.parse().ok()))
}

/// Runs a statement and folds its rows; repeated from the start after passing failures.
///
/// # Errors
/// Where the server cannot be asked, keeps failing, or `step` refuses a row.
pub fn fold<T: Default>(
    client: &Client,
    statement: &str,
    step: impl Fn(&mut T, &Fragment, &Row) -> Result<(), String>,
) -> Result<T> {
    fold_shown(client, statement, statement, step)
}

/// The same of a statement that holds what must not be seen: `shown` stands for it in messages. The
/// server's words may still quote it.
fn fold_shown<T: Default>(
    client: &Client,
    statement: &str,
    shown: &str,
    step: impl Fn(&mut T, &Fragment, &Row) -> Result<(), String>,
) -> Result<T> {
    let mut attempts = Attempts::new(client.retry());
    loop {
        let mut replies = run_on(client, statement, shown, None)?;
        match fold_once(&mut replies, &step) {
            Ok(folded) => return Ok(folded),
            Err(problem) => {
                // Others may ask while this one waits.
                drop(replies);
                if !wait_to_ask_again(client, &problem, &mut attempts) {
                    return Err(failed(client, shown, &problem));
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

/// True for a node of an InfluxDB Enterprise cluster, whose version names both its parts
/// (`1.8.10-c1.8.10`).
///
/// # Errors
/// As [`ping`].
pub fn is_enterprise(client: &Client) -> Result<bool> {
    Ok(ping(client)?.contains("-c"))
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
    fn tags_are_asked_for_where_a_statement_can_express_them() {
        let asked = |key: &str, value: &str| having(&[(key.into(), value.into())]);
        assert_eq!(asked("k", "v"), " AND \"k\"::tag = 'v'");
        assert_eq!(asked("a\"b\\", "it's\n\\"), r#" AND "a\"b\\"::tag = 'it\'s\n\\'"#);
        for (key, value) in [("k", ""), ("k", "a\rb"), ("k\0", "v"), ("_name", "v"), ("time", "v")]
        {
            assert_eq!(asked(key, value), "", "{key:?} {value:?}");
        }
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
    fn the_servers_limit_of_queries_is_read() {
        assert_eq!(queries_max("max-concurrent-queries limit exceeded(3, 2)"), Some(Some(2)));
        assert_eq!(queries_max("x: max-concurrent-queries limit exceeded"), Some(None));
        assert_eq!(queries_max("max-concurrent-queries limit exceeded(a, b)"), Some(None));
        assert_eq!(queries_max("query-timeout limit exceeded"), None);
    }

    #[test]
    fn a_missing_database_is_told_from_other_errors() {
        use crate::http::{Role, Server};
        let server = Server::at("h", 1);
        let client = Client::new(server, Role::Source).unwrap();
        let kind = |words: &str| failed(&client, "Q", &Problem::Server(words.into())).to_string();
        assert_eq!(kind("database not found: x"), "database \"x\" not found on h:1");
        assert_eq!(kind("timeout"), "h:1 failed the query Q: timeout");
    }
}
