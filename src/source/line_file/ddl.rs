//! The statements between `# DDL` and `# DML`, with which an export says what it was made of.
//!
//! `influx_inspect export` writes `CREATE DATABASE db WITH NAME rp` for each retention policy (RP),
//! in random order, since it does not know the settings; files made by hand, and those of later
//! versions, hold `CREATE RETENTION POLICY` as well. Both are read as InfluxQL has them: keywords
//! in any case, names bare or quoted with `\"`, `\\`, `\'` and `\n` escaped.
//!
//! What a statement says is kept, and nothing is added to it: which of several RPs is the default
//! one is known only where a statement ends in `DEFAULT`. Statements that are not understood, or
//! contradict an earlier one, are errors for the caller to report.

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Namespace, RpSettings};
use std::collections::BTreeMap;

/// Most databases and RPs that statements may name.
const NAMES_MAX: usize = 100_000;
/// What a name takes in memory besides itself.
const NAME_BYTES: usize = 200;

/// Words with which the statements of InfluxQL begin that change something, and those that people
/// leave behind.
const FIRST_WORDS: [&str; 11] = [
    "ALTER", "CREATE", "DELETE", "DROP", "GRANT", "KILL", "REVOKE", "SELECT", "SET", "SHOW", "USE",
];

/// True for lines that are statements where only statements belong.
pub(super) fn is_statement(line: &[u8]) -> bool {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(0);
    FIRST_WORDS.iter().any(|word| line[..end].eq_ignore_ascii_case(word.as_bytes()))
}

/// What the statements said so far.
#[derive(Debug, Default)]
pub(super) struct Ddl {
    databases: BTreeMap<String, BTreeMap<String, RpSettings>>,
    names: usize,
    /// Bytes that all of it takes.
    pub(super) memory: usize,
}

/// A statement.
#[derive(Debug, PartialEq, Eq)]
enum Statement {
    Database { name: String, policy: Option<(String, RpSettings)> },
    Policy { database: String, name: String, settings: RpSettings },
}

impl Ddl {
    /// Takes a statement. The inner error says why it was not taken.
    ///
    /// # Errors
    /// Where there are more names than anybody has.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<Result<(), String>> {
        let statement = match parse(line) {
            Ok(statement) => statement,
            Err(reason) => return Ok(Err(reason)),
        };
        let (database, policy) = match statement {
            Statement::Database { name, policy } => (name, policy),
            Statement::Policy { database, name, settings } => (database, Some((name, settings))),
        };
        let mut grown = 0;
        let policies = self.databases.entry(database).or_insert_with_key(|name| {
            grown += 1;
            self.memory += name.len() + NAME_BYTES;
            BTreeMap::new()
        });
        let mut taken = Ok(());
        if let Some((name, settings)) = policy {
            let known = policies.entry(name).or_insert_with_key(|name| {
                grown += 1;
                self.memory += name.len() + NAME_BYTES;
                RpSettings::default()
            });
            taken = add(known, &settings);
        }
        self.names += grown;
        if self.names > NAMES_MAX {
            let what = "the number of databases and retention policies in statements".into();
            return Err(Error::from(ErrorKind::Limit { what, max: format!("{NAMES_MAX}") }));
        }
        Ok(taken)
    }

    /// The name that stands in a `# CONTEXT` line, where statements tell it: names may begin and end
    /// in blanks, and so may lines. With a database it is the name of one of its RPs.
    pub(super) fn exact_name(&self, database: Option<&str>, line: &[u8]) -> Option<String> {
        readings(line).find_map(|reading| {
            let name = std::str::from_utf8(reading).ok()?;
            let known = match database {
                None => self.databases.contains_key(name),
                Some(database) => self.databases.get(database)?.contains_key(name),
            };
            known.then(|| name.to_owned())
        })
    }

    /// The namespaces that the statements name, with what is known of them. A database of which no
    /// RP is named has its default one.
    pub(super) fn finish(self) -> BTreeMap<Namespace, Option<RpSettings>> {
        let mut namespaces = BTreeMap::new();
        for (database, policies) in self.databases {
            let namespace = |retention_policy| {
                let database = database.clone();
                Namespace { database, retention_policy }
            };
            let has_default = policies.values().any(RpSettings::is_default);
            if policies.is_empty() {
                namespaces.insert(namespace(String::new()), None);
            }
            for (name, mut settings) in policies {
                if has_default && settings.default.is_none() {
                    settings.default = Some(false);
                }
                let known = settings != RpSettings::default();
                namespaces.insert(namespace(name), known.then_some(settings));
            }
        }
        namespaces
    }
}

/// Ways to read the name in a `# CONTEXT` line, the likeliest first: an export writes it as it is;
/// lines may end in CR LF; people write a blank before it and leave blanks behind it.
fn readings(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let bare = line.strip_suffix(b"\r").unwrap_or(line);
    let inner = bare.strip_prefix(b" ").unwrap_or(bare);
    [line, bare, inner, bare.trim_ascii_end(), inner.trim_ascii_end(), line.trim_ascii()]
        .into_iter()
}

/// Adds what a statement says to what is known.
fn add(known: &mut RpSettings, said: &RpSettings) -> Result<(), String> {
    fn merge<T: PartialEq + Copy>(known: &mut Option<T>, said: Option<T>) -> bool {
        let agrees = said.is_none() || known.is_none() || *known == said;
        *known = known.or(said);
        agrees
    }
    let agrees = [
        merge(&mut known.duration, said.duration),
        merge(&mut known.shard_duration, said.shard_duration),
        merge(&mut known.replication, said.replication),
        merge(&mut known.default, said.default),
    ];
    if agrees == [true; 4] {
        return Ok(());
    }
    Err("a statement between # DDL and # DML contradicts an earlier one, which counts".into())
}

fn parse(line: &[u8]) -> Result<Statement, String> {
    Words { rest: line }.statement().map_err(|reason| {
        format!("a statement between # DDL and # DML is not understood: {reason}")
    })
}

/// What is left of a statement.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn statement(&mut self) -> Result<Statement, String> {
        self.expect("CREATE")?;
        let statement = if self.take("DATABASE") {
            self.database()?
        } else {
            self.expect("RETENTION")?;
            self.expect("POLICY")?;
            self.policy()?
        };
        self.skip_blanks();
        match self.rest.strip_prefix(b";").unwrap_or(self.rest).trim_ascii() {
            b"" => Ok(statement),
            _ => Err(self.unexpected("the end")),
        }
    }

    fn database(&mut self) -> Result<Statement, String> {
        let name = self.name()?;
        if !self.take("WITH") {
            return Ok(Statement::Database { name, policy: None });
        }
        let settings = self.settings()?;
        self.expect("NAME")?;
        let policy = Some((self.name()?, settings));
        Ok(Statement::Database { name, policy })
    }

    fn policy(&mut self) -> Result<Statement, String> {
        let name = self.name()?;
        self.expect("ON")?;
        let database = self.name()?;
        let mut settings = self.settings()?;
        if settings.duration.is_none() || settings.replication.is_none() {
            return Err("it gives no duration or no replication".into());
        }
        // Without the word it is not: a database that a server makes has a default RP.
        settings.default = Some(self.take("DEFAULT"));
        Ok(Statement::Policy { database, name, settings })
    }

    /// `DURATION d`, `REPLICATION n` and `SHARD DURATION d`, in any order, each at most once.
    fn settings(&mut self) -> Result<RpSettings, String> {
        fn set<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
            match place.replace(value) {
                None => Ok(()),
                Some(_) => Err("it gives a setting twice".into()),
            }
        }
        let mut settings = RpSettings::default();
        loop {
            if self.take("DURATION") {
                set(&mut settings.duration, self.duration()?)?;
            } else if self.take("REPLICATION") {
                set(&mut settings.replication, self.number()?)?;
            } else if self.take("SHARD") {
                self.expect("DURATION")?;
                set(&mut settings.shard_duration, self.duration()?)?;
            } else {
                return Ok(settings);
            }
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// The next bare word, which ends where a name, a number or a keyword ends.
    fn peek(&mut self) -> &'a [u8] {
        self.skip_blanks();
        let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let end = self.rest.iter().position(|byte| !in_word(byte)).unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    /// Steps over a keyword, if it stands there.
    fn take(&mut self, keyword: &str) -> bool {
        let word = self.peek();
        let found = word.eq_ignore_ascii_case(keyword.as_bytes());
        if found {
            self.rest = &self.rest[word.len()..];
        }
        found
    }

    fn expect(&mut self, keyword: &str) -> Result<(), String> {
        if self.take(keyword) { Ok(()) } else { Err(self.unexpected(keyword)) }
    }

    fn unexpected(&mut self, wanted: &str) -> String {
        let word = self.peek();
        let found = if word.is_empty() { &self.rest[..self.rest.len().min(1)] } else { word };
        match found {
            b"" => format!("it ends where {wanted} was expected"),
            found => {
                let found = String::from_utf8_lossy(&found[..found.len().min(40)]).into_owned();
                format!("{found:?} stands where {wanted} was expected")
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let word = self.peek();
        if self.rest.first() == Some(&b'"') {
            return self.quoted();
        }
        if word.is_empty() || word[0].is_ascii_digit() || !word.is_ascii() {
            return Err(self.unexpected("a name"));
        }
        self.rest = &self.rest[word.len()..];
        Ok(String::from_utf8_lossy(word).into_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        let mut name = Vec::new();
        let mut bytes = self.rest.iter().copied().enumerate().skip(1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' if name.is_empty() => return Err("a name is empty".into()),
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    return String::from_utf8(name)
                        .map_err(|_ignored| "a name is not UTF-8".into());
                }
                b'\\' => match bytes.next() {
                    Some((_, b'n')) => name.push(b'\n'),
                    Some((_, escaped @ (b'"' | b'\\' | b'\''))) => name.push(escaped),
                    _ => return Err("a name holds an unknown escape".into()),
                },
                _ => name.push(byte),
            }
        }
        Err("a name's quote is not closed".into())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let word = self.peek();
        let digits = word.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(word).ok().filter(|_| digits);
        let number = number.and_then(|digits| digits.parse().ok());
        let number = number.ok_or_else(|| self.unexpected("a number"))?;
        self.rest = &self.rest[word.len()..];
        Ok(number)
    }

    /// `INF`, or numbers with units: `1d`, `2h30m`; nanoseconds, 0 for `INF`.
    fn duration(&mut self) -> Result<i64, String> {
        if self.take("INF") {
            return Ok(0);
        }
        let word = self.peek();
        let duration = std::str::from_utf8(word).ok().and_then(parse_duration);
        let duration = duration.ok_or_else(|| self.unexpected("a duration"))?;
        self.rest = &self.rest[word.len()..];
        Ok(duration)
    }
}

/// A duration as InfluxQL writes it, in nanoseconds.
fn parse_duration(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1,
            "u" | "µ" | "μ" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000_000;

    fn settings(duration: i64, replication: u32, default: bool) -> RpSettings {
        RpSettings {
            duration: Some(duration),
            replication: Some(replication),
            default: Some(default),
            shard_duration: None,
        }
    }

    fn policy(database: &str, name: &str, settings: RpSettings) -> Statement {
        Statement::Policy { database: database.into(), name: name.into(), settings }
    }

    fn database(name: &str, policy: &str) -> Statement {
        let policy = Some((policy.into(), RpSettings::default()));
        Statement::Database { name: name.into(), policy }
    }

    fn all(statements: &[&str]) -> BTreeMap<Namespace, Option<RpSettings>> {
        let mut ddl = Ddl::default();
        for statement in statements {
            ddl.take(statement.as_bytes()).unwrap().unwrap();
        }
        ddl.finish()
    }

    fn namespace(database: &str, retention_policy: &str) -> Namespace {
        Namespace { database: database.into(), retention_policy: retention_policy.into() }
    }

    #[test]
    fn statements_are_read_as_influxql_has_them() {
        let sharded = RpSettings { shard_duration: Some(DAY), ..settings(0, 2, true) };
        for (text, statement) in [
            ("CREATE DATABASE d WITH NAME autogen", database("d", "autogen")),
            ("create database _d1 with name x;\r", database("_d1", "x")),
            (
                r#"CREATE DATABASE "a \"b\\c\n: é " WITH NAME "x/y'""#,
                database("a \"b\\c\n: é ", "x/y'"),
            ),
            (r#"CREATE\tDATABASE"d"WITH NAME"x""#, database("d", "x")),
            ("CREATE DATABASE d", Statement::Database { name: "d".into(), policy: None }),
            (
                "CREATE RETENTION POLICY one ON d DURATION 1d REPLICATION 1",
                policy("d", "one", settings(DAY, 1, false)),
            ),
            (
                "Create Retention Policy one On d Duration inf Replication 2 Shard Duration 24h0m \
                 Default",
                policy("d", "one", sharded.clone()),
            ),
            (
                "CREATE DATABASE d WITH DURATION 1w2d3h4m5s6ms7u8ns REPLICATION 3 NAME one",
                Statement::Database {
                    name: "d".into(),
                    policy: Some((
                        "one".into(),
                        RpSettings { default: None, ..settings(788_645_006_007_008, 3, false) },
                    )),
                },
            ),
        ] {
            let text = text.replace("\\t", "\t");
            assert_eq!(parse(text.as_bytes()).as_ref(), Ok(&statement), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_statement_is_refused_with_a_reason() {
        for (text, reason) in [
            ("DROP DATABASE d", "\"DROP\" stands where CREATE was expected"),
            ("CREATE DATABASE", "it ends where a name was expected"),
            ("CREATE DATABASE 1d", "\"1d\" stands where a name was expected"),
            ("CREATE DATABASE dé", "\"dé\" stands where a name was expected"),
            ("CREATE DATABASE a=1 1", "\"=\" stands where the end was expected"),
            ("CREATE DATABASE d WITH DURATION 1d", "it ends where NAME was expected"),
            ("CREATE DATABASE \"d", "a name's quote is not closed"),
            ("CREATE DATABASE \"d\\", "a name holds an unknown escape"),
            ("CREATE DATABASE \"d\\x\"", "a name holds an unknown escape"),
            ("CREATE DATABASE \"\"", "a name is empty"),
            ("CREATE DATABASE d WITH DURATION 1d DURATION 1d NAME x", "a setting twice"),
            ("CREATE RETENTION POLICY x ON d DURATION 1d", "no duration or no replication"),
            ("CREATE RETENTION POLICY x ON d DURATION 1 REPLICATION 1", "where a duration was"),
            ("CREATE RETENTION POLICY x ON d DURATION 1y REPLICATION 1", "where a duration was"),
            ("CREATE RETENTION POLICY x ON d DURATION 99999999w REPLICATION 1", "a duration was"),
            ("CREATE RETENTION POLICY x ON d DURATION 1d REPLICATION -1", "a number was"),
            ("CREATE RETENTION POLICY x ON d DURATION 1d REPLICATION 1 FUTURE LIMIT 1d", "FUTURE"),
        ] {
            let refused = parse(text.as_bytes()).unwrap_err();
            assert!(refused.ends_with(reason) || refused.contains(reason), "{text}: {refused}");
        }
        assert!(parse(b"CREATE DATABASE \"\xff\"").unwrap_err().ends_with("is not UTF-8"));
    }

    #[test]
    fn what_is_known_is_what_statements_say() {
        let found = all(&[
            "CREATE DATABASE a WITH NAME x",
            "CREATE DATABASE a WITH NAME y",
            "CREATE DATABASE b",
            "CREATE DATABASE c WITH NAME autogen",
            "CREATE RETENTION POLICY autogen ON c DURATION 0s REPLICATION 1 DEFAULT",
            "CREATE DATABASE c WITH NAME other",
        ]);
        let expected = [
            (namespace("a", "x"), None),
            (namespace("a", "y"), None),
            (namespace("b", ""), None),
            (namespace("c", "autogen"), Some(settings(0, 1, true))),
            (
                namespace("c", "other"),
                Some(RpSettings { default: Some(false), ..RpSettings::default() }),
            ),
        ];
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn a_contradiction_is_told_and_the_first_statement_counts() {
        let mut ddl = Ddl::default();
        let mut take = |text: &str| ddl.take(text.as_bytes()).unwrap();
        take("CREATE RETENTION POLICY x ON d DURATION 1d REPLICATION 1").unwrap();
        take("CREATE DATABASE d WITH NAME x").unwrap();
        let reason = take("CREATE RETENTION POLICY x ON d DURATION 2d REPLICATION 1").unwrap_err();
        assert!(reason.contains("contradicts"), "{reason}");
        let expected = (namespace("d", "x"), Some(settings(DAY, 1, false)));
        assert_eq!(ddl.finish(), BTreeMap::from([expected]));
    }

    #[test]
    fn names_in_context_lines_are_told_by_the_statements() {
        let mut ddl = Ddl::default();
        for name in ["a", "a ", " a", "a\\\\", "b\t "] {
            let text = format!("CREATE DATABASE \"{name}\" WITH NAME \"{name}\"");
            ddl.take(text.as_bytes()).unwrap().unwrap();
        }
        for (line, name) in [
            ("a", Some("a")),
            ("a\r", Some("a")),
            ("a \r", Some("a ")),
            ("a  ", Some("a")),
            (" a", Some(" a")),
            ("  a \t\r", Some(" a")),
            ("a\\\\", None),
            ("a\\", Some("a\\")),
            (" b\t ", Some("b\t ")),
            ("b", None),
        ] {
            assert_eq!(ddl.exact_name(None, line.as_bytes()).as_deref(), name, "{line:?}");
        }
        assert_eq!(ddl.exact_name(Some("a"), b"a").as_deref(), Some("a"));
        assert_eq!(ddl.exact_name(Some("a"), b" a"), None.or(Some("a".into())));
        assert_eq!(ddl.exact_name(Some("x"), b"a"), None);
    }
}
