//! What makes a destination like a source: a pure function of the two models and of what was asked for.
//!
//! Nothing at the destination is dropped, shortened or taken away. What it has beyond the source is
//! extra. Doing every change leaves nothing to do.

use super::{Database, Grant, Policy, Schema, Subscription, User};
use crate::error::Result;
use crate::influxql::{alter, create};
use crate::plan::RpSettings;
use serde::Serialize;
use std::collections::BTreeMap;
use std::mem::discriminant;

/// The retention policy that a server makes in a database of its own accord.
const AUTOGEN: &str = "autogen";

/// Something in which the destination is not like the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A database is missing. It is made with its default retention policy, where the source has any.
    CreateDatabase {
        /// Its name.
        database: String,
        /// The policy's name and settings.
        policy: Option<(String, Policy)>,
    },
    /// A retention policy is missing.
    CreatePolicy {
        /// The database.
        database: String,
        /// Its name.
        name: String,
        /// Its settings.
        policy: Policy,
    },
    /// Settings of a retention policy differ, and nothing is deleted by altering them.
    AlterPolicy {
        /// The database.
        database: String,
        /// Its name.
        name: String,
        /// The settings that it gets.
        policy: Policy,
        /// The settings that it has.
        before: Policy,
    },
    /// A retention policy of the source keeps points for a shorter time: data would be deleted.
    ShortenPolicy {
        /// The database.
        database: String,
        /// Its name.
        name: String,
        /// Nanoseconds at the source.
        duration: i64,
        /// Nanoseconds at the destination, 0 for ever.
        before: i64,
    },
    /// Another retention policy takes the writes that name none.
    DefaultPolicy {
        /// The database.
        database: String,
        /// Its name.
        name: String,
    },
    /// A user is missing.
    CreateUser {
        /// Its name.
        user: String,
        /// It may do anything.
        admin: bool,
    },
    /// A user is no administrator.
    MakeAdmin {
        /// Its name.
        user: String,
    },
    /// A user may not do with a database what it may at the source.
    Grant {
        /// Its name.
        user: String,
        /// The database.
        database: String,
        /// What it may do afterwards: what either side allows.
        grant: Grant,
    },
    /// A subscription is missing, or another one has its name.
    Subscribe {
        /// The database.
        database: String,
        /// The retention policy.
        policy: String,
        /// Its name.
        name: String,
        /// What it is.
        subscription: Subscription,
        /// Another one has its name.
        replaces: bool,
    },
    /// A continuous query is missing, or another one has its name.
    CreateQuery {
        /// The database.
        database: String,
        /// Its name.
        name: String,
        /// The whole statement.
        text: String,
        /// Another one has its name.
        replaces: bool,
    },
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "class", content = "why")]
pub enum Left {
    /// Data would be deleted by it.
    Deletes,
    /// The user needs a new password.
    Password,
    /// It was not asked for, since its time comes later.
    Later,
    /// It cannot be done from here.
    Impossible(String),
}

/// A change, and whether it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The change.
    pub change: Change,
    /// Why it is left; nothing where it is made.
    pub left: Option<Left>,
}

/// What was asked for.
#[expect(missing_debug_implementations, reason = "it holds a function")]
pub struct Options<'a> {
    /// Users that are missing get new passwords.
    pub passwords: bool,
    /// Continuous queries are made.
    pub queries: bool,
    /// Subscriptions are made.
    pub subscriptions: bool,
    /// The sides name the database differently.
    pub renamed: bool,
    /// Only one database is compared.
    pub scoped: bool,
    /// True for an address at which the destination itself takes writes.
    pub points_back: &'a dyn Fn(&str) -> bool,
}

/// What makes a destination like a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are made.
    pub changes: Vec<Planned>,
    /// What the destination has beyond the source, one remark a line.
    pub extra: Vec<String>,
    /// What of the source is meant not to be at the destination, one remark a line.
    pub apart: Vec<String>,
}

impl Plan {
    /// The changes that are made.
    pub fn made(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|one| one.left.is_none()).map(|one| &one.change)
    }

    /// The users that are made, each of which gets a new password.
    pub fn new_users(&self) -> impl Iterator<Item = &str> {
        self.made().filter_map(Change::new_user)
    }
}

/// Compares two models.
#[must_use]
pub fn plan(source: &Schema, destination: &Schema, options: &Options<'_>) -> Plan {
    let mut planner = Planner { options, plan: Plan::default() };
    for (name, database) in &source.databases {
        planner.database(name, database, destination.databases.get(name));
    }
    planner.users(source, destination);
    for (name, database) in &source.databases {
        planner.subscriptions(name, database, destination.databases.get(name));
    }
    for (name, database) in &source.databases {
        planner.queries(name, database, destination.databases.get(name));
    }
    planner.extra(source, destination);
    planner.plan
}

struct Planner<'a> {
    options: &'a Options<'a>,
    plan: Plan,
}

impl Planner<'_> {
    fn add(&mut self, change: Change, left: Option<Left>) {
        let impossible = || Some(Left::Impossible(change.shown().err()?.to_string()));
        let left = left.or_else(impossible);
        self.plan.changes.push(Planned { change, left });
    }

    fn database(&mut self, name: &str, ours: &Database, theirs: Option<&Database>) {
        let none = Database::default();
        let mut made = None;
        if theirs.is_none() {
            made = first_policy(ours);
            let policy = made.and_then(|made| {
                let policy = ours.policies.get(made)?;
                Some((made.to_owned(), bare(policy)))
            });
            self.add(Change::CreateDatabase { database: name.to_owned(), policy }, None);
        }
        let theirs = theirs.unwrap_or(&none);
        for (policy, ours) in &ours.policies {
            match theirs.policies.get(policy) {
                Some(theirs) => self.policy(name, policy, ours, theirs),
                None if made == Some(policy) => {}
                None => {
                    let (database, name) = (name.to_owned(), policy.clone());
                    self.add(Change::CreatePolicy { database, name, policy: bare(ours) }, None);
                }
            }
        }
        let wanted = &ours.default_policy;
        let is_default = made == Some(wanted) || theirs.default_policy == *wanted;
        if !is_default && ours.policies.contains_key(wanted) {
            let (database, name) = (name.to_owned(), wanted.clone());
            self.add(Change::DefaultPolicy { database, name }, None);
        }
    }

    fn policy(&mut self, database: &str, name: &str, ours: &Policy, theirs: &Policy) {
        let shorter =
            ours.duration != 0 && (theirs.duration == 0 || theirs.duration > ours.duration);
        let target = Policy {
            duration: if shorter { theirs.duration } else { ours.duration },
            shard_duration: ours.shard_duration,
            // Fewer copies would take redundancy from a cluster that was set up to have it.
            replication: ours.replication.max(theirs.replication),
            subscriptions: BTreeMap::new(),
        };
        let (database, name) = (database.to_owned(), name.to_owned());
        if theirs.replication > ours.replication {
            self.plan.extra.push(format!(
                "retention policy {name:?} of database {database:?} keeps {} copies, {} at the source",
                theirs.replication, ours.replication
            ));
        }
        let before = bare(theirs);
        if target != before {
            let (database, name) = (database.clone(), name.clone());
            self.add(Change::AlterPolicy { database, name, policy: target, before }, None);
        }
        if shorter {
            let (duration, before) = (ours.duration, theirs.duration);
            let change = Change::ShortenPolicy { database, name, duration, before };
            self.add(change, Some(Left::Deletes));
        }
    }

    fn users(&mut self, source: &Schema, destination: &Schema) {
        for (name, ours) in &source.users {
            let theirs = destination.users.get(name);
            let missing = theirs.is_none() && !self.options.passwords;
            let left = missing.then_some(Left::Password);
            let user = name.clone();
            match theirs {
                None => self.add(Change::CreateUser { user, admin: ours.admin }, left.clone()),
                Some(theirs) if ours.admin && !theirs.admin => {
                    self.add(Change::MakeAdmin { user }, None);
                }
                Some(_) => {}
            }
            let none = User::default();
            let theirs = theirs.unwrap_or(&none);
            for (database, wanted) in &ours.grants {
                let held = theirs.grants.get(database).copied().unwrap_or_default();
                if !wanted.beyond(held.and(theirs.everywhere)).is_none() {
                    let (user, database) = (name.clone(), database.clone());
                    let grant = wanted.and(held);
                    self.add(Change::Grant { user, database, grant }, left.clone());
                }
            }
        }
    }

    fn subscriptions(&mut self, database: &str, ours: &Database, theirs: Option<&Database>) {
        for (policy, ours) in &ours.policies {
            let theirs = theirs.and_then(|theirs| theirs.policies.get(policy));
            for (name, subscription) in &ours.subscriptions {
                let held = theirs.and_then(|theirs| theirs.subscriptions.get(name));
                if held == Some(subscription) {
                    continue;
                }
                if subscription.destinations.iter().any(|one| (self.options.points_back)(one)) {
                    self.plan.apart.push(format!(
                        "subscription {name:?} on {database:?}.{policy:?} points at the destination, which \
                         would send to itself: it stays at the source alone"
                    ));
                    continue;
                }
                let change = Change::Subscribe {
                    database: database.to_owned(),
                    policy: policy.clone(),
                    name: name.clone(),
                    subscription: subscription.clone(),
                    replaces: held.is_some(),
                };
                self.add(change, (!self.options.subscriptions).then_some(Left::Later));
            }
        }
    }

    fn queries(&mut self, database: &str, ours: &Database, theirs: Option<&Database>) {
        for (name, text) in &ours.queries {
            let held = theirs.and_then(|theirs| theirs.queries.get(name));
            if held == Some(text) {
                continue;
            }
            let renamed = self.options.renamed.then(|| {
                let why = "its text names the database as the source does: write it anew";
                Left::Impossible(why.to_owned())
            });
            let left = renamed.or_else(|| (!self.options.queries).then_some(Left::Later));
            let (database, name, text) = (database.to_owned(), name.clone(), text.clone());
            self.add(Change::CreateQuery { database, name, text, replaces: held.is_some() }, left);
        }
    }

    fn extra(&mut self, source: &Schema, destination: &Schema) {
        let extra = &mut self.plan.extra;
        for (name, theirs) in &destination.databases {
            match source.databases.get(name) {
                Some(ours) => extra.extend(extra_of(name, ours, theirs)),
                None if self.options.scoped => {}
                None => extra.push(format!("database {name:?}")),
            }
        }
        for (name, theirs) in &destination.users {
            let ours = source.users.get(name);
            if ours.is_none() && !self.options.scoped {
                extra.push(format!("user {name:?}"));
            }
            let Some(ours) = ours.or_else(|| self.options.scoped.then_some(&NOBODY)) else {
                continue;
            };
            if theirs.admin && !ours.admin && !self.options.scoped {
                extra.push(format!("user {name:?} is an administrator"));
            }
            for (database, held) in &theirs.grants {
                let known = ours.grants.get(database).copied().unwrap_or_default();
                let beyond = held.beyond(known);
                if !beyond.is_none() {
                    extra.push(format!("user {name:?} may {} {database:?}", beyond.word()));
                }
            }
        }
    }
}

/// What a user may do that is not there.
static NOBODY: User =
    User { admin: false, everywhere: Grant { read: false, write: false }, grants: BTreeMap::new() };

/// What a database of the destination has beyond that of the source.
fn extra_of(database: &str, ours: &Database, theirs: &Database) -> Vec<String> {
    let mut extra = Vec::new();
    for (name, theirs) in &theirs.policies {
        let known = ours.policies.get(name);
        if known.is_none() {
            extra.push(format!("retention policy {name:?} of database {database:?}"));
        }
        for one in theirs.subscriptions.keys() {
            if known.is_none_or(|known| !known.subscriptions.contains_key(one)) {
                extra.push(format!("subscription {one:?} on {database:?}.{name:?}"));
            }
        }
    }
    let unknown = theirs.queries.keys().filter(|name| !ours.queries.contains_key(*name));
    extra.extend(unknown.map(|name| format!("continuous query {name:?} of database {database:?}")));
    extra
}

/// The retention policy with which a database is made: the default one. A server would make its own
/// under the name `autogen`, with other settings perhaps.
fn first_policy(database: &Database) -> Option<&String> {
    let name = |name: &str| database.policies.get_key_value(name).map(|(name, _)| name);
    name(&database.default_policy)
        .or_else(|| name(AUTOGEN))
        .or_else(|| database.policies.keys().next())
}

/// A policy without its subscriptions, which have changes of their own.
fn bare(policy: &Policy) -> Policy {
    Policy { subscriptions: BTreeMap::new(), ..policy.clone() }
}

fn settings(policy: &Policy) -> RpSettings {
    RpSettings {
        duration: Some(policy.duration),
        shard_duration: Some(policy.shard_duration),
        replication: Some(policy.replication),
        default: None,
    }
}

impl Change {
    /// The statement that makes it; a user is made with this password.
    ///
    /// # Errors
    /// Where InfluxQL cannot express it.
    pub fn statement(&self, password: &str) -> Result<String> {
        self.written(password, false)
    }

    /// The statement without anything secret in it.
    ///
    /// # Errors
    /// As [`Change::statement`].
    pub fn shown(&self) -> Result<String> {
        self.written("***", true)
    }

    fn written(&self, password: &str, shown: bool) -> Result<String> {
        match self {
            Self::CreateDatabase { database, policy } => {
                let policy = policy.as_ref().map(|(name, policy)| (name, settings(policy)));
                create::database(database, policy.as_ref().map(|(name, one)| (name.as_str(), one)))
            }
            Self::CreatePolicy { database, name, policy } => {
                create::retention_policy(database, name, &settings(policy))
            }
            Self::AlterPolicy { database, name, policy, .. } => {
                let Policy { duration, replication, shard_duration, .. } = *policy;
                alter::retention_policy(database, name, (duration, replication, shard_duration))
            }
            Self::ShortenPolicy { database, name, duration, .. } => {
                alter::duration(database, name, *duration)
            }
            Self::DefaultPolicy { database, name } => alter::default_policy(database, name),
            Self::CreateUser { user, admin } => alter::user(user, password, *admin),
            Self::MakeAdmin { user } => alter::admin(user),
            Self::Grant { user, database, grant } => alter::grant(grant.word(), database, user),
            Self::Subscribe { database, policy, name, subscription, replaces } => {
                let addresses =
                    if shown { subscription.shown() } else { subscription.destinations.clone() };
                let names = (&**database, &**policy, &**name);
                alter::subscription(names, (&subscription.mode, &addresses), *replaces)
            }
            Self::CreateQuery { database, name, text, replaces } => {
                alter::continuous_query(database, name, text, *replaces)
            }
        }
    }

    /// What differs, for people.
    #[must_use]
    pub fn what(&self) -> String {
        let how = |replaces: &bool| if *replaces { "different" } else { "missing" };
        match self {
            Self::CreateDatabase { database, .. } => format!("missing database {database:?}"),
            Self::CreatePolicy { database, name, .. } => {
                format!("missing retention policy {name:?} of database {database:?}")
            }
            Self::AlterPolicy { database, name, policy, before } => format!(
                "settings of retention policy {name:?} of database {database:?}, from {} to {}",
                words(before),
                words(policy)
            ),
            Self::ShortenPolicy { database, name, duration, before } => format!(
                "retention policy {name:?} of database {database:?} keeps points for {}, {} at the source",
                create::format_duration(*before),
                create::format_duration(*duration)
            ),
            Self::DefaultPolicy { database, name } => {
                format!("retention policy {name:?} as the default one of database {database:?}")
            }
            Self::CreateUser { user, admin: false } => format!("missing user {user:?}"),
            Self::CreateUser { user, .. } => format!("missing user {user:?}, an administrator"),
            Self::MakeAdmin { user } => format!("user {user:?} as an administrator"),
            Self::Grant { user, database, grant } => {
                format!("{} on database {database:?} for user {user:?}", grant.word())
            }
            Self::Subscribe { database, policy, name, replaces, .. } => {
                format!("{} subscription {name:?} on {database:?}.{policy:?}", how(replaces))
            }
            Self::CreateQuery { database, name, replaces, .. } => {
                format!("{} continuous query {name:?} of database {database:?}", how(replaces))
            }
        }
    }

    /// True where another change would bring about the same, whatever the destination has now.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other) && self.names() == other.names()
    }

    fn names(&self) -> [&str; 3] {
        match self {
            Self::CreateDatabase { database, .. } => [database, "", ""],
            Self::CreatePolicy { database, name, .. }
            | Self::AlterPolicy { database, name, .. }
            | Self::ShortenPolicy { database, name, .. }
            | Self::DefaultPolicy { database, name }
            | Self::CreateQuery { database, name, .. } => [database, name, ""],
            Self::CreateUser { user, .. } | Self::MakeAdmin { user } => [user, "", ""],
            Self::Grant { user, database, .. } => [user, database, ""],
            Self::Subscribe { database, policy, name, .. } => [database, policy, name],
        }
    }

    /// The user that is made.
    #[must_use]
    pub fn new_user(&self) -> Option<&str> {
        match self {
            Self::CreateUser { user, .. } => Some(user),
            _ => None,
        }
    }

    /// What kind of thing it is about.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateDatabase { .. } => "database",
            Self::CreatePolicy { .. }
            | Self::AlterPolicy { .. }
            | Self::ShortenPolicy { .. }
            | Self::DefaultPolicy { .. } => "retention_policy",
            Self::CreateUser { .. } | Self::MakeAdmin { .. } => "user",
            Self::Grant { .. } => "grant",
            Self::Subscribe { .. } => "subscription",
            Self::CreateQuery { .. } => "continuous_query",
        }
    }

    /// The model with it made.
    pub fn make(&self, schema: &mut Schema) {
        match self {
            Self::CreateDatabase { database, policy } => {
                let made = schema.databases.entry(database.clone()).or_default();
                if let Some((name, policy)) = policy {
                    made.default_policy.clone_from(name);
                    made.policies.insert(name.clone(), policy.clone());
                }
            }
            Self::CreatePolicy { database, name, policy }
            | Self::AlterPolicy { database, name, policy, .. } => {
                let database = schema.databases.entry(database.clone()).or_default();
                let made = database.policies.entry(name.clone()).or_default();
                let subscriptions = std::mem::take(&mut made.subscriptions);
                *made = Policy { subscriptions, ..policy.clone() };
            }
            Self::ShortenPolicy { database, name, duration, .. } => {
                let database = schema.databases.entry(database.clone()).or_default();
                database.policies.entry(name.clone()).or_default().duration = *duration;
            }
            Self::DefaultPolicy { database, name } => {
                schema
                    .databases
                    .entry(database.clone())
                    .or_default()
                    .default_policy
                    .clone_from(name);
            }
            Self::CreateUser { user, admin } => {
                schema.users.insert(user.clone(), User { admin: *admin, ..User::default() });
            }
            Self::MakeAdmin { user } => schema.users.entry(user.clone()).or_default().admin = true,
            Self::Grant { user, database, grant } => {
                let user = schema.users.entry(user.clone()).or_default();
                user.grants.insert(database.clone(), *grant);
            }
            Self::Subscribe { database, policy, name, subscription, .. } => {
                let database = schema.databases.entry(database.clone()).or_default();
                let policy = database.policies.entry(policy.clone()).or_default();
                policy.subscriptions.insert(name.clone(), subscription.clone());
            }
            Self::CreateQuery { database, name, text, .. } => {
                let database = schema.databases.entry(database.clone()).or_default();
                database.queries.insert(name.clone(), text.clone());
            }
        }
    }
}

fn words(policy: &Policy) -> String {
    format!(
        "DURATION {} REPLICATION {} SHARD DURATION {}",
        create::format_duration(policy.duration),
        policy.replication,
        create::format_duration(policy.shard_duration)
    )
}

#[cfg(test)]
mod tests;
