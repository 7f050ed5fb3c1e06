//! The messages of `meta.db`, and what is made of them.
//!
//! Fields have the numbers of `meta.proto`; those that nothing here needs are left out, and so
//! skipped. Invariant: what names something (a database, a policy) has a name.

use super::{
    ContinuousQuery, Database, Meta, Privilege, RetentionPolicy, Shard, ShardGroup, Subscription,
    User,
};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Data {
    #[prost(message, repeated, tag = "5")]
    databases: Vec<DatabaseInfo>,
    #[prost(message, repeated, tag = "6")]
    users: Vec<UserInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DatabaseInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    default_rp: String,
    #[prost(message, repeated, tag = "3")]
    rps: Vec<RetentionPolicyInfo>,
    #[prost(message, repeated, tag = "4")]
    continuous_queries: Vec<ContinuousQueryInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetentionPolicyInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    duration: i64,
    #[prost(int64, tag = "3")]
    shard_duration: i64,
    #[prost(uint32, tag = "4")]
    replication: u32,
    #[prost(message, repeated, tag = "5")]
    groups: Vec<ShardGroupInfo>,
    #[prost(message, repeated, tag = "6")]
    subscriptions: Vec<SubscriptionInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShardGroupInfo {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    start: i64,
    #[prost(int64, tag = "3")]
    end: i64,
    #[prost(int64, tag = "4")]
    deleted_at: i64,
    #[prost(message, repeated, tag = "5")]
    shards: Vec<ShardInfo>,
    #[prost(int64, tag = "6")]
    truncated_at: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShardInfo {
    #[prost(uint64, tag = "1")]
    id: u64,
    /// How owners were stored before they were messages.
    #[prost(uint64, repeated, packed = "false", tag = "2")]
    old_owners: Vec<u64>,
    #[prost(message, repeated, tag = "3")]
    owners: Vec<ShardOwner>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ShardOwner {
    #[prost(uint64, tag = "1")]
    node: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SubscriptionInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    mode: String,
    #[prost(string, repeated, tag = "3")]
    destinations: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContinuousQueryInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    query: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UserInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "3")]
    admin: bool,
    #[prost(message, repeated, tag = "4")]
    privileges: Vec<UserPrivilege>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UserPrivilege {
    #[prost(string, tag = "1")]
    database: String,
    #[prost(int32, tag = "2")]
    code: i32,
}

/// What a portable backup wraps the meta store in.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Packet {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) meta: Vec<u8>,
    /// `MaxNodeID`, 0 in InfluxDB OSS. A server refuses to restore a packet without it.
    #[prost(uint64, required, tag = "2")]
    pub(super) node_max: u64,
}

impl Data {
    pub(super) fn into_meta(self) -> Result<Meta, String> {
        Ok(Meta {
            databases: each(self.databases, DatabaseInfo::into_database)?,
            users: each(self.users, UserInfo::into_user)?,
        })
    }
}

impl DatabaseInfo {
    fn into_database(self) -> Result<Database, String> {
        let name = named(self.name, "a database")?;
        let within = |reason| format!("database {name:?}: {reason}");
        let queries = self.continuous_queries.into_iter();
        Ok(Database {
            rps: each(self.rps, RetentionPolicyInfo::into_rp).map_err(within)?,
            name,
            default_rp: self.default_rp,
            continuous_queries: queries
                .map(|query| ContinuousQuery { name: query.name, query: query.query })
                .collect(),
        })
    }
}

impl RetentionPolicyInfo {
    fn into_rp(self) -> Result<RetentionPolicy, String> {
        let name = named(self.name, "a retention policy")?;
        if self.duration < 0 || self.shard_duration < 0 {
            return Err(format!("retention policy {name:?} has a duration below zero"));
        }
        let subscriptions = self.subscriptions.into_iter();
        Ok(RetentionPolicy {
            name,
            duration: self.duration,
            shard_duration: self.shard_duration,
            replication: self.replication,
            groups: self.groups.into_iter().map(ShardGroupInfo::into_group).collect(),
            subscriptions: subscriptions
                .map(|one| Subscription {
                    name: one.name,
                    mode: one.mode,
                    destinations: one.destinations,
                })
                .collect(),
        })
    }
}

impl ShardGroupInfo {
    fn into_group(self) -> ShardGroup {
        let at = |time: i64| (time != 0).then_some(time);
        ShardGroup {
            id: self.id,
            start: self.start,
            end: self.end,
            deleted_at: at(self.deleted_at),
            truncated_at: at(self.truncated_at),
            shards: self.shards.into_iter().map(ShardInfo::into_shard).collect(),
        }
    }
}

impl ShardInfo {
    fn into_shard(self) -> Shard {
        let owners = self.owners.into_iter().map(|owner| owner.node);
        Shard { id: self.id, owners: self.old_owners.into_iter().chain(owners).collect() }
    }
}

impl UserInfo {
    fn into_user(self) -> Result<User, String> {
        let name = named(self.name, "a user")?;
        let privileges = self.privileges.into_iter().map(|one| {
            let privilege = match one.code {
                0 => Privilege::None,
                1 => Privilege::Read,
                2 => Privilege::Write,
                3 => Privilege::All,
                code => return Err(format!("user {name:?} has the unknown privilege {code}")),
            };
            Ok((one.database, privilege))
        });
        let privileges = privileges.collect::<Result<_, _>>()?;
        Ok(User { name, admin: self.admin, privileges })
    }
}

fn each<A, B>(all: Vec<A>, make: impl Fn(A) -> Result<B, String>) -> Result<Vec<B>, String> {
    all.into_iter().map(make).collect()
}

fn named(name: String, what: &str) -> Result<String, String> {
    if name.is_empty() {
        Err(format!("{what} has no name: the meta store is damaged"))
    } else {
        Ok(name)
    }
}
