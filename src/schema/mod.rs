//! What a server holds beside its data: databases, retention policies, continuous queries,
//! subscriptions, users and what they may do.
//!
//! Owns the model, which is the same whether a live server says it or its meta store. It has no place
//! for a password or a hash. [`read`] fills it, [`plan`] compares two of them, [`apply`] makes one like
//! the other; [`enterprise`] speaks to the meta nodes of a cluster.

pub mod apply;
pub mod enterprise;
pub mod passwords;
pub mod plan;
pub mod read;
pub mod url;

use std::collections::BTreeMap;
use std::fmt;

/// The server's own database, which is never moved.
pub const INTERNAL: &str = "_internal";

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The databases by name, without the server's own.
    pub databases: BTreeMap<String, Database>,
    /// The users by name.
    pub users: BTreeMap<String, User>,
}

/// A database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// Name of the retention policy that takes the writes which name none; may be empty.
    pub default_policy: String,
    /// Its retention policies by name.
    pub policies: BTreeMap<String, Policy>,
    /// The texts of its continuous queries by name.
    pub queries: BTreeMap<String, String>,
}

/// A retention policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How long points are kept, nanoseconds; 0 for ever.
    pub duration: i64,
    /// Length of a shard group, nanoseconds.
    pub shard_duration: i64,
    /// Copies that a cluster keeps.
    pub replication: u32,
    /// Where its writes are forwarded, by name.
    pub subscriptions: BTreeMap<String, Subscription>,
}

/// Where writes are forwarded. The addresses may hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Subscription {
    /// `ALL` or `ANY`.
    pub mode: String,
    /// Addresses.
    pub destinations: Vec<String>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.mode, self.shown())
    }
}

impl Subscription {
    /// The addresses without what may be secret in them.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.destinations.iter().map(|one| url::shown(one)).collect()
    }
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// True where it may do anything.
    pub admin: bool,
    /// What it may do with every database, which a cluster's meta nodes can say.
    pub everywhere: Grant,
    /// What it may do, by database.
    pub grants: BTreeMap<String, Grant>,
}

/// What a user may do with a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Query.
    pub read: bool,
    /// Write.
    pub write: bool,
}

impl Grant {
    /// True where it is none.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// What either allows.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write }
    }

    /// What it allows beyond another.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        Self { read: self.read && !other.read, write: self.write && !other.write }
    }

    /// As InfluxQL names it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match (self.read, self.write) {
            (false, false) => "nothing",
            (true, false) => "READ",
            (false, true) => "WRITE",
            (true, true) => "ALL",
        }
    }
}

/// One database and what concerns it, alone; the destination may call it otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name at the source.
    pub source: String,
    /// Its name at the destination.
    pub destination: String,
}

impl Scope {
    /// True where the sides name it differently.
    #[must_use]
    pub fn renames(&self) -> bool {
        self.source != self.destination
    }
}

impl Schema {
    /// What concerns one database of a source, under the destination's name: users that may do something
    /// with it, and that alone.
    #[must_use]
    pub fn of_source(mut self, scope: &Scope) -> Self {
        let databases = self.databases.remove(&scope.source);
        let users = self.users.into_iter().filter_map(|(name, user)| {
            let grant = *user.grants.get(&scope.source)?;
            let grants = BTreeMap::from([(scope.destination.clone(), grant)]);
            Some((name, User { grants, ..User::default() }))
        });
        Self {
            users: users.collect(),
            databases: databases.map(|one| (scope.destination.clone(), one)).into_iter().collect(),
        }
    }

    /// What concerns one database of a destination. Every user is kept: what is there must not be made.
    #[must_use]
    pub fn of_destination(mut self, scope: &Scope) -> Self {
        self.databases.retain(|name, _| *name == scope.destination);
        for user in self.users.values_mut() {
            user.grants.retain(|database, _| *database == scope.destination);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Grant = Grant { read: true, write: false };

    fn schema() -> Schema {
        let user = |admin, databases: &[&str]| {
            let grants = databases.iter().map(|name| ((*name).to_owned(), READ)).collect();
            User { admin, grants, ..User::default() }
        };
        let names = ["a", "b"].map(|name| (name.to_owned(), Database::default()));
        let users =
            [("boss", user(true, &["a"])), ("u", user(false, &["b"])), ("v", user(false, &[]))];
        Schema {
            databases: names.into(),
            users: users.into_iter().map(|(name, user)| (name.to_owned(), user)).collect(),
        }
    }

    #[test]
    fn one_database_of_a_source_takes_those_who_may_use_it_along() {
        let scope = Scope { source: "a".into(), destination: "c".into() };
        let alone = schema().of_source(&scope);
        assert_eq!(alone.databases.keys().collect::<Vec<_>>(), ["c"]);
        let grants = BTreeMap::from([("c".to_owned(), READ)]);
        let expected = User { grants, ..User::default() };
        assert_eq!(alone.users, BTreeMap::from([("boss".to_owned(), expected)]));
        assert!(scope.renames());
    }

    #[test]
    fn one_database_of_a_destination_leaves_every_user_known() {
        let scope = Scope { source: "a".into(), destination: "b".into() };
        let alone = schema().of_destination(&scope);
        assert_eq!(alone.databases.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(alone.users.keys().collect::<Vec<_>>(), ["boss", "u", "v"]);
        assert!(alone.users["boss"].grants.is_empty() && alone.users["u"].grants["b"] == READ);
    }
}
