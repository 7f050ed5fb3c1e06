//! Statements that alter retention policies, and that make users, grants, continuous queries and
//! subscriptions.
//!
//! Owns their texts. Only [`duration`] can delete data.

use super::create::format_duration;
use super::single::may_be_several;
use super::{literal, quote_name};
use crate::error::{ErrorKind, Result};

/// `ALTER RETENTION POLICY` with all settings but the default flag. Durations are nanoseconds, that
/// of the policy 0 for ever.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn retention_policy(
    database: &str,
    name: &str,
    (duration, replication, shard_duration): (i64, u32, i64),
) -> Result<String> {
    let (name, on) = (quote_name("retention policy", name)?, quote_name("database", database)?);
    Ok(format!(
        "ALTER RETENTION POLICY {name} ON {on} DURATION {} REPLICATION {replication} SHARD DURATION {}",
        format_duration(duration),
        format_duration(shard_duration)
    ))
}

/// Sets how long a retention policy keeps points (nanoseconds): where that is shorter than before,
/// the server deletes what is older.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn duration(database: &str, name: &str, duration: i64) -> Result<String> {
    let (name, on) = (quote_name("retention policy", name)?, quote_name("database", database)?);
    Ok(format!("ALTER RETENTION POLICY {name} ON {on} DURATION {}", format_duration(duration)))
}

/// Makes a retention policy the one that takes the writes which name none.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn default_policy(database: &str, name: &str) -> Result<String> {
    let (name, on) = (quote_name("retention policy", name)?, quote_name("database", database)?);
    Ok(format!("ALTER RETENTION POLICY {name} ON {on} DEFAULT"))
}

/// `CREATE USER`.
///
/// # Errors
/// Where name or password cannot be expressed; the message does not tell the password.
pub fn user(name: &str, password: &str, admin: bool) -> Result<String> {
    let name = quote_name("user", name)?;
    let password = literal(password).ok_or_else(|| unsayable("a password"))?;
    let admin = if admin { " WITH ALL PRIVILEGES" } else { "" };
    Ok(format!("CREATE USER {name} WITH PASSWORD {password}{admin}"))
}

/// Makes a user an administrator.
///
/// # Errors
/// Where the name cannot be expressed.
pub fn admin(user: &str) -> Result<String> {
    Ok(format!("GRANT ALL PRIVILEGES TO {}", quote_name("user", user)?))
}

/// Sets what a user may do with a database, in place of what it was allowed before: `READ`, `WRITE`
/// or `ALL`.
///
/// # Errors
/// Where a name cannot be expressed.
pub fn grant(privilege: &str, database: &str, user: &str) -> Result<String> {
    let (on, to) = (quote_name("database", database)?, quote_name("user", user)?);
    Ok(format!("GRANT {privilege} ON {on} TO {to}"))
}

/// `CREATE SUBSCRIPTION`; with `replaces`, in place of the one of that name.
///
/// # Errors
/// Where a name or an address cannot be expressed.
pub fn subscription(
    (database, policy, name): (&str, &str, &str),
    (mode, destinations): (&str, &[String]),
    replaces: bool,
) -> Result<String> {
    let (on, name) = (super::namespace(database, policy)?, quote_name("subscription", name)?);
    if mode != "ALL" && mode != "ANY" {
        return Err(ErrorKind::Data(format!("{mode:?} is no mode of a subscription")).into());
    }
    let addresses: Option<Vec<String>> = destinations.iter().map(|one| literal(one)).collect();
    let addresses = addresses.ok_or_else(|| unsayable("an address"))?.join(", ");
    let drop = if replaces { format!("DROP SUBSCRIPTION {name} ON {on}; ") } else { String::new() };
    Ok(format!("{drop}CREATE SUBSCRIPTION {name} ON {on} DESTINATIONS {mode} {addresses}"))
}

/// A continuous query as servers keep it; with `replaces`, in place of the one of that name.
///
/// # Errors
/// Where a name cannot be expressed, or the text is something else, or more than that: it may come
/// from files that somebody made.
pub fn continuous_query(database: &str, name: &str, text: &str, replaces: bool) -> Result<String> {
    let is_query = text.trim_start().to_ascii_uppercase().starts_with("CREATE CONTINUOUS QUERY ");
    if !is_query || text.contains(['\r', '\0']) || may_be_several(text) {
        return Err(ErrorKind::Data(format!(
            "the text of the continuous query {name:?} may be more than one statement"
        ))
        .into());
    }
    if !replaces {
        return Ok(text.to_owned());
    }
    let (name, on) = (quote_name("continuous query", name)?, quote_name("database", database)?);
    Ok(format!("DROP CONTINUOUS QUERY {name} ON {on}; {text}"))
}

fn unsayable(what: &str) -> ErrorKind {
    ErrorKind::Data(format!("{what} cannot be expressed in InfluxQL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_quote_what_they_name() {
        assert_eq!(
            retention_policy("d\"", "r p", (0, 2, 3_600_000_000_000)).unwrap(),
            r#"ALTER RETENTION POLICY "r p" ON "d\"" DURATION INF REPLICATION 2 SHARD DURATION 1h"#
        );
        assert_eq!(
            user("u'", "it's", true).unwrap(),
            r#"CREATE USER "u'" WITH PASSWORD 'it\'s' WITH ALL PRIVILEGES"#
        );
        assert_eq!(grant("READ", "d", "u\\").unwrap(), r#"GRANT READ ON "d" TO "u\\""#);
        let address = ["http://h:1".to_owned(), "udp://i'".to_owned()];
        assert_eq!(
            subscription(("d", "r", "s"), ("ANY", &address), true).unwrap(),
            r#"DROP SUBSCRIPTION "s" ON "d"."r"; CREATE SUBSCRIPTION "s" ON "d"."r" DESTINATIONS ANY 'http://h:1', 'udp://i\''"#
        );
        assert!(subscription(("d", "r", "s"), ("ALL 'x'; DROP", &address), false).is_err());
        assert!(user("a\rb", "x", false).is_err() && user("a", "x\0", false).is_err());
    }

    #[test]
    fn the_text_of_a_query_is_run_only_where_it_is_one_statement() {
        let text = |inside: &str| format!("CREATE CONTINUOUS QUERY a ON b BEGIN {inside} END");
        for inside in ["SELECT 1", "SELECT \"a;b\" FROM 'c\\';'", "SELECT a / b FROM /x\"/"] {
            assert!(continuous_query("b", "a", &text(inside), false).is_ok(), "{inside}");
        }
        for inside in [
            "SELECT 1 END; DROP DATABASE b",
            "SELECT /\"/ END; DROP DATABASE b; \"",
            "-- \"\n END; DROP DATABASE b; \"",
        ] {
            assert!(continuous_query("b", "a", &text(inside), false).is_err(), "{inside}");
        }
        assert!(continuous_query("b", "a", "DROP DATABASE b", false).is_err());
        let replaced = continuous_query("b", "a", &text("x"), true).unwrap();
        assert!(
            replaced.starts_with("DROP CONTINUOUS QUERY \"a\" ON \"b\"; CREATE "),
            "{replaced}"
        );
    }
}
