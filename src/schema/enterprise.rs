//! Users and permissions by the HTTP interface of an InfluxDB Enterprise cluster's meta nodes (8091).
//!
//! What changes something is sent to the leader: another node answers 307 with the leader's address.
//! Such a redirect is followed only to a node that `/show-cluster` lists, since the credentials go with
//! the request. Hashes, which `/user` tells, are not decoded. Roles are read, so that nothing is granted
//! that one gives already, and never changed.

use super::{Grant, User};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Body, Call, Client, Role, Server, shorten};
use crate::influxql::accounts::whole;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Redirects that are followed for one request.
const REDIRECTS_MAX: usize = 3;
/// Port of meta nodes.
const PORT: u16 = 8091;
/// What an administrator may do, over all databases.
const ADMIN: [&str; 16] = [
    "ViewAdmin",
    "ViewChronograf",
    "CreateDatabase",
    "CreateUserAndRole",
    "AddRemoveNode",
    "DropDatabase",
    "DropData",
    "ReadData",
    "WriteData",
    "Rebalance",
    "ManageShard",
    "ManageContinuousQuery",
    "ManageQuery",
    "ManageSubscription",
    "Monitor",
    "CopyShard",
];

/// Permissions by database; those of the empty name hold for all.
type Permissions = BTreeMap<String, BTreeSet<String>>;

/// The meta nodes of a cluster.
#[derive(Debug)]
pub struct MetaApi {
    /// How a node is spoken to, whichever it is.
    server: Server,
    /// The nodes that the cluster lists, as `host:port`.
    members: BTreeSet<String>,
    /// The node that took the last change.
    leader: Mutex<Arc<Client>>,
}

#[derive(Deserialize)]
struct Cluster {
    #[serde(default)]
    meta: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    addr: String,
}

#[derive(Deserialize)]
struct Users {
    #[serde(default)]
    users: Option<Vec<Account>>,
}

#[derive(Deserialize)]
struct Roles {
    #[serde(default)]
    roles: Option<Vec<Account>>,
}

/// A user or a role.
#[derive(Deserialize)]
struct Account {
    name: String,
    #[serde(default)]
    permissions: Option<Permissions>,
    /// The users of a role.
    #[serde(default)]
    users: Option<Vec<String>>,
}

impl MetaApi {
    /// Speaks to a meta node, and asks it for the cluster's others.
    ///
    /// # Errors
    /// Where it cannot be reached, or is none.
    pub fn open(server: Server) -> Result<Self> {
        let client = Arc::new(Client::new(server.clone(), Role::Destination)?);
        let cluster: Cluster = get(&client, "/show-cluster")?;
        let members = cluster.meta.into_iter().map(|node| node.addr.to_ascii_lowercase()).collect();
        Ok(Self { server, members, leader: Mutex::new(client) })
    }

    /// The users with what they may do, by themselves or by a role.
    ///
    /// # Errors
    /// Where they cannot be asked for.
    pub fn users(&self) -> Result<BTreeMap<String, User>> {
        let client = self.leader();
        let users: Users = get(&client, "/user")?;
        let roles: Roles = get(&client, "/role")?;
        let users = users.users.unwrap_or_default();
        let mut permissions: BTreeMap<String, Permissions> = users
            .into_iter()
            .map(|user| (user.name, user.permissions.unwrap_or_default()))
            .collect();
        for role in roles.roles.unwrap_or_default() {
            for user in role.users.unwrap_or_default() {
                let Some(held) = permissions.get_mut(&user) else { continue };
                for (database, more) in role.permissions.clone().unwrap_or_default() {
                    held.entry(database).or_default().extend(more);
                }
            }
        }
        Ok(permissions.into_iter().map(|(name, held)| (name, user_of(held))).collect())
    }

    /// Makes a user.
    ///
    /// # Errors
    /// Where no meta node does it.
    pub fn create(&self, user: &str, password: &str) -> Result<()> {
        self.post("create", serde_json::json!({ "name": user, "password": password }))
    }

    /// Makes a user an administrator.
    ///
    /// # Errors
    /// As [`MetaApi::create`].
    pub fn make_admin(&self, user: &str) -> Result<()> {
        self.permit(user, "", &ADMIN)
    }

    /// Allows a user something with a database; what it may do already stays.
    ///
    /// # Errors
    /// As [`MetaApi::create`].
    pub fn grant(&self, user: &str, database: &str, grant: Grant) -> Result<()> {
        let permissions = [(grant.read, "ReadData"), (grant.write, "WriteData")];
        let permissions: Vec<&str> =
            permissions.into_iter().filter(|(given, _)| *given).map(|(_, name)| name).collect();
        self.permit(user, database, &permissions)
    }

    fn permit(&self, user: &str, database: &str, permissions: &[&str]) -> Result<()> {
        let permissions = BTreeMap::from([(database, permissions)]);
        let user = serde_json::json!({ "name": user, "permissions": permissions });
        self.post("add-permissions", user)
    }

    fn leader(&self) -> Arc<Client> {
        Arc::clone(&self.leader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn post(&self, action: &str, user: serde_json::Value) -> Result<()> {
        let body = serde_json::json!({ "action": action, "user": user }).to_string();
        let body = Body::from(body.into_bytes());
        let what = format!("{action} of a user");
        let mut client = self.leader();
        for _ in 0..=REDIRECTS_MAX {
            let call = Call {
                what: &what,
                path: "/user",
                headers: &[("Content-Type", "application/json")],
                body: Some(body.clone()),
                ..Call::default()
            };
            let reply = client.call(&call)?;
            match (reply.status, &reply.location) {
                (200..=299, _) => {
                    *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = client;
                    return Ok(());
                }
                (307, Some(location)) => client = Arc::new(self.member(&client, location)?),
                _ => return Err(client.refused(&what, &reply)),
            }
        }
        Err(Error::location(client.name(), "the meta nodes redirect to each other"))
    }

    /// The node that a redirect names, if the cluster lists it.
    fn member(&self, from: &Client, location: &str) -> Result<Client> {
        let refused = |why: &str| {
            Error::location(from.name(), format!("a redirect is not followed: {why}"))
                .with_next("name the leader of the meta nodes with --meta-api")
        };
        let (tls, host, port) =
            address(location).ok_or_else(|| refused("its address cannot be read"))?;
        let server = Server { host, port, ..self.server.clone() };
        if !self.members.contains(&server.name().to_ascii_lowercase()) {
            let name = shorten(&server.name());
            return Err(refused(&format!("/show-cluster does not list {name}")));
        }
        if tls != self.server.tls {
            return Err(refused("it changes between HTTP and HTTPS"));
        }
        Client::new(server, Role::Destination)
    }
}

/// Reads `http://host[:8091]` or `https://…`, behind which a path may follow: TLS, host and port.
#[must_use]
pub fn address(text: &str) -> Option<(bool, String, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let place = rest.split(['/', '?', '#']).next().filter(|place| !place.contains('@'))?;
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok()?,
        None if port.is_empty() => PORT,
        None => return None,
    };
    (!host.is_empty()).then(|| (tls, host.to_owned(), port))
}

fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    let what = format!("GET {path}");
    let body = client.stream(&Call { what: &what, path, ..Call::default() })?;
    let parsed = whole(body).and_then(|bytes| {
        // The message may quote what it stumbled over, which may be a hash.
        serde_json::from_slice(&bytes).map_err(|error| format!("no JSON at line {}", error.line()))
    });
    parsed.map_err(|reason| {
        let (server, query) = (client.name(), what.clone());
        ErrorKind::Reply { server, query, reason }.into()
    })
}

fn user_of(mut permissions: Permissions) -> User {
    let grant = |held: &BTreeSet<String>| Grant {
        read: held.contains("ReadData"),
        write: held.contains("WriteData"),
    };
    let everywhere = permissions.remove("").unwrap_or_default();
    let grants = permissions.iter().map(|(database, held)| (database.clone(), grant(held)));
    User {
        admin: ADMIN.iter().all(|one| everywhere.contains(*one)),
        everywhere: grant(&everywhere),
        grants: grants.filter(|(_, grant)| !grant.is_none()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_credentials_in_them_refused() {
        let at = |text: &str| address(text);
        assert_eq!(at("http://h/user"), Some((false, "h".into(), 8091)));
        assert_eq!(at("https://[::1]:9"), Some((true, "::1".into(), 9)));
        for text in ["h:8091", "ftp://h", "http://u:p@h", "http://", "http://h:x", "http://[::1]9"]
        {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn permissions_become_what_a_user_may_do() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let some = Permissions::from([
            (String::new(), set(&["ReadData", "Monitor"])),
            ("d".into(), set(&["WriteData", "DropData"])),
            ("e".into(), set(&["DropData"])),
        ]);
        let user = user_of(some);
        let write = Grant { read: false, write: true };
        assert_eq!(user.everywhere, Grant { read: true, write: false });
        assert_eq!((user.admin, user.grants), (false, BTreeMap::from([("d".to_owned(), write)])));
        assert!(user_of(Permissions::from([(String::new(), set(&ADMIN))])).admin);
    }
}
