//! Fills the model: from what a live server says, or from its meta store.

use super::{Database, Grant, INTERNAL, Policy, Schema, Subscription, User};
use crate::error::Result;
use crate::http::Client;
use crate::influxql::{self, accounts};
use crate::meta::{self, Meta, Privilege};
use crate::plan::RpSettings;
use crate::window::{DAY, HOUR};

/// What a meta store says.
#[must_use]
pub fn of_meta(meta: &Meta) -> Schema {
    let mut schema = Schema::default();
    for database in meta.databases.iter().filter(|database| database.name != INTERNAL) {
        let queries = database.continuous_queries.iter();
        let policies = database.rps.iter().map(|rp| (rp.name.clone(), policy_of(rp)));
        let read = Database {
            default_policy: database.default_rp.clone(),
            policies: policies.collect(),
            queries: queries.map(|one| (one.name.clone(), one.query.clone())).collect(),
        };
        schema.databases.insert(database.name.clone(), read);
    }
    for user in &meta.users {
        let grants = user.privileges.iter().map(|(name, one)| (name.clone(), grant(*one)));
        let grants = grants.filter(|(_, grant)| !grant.is_none()).collect();
        let read = User { admin: user.admin, grants, ..User::default() };
        schema.users.insert(user.name.clone(), read);
    }
    schema
}

/// What a server says. With `only`, of that database alone, but of all users.
///
/// # Errors
/// Where it cannot be asked; where users are checked, an administrator alone may.
pub fn of_server(client: &Client, only: Option<&str>) -> Result<Schema> {
    let mut schema = databases_of(client, only)?;
    for (name, admin) in accounts::users(client)? {
        let grants = accounts::grants(client, &name)?.into_iter();
        let grants = grants.map(|(database, privilege)| (database, grant(privilege))).collect();
        schema.users.insert(name, User { admin, grants, ..User::default() });
    }
    Ok(schema)
}

/// The same without users.
///
/// # Errors
/// As [`of_server`].
pub fn databases_of(client: &Client, only: Option<&str>) -> Result<Schema> {
    let mut schema = Schema::default();
    let wanted = |name: &str| name != INTERNAL && only.is_none_or(|only| only == name);
    for name in influxql::databases(client)?.into_iter().filter(|name| wanted(name)) {
        let mut database = Database::default();
        for (policy, settings) in influxql::retention_policies(client, &name)? {
            if settings.is_default() {
                database.default_policy.clone_from(&policy);
            }
            database.policies.insert(policy, policy_from(&settings));
        }
        schema.databases.insert(name, database);
    }
    for (database, query) in accounts::continuous_queries(client)? {
        if let Some(database) = schema.databases.get_mut(&database) {
            database.queries.insert(query.name, query.query);
        }
    }
    for (database, policy, one) in accounts::subscriptions(client)? {
        let database = schema.databases.get_mut(&database);
        if let Some(policy) = database.and_then(|database| database.policies.get_mut(&policy)) {
            policy.subscriptions.insert(one.name.clone(), subscription(&one));
        }
    }
    Ok(schema)
}

fn policy_of(rp: &meta::RetentionPolicy) -> Policy {
    let subscriptions = rp.subscriptions.iter();
    Policy {
        duration: rp.duration,
        shard_duration: shard_duration(rp.shard_duration, rp.duration),
        replication: rp.replication,
        subscriptions: subscriptions.map(|one| (one.name.clone(), subscription(one))).collect(),
    }
}

fn policy_from(settings: &RpSettings) -> Policy {
    let duration = settings.duration.unwrap_or_default();
    Policy {
        duration,
        shard_duration: shard_duration(settings.shard_duration.unwrap_or_default(), duration),
        replication: settings.replication.unwrap_or(1),
        ..Policy::default()
    }
}

/// A length of 0 is the server's own choice, by the duration of the policy.
fn shard_duration(stored: i64, duration: i64) -> i64 {
    match (stored, duration) {
        (0, 0) => 7 * DAY,
        (0, duration) if duration >= 180 * DAY => 7 * DAY,
        (0, duration) if duration >= 2 * DAY => DAY,
        (0, _) => HOUR,
        (stored, _) => stored,
    }
}

fn subscription(one: &meta::Subscription) -> Subscription {
    let (mode, destinations) = (one.mode.clone(), one.destinations.clone());
    Subscription { mode, destinations }
}

fn grant(privilege: Privilege) -> Grant {
    Grant {
        read: matches!(privilege, Privilege::Read | Privilege::All),
        write: matches!(privilege, Privilege::Write | Privilege::All),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::RetentionPolicy;
    use std::collections::BTreeMap;

    #[test]
    fn a_meta_store_becomes_a_model_without_the_servers_own() {
        let rp = |name: &str, duration| RetentionPolicy {
            name: name.into(),
            duration,
            shard_duration: 0,
            replication: 1,
            groups: Vec::new(),
            subscriptions: Vec::new(),
        };
        let database = |name: &str| meta::Database {
            name: name.into(),
            default_rp: "ever".into(),
            rps: vec![rp("ever", 0), rp("week", 7 * DAY), rp("day", DAY)],
            continuous_queries: Vec::new(),
        };
        let privileges = vec![("d".to_owned(), Privilege::All), ("e".to_owned(), Privilege::None)];
        let user = meta::User { name: "u".into(), admin: false, privileges };
        let schema = of_meta(&Meta {
            databases: vec![database("d"), database(INTERNAL)],
            users: vec![user],
        });
        assert_eq!(schema.databases.keys().collect::<Vec<_>>(), ["d"]);
        let lengths = schema.databases["d"].policies.values().map(|policy| policy.shard_duration);
        assert_eq!(lengths.collect::<Vec<_>>(), [HOUR, 7 * DAY, DAY], "as a server chooses them");
        let grants = BTreeMap::from([("d".to_owned(), Grant { read: true, write: true })]);
        assert_eq!(schema.users["u"].grants, grants);
    }
}
