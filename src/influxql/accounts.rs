//! The questions about users, grants, continuous queries and subscriptions of a server.
//!
//! It refuses replies that it does not understand. Passwords and their hashes are in none of them.

use super::schema::text;
use super::{column, failed, fold, quote_name};
use crate::error::{ErrorKind, Result};
use crate::http::{Body, BodyReader, Call, Client, form};
use crate::meta::{ContinuousQuery, Privilege, Subscription};
use crate::msgpack::{Cell, Problem};
use std::io::Read;

/// Most bytes of a reply that is read whole.
const REPLY_MAX: u64 = 64 << 20;

/// The users, each with whether it may do anything, in the server's order.
///
/// # Errors
/// Where the server cannot be asked: only administrators may, where users are checked.
pub fn users(client: &Client) -> Result<Vec<(String, bool)>> {
    fold(client, "SHOW USERS", |found: &mut Vec<_>, fragment, row| {
        let admin = column(fragment, row, "admin")? == Cell::Boolean(true);
        found.push((text(fragment, row, "user")?, admin));
        Ok(())
    })
}

/// What a user may do, by database; a privilege that was revoked is left out.
///
/// # Errors
/// Where the server cannot be asked, or there is no such user.
pub fn grants(client: &Client, user: &str) -> Result<Vec<(String, Privilege)>> {
    let statement = format!("SHOW GRANTS FOR {}", quote_name("user", user)?);
    fold(client, &statement, |found: &mut Vec<_>, fragment, row| {
        let privilege = match text(fragment, row, "privilege")?.as_str() {
            "READ" => Privilege::Read,
            "WRITE" => Privilege::Write,
            "ALL PRIVILEGES" | "ALL" => Privilege::All,
            "NO PRIVILEGES" => return Ok(()),
            other => return Err(format!("{other:?} is no privilege")),
        };
        found.push((text(fragment, row, "database")?, privilege));
        Ok(())
    })
}

/// The continuous queries, each with its database.
///
/// # Errors
/// Where the server cannot be asked.
pub fn continuous_queries(client: &Client) -> Result<Vec<(String, ContinuousQuery)>> {
    fold(client, "SHOW CONTINUOUS QUERIES", |found: &mut Vec<_>, fragment, row| {
        let database = String::from_utf8(fragment.name.clone())
            .map_err(|_ignored| "the name of a database is not UTF-8".to_owned())?;
        let (name, query) = (text(fragment, row, "name")?, text(fragment, row, "query")?);
        found.push((database, ContinuousQuery { name, query }));
        Ok(())
    })
}

/// The subscriptions, each with its database and retention policy.
///
/// # Errors
/// Where the server cannot be asked.
pub fn subscriptions(client: &Client) -> Result<Vec<(String, String, Subscription)>> {
    const STATEMENT: &str = "SHOW SUBSCRIPTIONS";
    // Lists inside of rows are in no other reply: MessagePack is decoded without them.
    let call = Call {
        what: "the query SHOW SUBSCRIPTIONS",
        path: "/query",
        headers: &[
            ("Accept", "application/json"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ],
        body: Some(Body::from(form(&[("q", STATEMENT.as_bytes())]).into_bytes())),
        ..Call::default()
    };
    let malformed = |reason: String| {
        let (server, query) = (client.name(), STATEMENT.to_owned());
        ErrorKind::Reply { server, query, reason }
    };
    let bytes = whole(client.stream(&call)?).map_err(malformed)?;
    let reply: Replied =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let mut found = Vec::new();
    for result in reply.results {
        if let Some(words) = result.error {
            return Err(failed(client, STATEMENT, &Problem::Server(words)));
        }
        for series in result.series {
            const COLUMNS: [&str; 4] = ["retention_policy", "name", "mode", "destinations"];
            if series.columns != COLUMNS {
                return Err(malformed(format!("its columns are {:?}", series.columns)).into());
            }
            found.extend(series.values.into_iter().map(|(policy, name, mode, destinations)| {
                (series.name.clone(), policy, Subscription { name, mode, destinations })
            }));
        }
    }
    Ok(found)
}

/// A reply in JSON.
#[derive(serde::Deserialize)]
struct Replied {
    results: Vec<Replies>,
}

#[derive(serde::Deserialize)]
struct Replies {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

#[derive(serde::Deserialize)]
struct Series {
    #[serde(default)]
    name: String,
    columns: Vec<String>,
    #[serde(default)]
    values: Vec<(String, String, String, Vec<String>)>,
}

/// A body to its end, if it has one.
pub(crate) fn whole(body: BodyReader) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    body.take(REPLY_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > REPLY_MAX {
        return Err(format!("it is longer than {} MiB", REPLY_MAX >> 20));
    }
    Ok(bytes)
}
