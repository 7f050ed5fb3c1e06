//! Statements that create databases and retention policies (RPs).
//!
//! Owns their texts: names are quoted, durations are written in the largest unit that gives them
//! exactly, and what is not known is left out. Nothing is chosen here: who wants a setting names it.

use super::{fold, fold_shown, quote_name};
use crate::error::Result;
use crate::http::Client;
use crate::plan::RpSettings;

/// `CREATE DATABASE`. With an RP, which becomes the default one and the only one; without, the
/// server makes its own. A database that exists is left as it is; where its default RP is another
/// one, the server refuses the statement.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn database(name: &str, policy: Option<(&str, &RpSettings)>) -> Result<String> {
    let mut statement = format!("CREATE DATABASE {}", quote_name("database", name)?);
    if let Some((policy, settings)) = policy {
        let name = quote_name("retention policy", policy)?;
        statement.push_str(&format!(" WITH{} NAME {name}", clauses(settings)));
    }
    Ok(statement)
}

/// `CREATE RETENTION POLICY`. Servers want a duration and a replication in it. One that exists with
/// the same settings is left as it is; where it has others, the server refuses the statement.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn retention_policy(database: &str, name: &str, settings: &RpSettings) -> Result<String> {
    let on = quote_name("database", database)?;
    let name = quote_name("retention policy", name)?;
    let default = if settings.is_default() { " DEFAULT" } else { "" };
    Ok(format!("CREATE RETENTION POLICY {name} ON {on}{}{default}", clauses(settings)))
}

/// Runs a statement that gives no rows.
///
/// # Errors
/// Where the server cannot be reached or refuses it.
pub fn execute(client: &Client, statement: &str) -> Result<()> {
    fold(client, statement, |(): &mut (), _, _| Ok(()))
}

/// Runs a statement that gives no rows and holds what must not be seen: `shown` stands for it in
/// messages. What the server says may still quote it.
///
/// # Errors
/// Where the server cannot be reached or refuses it.
pub fn execute_shown(client: &Client, statement: &str, shown: &str) -> Result<()> {
    fold_shown(client, statement, shown, |(): &mut (), _, _| Ok(()))
}

/// What is known, each part behind a blank. A shard group duration of 0 is the server's own choice.
fn clauses(settings: &RpSettings) -> String {
    let mut out = String::new();
    if let Some(duration) = settings.duration {
        out.push_str(&format!(" DURATION {}", format_duration(duration)));
    }
    if let Some(replication) = settings.replication {
        out.push_str(&format!(" REPLICATION {replication}"));
    }
    if let Some(duration) = settings.shard_duration.filter(|duration| *duration > 0) {
        out.push_str(&format!(" SHARD DURATION {}", format_duration(duration)));
    }
    out
}

/// A duration as InfluxQL reads it, `INF` for 0.
#[must_use]
pub fn format_duration(nanoseconds: i64) -> String {
    const UNITS: [(&str, i64); 6] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("ns", 1),
    ];
    if nanoseconds == 0 {
        return "INF".into();
    }
    let unit = UNITS.iter().find(|(_, length)| nanoseconds % length == 0);
    let (unit, length) = unit.copied().unwrap_or(("ns", 1));
    format!("{}{unit}", nanoseconds / length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::DAY;

    #[test]
    fn statements_hold_what_is_known_and_no_more() {
        let nothing = RpSettings::default();
        let known = RpSettings {
            duration: Some(0),
            shard_duration: Some(7 * DAY),
            replication: Some(2),
            default: Some(true),
        };
        assert_eq!(database("a\"b ", None).unwrap(), r#"CREATE DATABASE "a\"b ""#);
        assert_eq!(
            database("d", Some(("r\\p", &nothing))).unwrap(),
            r#"CREATE DATABASE "d" WITH NAME "r\\p""#
        );
        assert_eq!(
            database("d", Some(("r", &known))).unwrap(),
            r#"CREATE DATABASE "d" WITH DURATION INF REPLICATION 2 SHARD DURATION 7d NAME "r""#
        );
        assert_eq!(
            retention_policy("d", "r", &known).unwrap(),
            r#"CREATE RETENTION POLICY "r" ON "d" DURATION INF REPLICATION 2 SHARD DURATION 7d DEFAULT"#
        );
        let other = RpSettings { shard_duration: Some(0), default: Some(false), ..known };
        assert_eq!(
            retention_policy("d", "r", &other).unwrap(),
            r#"CREATE RETENTION POLICY "r" ON "d" DURATION INF REPLICATION 2"#
        );
        assert!(database("a\rb", None).is_err() && retention_policy("d", "\0", &other).is_err());
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_that_is_exact() {
        for (nanoseconds, text) in [
            (0, "INF"),
            (DAY, "1d"),
            (25 * 3_600_000_000_000, "25h"),
            (90 * 60_000_000_000, "90m"),
            (1_500_000_000, "1500ms"),
            (1_500, "1500ns"),
            (i64::MAX, "9223372036854775807ns"),
        ] {
            assert_eq!(format_duration(nanoseconds), text);
        }
    }
}
